//! Roles for the cluster's own parts. Kubelets have none: the Node authorizer knows what each of them may.

use super::rules::{READ, events, rule};
use super::{Grant, Holder, NamedRole};
use k8s_openapi::api::rbac::v1::PolicyRule;
use skep_pki::names;

pub(super) const GRANTS: &[Grant] = &[
    ("system:node-proxier", Holder::User(names::PROXY)),
    ("system:dns", Holder::User(names::DNS)),
    ("system:kube-scheduler", Holder::User(names::SCHEDULER)),
    (
        "system:kube-controller-manager",
        Holder::User(names::CONTROLLER_MANAGER),
    ),
    ("system:controllers", Holder::User(names::CONTROLLER_MANAGER)),
];

const LEASES: &str = "coordination.k8s.io";
const SLICES: &str = "discovery.k8s.io";

pub(super) fn roles() -> Vec<NamedRole> {
    vec![
        ("system:node-proxier", proxier()),
        ("system:dns", dns()),
        ("system:kube-scheduler", scheduler()),
        ("system:kube-controller-manager", controller_manager()),
        ("system:controllers", controllers()),
    ]
}

fn proxier() -> Vec<PolicyRule> {
    let mut rules = vec![
        rule(READ, "", "endpoints nodes services"),
        rule(READ, SLICES, "endpointslices"),
        rule("list watch", "networking.k8s.io", "servicecidrs"),
    ];
    rules.extend(events());
    rules
}

fn dns() -> Vec<PolicyRule> {
    vec![
        rule(READ, "", "endpoints namespaces pods services"),
        rule("get", "", "nodes"),
        rule(READ, SLICES, "endpointslices"),
    ]
}

fn scheduler() -> Vec<PolicyRule> {
    let mut rules = vec![
        rule("create", LEASES, "leases"),
        rule("get list update watch", LEASES, "leases"),
        rule(
            READ,
            "",
            "namespaces nodes persistentvolumeclaims persistentvolumes pods replicationcontrollers services",
        ),
        rule("delete", "", "pods"),
        rule("create", "", "bindings pods/binding"),
        rule("patch update", "", "pods/status"),
        rule("patch update", "", "persistentvolumeclaims persistentvolumes"),
        rule(READ, "apps", "replicasets statefulsets"),
        rule(READ, "policy", "poddisruptionbudgets"),
        rule(
            READ,
            "storage.k8s.io",
            "csidrivers csinodes csistoragecapacities storageclasses volumeattachments",
        ),
        rule("create", "authentication.k8s.io", "tokenreviews"),
        rule("create", "authorization.k8s.io", "subjectaccessreviews"),
    ];
    rules.extend(events());
    rules
}

fn controller_manager() -> Vec<PolicyRule> {
    let mut rules = vec![
        rule("create", LEASES, "leases"),
        rule("get list update watch", LEASES, "leases"),
        rule("create", "", "secrets serviceaccounts"),
        rule("delete", "", "secrets"),
        rule("get", "", "configmaps namespaces secrets serviceaccounts"),
        rule("update", "", "secrets serviceaccounts"),
        rule("create", "authentication.k8s.io", "tokenreviews"),
        rule("create", "authorization.k8s.io", "subjectaccessreviews"),
        rule("list watch", "*", "*"),
        rule("create", "", "serviceaccounts/token"),
    ];
    rules.extend(events());
    rules
}

/// The controllers' own rules, which upstream gives to one service account each. Here they are one user,
/// in one process.
fn controllers() -> Vec<PolicyRule> {
    vec![
        // Garbage collection and the end of namespaces reach every kind.
        rule("delete deletecollection get list patch update watch", "*", "*"),
        rule("create", "", "configmaps endpoints pods"),
        rule(
            "patch update",
            "",
            "namespaces/finalize namespaces/status nodes/status pods/status",
        ),
        rule("create", "apps", "controllerrevisions replicasets"),
        rule(
            "patch update",
            "apps",
            "deployments/finalizers deployments/status replicasets/finalizers replicasets/status",
        ),
        rule("create", SLICES, "endpointslices endpointslices/restricted"),
        rule("update", "", "services/finalizers services/status"),
    ]
}
