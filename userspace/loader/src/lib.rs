//! Brings the dataplane into the kernel and keeps it there: feature probes, mounts, pinned maps, programs,
//! links.
//!
//! Owns everything below a pin folder: `<map name>` for each map of `skep_abi::maps`, and `links/<hook>` for
//! each attached program. All state lives in the pinned maps, so an agent may come and go: on a restart the
//! maps are reused and the program behind each pinned link is replaced atomically; there is no moment without
//! one. Fills CONFIG and the address ranges; what the Service maps hold is the service proxy's business.
//!
//! Flow of [`Dataplane::open`]: lock → probe → mounts → maps → node configuration → load → attach or replace.
#![warn(missing_docs)]

mod attach;
mod config;
mod dataplane;
mod dump;
mod error;
mod explain;
mod features;
mod lock;
mod mounts;
mod objects;
mod pins;
mod pods;
mod snapshot;
mod status;

pub use config::{DataplaneConfig, MapSizes};
pub use dataplane::{Dataplane, detach};
pub use dump::{Entry, Shown, dump};
pub use error::LoadError;
pub use explain::{Client, Explanation, Outcome, Question, Share, Step, explain};
pub use features::{Feature, features};
pub use mounts::{bpffs, cgroup2};
pub use snapshot::{ServicePort, Snapshot};
pub use status::{CounterStatus, DataplaneStatus, LinkTarget, MapStatus, ProgramStatus};
