//! Pure: the conditions of a Node, as upstream's kubelet words them.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{NodeCondition, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use skep_cri::v1;

use super::machine::Machine;

/// Upstream's default eviction thresholds.
const LEAST_MEMORY_BYTES: u64 = 100 * 1024 * 1024;
const LEAST_DISK_PERCENT: u64 = 10;
/// Below this many free process ids the node is under pressure.
const LEAST_PROCESS_PERCENT: u64 = 5;

const RUNTIME_READY: &str = "RuntimeReady";
const NETWORK_READY: &str = "NetworkReady";

/// What conditions are made from.
pub(super) struct Health<'a> {
    /// What the runtime says, or why it says nothing.
    pub(super) runtime: Result<v1::RuntimeStatus, String>,
    pub(super) machine: &'a Machine,
}

/// All conditions; where the status is as known, its transition time is too.
pub(super) fn all(health: &Health<'_>, known: &[NodeCondition], now: Timestamp) -> Vec<NodeCondition> {
    let machine = health.machine;
    let percent = |part: u64, whole: u64| whole == 0 || part * 100 < whole * LEAST_DISK_PERCENT;
    let free_processes = machine.process_limit.saturating_sub(machine.processes);
    let few_processes = free_processes * 100 < machine.process_limit * LEAST_PROCESS_PERCENT;
    let judged = [
        pressure(
            "MemoryPressure",
            "Memory",
            "memory",
            machine.memory_available_bytes < LEAST_MEMORY_BYTES,
        ),
        pressure(
            "DiskPressure",
            "Disk",
            "disk",
            percent(machine.disk_available_bytes, machine.disk_bytes),
        ),
        pressure("PIDPressure", "PID", "PID", few_processes),
        network(health),
        ready(health),
    ];
    judged
        .into_iter()
        .map(|judgement| judgement.at(known, now))
        .collect()
}

/// Whether the status says that the node is ready.
pub(super) fn is_ready(status: &NodeStatus) -> bool {
    let conditions = status.conditions.iter().flatten();
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

struct Judgement {
    type_: &'static str,
    holds: bool,
    reason: String,
    message: String,
}

impl Judgement {
    fn at(self, known: &[NodeCondition], now: Timestamp) -> NodeCondition {
        let status = if self.holds { "True" } else { "False" };
        let before = known
            .iter()
            .find(|condition| condition.type_ == self.type_ && condition.status == status);
        let since = before.and_then(|condition| condition.last_transition_time.clone());
        NodeCondition {
            type_: self.type_.to_owned(),
            status: status.to_owned(),
            reason: Some(self.reason),
            message: Some(self.message),
            last_heartbeat_time: Some(Time(now)),
            last_transition_time: Some(since.unwrap_or(Time(now))),
        }
    }
}

fn pressure(type_: &'static str, what: &str, word: &str, holds: bool) -> Judgement {
    let (reason, message) = match (holds, word) {
        (true, "disk") => (
            format!("KubeletHas{what}Pressure"),
            "kubelet has disk pressure".to_owned(),
        ),
        (false, "disk") => (
            format!("KubeletHasNo{what}Pressure"),
            "kubelet has no disk pressure".to_owned(),
        ),
        (true, _) => (
            format!("KubeletHasInsufficient{what}"),
            format!("kubelet has insufficient {word} available"),
        ),
        (false, _) => (
            format!("KubeletHasSufficient{what}"),
            format!("kubelet has sufficient {word} available"),
        ),
    };
    Judgement {
        type_,
        holds,
        reason,
        message,
    }
}

fn network(health: &Health<'_>) -> Judgement {
    let available = matches!(&health.runtime, Ok(status) if complaint(status, NETWORK_READY).is_none());
    let (reason, message) = if available {
        ("PodNetworkIsUp", "the runtime's network is ready")
    } else {
        ("PodNetworkIsDown", "the runtime's network is not ready")
    };
    Judgement {
        type_: "NetworkUnavailable",
        holds: !available,
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

fn ready(health: &Health<'_>) -> Judgement {
    let complaints: Vec<String> = match &health.runtime {
        Err(error) => vec![format!("container runtime is down: {error}")],
        Ok(status) => {
            let runtime =
                complaint(status, RUNTIME_READY).map(|text| format!("container runtime not ready: {text}"));
            let network = complaint(status, NETWORK_READY)
                .map(|text| format!("container runtime network not ready: {text}"));
            runtime.into_iter().chain(network).collect()
        }
    };
    let holds = complaints.is_empty();
    let (reason, message) = if holds {
        ("KubeletReady", "kubelet is posting ready status".to_owned())
    } else {
        ("KubeletNotReady", complaints.join(", "))
    };
    Judgement {
        type_: "Ready",
        holds,
        reason: reason.to_owned(),
        message,
    }
}

/// What the runtime has to say against a condition of its own; nothing if it holds.
fn complaint(status: &v1::RuntimeStatus, type_: &str) -> Option<String> {
    match status
        .conditions
        .iter()
        .find(|condition| condition.r#type == type_)
    {
        Some(condition) if condition.status => None,
        Some(condition) => Some(format!(
            "{type_}=false reason:{} message:{}",
            condition.reason, condition.message
        )),
        None => Some(format!("{type_} is not reported")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            memory_available_bytes: 1 << 30,
            disk_bytes: 100,
            disk_available_bytes: 50,
            processes: 10,
            process_limit: 1000,
            ..Machine::default()
        }
    }

    fn runtime(network: bool) -> v1::RuntimeStatus {
        let condition = |type_: &str, status| v1::RuntimeCondition {
            r#type: type_.to_owned(),
            status,
            ..v1::RuntimeCondition::default()
        };
        v1::RuntimeStatus {
            conditions: vec![condition(RUNTIME_READY, true), condition(NETWORK_READY, network)],
        }
    }

    fn status_of<'a>(conditions: &'a [NodeCondition], type_: &str) -> &'a str {
        &conditions
            .iter()
            .find(|condition| condition.type_ == type_)
            .unwrap()
            .status
    }

    #[test]
    fn a_healthy_node_is_ready() {
        let machine = machine();
        let found = all(
            &Health {
                runtime: Ok(runtime(true)),
                machine: &machine,
            },
            &[],
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(status_of(&found, "Ready"), "True");
        for type_ in [
            "MemoryPressure",
            "DiskPressure",
            "PIDPressure",
            "NetworkUnavailable",
        ] {
            assert_eq!(status_of(&found, type_), "False", "{type_}");
        }
    }

    #[test]
    fn without_network_or_runtime_it_is_not_and_says_why() {
        let machine = machine();
        for (runtime, word) in [
            (Ok(runtime(false)), "network not ready"),
            (Err("gone".to_owned()), "gone"),
        ] {
            let found = all(
                &Health {
                    runtime,
                    machine: &machine,
                },
                &[],
                Timestamp::UNIX_EPOCH,
            );
            let ready = found.iter().find(|condition| condition.type_ == "Ready").unwrap();
            assert_eq!(ready.status, "False");
            assert!(ready.message.as_ref().unwrap().contains(word));
        }
    }

    #[test]
    fn transition_times_change_only_with_the_status() {
        let machine = machine();
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = all(
            &Health {
                runtime: Ok(runtime(false)),
                machine: &machine,
            },
            &[],
            at(1),
        );
        let second = all(
            &Health {
                runtime: Ok(runtime(false)),
                machine: &machine,
            },
            &first,
            at(2),
        );
        let third = all(
            &Health {
                runtime: Ok(runtime(true)),
                machine: &machine,
            },
            &second,
            at(3),
        );
        let since =
            |conditions: &[NodeCondition]| conditions.last().unwrap().last_transition_time.clone().unwrap().0;
        assert_eq!(
            (since(&first), since(&second), since(&third)),
            (at(1), at(1), at(3))
        );
    }
}
