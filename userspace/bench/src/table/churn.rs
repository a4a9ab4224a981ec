//! Endpoints change a thousand times a second, whether the proxy keeps up or not.

use std::time::{Duration, Instant};

use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;
use skep_abi::ServiceId;

use super::Part;
use super::bed::{Bed, ENDPOINTS, flip, id, slot_count};
use super::latency::{STRIDE, rows};
use crate::BenchError;
use crate::engine::report::Row;
use crate::engine::services::counted;
use crate::engine::statistics::Estimate;
use crate::options::Context;

const TICK: Duration = Duration::from_millis(1);
const TARGET_P99_MS: f64 = 200.0;
/// After the last change.
const PATIENCE: Duration = Duration::from_secs(10);

/// A change that is not in the map yet.
struct Outstanding {
    id: ServiceId,
    expected: usize,
    since: Instant,
}

pub(super) fn run(bed: &Bed, context: &Context) -> Result<Part, BenchError> {
    let seconds = context.effort.pick(1, 10, 60);
    let changes = seconds * 1_000;
    let prepared = prepare(bed, changes)?;
    let (mut outstanding, mut latencies_ms) = (Vec::new(), Vec::with_capacity(changes));
    let started = Instant::now();
    for (at, (id, slice, expected)) in (1_u32..).zip(prepared) {
        if at % 256 == 0 {
            context.interrupt.check()?;
        }
        let since = Instant::now();
        bed.api.change(slice)?;
        outstanding.push(Outstanding { id, expected, since });
        look(bed, &mut outstanding, &mut latencies_ms)?;
        // When it comes late it does not wait: the changes that are due follow at once.
        std::thread::sleep((started + TICK * at).saturating_duration_since(Instant::now()));
    }
    let took = started.elapsed();
    while !outstanding.is_empty() && started.elapsed() < took + PATIENCE {
        look(bed, &mut outstanding, &mut latencies_ms)?;
        std::thread::sleep(TICK);
    }
    // What never came counts with all the time it was given.
    latencies_ms.extend(
        outstanding
            .iter()
            .map(|change| change.since.elapsed().as_secs_f64() * 1e3),
    );
    let title = format!(
        "churn for {seconds} s, {} of {ENDPOINTS}",
        counted(bed.services.len())
    );
    let rate = Estimate::exact(changes as f64 / took.as_secs_f64());
    let mut found = vec![Row::figure(format!("{title}: changes"), rate, "/s")];
    found.extend(rows(&format!("{title}: latency"), &latencies_ms, TARGET_P99_MS));
    let lost = Estimate::exact(outstanding.len() as f64);
    found.push(Row::figure(format!("{title}: changes that never came"), lost, ""));
    Ok((
        found,
        json!({"latenciesMs": latencies_ms, "neverCame": outstanding.len()}),
    ))
}

/// A Service's element, its slice after a change, and how many endpoints it has then.
type Change = (ServiceId, EndpointSlice, usize);

/// Builds all changes before the clock runs. No Service changes twice within as many changes as there are Services.
fn prepare(bed: &Bed, changes: usize) -> Result<Vec<Change>, BenchError> {
    let services = &bed.services;
    let mut counts = vec![None; services.len()];
    (0..changes)
        .map(|change| {
            let at = change * STRIDE % services.len();
            let id = id(&*bed.maps, &services[at])?;
            let count = match counts[at] {
                Some(count) => count,
                None => slot_count(&*bed.maps, id)?,
            };
            let (slice, expected) = flip(&services[at], count < ENDPOINTS)?;
            counts[at] = Some(expected);
            Ok((id, slice, expected))
        })
        .collect()
}

/// Takes out what has come.
fn look(
    bed: &Bed,
    outstanding: &mut Vec<Outstanding>,
    latencies_ms: &mut Vec<f64>,
) -> Result<(), BenchError> {
    let mut failure = None;
    outstanding.retain(|change| match slot_count(&*bed.maps, change.id) {
        Ok(count) if count == change.expected => {
            latencies_ms.push(change.since.elapsed().as_secs_f64() * 1e3);
            false
        }
        Ok(_) => true,
        Err(error) => {
            failure = Some(error);
            true
        }
    });
    failure.map_or(Ok(()), Err)
}
