//! Lanes that are measured in turn, and what was seen of them.

use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::contenders::Contender;
use super::lane::{Cell, Lane};
use super::topology::Path;
use super::workloads::Workload;
use crate::BenchError;
use crate::engine::services::Position;
use crate::engine::statistics::percentile;
use crate::options::Context;

/// How long, and how often.
#[derive(Clone, Copy)]
pub(super) struct Amount {
    pub(super) rounds: usize,
    pub(super) warm_up: Duration,
    pub(super) time: Duration,
}

/// One sample.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sample {
    lane: usize,
    round: usize,
    path: &'static str,
    position: &'static str,
    workload: &'static str,
    pub(super) rate: f64,
    pub(super) request_p50_us: Option<f64>,
    pub(super) connect_p50_us: Option<f64>,
    pub(super) connect_p99_us: Option<f64>,
}

/// What is compared: one cell of the table, whoever the contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) path: Path,
    pub(super) position: Position,
    pub(super) workload: &'static str,
    pub(super) unit: &'static str,
}

pub(super) struct Group {
    lanes: Vec<(String, Duration)>,
    rounds: usize,
    pub(super) kinds: Vec<Kind>,
    samples: Vec<Sample>,
}

impl Group {
    /// Sets the lanes up, measures them, and takes them away.
    ///
    /// # Errors
    /// Those of the contenders and of the traffic.
    pub(super) fn measure(
        contenders: &[(&dyn Contender, usize)],
        amount: Amount,
        workloads: &[&dyn Workload],
        context: &Context,
    ) -> Result<Self, BenchError> {
        let mut lanes = Vec::with_capacity(contenders.len());
        for (contender, services) in contenders {
            context.interrupt.check()?;
            lanes.push(Lane::new(*contender, *services, &context.interrupt)?);
        }
        let cells = cells(workloads, contenders.iter().map(|(_, services)| *services).max());
        let mut group = Self {
            lanes: lanes.iter().map(|lane| (lane.name(), lane.load_time)).collect(),
            rounds: amount.rounds,
            kinds: cells.iter().map(Cell::kind).collect(),
            samples: Vec::new(),
        };
        for round in 0..amount.rounds {
            for cell in &cells {
                // Nobody always comes first.
                for turn in 0..lanes.len() {
                    context.interrupt.check()?;
                    let lane = (turn + round) % lanes.len();
                    let measured = lanes[lane].measure(cell, amount.warm_up, amount.time)?;
                    group.samples.push(Sample {
                        lane,
                        round,
                        path: cell.path.name(),
                        position: cell.position.name(),
                        workload: cell.workload.name(),
                        rate: measured.rate,
                        request_p50_us: percentile(&measured.requests_us, 0.5),
                        connect_p50_us: percentile(&measured.connects_us, 0.5),
                        connect_p99_us: percentile(&measured.connects_us, 0.99),
                    });
                }
            }
        }
        Ok(group)
    }

    /// What one lane showed, round by round.
    pub(super) fn of(&self, lane: usize, kind: Kind, value: impl Fn(&Sample) -> Option<f64>) -> Vec<f64> {
        self.samples
            .iter()
            .filter(|sample| {
                sample.lane == lane
                    && sample.path == kind.path.name()
                    && sample.position == kind.position.name()
                    && sample.workload == kind.workload
            })
            .filter_map(value)
            .collect()
    }

    /// Names of the lanes, and what it took to load each.
    pub(super) fn lanes(&self) -> impl Iterator<Item = (&str, Duration)> {
        self.lanes
            .iter()
            .map(|(name, load_time)| (name.as_str(), *load_time))
    }

    /// Everything.
    pub(super) fn raw(&self) -> serde_json::Value {
        let lanes: Vec<_> = self
            .lanes()
            .map(|(name, load_time)| json!({"name": name, "loadSeconds": load_time.as_secs_f64()}))
            .collect();
        json!({"lanes": lanes, "rounds": self.rounds, "samples": self.samples})
    }
}

/// Every workload over every path to the last Service; those that make connections to the first and the middle one
/// too, where there is a difference.
fn cells<'a>(workloads: &[&'a dyn Workload], services: Option<usize>) -> Vec<Cell<'a>> {
    let mut cells = Vec::new();
    for path in Path::ALL {
        for workload in workloads {
            let everywhere = workload.connects() && services.is_some_and(|services| services > 1);
            let positions = Position::ALL
                .into_iter()
                .filter(|position| everywhere || *position == Position::Last);
            cells.extend(positions.map(|position| Cell {
                path,
                position,
                workload: *workload,
            }));
        }
    }
    cells
}
