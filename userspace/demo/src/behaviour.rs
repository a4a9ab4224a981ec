//! Who this instance is and what it was told to do.
//!
//! | environment | meaning |
//! |---|---|
//! | `POD_NAME`, `NODE_NAME` | names in the answer (else the host name and `unknown`) |
//! | `PORT` | port for TCP and UDP (8080) |
//! | `DRAIN_SECONDS` | how long it goes on answering after SIGTERM (2), as a well-behaved server does |

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const DEFAULT_DRAIN: Duration = Duration::from_secs(2);

/// The state of one demo instance.
#[derive(Debug)]
pub(crate) struct State {
    pod: String,
    node: String,
    drain: Duration,
    ready: AtomicBool,
    requests: AtomicU64,
}

impl State {
    /// Reads the names and the drain time from the environment.
    pub(crate) fn from_env() -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let drain = std::env::var("DRAIN_SECONDS")
            .ok()
            .and_then(|text| text.parse().ok());
        Self {
            pod: std::env::var("POD_NAME").unwrap_or_else(|_| host.trim().to_owned()),
            node: std::env::var("NODE_NAME").unwrap_or_else(|_| "unknown".to_owned()),
            drain: drain.map_or(DEFAULT_DRAIN, Duration::from_secs),
            ready: AtomicBool::new(true),
            requests: AtomicU64::new(0),
        }
    }

    /// The line that answers a client, ended by a newline.
    pub(crate) fn greeting(&self, client: SocketAddr) -> String {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let address = SocketAddr::new(client.ip().to_canonical(), client.port());
        format!("hello from {} on {}, you are {address}\n", self.pod, self.node)
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Waits while clients that still hold the old endpoint are served.
    pub(crate) async fn drain(&self) {
        self.set_ready(false);
        tokio::time::sleep(self.drain).await;
    }
}
