//! Roles for people and their programs.

use super::rules::{READ, WRITE, paths, rule};
use super::{Grant, Holder, NamedRole};
use k8s_openapi::api::rbac::v1::PolicyRule;

const AUTHENTICATED: Holder = Holder::Group("system:authenticated");

pub(super) const GRANTS: &[Grant] = &[
    ("cluster-admin", Holder::Group("system:masters")),
    ("system:basic-user", AUTHENTICATED),
    ("system:discovery", AUTHENTICATED),
    ("system:public-info-viewer", AUTHENTICATED),
    (
        "system:public-info-viewer",
        Holder::Group("system:unauthenticated"),
    ),
    ("system:monitoring", Holder::Group("system:monitoring")),
];

const HEALTH: &str = "/healthz /livez /readyz /version /version/";
const WORKLOADS: &str =
    "daemonsets deployments deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale";
const INGRESS: &str = "ingresses networkpolicies";

pub(super) fn roles() -> Vec<NamedRole> {
    let view = view();
    let edit = [view.clone(), edit()].concat();
    let admin = [edit.clone(), admin()].concat();
    vec![
        ("cluster-admin", vec![rule("*", "*", "*"), paths("*", "*")]),
        ("admin", admin),
        ("edit", edit),
        ("view", view),
        (
            "system:basic-user",
            vec![
                rule(
                    "create",
                    "authorization.k8s.io",
                    "selfsubjectaccessreviews selfsubjectrulesreviews",
                ),
                rule("create", "authentication.k8s.io", "selfsubjectreviews"),
            ],
        ),
        (
            "system:discovery",
            vec![paths(
                "get",
                &format!("/api /api/* /apis /apis/* /openapi /openapi/* {HEALTH}"),
            )],
        ),
        ("system:public-info-viewer", vec![paths("get", HEALTH)]),
        (
            "system:monitoring",
            vec![paths(
                "get",
                "/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*",
            )],
        ),
    ]
}

/// Everything of a namespace but secrets and access rules.
fn view() -> Vec<PolicyRule> {
    let core = "bindings configmaps endpoints events limitranges namespaces namespaces/status \
        persistentvolumeclaims persistentvolumeclaims/status pods pods/log pods/status replicationcontrollers \
        replicationcontrollers/scale replicationcontrollers/status resourcequotas resourcequotas/status \
        serviceaccounts services services/status";
    let apps = format!(
        "{WORKLOADS} controllerrevisions daemonsets/status deployments/status replicasets/status statefulsets/status"
    );
    vec![
        rule(READ, "", core),
        rule(READ, "apps", &apps),
        rule(
            READ,
            "autoscaling",
            "horizontalpodautoscalers horizontalpodautoscalers/status",
        ),
        rule(READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
        rule(READ, "discovery.k8s.io", "endpointslices"),
        rule(READ, "networking.k8s.io", &format!("{INGRESS} ingresses/status")),
        rule(READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    ]
}

/// What [`view`] leaves out, and writing, access rules aside.
fn edit() -> Vec<PolicyRule> {
    let connect = "pods/attach pods/exec pods/portforward pods/proxy services/proxy";
    vec![
        rule(READ, "", &format!("secrets {connect}")),
        rule("impersonate", "", "serviceaccounts"),
        rule(
            WRITE,
            "",
            &format!(
                "{connect} configmaps events persistentvolumeclaims pods replicationcontrollers \
                replicationcontrollers/scale secrets serviceaccounts services"
            ),
        ),
        rule("create", "", "pods/eviction serviceaccounts/token"),
        rule(WRITE, "apps", &format!("{WORKLOADS} deployments/rollback")),
        rule(WRITE, "autoscaling", "horizontalpodautoscalers"),
        rule(WRITE, "batch", "cronjobs jobs"),
        rule(&format!("{READ} {WRITE}"), "coordination.k8s.io", "leases"),
        rule(WRITE, "networking.k8s.io", INGRESS),
        rule(WRITE, "policy", "poddisruptionbudgets"),
    ]
}

/// A namespace's access rules.
fn admin() -> Vec<PolicyRule> {
    vec![
        rule("create", "authorization.k8s.io", "localsubjectaccessreviews"),
        rule(
            &format!("{READ} {WRITE}"),
            "rbac.authorization.k8s.io",
            "roles rolebindings",
        ),
    ]
}
