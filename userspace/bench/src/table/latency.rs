//! One endpoint changes while nothing else does.

use std::time::{Duration, Instant};

use serde_json::json;
use skep_abi::ServiceId;
use skep_bpf_maps::ServiceMaps;

use super::Part;
use super::bed::{Bed, ENDPOINTS, flip, id, slot_count};
use crate::BenchError;
use crate::engine::report::{Row, Target};
use crate::engine::services::counted;
use crate::engine::statistics::{Estimate, percentile};
use crate::options::Context;

pub(super) const TARGET_P99_MS: f64 = 10.0;
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_micros(50);
/// Between two changes, so that each is alone.
const REST: Duration = Duration::from_millis(2);
/// Steps from one Service to the next: they are spread over the table.
pub(super) const STRIDE: usize = 7_919;

pub(super) fn run(bed: &Bed, context: &Context) -> Result<Part, BenchError> {
    let mut latencies_ms = Vec::new();
    for change in 0..context.effort.pick(20, 1_000, 5_000) {
        context.interrupt.check()?;
        let service = &bed.services[change * STRIDE % bed.services.len()];
        let id = id(&*bed.maps, service)?;
        let ready = slot_count(&*bed.maps, id)? < ENDPOINTS;
        let (slice, expected) = flip(service, ready)?;
        let started = Instant::now();
        bed.api.change(slice)?;
        let seen = wait_for(&*bed.maps, id, expected)?;
        latencies_ms.push((seen - started).as_secs_f64() * 1e3);
        std::thread::sleep(REST);
    }
    let services = counted(bed.services.len());
    let title = format!("one endpoint changes, {services} of {ENDPOINTS}: from the informer to the map");
    Ok((
        rows(&title, &latencies_ms, TARGET_P99_MS),
        json!({ "latenciesMs": latencies_ms }),
    ))
}

/// Waits until a Service has so many endpoints; returns when that was seen.
pub(super) fn wait_for(
    maps: &dyn ServiceMaps,
    id: ServiceId,
    expected: usize,
) -> Result<Instant, BenchError> {
    let started = Instant::now();
    while slot_count(maps, id)? != expected {
        if started.elapsed() > PATIENCE {
            return Err(BenchError::Never(format!(
                "a Service had {expected} endpoints in the map"
            )));
        }
        std::thread::sleep(POLL);
    }
    Ok(Instant::now())
}

/// Half and nearly all of the latencies.
pub(super) fn rows(title: &str, latencies_ms: &[f64], target_p99: f64) -> Vec<Row> {
    let row = |at, name| {
        let value = Estimate::exact(percentile(latencies_ms, at)?);
        Some(Row::figure(format!("{title}, {name}"), value, "ms"))
    };
    let p99 = row(0.99, "p99").map(|row| row.against(Target::AtMost(target_p99)));
    row(0.5, "p50").into_iter().chain(p99).collect()
}
