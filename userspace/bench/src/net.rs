//! Traffic through Services, beside other ways to the same backend.
//!
//! Contenders stand at the same time, each on machines of its own, and are measured in turn, round by round: what
//! disturbs the machine for a while disturbs all of them. A ratio is taken within each round; what is reported is the
//! median of these ratios, and an interval around it.

mod compare;
mod contenders;
mod group;
mod lane;
mod rules;
mod server;
mod topology;
mod workloads;

use std::time::Duration;

use contenders::{Contender, Direct, Iptables, Nftables, Skep};
use group::{Amount, Group};
use workloads::{Crr, Rr, Stream, Workload};

use crate::BenchError;
use crate::engine::report::{Report, machine};
use crate::options::{Context, Effort};

const WORKLOADS: [&dyn Workload; 3] = [&Rr, &Crr, &Stream];
/// Of 30,000 Services against one.
const DRIFT_SERVICES: usize = 30_000;

/// Runs the suite.
///
/// # Errors
/// Those of the contenders and of the traffic.
pub(crate) fn run(context: &Context) -> Result<Report, BenchError> {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return Err(BenchError::OneCore);
    }
    let effort = context.effort;
    let amount = Amount {
        rounds: effort.pick(2, 15, 31),
        warm_up: Duration::from_millis(effort.pick(5, 20, 50)),
        time: Duration::from_millis(effort.pick(20, 100, 250)),
    };
    let sizes: &[usize] = match effort {
        Effort::Smoke => &[3],
        Effort::Quick | Effort::Full => &[1, 1_000, 10_000],
    };
    let (mut rows, mut raw) = (Vec::new(), Vec::new());
    let contenders: [&dyn Contender; 5] = [
        &Direct("direct"),
        &Direct("direct again"),
        &Skep,
        &Iptables,
        &Nftables,
    ];
    for &services in sizes {
        let lanes = contenders.map(|contender| (contender, services));
        let group = Group::measure(&lanes, amount, &WORKLOADS, context)?;
        rows.extend(compare::rates(&group));
        rows.extend(compare::contenders(&group, services));
        raw.push(group.raw());
    }
    let many = effort.pick(30, DRIFT_SERVICES, DRIFT_SERVICES);
    let lanes: [(&dyn Contender, usize); 2] = [(&Skep, 1), (&Skep, many)];
    let group = Group::measure(&lanes, amount, &WORKLOADS[..2], context)?;
    rows.extend(compare::drift(&group, many));
    raw.push(group.raw());
    Ok(Report {
        suite: "net",
        machine: machine(),
        effort: effort.name(),
        rows,
        remarks: vec![
            "packets per second over node ports and XDP are not measured yet".to_owned(),
            "contenders are measured on this machine with whatever else it does: compare ratios of one run only"
                .to_owned(),
        ],
        raw: raw.into(),
    })
}
