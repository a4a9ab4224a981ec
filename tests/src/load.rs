//! A bounded load of new connections, counted.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(2);
/// Ends a load that its test forgot.
const LONGEST: Duration = Duration::from_secs(60);

/// What a load saw.
#[derive(Debug, Default)]
pub struct Tally {
    /// Requests that were answered.
    pub answered: u64,
    /// Why the others were not.
    pub failures: Vec<String>,
}

/// Requests over new connections, one after the other, until stopped.
pub struct Load {
    stop: Arc<AtomicBool>,
    worker: JoinHandle<Tally>,
}

impl Load {
    /// Starts requesting `/` from an address.
    pub fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let worker = std::thread::spawn(move || {
            let mut tally = Tally::default();
            let started = Instant::now();
            while !stopped.load(Ordering::Relaxed) && started.elapsed() < LONGEST {
                match request(address) {
                    Ok(()) => tally.answered += 1,
                    Err(error) => tally
                        .failures
                        .push(format!("{:.3} s: {error:#}", started.elapsed().as_secs_f64())),
                }
                std::thread::sleep(PAUSE);
            }
            tally
        });
        Self { stop, worker }
    }

    /// Stops and counts.
    pub fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        self.worker.join().expect("the load does not panic")
    }
}

fn request(address: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, REQUEST_TIMEOUT).context("connect")?;
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").context("send")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("receive")?;
    anyhow::ensure!(answer.contains(" 200 "), "answered {answer:?}");
    Ok(())
}
