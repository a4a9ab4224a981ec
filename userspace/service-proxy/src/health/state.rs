//! What the answers are made of.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Service};
use parking_lot::Mutex;
use skep_api::ObjectKey;
use skep_service_table::LocalReady;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A change that waits longer than this to reach the maps makes the proxy unhealthy: twice upstream's sync period.
const PENDING_MAX: Duration = Duration::from_secs(60);
/// On a Node that is about to be deleted: new connections are better off elsewhere (KEP-3836).
const TO_BE_DELETED_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

/// Whom a listener answers for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Node,
    Service(ObjectKey),
}

/// The health of a node and of the Services that want theirs known. Cheap to read, written by the proxy.
#[derive(Debug)]
pub(crate) struct Health {
    node_listener: SocketAddr,
    state: Mutex<State>,
    /// Told when listeners may have to be opened or closed.
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    synced: bool,
    /// Since when the oldest change waits to reach the maps.
    pending_since: Option<Instant>,
    ineligible: bool,
    addresses: Vec<IpAddr>,
    services: BTreeMap<ObjectKey, (u16, LocalReady)>,
}

impl Health {
    pub(crate) fn new(node_listener: SocketAddr) -> Health {
        Health {
            node_listener,
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// The node's addresses, which with the loopback are where Services' ports answer.
    pub(crate) fn set_addresses(&self, addresses: &[IpAddr]) {
        let mut wanted = addresses.to_vec();
        wanted.push(Ipv4Addr::LOCALHOST.into());
        let mut state = self.state.lock();
        if state.addresses != wanted {
            state.addresses = wanted;
            self.changed.notify_one();
        }
    }

    /// The Node object changed, or is gone.
    pub(crate) fn set_node(&self, node: Option<&Node>) {
        self.state.lock().ineligible = !node.is_some_and(is_eligible);
    }

    /// A Service's port and what stands behind it on this node; None when it has no such port.
    pub(crate) fn set_service(&self, key: ObjectKey, check: Option<(u16, LocalReady)>) {
        let mut state = self.state.lock();
        let port_of = |check: Option<&(u16, LocalReady)>| check.map(|(port, _)| *port);
        let wanted = port_of(check.as_ref());
        let old = match check {
            Some(check) => state.services.insert(key, check),
            None => state.services.remove(&key),
        };
        if port_of(old.as_ref()) != wanted {
            self.changed.notify_one();
        }
    }

    /// A change was received that is not in the maps yet.
    pub(crate) fn queued(&self) {
        self.state.lock().pending_since.get_or_insert_with(Instant::now);
    }

    /// The maps hold everything that was received.
    pub(crate) fn synced(&self) {
        let mut state = self.state.lock();
        (state.synced, state.pending_since) = (true, None);
    }

    /// Every listener there shall be.
    pub(super) fn listeners(&self) -> BTreeSet<(SocketAddr, Subject)> {
        let state = self.state.lock();
        let of_services = state.services.iter().flat_map(|(key, (port, _))| {
            let address = |ip: &IpAddr| (SocketAddr::new(*ip, *port), Subject::Service(key.clone()));
            state.addresses.iter().map(address)
        });
        let mut all: BTreeSet<_> = of_services.collect();
        all.insert((self.node_listener, Subject::Node));
        all
    }

    /// Whether changes reach the maps.
    pub(super) fn is_healthy(&self) -> bool {
        let state = self.state.lock();
        let in_time = |since: Instant| since.elapsed() < PENDING_MAX;
        state.synced && state.pending_since.is_none_or(in_time)
    }

    /// Whether the node wants new connections from load balancers.
    pub(super) fn is_eligible(&self) -> bool {
        !self.state.lock().ineligible
    }

    /// Ready endpoints of the Service on this node.
    pub(super) fn local_ready(&self, service: &ObjectKey) -> LocalReady {
        let state = self.state.lock();
        state
            .services
            .get(service)
            .map_or_else(LocalReady::default, |(_, ready)| *ready)
    }
}

fn is_eligible(node: &Node) -> bool {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    node.metadata.deletion_timestamp.is_none()
        && taints.into_iter().all(|taint| taint.key != TO_BE_DELETED_TAINT)
}

/// The port on which the Service wants its health known.
pub(crate) fn health_check_port(service: &Service) -> Option<u16> {
    let spec = service.spec.as_ref()?;
    let wanted = spec.type_.as_deref() == Some("LoadBalancer")
        && spec.external_traffic_policy.as_deref() == Some("Local");
    let port = spec.health_check_node_port.filter(|_| wanted)?;
    u16::try_from(port).ok().filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn health() -> Health {
        Health::new("192.0.2.1:10256".parse().expect("an address"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_that_does_not_reach_the_maps_in_time_is_unhealthy() {
        let health = health();
        assert!(!health.is_healthy(), "before the first sync");
        health.synced();
        health.queued();
        tokio::time::advance(PENDING_MAX / 2).await;
        health.queued();
        assert!(health.is_healthy());
        tokio::time::advance(PENDING_MAX / 2).await;
        assert!(!health.is_healthy());
        health.synced();
        assert!(health.is_healthy());
    }

    #[test]
    fn a_node_that_goes_away_is_not_eligible() {
        let node = |value| serde_json::from_value::<Node>(value).expect("a Node");
        let eligible = node(
            json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": "x", "effect": "NoExecute"}]}}),
        );
        let tainted =
            node(json!({"spec": {"taints": [{"key": TO_BE_DELETED_TAINT, "effect": "NoSchedule"}]}}));
        let deleted = node(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}));
        let health = health();
        assert!(health.is_eligible(), "before anything is known");
        for (node, expected) in [
            (Some(tainted), false),
            (Some(eligible), true),
            (Some(deleted), false),
            (None, false),
        ] {
            health.set_node(node.as_ref());
            assert_eq!(health.is_eligible(), expected);
        }
    }

    #[test]
    fn only_load_balancers_of_local_traffic_have_a_port() {
        let port = |kind: &str, policy: &str| {
            let spec = json!({"type": kind, "externalTrafficPolicy": policy, "healthCheckNodePort": 31000});
            health_check_port(&serde_json::from_value(json!({"spec": spec})).expect("a Service"))
        };
        assert_eq!(port("LoadBalancer", "Local"), Some(31000));
        assert_eq!(
            (port("LoadBalancer", "Cluster"), port("NodePort", "Local")),
            (None, None)
        );
    }
}
