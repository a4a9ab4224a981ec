//! From a pod to its kubelet's address.

use super::Connect;
use crate::http::query::Query;
use crate::http::request_info::ResourcePath;
use k8s_openapi::api::core::v1::{Container, Node, Pod};
use skep_api::{ApiError, ObjectExt, ObjectKey, gvr_of};
use skep_registry::{GetOptions, ReadVersion, Registry};
use std::net::IpAddr;

const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// A container of a pod, and where its kubelet listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) node: String,
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) namespace: String,
    pub(super) pod: String,
    /// Empty for port-forward.
    pub(super) container: String,
}

pub(super) async fn resolve(
    registry: &Registry,
    what: Connect,
    path: &ResourcePath,
    query: &Query,
) -> Result<Target, ApiError> {
    let any = GetOptions {
        version: ReadVersion::Latest,
    };
    let key = ObjectKey::new(path.namespace.clone(), path.name.clone());
    let pod = registry.get(&gvr_of::<Pod>(), &key, &any).await?;
    let pod = pod
        .typed::<Pod>()
        .ok_or_else(|| ApiError::internal("a pod is no pod"))?;
    let container = match what {
        Connect::PortForward => String::new(),
        _ => container(&pod, query.get("container"))?,
    };
    let node = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.clone())
        .unwrap_or_default();
    if node.is_empty() {
        return Err(ApiError::bad_request(format!(
            "pod {} does not have a host assigned",
            path.name
        )));
    }
    let object = registry
        .get(&gvr_of::<Node>(), &ObjectKey::cluster(node.clone()), &any)
        .await?;
    let object = object
        .typed::<Node>()
        .ok_or_else(|| ApiError::internal("a node is no node"))?;
    let (address, port) = endpoint(&object)?;
    Ok(Target {
        node,
        address,
        port,
        namespace: key.namespace,
        pod: key.name,
        container,
    })
}

/// The container that is meant, in upstream's words where that is unclear.
fn container(pod: &Pod, asked: Option<&str>) -> Result<String, ApiError> {
    let Some(spec) = &pod.spec else {
        return Err(ApiError::internal("the pod has no spec"));
    };
    let init: &[Container] = spec.init_containers.as_deref().unwrap_or_default();
    let ephemeral = spec.ephemeral_containers.as_deref().unwrap_or_default();
    let exists = |name: &str| {
        spec.containers
            .iter()
            .chain(init)
            .any(|container| container.name == name)
            || ephemeral.iter().any(|container| container.name == name)
    };
    if let Some(name) = asked {
        return match exists(name) {
            true => Ok(name.to_owned()),
            false => Err(ApiError::bad_request(format!(
                "container {name} is not valid for pod {}",
                pod.name()
            ))),
        };
    }
    if let [only] = &spec.containers[..]
        && init.is_empty()
        && ephemeral.is_empty()
    {
        return Ok(only.name.clone());
    }
    if let Some(name) = pod
        .metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get(DEFAULT_CONTAINER))
        && exists(name)
    {
        return Ok(name.clone());
    }
    if let [only] = &spec.containers[..] {
        return Ok(only.name.clone());
    }
    let names: Vec<&str> = spec
        .containers
        .iter()
        .map(|container| container.name.as_str())
        .collect();
    let mut message = format!(
        "a container name must be specified for pod {}, choose one of: [{}]",
        pod.name(),
        names.join(" ")
    );
    if !init.is_empty() {
        let names: Vec<&str> = init.iter().map(|container| container.name.as_str()).collect();
        message.push_str(&format!(" or one of the init containers: [{}]", names.join(" ")));
    }
    Err(ApiError::bad_request(message))
}

/// Where the node says that its kubelet listens.
fn endpoint(node: &Node) -> Result<(IpAddr, u16), ApiError> {
    let status = node.status.as_ref();
    let addresses = status
        .and_then(|status| status.addresses.as_deref())
        .unwrap_or_default();
    let address = ["InternalIP", "ExternalIP"].iter().find_map(|kind| {
        addresses
            .iter()
            .filter(|address| address.type_ == *kind)
            .find_map(|address| address.address.parse().ok())
    });
    let port = status
        .and_then(|status| status.daemon_endpoints.as_ref()?.kubelet_endpoint.as_ref())
        .and_then(|endpoint| u16::try_from(endpoint.port).ok());
    match (address, port) {
        (Some(address), Some(port)) => Ok((address, port)),
        _ => Err(ApiError::service_unavailable(format!(
            "node {} has not said yet where its kubelet listens",
            node.name()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(containers: &[&str], init: &[&str]) -> Pod {
        let list = |names: &[&str]| names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>();
        serde_json::from_value(json!({
            "metadata": {"name": "p"}, "spec": {"containers": list(containers), "initContainers": list(init)},
        }))
        .expect("pod")
    }

    #[test]
    fn a_single_container_needs_no_name_and_several_do() {
        assert_eq!(container(&pod(&["a"], &[]), None).expect("one"), "a");
        assert_eq!(container(&pod(&["a"], &["i"]), None).expect("one"), "a");
        assert_eq!(container(&pod(&["a"], &["i"]), Some("i")).expect("init"), "i");
        let error = container(&pod(&["a", "b"], &[]), None).expect_err("two");
        assert_eq!(
            error.message,
            "a container name must be specified for pod p, choose one of: [a b]"
        );
        let error = container(&pod(&["a"], &[]), Some("x")).expect_err("absent");
        assert_eq!(
            (error.code, error.message.as_str()),
            (400, "container x is not valid for pod p")
        );
    }

    #[test]
    fn the_node_says_where_its_kubelet_is() {
        let node = serde_json::from_value(json!({
            "metadata": {"name": "n"},
            "status": {
                "addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "10.0.0.7"}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            },
        }))
        .expect("node");
        assert_eq!(
            endpoint(&node).expect("endpoint"),
            ("10.0.0.7".parse().expect("address"), 10250)
        );
        assert_eq!(endpoint(&Node::default()).expect_err("unknown").code, 503);
    }
}
