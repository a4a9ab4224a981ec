//! The control path: from objects of the API to the kernel's maps.
//!
//! The proxy is the real one and the maps are the kernel's. Changes are seen from outside: a reader of the maps waits
//! for the element that changes. Once with an API in memory, which leaves the proxy alone; once with the whole server,
//! its store on this machine's disk, and HTTPS between.

mod bed;
mod churn;
mod cold;
mod latency;
mod memory;
mod served;

use serde_json::json;

use crate::BenchError;
use crate::engine::report::{Report, Row, machine};
use crate::options::Context;

pub(crate) use memory::print as print_memory;

/// Rows of a part, and its samples.
type Part = (Vec<Row>, serde_json::Value);
type RunPart = fn(&Context) -> Result<Part, BenchError>;

/// Runs the suite.
///
/// # Errors
/// Those of the proxy, the server and the dataplane.
pub(crate) fn run(context: &Context) -> Result<Report, BenchError> {
    let (mut rows, mut raw) = (Vec::new(), serde_json::Map::new());
    let parts: [(&str, RunPart); 4] = [
        ("cold", cold::run),
        ("changes", changes),
        ("changesThroughTheServer", served::run),
        ("memory", memory::run),
    ];
    for (name, part) in parts {
        context.interrupt.check()?;
        let (part_rows, samples) = part(context)?;
        rows.extend(part_rows);
        raw.insert(name.to_owned(), samples);
    }
    Ok(Report {
        suite: "table",
        machine: machine(),
        effort: context.effort.name(),
        rows,
        remarks: vec![
            "a change's end is seen by reading the map every 50 µs (one change) or every millisecond (churn)"
                .to_owned(),
        ],
        raw: raw.into(),
    })
}

/// Changes that come one by one, then many, to a proxy with an API in memory.
fn changes(context: &Context) -> Result<Part, BenchError> {
    let bed = bed::Bed::new(context)?;
    let (mut rows, one) = latency::run(&bed, context)?;
    let (more, many) = churn::run(&bed, context)?;
    rows.extend(more);
    bed.end()?;
    Ok((rows, json!({"oneByOne": one, "churn": many})))
}
