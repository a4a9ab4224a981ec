//! Connect, request, answer, close: a connection for each request.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use super::{Measured, Workload, prepare};

pub(in crate::net) struct Crr;

impl Workload for Crr {
    fn name(&self) -> &'static str {
        "CRR"
    }

    fn unit(&self) -> &'static str {
        "/s"
    }

    fn connects(&self) -> bool {
        true
    }

    fn run(&self, to: SocketAddrV4, warm_up: Duration, time: Duration) -> io::Result<Measured> {
        let started = Instant::now();
        while started.elapsed() < warm_up {
            ask(to)?;
        }
        let mut measured = Measured::default();
        let started = Instant::now();
        while started.elapsed() < time {
            let asked = Instant::now();
            measured.connects_us.push(ask(to)?.as_secs_f64() * 1e6);
            measured.requests_us.push(asked.elapsed().as_secs_f64() * 1e6);
        }
        measured.rate = measured.requests_us.len() as f64 / started.elapsed().as_secs_f64();
        Ok(measured)
    }
}

/// One request; returns what connect(2) took, the first packet's way and back.
fn ask(to: SocketAddrV4) -> io::Result<Duration> {
    let started = Instant::now();
    let mut connection = TcpStream::connect(to)?;
    let took = started.elapsed();
    prepare(&connection)?;
    connection.write_all(b"c")?;
    connection.read_exact(&mut [0; 1])?;
    Ok(took)
}
