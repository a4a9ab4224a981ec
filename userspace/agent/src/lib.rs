//! The node side of Skep in one process: dataplane, service proxy, kubelet, CNI service, cluster DNS.
//!
//! Owns the order in which the parts start and their end: the dataplane is whole before anything asks for a Service, the
//! CNI service before the runtime is told of the network. Each part has an API identity of its own. When a part fails
//! the agent ends with its error, and whoever supervises it starts it again; everything in the kernel stays meanwhile.

mod config;
mod loopback;
mod pod_networks;
mod pod_range;
mod run;

pub use config::{AgentConfig, credentials};
pub use run::run;
