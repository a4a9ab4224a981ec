//! As many bytes as one connection takes.

use std::io::{self, Write as _};
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use super::{Measured, Workload, dial};
use crate::net::server::SINK;

const WRITE_BYTES: usize = 128 << 10;

pub(in crate::net) struct Stream;

impl Workload for Stream {
    fn name(&self) -> &'static str {
        "stream"
    }

    fn unit(&self) -> &'static str {
        "Gbit/s"
    }

    fn connects(&self) -> bool {
        false
    }

    /// Bytes that the socket took: after the warm-up its buffer is as full at the end as at the beginning.
    fn run(&self, to: SocketAddrV4, warm_up: Duration, time: Duration) -> io::Result<Measured> {
        let mut connection = dial(to)?;
        let bytes = vec![SINK; WRITE_BYTES];
        let mut send_for = |time: Duration| {
            let (started, mut sent) = (Instant::now(), 0.0);
            while started.elapsed() < time {
                connection.write_all(&bytes)?;
                sent += WRITE_BYTES as f64;
            }
            io::Result::Ok(sent * 8e-9 / started.elapsed().as_secs_f64())
        };
        send_for(warm_up)?;
        Ok(Measured {
            rate: send_for(time)?,
            ..Measured::default()
        })
    }
}
