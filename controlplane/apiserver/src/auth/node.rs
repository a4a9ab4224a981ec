//! What a node's kubelet may do: the Node authorizer and the NodeRestriction admission plugin in one.
//! <https://kubernetes.io/docs/reference/access-authn-authz/node/>
//!
//! A kubelet sees and writes what is bound to its own node, and nothing of another one's.

use crate::auth::attributes::{Attributes, Target};
use crate::auth::user::User;
use k8s_openapi::api::core::v1::{Node, Pod};
use skep_api::references::References;
use skep_api::{DynObject, ObjectExt, ObjectKey};
use skep_registry::Registry;
use std::collections::BTreeSet;

const NODES: &str = "system:nodes";
const USER_PREFIX: &str = "system:node:";
const LEASES: &str = "kube-node-lease";

const READ: &[&str] = &["get", "list", "watch"];
const REGISTER: &[&str] = &["get", "list", "watch", "create", "update", "patch"];
const STATUS: &[&str] = &["get", "update", "patch"];
const LEASE: &[&str] = &["get", "create", "update", "patch", "delete"];
const RECORD: &[&str] = &["create", "update", "patch"];

/// Labels of Kubernetes' own that a node may give itself, besides those of [`OWN_LABEL_DOMAINS`].
const OWN_LABELS: &[&str] = &[
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
const OWN_LABEL_DOMAINS: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];

/// The node whose kubelet the user is.
pub(super) fn name_of(user: &User) -> Option<&str> {
    let node = user.name.strip_prefix(USER_PREFIX)?;
    (!node.is_empty() && user.is_in(NODES)).then_some(node)
}

/// Whether the kubelet of `node` may; else why not, possibly in no words.
pub(super) fn decide(registry: &Registry, node: &str, asked: &Attributes<'_>) -> Result<(), String> {
    let Target::Resource {
        group,
        resource,
        subresource,
        namespace,
        name,
    } = asked.target
    else {
        return Err(String::new());
    };
    let verbs = |verbs: &[&str]| verbs.contains(&asked.verb);
    let named = name == node || (name.is_empty() && asked.verb == "create");
    match (group, resource, subresource) {
        ("", "configmaps" | "secrets", "") if verbs(READ) => {
            let referred = refers(registry, node, resource, namespace, name);
            referred.then_some(()).ok_or_else(|| unrelated(node))
        }
        ("", "pods", "") if verbs(&["list", "watch"]) => {
            let of = asked.fields.and_then(|fields| fields.value_of("spec.nodeName"));
            let own = of == Some(node);
            own.then_some(())
                .ok_or_else(|| "can only list/watch pods with spec.nodeName field selector".to_owned())
        }
        ("", "pods", "") if verbs(&["get", "delete"]) => bound(registry, node, namespace, name),
        ("", "pods", "status") if verbs(STATUS) => bound(registry, node, namespace, name),
        ("", "nodes", "") if verbs(REGISTER) => named.then_some(()).ok_or_else(|| foreign(node, name)),
        ("", "nodes", "status") if verbs(STATUS) => named.then_some(()).ok_or_else(|| foreign(node, name)),
        ("coordination.k8s.io", "leases", "") if verbs(LEASE) => {
            if namespace != LEASES {
                Err(format!(
                    "can only access leases in the {LEASES:?} system namespace"
                ))
            } else if !named {
                Err("can only access node lease with the same name as the requesting node".to_owned())
            } else {
                Ok(())
            }
        }
        // Variables of containers name the Services.
        ("", "services", "") if verbs(READ) => Ok(()),
        ("" | "events.k8s.io", "events", "") if verbs(RECORD) => Ok(()),
        _ => Err(String::new()),
    }
}

fn unrelated(node: &str) -> String {
    format!("no relationship found between node '{node}' and this object")
}

fn foreign(node: &str, name: &str) -> String {
    format!("node {node:?} is not allowed to access node {name:?}, only its own Node object")
}

/// Whether a pod of the node refers to the object.
fn refers(registry: &Registry, node: &str, resource: &str, namespace: &str, name: &str) -> bool {
    registry.pods_on_node(node).iter().any(|pod| {
        pod.namespace() == namespace && {
            let References { config_maps, secrets } = References::of(pod);
            let names = if resource == "secrets" {
                secrets
            } else {
                config_maps
            };
            names.contains(name)
        }
    })
}

/// Whether the pod is the node's. One that does not exist is nobody's: that it is not found is all there is to hear.
fn bound(registry: &Registry, node: &str, namespace: &str, name: &str) -> Result<(), String> {
    match registry.cached::<Pod>(&ObjectKey::new(namespace, name)) {
        Some(pod) if node_of(&pod) != node => Err(unrelated(node)),
        _ => Ok(()),
    }
}

fn node_of(pod: &Pod) -> &str {
    let spec = pod.spec.as_ref();
    spec.and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_default()
}

/// What a write of the node may make of an object; else why not.
pub(super) fn check_write(
    node: &str,
    new: &dyn DynObject,
    old: Option<&dyn DynObject>,
) -> Result<(), String> {
    if let Some(new) = new.downcast_ref::<Node>() {
        return check_node(node, new, old.and_then(|old| old.downcast_ref()));
    }
    if let (Some(new), Some(old)) = (
        new.downcast_ref::<Pod>(),
        old.and_then(|old| old.downcast_ref::<Pod>()),
    ) {
        // The name may have passed to another pod since the request was authorized.
        if node_of(old) != node {
            return Err(unrelated(node));
        }
        if new.labels() != old.labels() {
            return Err(format!("node {node:?} cannot update labels through pod status"));
        }
    }
    Ok(())
}

/// Neither does a node choose what Kubernetes' labels say of it, nor whom its taints keep away.
fn check_node(node: &str, new: &Node, old: Option<&Node>) -> Result<(), String> {
    let before = old.map(ObjectExt::labels);
    let names = new
        .labels()
        .keys()
        .chain(before.into_iter().flat_map(|labels| labels.keys()));
    let changed: BTreeSet<&str> = names
        .filter(|name| new.labels().get(*name) != before.and_then(|labels| labels.get(*name)))
        .map(String::as_str)
        .filter(|name| !may_label(name))
        .collect();
    if !changed.is_empty() {
        let what = if old.is_some() {
            "modify labels"
        } else {
            "set the following labels"
        };
        let list = Vec::from_iter(changed).join(", ");
        return Err(format!("node {node:?} is not allowed to {what}: {list}"));
    }
    let Some(old) = old else { return Ok(()) };
    let taints = |node: &Node| {
        node.spec
            .as_ref()
            .and_then(|spec| spec.taints.clone())
            .unwrap_or_default()
    };
    if taints(new) != taints(old) {
        return Err(format!("node {node:?} is not allowed to modify taints"));
    }
    if new.metadata.owner_references != old.metadata.owner_references {
        return Err(format!("node {node:?} is not allowed to modify ownerReferences"));
    }
    Ok(())
}

fn may_label(name: &str) -> bool {
    let domain = name.split_once('/').map_or("", |(domain, _)| domain);
    let within = |of: &str| domain == of || domain.strip_suffix(of).is_some_and(|rest| rest.ends_with('.'));
    let reserved = within("kubernetes.io") || within("k8s.io");
    !reserved || OWN_LABELS.contains(&name) || OWN_LABEL_DOMAINS.iter().any(|of| within(of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node(labels: Value, taints: Value) -> Node {
        serde_json::from_value(
            json!({"metadata": {"name": "n1", "labels": labels}, "spec": {"taints": taints}}),
        )
        .expect("node")
    }

    #[test]
    fn a_kubelet_is_a_name_and_a_group() {
        assert_eq!(name_of(&User::new("system:node:n1", [NODES])), Some("n1"));
        assert_eq!(name_of(&User::new("system:node:n1", ["others"])), None);
        assert_eq!(name_of(&User::new("system:node:", [NODES])), None);
        assert_eq!(name_of(&User::new("n1", [NODES])), None);
    }

    #[test]
    fn nodes_do_not_say_of_themselves_what_others_rely_on() {
        let own =
            json!({"kubernetes.io/hostname": "n1", "node.kubernetes.io/pool": "a", "example.com/x": "y"});
        let old = node(own.clone(), json!([]));
        assert_eq!(check_node("n1", &old, None), Ok(()));
        assert_eq!(check_node("n1", &node(json!({}), json!([])), Some(&old)), Ok(()));
        for label in [
            "node-restriction.kubernetes.io/team",
            "node-role.kubernetes.io/control-plane",
            "k8s.io/x",
        ] {
            let labelled = node(json!({label: "x"}), json!([]));
            let refused = format!("node \"n1\" is not allowed to set the following labels: {label}");
            assert_eq!(check_node("n1", &labelled, None), Err(refused));
            let refused = format!("node \"n1\" is not allowed to modify labels: {label}");
            assert_eq!(check_node("n1", &labelled, Some(&old)), Err(refused.clone()));
            assert_eq!(check_node("n1", &old, Some(&labelled)), Err(refused));
            assert_eq!(check_node("n1", &labelled, Some(&labelled)), Ok(()));
        }
        let taints = json!([{"key": "k", "effect": "NoSchedule"}]);
        let tainted = node(own, taints);
        assert_eq!(check_node("n1", &tainted, None), Ok(()));
        assert!(check_node("n1", &old, Some(&tainted)).is_err_and(|why| why.ends_with("modify taints")));
    }
}
