//! What the samples of a group say.

use super::group::{Group, Kind, Sample};
use super::topology::Path;
use crate::engine::report::{Row, Target};
use crate::engine::services::counted;
use crate::engine::statistics::Estimate;

/// The order of the lanes of a group of contenders.
const DIRECT: usize = 0;
const AGAIN: usize = 1;
const SKEP: usize = 2;
const IPTABLES: usize = 3;
const NFTABLES: usize = 4;

/// The rates of all lanes, and what loading them took.
pub(super) fn rates(group: &Group) -> Vec<Row> {
    let mut rows = Vec::new();
    for (lane, (name, load_time)) in group.lanes().enumerate() {
        if load_time.as_millis() > 0 {
            let load = Estimate::exact(load_time.as_secs_f64());
            rows.push(Row::figure(
                format!("{name}: from nothing to the whole table"),
                load,
                "s",
            ));
        }
        for kind in &group.kinds {
            let rates = Estimate::of(&group.of(lane, *kind, |sample| Some(sample.rate)));
            let title = format!("{name}: {}", title(*kind));
            rows.extend(rates.map(|rate| Row::figure(title, rate, kind.unit)));
        }
    }
    rows
}

/// Skep beside each of the others, and the others beside nothing.
pub(super) fn contenders(group: &Group, services: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    for kind in &group.kinds {
        for (name, one, other, target) in [
            ("Skep / direct", SKEP, DIRECT, beside_direct(*kind)),
            (
                "Skep / iptables",
                SKEP,
                IPTABLES,
                beside_iptables(*kind, services),
            ),
            ("Skep / nftables", SKEP, NFTABLES, Target::Beside),
            ("iptables / direct", IPTABLES, DIRECT, Target::Beside),
            ("nftables / direct", NFTABLES, DIRECT, Target::Beside),
            ("direct again / direct", AGAIN, DIRECT, Target::Beside),
        ] {
            let name = format!("{name}: {}, {}", title(*kind), counted(services));
            rows.extend(beside(group, *kind, (one, other), &name, target));
        }
        for (name, lane) in [
            ("Skep", SKEP),
            ("iptables", IPTABLES),
            ("nftables", NFTABLES),
            ("direct again", AGAIN),
        ] {
            let target = (name == "Skep" && kind.path == Path::ClusterIp).then_some(Target::AtMost(5.0));
            for (share, value) in CONNECTS {
                let name = format!(
                    "{name} - direct: connect {share}, {}, {}",
                    title(*kind),
                    counted(services)
                );
                let Some(more) = differences(group, *kind, lane, value) else {
                    continue;
                };
                let row = Row::figure(name, more, "µs");
                rows.push(match target.filter(|_| share == "p99") {
                    Some(target) => row.against(target),
                    None => row,
                });
            }
        }
    }
    rows
}

/// Skep with many Services beside Skep with one.
pub(super) fn drift(group: &Group, services: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    for kind in &group.kinds {
        let name = format!("Skep, {} / 1: {}", counted(services), title(*kind));
        rows.extend(beside(group, *kind, (1, 0), &name, Target::AtLeast(0.99)));
    }
    rows
}

fn title(kind: Kind) -> String {
    let position = kind.position.name();
    format!("{} {}, {position}", kind.path.name(), kind.workload)
}

/// The targets are those of ClusterIPs.
fn beside_direct(kind: Kind) -> Target {
    match (kind.path, kind.workload) {
        (Path::ClusterIp, "CRR") => Target::AtLeast(0.95),
        (Path::ClusterIp, _) => Target::AtLeast(0.99),
        (Path::NodePort, _) => Target::Beside,
    }
}

fn beside_iptables(kind: Kind, services: usize) -> Target {
    if kind.path == Path::ClusterIp && kind.workload == "CRR" && services == 1 {
        Target::AtLeast(1.0)
    } else {
        Target::Beside
    }
}

/// One lane beside another: by what they did in all, and by the median request, which is the surer the busier the
/// machine is.
fn beside(group: &Group, kind: Kind, (one, other): (usize, usize), name: &str, target: Target) -> Vec<Row> {
    let rates = |lane| group.of(lane, kind, |sample| Some(sample.rate));
    let speeds = |lane| group.of(lane, kind, |sample| Some(1.0 / sample.request_p50_us?));
    let by_rate = ratios(&rates(one), &rates(other)).map(|ratio| (name.to_owned(), ratio));
    let by_request =
        ratios(&speeds(one), &speeds(other)).map(|ratio| (format!("{name}, by the median request"), ratio));
    let found = by_rate.into_iter().chain(by_request);
    found
        .map(|(name, ratio)| Row::figure(name, ratio, "×").against(target))
        .collect()
}

/// The ratios of samples of the same rounds.
fn ratios(one: &[f64], other: &[f64]) -> Option<Estimate> {
    let ratios: Vec<f64> = one.iter().zip(other).map(|(one, other)| one / other).collect();
    Estimate::of(&ratios)
}

/// What the first packet's way and back takes.
type Connects = fn(&Sample) -> Option<f64>;
const CONNECTS: [(&str, Connects); 2] = [
    ("p50", |sample| sample.connect_p50_us),
    ("p99", |sample| sample.connect_p99_us),
];

/// How much more a lane took than the direct one of the same round; `None` for workloads without connects.
fn differences(group: &Group, kind: Kind, lane: usize, value: Connects) -> Option<Estimate> {
    let (lane, direct) = (group.of(lane, kind, value), group.of(DIRECT, kind, value));
    let differences: Vec<f64> = lane
        .iter()
        .zip(&direct)
        .map(|(lane, direct)| lane - direct)
        .collect();
    Estimate::of(&differences)
}
