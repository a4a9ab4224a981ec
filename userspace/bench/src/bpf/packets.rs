//! Packets through the packet programs.

use skep_abi::Protocol;
use skep_bpf_maps::sys;
use skep_datapath::frame::Frame;
use skep_datapath::packet::{TCP_ACK, TCP_SYN};

use super::machine::{CLIENT, DEVICE, LOCAL_NODE_PORT, LOCAL_POD, Machine, NODE, REMOTE_NODE_PORT};
use super::program::Program;
use super::{Amount, Measured};
use crate::BenchError;
use crate::options::Context;

const OUTSIDE: &str = "198.51.100.7";
const FIRST_PORT: u16 = 10_000;

/// Every case, in order.
pub(super) fn run(machine: &Machine, amount: Amount, context: &Context) -> Result<Vec<Measured>, BenchError> {
    let ingress = Program::open(machine, &format!("tcx_ingress@{DEVICE}"))?;
    let egress = Program::open(machine, &format!("tcx_egress@{DEVICE}"))?;
    let to_node = tcp((CLIENT, 4_000), (NODE, 22), TCP_ACK);
    let from_node = tcp((NODE, 22), (CLIENT, 4_000), TCP_ACK);
    let mut measured = vec![
        ingress.repeat("a packet of nobody's, repeated", amount, &to_node)?,
        egress.repeat("a packet of nobody's, repeated", amount, &from_node)?,
    ];
    context.interrupt.check()?;
    let _statistics = sys::enable_run_statistics().map_err(BenchError::io("count runs of programs"))?;
    measured.push(each(&ingress, "a packet of nobody's", amount, &|_| {
        to_node.clone()
    })?);
    measured.push(each(&egress, "a packet of nobody's", amount, &|_| {
        from_node.clone()
    })?);
    for (node_port, first, next) in [
        (
            LOCAL_NODE_PORT,
            "NodePort, first packet, local backend",
            "NodePort, next packet, local backend",
        ),
        (
            REMOTE_NODE_PORT,
            "NodePort, first packet, remote backend",
            "NodePort, next packet, remote backend",
        ),
    ] {
        context.interrupt.check()?;
        let to = (NODE, node_port);
        let known = tcp((CLIENT, 4_000), to, TCP_SYN);
        let fresh = |port| tcp((CLIENT, port), to, TCP_SYN);
        measured.push(each(&ingress, first, amount, &fresh)?);
        translated(&ingress, &known, first)?;
        measured.push(each(&ingress, next, amount, &|_| known.clone())?);
    }
    // The flow of the client's port 4000 to the local backend is known: this is its answer.
    let answer = tcp((LOCAL_POD[0], 8080), (CLIENT, 4_000), TCP_ACK);
    translated(&egress, &answer, "the answer")?;
    measured.push(each(
        &egress,
        "NodePort, answer of a local backend",
        amount,
        &|_| answer.clone(),
    )?);
    let out = |port| tcp((LOCAL_POD[0], port), (OUTSIDE, 443), TCP_SYN);
    measured.push(each(&egress, "masquerade, first packet", amount, &out)?);
    let known = out(4_000);
    translated(&egress, &known, "masquerade")?;
    measured.push(each(&egress, "masquerade, next packet", amount, &|_| {
        known.clone()
    })?);
    Ok(measured)
}

/// One run, which shows that the case is the one that it is called.
fn translated(program: &Program<'_>, frame: &[u8], what: &str) -> Result<(), BenchError> {
    if program.run(frame, 1)?.packet == frame {
        return Err(BenchError::Never(format!("a packet was translated: {what}")));
    }
    Ok(())
}

/// One run for each packet, each of another port.
fn each(
    program: &Program<'_>,
    case: &'static str,
    amount: Amount,
    frame: &(dyn Fn(u16) -> Vec<u8> + Sync),
) -> Result<Measured, BenchError> {
    let ports: Vec<u16> = (FIRST_PORT..)
        .take(usize::from(amount.runs) * amount.batches)
        .collect();
    let batches: Vec<&[u16]> = ports.chunks(usize::from(amount.runs)).collect();
    program.measure(case, amount, |batch| {
        let ports = batches.get(batch).copied().unwrap_or_default();
        program.run_all(ports, frame)
    })
}

fn tcp(from: (&str, u16), to: (&str, u16), flags: u8) -> Vec<u8> {
    Frame::with_flags(Protocol::TCP, from, to, b"payload", flags).bytes
}
