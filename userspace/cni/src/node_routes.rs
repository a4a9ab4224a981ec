//! Routes to the pods of the other nodes: one per pod range, over its node's address.
//!
//! Nodes → what should be (pure) → difference to what the kernel has (pure) → applied. Looks again at every change of a
//! node and from time to time, since a link that goes down takes its routes along. Routes stay when the agent ends.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use skep_api::ObjectExt;
use skep_client::Client;
use skep_runtime::{Informer, InformerOptions, Subscription};
use tokio_util::sync::CancellationToken;

use crate::CniError;
use crate::netlink::{Netlink, Route};

/// Marks these routes.
const PROTOCOL: u8 = 92;
/// How often the kernel's routes are compared when nothing changes.
const RESYNC: Duration = Duration::from_secs(30);
/// How soon a failed round is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Pod range → address of the node that has it.
type Wanted = BTreeMap<Ipv4Net, Ipv4Addr>;

/// Keeps the routes until cancelled. The calling thread must be in the node's network namespace.
///
/// # Errors
/// When the kernel cannot be spoken to at all; single failures are tried again.
pub async fn run(client: Client, node_name: String, shutdown: CancellationToken) -> Result<(), CniError> {
    let netlink = Netlink::here()?;
    let informer = Informer::<Node>::new(client, InformerOptions::default());
    let changes = informer.subscribe();
    let follow = async {
        // Before that, nodes that are not listed yet would lose their routes.
        informer.synced().await;
        follow(&netlink, &informer, &node_name, changes).await;
    };
    tokio::join!(
        informer.run(shutdown.clone()),
        shutdown.run_until_cancelled(follow)
    );
    Ok(())
}

async fn follow(
    netlink: &Netlink,
    informer: &Informer<Node>,
    node_name: &str,
    mut changes: Subscription<Node>,
) {
    loop {
        while changes.try_next().is_some() {}
        let wanted = wanted(&informer.store().list(), node_name);
        let pause = match apply(netlink, &wanted).await {
            Ok(()) => RESYNC,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "setting the routes to other nodes failed"
                );
                RETRY
            }
        };
        // Time out, change or end of the subscription: in any case look again.
        if let Ok(None) = tokio::time::timeout(pause, changes.next()).await {
            return;
        }
    }
}

async fn apply(netlink: &Netlink, wanted: &Wanted) -> Result<(), CniError> {
    let (set, delete) = difference(wanted, &netlink.routes().await?);
    for route in &set {
        netlink.replace_route(route).await?;
        tracing::info!(pods = %route.destination, via = ?route.gateway, "set the route to a node's pods");
    }
    for route in &delete {
        netlink.delete_route(route).await?;
        tracing::info!(pods = %route.destination, "deleted the route to a node's pods");
    }
    Ok(())
}

/// The other nodes' ranges. Of two nodes that claim one range (one is about to go) the younger has it.
fn wanted(nodes: &[Arc<Node>], node_name: &str) -> Wanted {
    let mut nodes: Vec<_> = nodes.iter().filter(|node| node.name() != node_name).collect();
    nodes.sort_by_key(|node| (node.metadata.creation_timestamp.clone(), node.name().to_owned()));
    let mut wanted = Wanted::new();
    for node in nodes {
        let Some(address) = internal_address(node) else {
            continue;
        };
        let Some(spec) = &node.spec else { continue };
        let ranges = spec.pod_cidrs.iter().flatten().chain(&spec.pod_cidr);
        for range in ranges.filter_map(|range| range.parse::<Ipv4Net>().ok()) {
            wanted.insert(range.trunc(), address);
        }
    }
    wanted
}

fn internal_address(node: &Node) -> Option<Ipv4Addr> {
    let addresses = node.status.as_ref()?.addresses.as_ref()?;
    addresses
        .iter()
        .filter(|address| address.type_ == "InternalIP")
        .find_map(|address| address.address.parse().ok())
}

/// What to set and what to delete.
fn difference(wanted: &Wanted, present: &[Route]) -> (Vec<Route>, Vec<Route>) {
    let ours = || present.iter().filter(|route| route.protocol == PROTOCOL);
    let set = wanted
        .iter()
        .filter(|(range, gateway)| {
            !ours().any(|route| route.destination == **range && route.gateway == Some(**gateway))
        })
        .map(|(range, gateway)| Route {
            destination: *range,
            gateway: Some(*gateway),
            device: None,
            protocol: PROTOCOL,
        })
        .collect();
    // A route of a range that is set anew is replaced by that.
    let delete = ours()
        .filter(|route| !wanted.contains_key(&route.destination))
        .cloned()
        .collect();
    (set, delete)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(name: &str, range: Option<&str>, address: &str, created: &str) -> Arc<Node> {
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": name, "creationTimestamp": created },
            "spec": { "podCIDR": range, "podCIDRs": range.map(|range| vec![range]) },
            "status": { "addresses": [
                { "type": "Hostname", "address": name }, { "type": "InternalIP", "address": address },
            ] },
        });
        Arc::new(serde_json::from_value(node).unwrap())
    }

    fn route(destination: &str, gateway: &str, protocol: u8) -> Route {
        Route {
            destination: destination.parse().unwrap(),
            gateway: Some(gateway.parse().unwrap()),
            device: Some(2),
            protocol,
        }
    }

    const T1: &str = "2026-01-01T00:00:01Z";
    const T2: &str = "2026-01-01T00:00:02Z";

    #[test]
    fn every_other_node_with_range_and_address_is_wanted() {
        let nodes = [
            node("me", Some("10.128.0.0/24"), "172.29.0.11", T1),
            node("other", Some("10.128.1.0/24"), "172.29.0.12", T1),
            node("new", None, "172.29.0.13", T1),
            node("odd", Some("10.128.9.0/24"), "not an address", T1),
        ];
        let wanted = wanted(&nodes, "me");
        assert_eq!(
            wanted,
            Wanted::from([("10.128.1.0/24".parse().unwrap(), "172.29.0.12".parse().unwrap())])
        );
    }

    #[test]
    fn the_younger_of_two_claimants_has_the_range() {
        let young = node("a", Some("10.128.1.0/24"), "172.29.0.12", T2);
        let old = node("b", Some("10.128.1.0/24"), "172.29.0.13", T1);
        for nodes in [[young.clone(), old.clone()], [old, young]] {
            let wanted = wanted(&nodes, "me");
            assert_eq!(
                wanted.values().collect::<Vec<_>>(),
                [&"172.29.0.12".parse::<Ipv4Addr>().unwrap()]
            );
        }
    }

    #[test]
    fn only_differences_are_applied_and_only_to_our_routes() {
        let wanted = wanted(
            &[
                node("same", Some("10.128.1.0/24"), "172.29.0.12", T1),
                node("moved", Some("10.128.2.0/24"), "172.29.0.13", T1),
                node("new", Some("10.128.3.0/24"), "172.29.0.14", T1),
            ],
            "me",
        );
        let present = [
            route("10.128.1.0/24", "172.29.0.12", PROTOCOL),
            route("10.128.2.0/24", "172.29.0.99", PROTOCOL),
            route("10.128.4.0/24", "172.29.0.15", PROTOCOL),
            route("10.128.5.0/24", "172.29.0.16", 4),
            route("0.0.0.0/0", "172.29.0.1", 3),
        ];
        let (set, delete) = difference(&wanted, &present);
        let set: Vec<_> = set
            .iter()
            .map(|route| (route.destination.to_string(), route.gateway.unwrap().to_string()))
            .collect();
        assert_eq!(
            set,
            [
                ("10.128.2.0/24".to_owned(), "172.29.0.13".to_owned()),
                ("10.128.3.0/24".to_owned(), "172.29.0.14".to_owned()),
            ]
        );
        assert_eq!(delete, [route("10.128.4.0/24", "172.29.0.15", PROTOCOL)]);
    }
}
