//! The kubelet: runs the pods that the API gives to this node.
//!
//! Owns the Node object and its lease, the pods' sandboxes, containers, volumes, cgroups, logs and statuses, their
//! probes and hooks, and the server for logs and streams. It speaks to the API through `skep-client` and to the
//! container runtime through `skep-cri`; it knows nothing of networks beyond what the runtime tells.
//!
//! What is to be done is decided by pure functions (`plan`, `status`); everything else observes and acts.
//! All state is in the runtime and the API: a restarted kubelet goes on where the last one stopped.

mod backoff;
mod cgroups;
mod config;
mod container_config;
mod cri_log;
mod dns;
mod env;
mod events;
mod hooks;
mod housekeeping;
mod images;
mod manager;
mod metrics;
mod names;
mod node;
mod objects;
mod observe;
mod observed;
mod plan;
mod probes;
mod pull_secrets;
mod relist;
mod resources;
mod run;
mod sandbox_config;
mod security;
mod server;
mod shared;
mod spec;
mod status;
mod status_writer;
mod volumes;
mod worker;

pub use config::{KubeletConfig, ServerTls};
pub use run::{KubeletError, run};
pub use server::ServerError;
