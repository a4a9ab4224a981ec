//! Request and answer, one byte each, over one connection.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use super::{Measured, Workload, dial};

pub(in crate::net) struct Rr;

impl Workload for Rr {
    fn name(&self) -> &'static str {
        "RR"
    }

    fn unit(&self) -> &'static str {
        "/s"
    }

    fn connects(&self) -> bool {
        false
    }

    fn run(&self, to: SocketAddrV4, warm_up: Duration, time: Duration) -> io::Result<Measured> {
        let mut connection = dial(to)?;
        let mut ask_for = |time: Duration| {
            let (started, mut requests_us) = (Instant::now(), Vec::new());
            let mut answer = [0; 1];
            while started.elapsed() < time {
                let asked = Instant::now();
                connection.write_all(b"r")?;
                connection.read_exact(&mut answer)?;
                requests_us.push(asked.elapsed().as_secs_f64() * 1e6);
            }
            let rate = requests_us.len() as f64 / started.elapsed().as_secs_f64();
            io::Result::Ok(Measured {
                rate,
                requests_us,
                ..Measured::default()
            })
        };
        ask_for(warm_up)?;
        ask_for(time)
    }
}
