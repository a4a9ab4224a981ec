//! What a run of each program costs.
//!
//! Packet programs get packets by `BPF_PROG_TEST_RUN`, socket programs real calls of real sockets, each with tables
//! of 1, 1,000 and 10,000 Services. Run times are the kernel's own (`kernel.bpf_stats_enabled`, for as long as the
//! suite holds it), which adds the cost of reading a clock to each run; a packet that comes out as it went in is
//! also repeated without them.

mod machine;
mod packets;
mod program;
mod sockets;

use std::collections::BTreeSet;

use serde_json::json;

use crate::BenchError;
use crate::engine::report::{Report, Row, machine as machine_name};
use crate::engine::services::counted;
use crate::engine::statistics::Estimate;
use crate::options::{Context, Effort};

use machine::Machine;

/// How often something is done.
#[derive(Clone, Copy, Debug)]
struct Amount {
    /// Mean times that go into one estimate.
    batches: usize,
    /// Runs in each.
    runs: u16,
    /// Repetitions by the kernel, where a packet allows it.
    repeat: u32,
}

/// One case: a program in a situation.
struct Measured {
    hook: String,
    case: &'static str,
    /// Mean nanoseconds of each batch.
    batches_ns: Vec<f64>,
}

/// Runs the suite.
///
/// # Errors
/// Those of the machine and the dataplane.
pub(crate) fn run(context: &Context) -> Result<Report, BenchError> {
    let sizes: &[usize] = match context.effort {
        Effort::Smoke => &[1, 10],
        Effort::Quick | Effort::Full => &[1, 1_000, 10_000],
    };
    let amount = Amount {
        batches: context.effort.pick(2, 9, 15),
        runs: context.effort.pick(20, 400, 2_000),
        repeat: context.effort.pick(100, 20_000, 100_000),
    };
    let (mut rows, mut raw, mut remarks) = (Vec::new(), Vec::new(), Vec::new());
    for &services in sizes {
        context.interrupt.check()?;
        let machine = Machine::new(services, context)?;
        let mut measured = packets::run(&machine, amount, context)?;
        measured.extend(sockets::run(&machine, amount, context)?);
        if services == sizes[0] {
            rows.extend(instructions(&machine)?);
            remarks.extend(idle(&machine, &measured)?);
        }
        for Measured {
            hook,
            case,
            batches_ns,
        } in measured
        {
            let name = format!("{hook}: {case}, {}", counted(services));
            rows.extend(Estimate::of(&batches_ns).map(|value| Row::figure(&name, value, "ns")));
            raw.push(json!({"hook": hook, "case": case, "services": services, "batchesNs": batches_ns}));
        }
    }
    Ok(Report {
        suite: "bpf",
        machine: machine_name(),
        effort: context.effort.name(),
        rows,
        remarks,
        raw: raw.into(),
    })
}

/// How many instructions the verifier walked through.
fn instructions(machine: &Machine) -> Result<Vec<Row>, BenchError> {
    let programs = machine.node.status()?.programs;
    let row = |program: &skep_loader::ProgramStatus| {
        let count = Estimate::exact(program.verified_instructions.into());
        Row::figure(format!("{}: verified instructions", program.hook), count, "")
    };
    Ok(programs.iter().map(row).collect())
}

/// Programs that nothing was measured of.
fn idle(machine: &Machine, measured: &[Measured]) -> Result<Vec<String>, BenchError> {
    let driven: BTreeSet<&str> = measured.iter().map(|case| case.hook.as_str()).collect();
    let programs = machine.node.status()?.programs;
    let idle = programs
        .iter()
        .filter(|program| !driven.contains(program.hook.as_str()));
    Ok(idle
        .map(|program| format!("no case drives {} yet", program.hook))
        .collect())
}
