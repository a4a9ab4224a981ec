//! What is done over a path, and how much of it in a second. A workload is one file.

mod crr;
mod rr;
mod stream;

use std::io;
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

pub(super) use crr::Crr;
pub(super) use rr::Rr;
pub(super) use stream::Stream;

/// Where clients run.
pub(super) const CORE: usize = 0;
/// The longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// A client of the server.
pub(super) trait Workload: Sync {
    /// Its name in reports.
    fn name(&self) -> &'static str;

    /// Unit of its rate.
    fn unit(&self) -> &'static str;

    /// Whether the place of a Service in its list may matter: that is so when connections are made.
    fn connects(&self) -> bool;

    /// Warms up, then works for `time`, on the calling thread.
    ///
    /// # Errors
    /// When the server does not answer.
    fn run(&self, to: SocketAddrV4, warm_up: Duration, time: Duration) -> io::Result<Measured>;
}

/// One measurement.
#[derive(Clone, Debug, Default)]
pub(super) struct Measured {
    /// In the workload's unit.
    pub(super) rate: f64,
    /// What each request took, connect(2) included where there is one. Their median hardly knows of what else
    /// the machine does, unlike the rate.
    pub(super) requests_us: Vec<f64>,
    /// What each connect(2) took.
    pub(super) connects_us: Vec<f64>,
}

fn dial(to: SocketAddrV4) -> io::Result<TcpStream> {
    let connection = TcpStream::connect_timeout(&to.into(), PATIENCE)?;
    prepare(&connection)?;
    Ok(connection)
}

/// No connection lingers: ports are free again at once, and no search for a free one is measured.
fn prepare(connection: &TcpStream) -> io::Result<()> {
    let at_once = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&connection.as_fd(), sockopt::Linger, &at_once)?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))
}
