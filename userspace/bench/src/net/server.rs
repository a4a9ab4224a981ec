//! The server of all workloads.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::BenchError;
use crate::engine::machine::{Netns, pin_to_core};

/// Where it runs.
pub(super) const CORE: usize = 1;
/// The first byte of a connection whose bytes are only counted; of all others each read is answered with one byte.
pub(super) const SINK: u8 = b's';
const BUFFER_BYTES: usize = 256 << 10;
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it looks whether it shall end.
const POLL_MS: u8 = 100;

/// Takes one connection after the other, on a thread of its own. Stopped when dropped.
pub(super) struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on every address of the namespace.
    pub(super) fn start(netns: &Netns, port: u16) -> Result<Self, BenchError> {
        let bind = || {
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let listener = netns.run(|| bind().map_err(BenchError::io::<io::Error>("listen")))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let serve = move || {
            if let Err(error) = pin_to_core(CORE) {
                eprintln!("{error}");
            }
            let mut buffer = vec![0; BUFFER_BYTES];
            while !stopped.load(Ordering::Relaxed) {
                if let Some(connection) = next(&listener) {
                    // Clients end connections by a reset: that is no failure.
                    drop(serve(connection, &mut buffer));
                }
            }
        };
        let thread = std::thread::Builder::new().name("server".to_owned()).spawn(serve);
        Ok(Self {
            stop,
            thread: Some(thread.map_err(BenchError::io("start a thread"))?),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            eprintln!("the server panicked");
        }
    }
}

/// The next connection, if one comes soon.
fn next(listener: &TcpListener) -> Option<TcpStream> {
    let mut wanted = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    poll(&mut wanted, PollTimeout::from(POLL_MS)).ok()?;
    listener.accept().ok().map(|(connection, _)| connection)
}

fn serve(mut connection: TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    connection.set_nonblocking(false)?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut sink = None;
    loop {
        let read = connection.read(buffer)?;
        if read == 0 {
            return Ok(());
        }
        let only_counts = *sink.get_or_insert(buffer.first() == Some(&SINK));
        if !only_counts {
            connection.write_all(b"a")?;
        }
    }
}
