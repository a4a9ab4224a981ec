//! Calls of real sockets through the socket programs.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use skep_bpf_maps::sys;

use super::machine::{DUAL, DUAL_PORT, LOCAL_POD, Machine, POD_PORT};
use super::program::Program;
use super::{Amount, Measured};
use crate::BenchError;
use crate::options::Context;

const PATIENCE: Duration = Duration::from_secs(2);

/// Every case of both families.
pub(super) fn run(machine: &Machine, amount: Amount, context: &Context) -> Result<Vec<Measured>, BenchError> {
    let _statistics = sys::enable_run_statistics().map_err(BenchError::io("count runs of programs"))?;
    let pods = LOCAL_POD.map(|pod| address(pod, POD_PORT));
    // Made before this process is in the node's cgroup: what the servers do is not counted.
    let servers = pods.map(|pod| machine.netns.run(|| server(pod)));
    let _inside = machine.node.enter()?;
    let mut measured = Vec::new();
    for (((family, service), pod), server) in [4, 6].into_iter().zip(DUAL).zip(pods).zip(servers) {
        let (service, server) = (address(service, DUAL_PORT), server?);
        for (to, [connect, show, send, receive]) in [
            (
                service,
                ["to a Service", "of a Service", "to a Service", "from a Service"],
            ),
            (
                pod,
                [
                    "to another address",
                    "of another address",
                    "to another address",
                    "from another address",
                ],
            ),
        ] {
            context.interrupt.check()?;
            let program = |hook: &str| Program::open(machine, &format!("{hook}{family}"));
            let server = &server;
            let here = |work: fn(SocketAddr, &UdpSocket, u16) -> io::Result<()>| {
                let failed = || BenchError::io("speak over UDP");
                move |_| {
                    machine
                        .netns
                        .run(|| work(to, server, amount.runs).map_err(failed()))
                }
            };
            measured.push(program("connect")?.measure(connect, amount, here(connects))?);
            measured.push(program("getpeername")?.measure(show, amount, here(shows))?);
            measured.push(program("sendmsg")?.measure(send, amount, here(asks))?);
            measured.push(program("recvmsg")?.measure(receive, amount, here(asks))?);
        }
    }
    Ok(measured)
}

fn address(text: &str, port: u16) -> SocketAddr {
    let address: IpAddr = text.parse().expect("a constant that is an address");
    SocketAddr::new(address, port)
}

fn server(pod: SocketAddr) -> Result<UdpSocket, BenchError> {
    let bind = || {
        let socket = UdpSocket::bind(pod)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    };
    bind().map_err(BenchError::io::<io::Error>(format!("bind {pod}")))
}

fn unconnected(like: SocketAddr) -> io::Result<UdpSocket> {
    let any = if like.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

fn connects(to: SocketAddr, _: &UdpSocket, runs: u16) -> io::Result<()> {
    (0..runs).try_for_each(|_| unconnected(to)?.connect(to))
}

fn shows(to: SocketAddr, _: &UdpSocket, runs: u16) -> io::Result<()> {
    let socket = unconnected(to)?;
    socket.connect(to)?;
    (0..runs).try_for_each(|_| socket.peer_addr().map(drop))
}

/// Questions and answers, one after the other.
fn asks(to: SocketAddr, server: &UdpSocket, runs: u16) -> io::Result<()> {
    let client = unconnected(to)?;
    let mut buffer = [0; 8];
    for _ in 0..runs {
        client.send_to(b"ask", to)?;
        let (_, from) = server.recv_from(&mut buffer)?;
        server.send_to(b"answer", from)?;
        client.recv_from(&mut buffer)?;
    }
    Ok(())
}
