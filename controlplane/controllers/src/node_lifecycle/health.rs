//! Signs of life of a node, and what its conditions become without. Pure.

use crate::config::ControllersConfig;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(crate) const READY: &str = "Ready";
/// Conditions that only the kubelet can know.
const KUBELET_CONDITIONS: [&str; 4] = [READY, "MemoryPressure", "DiskPressure", "PIDPressure"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    True,
    False,
    Unknown,
}

pub(crate) fn conditions(node: &Node) -> &[NodeCondition] {
    node.status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default()
}

pub(crate) fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    conditions(node).iter().find(|condition| condition.type_ == kind)
}

/// A node that never said anything is not known to be ready.
pub(crate) fn ready(node: &Node) -> Ready {
    match condition(node, READY).map(|condition| condition.status.as_str()) {
        Some("True") => Ready::True,
        Some("False") => Ready::False,
        _ => Ready::Unknown,
    }
}

/// What changes whenever a node speaks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sign {
    renewed: Option<Timestamp>,
    /// Heartbeat and status of the Ready condition, as long as the kubelet wrote it.
    heartbeat: Option<(Option<Timestamp>, String)>,
}

pub(crate) fn sign_of_life(node: &Node, lease: Option<&Lease>) -> Sign {
    let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref().map(|time| time.0));
    let heartbeat = condition(node, READY)
        .filter(|condition| condition.status != "Unknown")
        .map(|condition| {
            (
                condition.last_heartbeat_time.as_ref().map(|time| time.0),
                condition.status.clone(),
            )
        });
    Sign { renewed, heartbeat }
}

/// When a node was last seen to speak, by our clock.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    uid: Option<String>,
    sign: Sign,
    seen_at: Timestamp,
}

impl Health {
    /// What is known after looking at `sign` now.
    pub(crate) fn after(old: Option<&Self>, node: &Node, sign: Sign, now: Timestamp) -> Self {
        let uid = node.metadata.uid.clone();
        let silent_since = old
            .filter(|old| old.uid == uid && !is_news(&old.sign, &sign))
            .map(|old| old.seen_at);
        // A node that never spoke counts from its creation; else nothing is known of the time before us.
        let never = sign.renewed.is_none() && condition(node, READY).is_none();
        let created = node
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0)
            .filter(|_| never);
        Self {
            uid,
            sign,
            seen_at: silent_since.or(created).unwrap_or(now),
        }
    }

    /// When the node counts as silent unless it speaks before.
    pub(crate) fn deadline(&self, node: &Node, config: &ControllersConfig) -> Timestamp {
        let grace = match condition(node, READY) {
            Some(_) => config.node_monitor_grace,
            None => config.node_startup_grace,
        };
        self.seen_at
            .saturating_add(SignedDuration::try_from(grace).unwrap_or(SignedDuration::MAX))
            .unwrap_or(Timestamp::MAX)
    }
}

/// That the Ready condition became Unknown is our own doing.
fn is_news(old: &Sign, new: &Sign) -> bool {
    new.renewed > old.renewed || (new.heartbeat.is_some() && new.heartbeat != old.heartbeat)
}

/// The conditions of a silent node; None: they are so already, or it is not silent.
pub(crate) fn unknown_conditions(node: &Node, silent: bool, now: Timestamp) -> Option<Vec<NodeCondition>> {
    if !silent {
        return None;
    }
    let mut all = conditions(node).to_vec();
    for kind in KUBELET_CONDITIONS {
        match all.iter_mut().find(|condition| condition.type_ == kind) {
            Some(condition) if condition.status == "Unknown" => {}
            Some(condition) => {
                condition.status = "Unknown".to_owned();
                condition.reason = Some("NodeStatusUnknown".to_owned());
                condition.message = Some("Kubelet stopped posting node status.".to_owned());
                condition.last_transition_time = Some(Time(now));
            }
            None => all.push(NodeCondition {
                type_: kind.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some("NodeStatusNeverUpdated".to_owned()),
                message: Some("Kubelet never posted node status.".to_owned()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(Time(now)),
            }),
        }
    }
    (all != conditions(node)).then_some(all)
}
