//! Pod networking on a node: the CNI plugin and the part of the agent that it asks.
//!
//! The plugin (`skep-cni`, a small program that the container runtime runs per pod) checks what it was asked, opens the
//! pod's network namespace, and hands both to the agent over a unix socket; passing the namespace itself, not its path,
//! makes it independent of which mount namespace the agent is in. The agent ([`agent`]) owns the addresses (with
//! `skep-ipam`) and makes the devices, addresses and routes. [`node_routes`] makes other nodes' pods reachable,
//! [`install()`] puts plugin and configuration where the runtime looks, [`sysctl`] sets what forwarding needs. Without
//! the feature `agent` only the plugin is left, with few dependencies.
//!
//! A pod's network: a veth pair, the pod's end with a /32 address; its only routes lead to 169.254.1.1 on that link,
//! which has a permanent neighbour entry with the host end's address, so that nothing has to answer ARP for it. The
//! host has a route to the pod's address over the host end.

#[cfg(feature = "agent")]
pub mod agent;
#[cfg(feature = "agent")]
mod error;
#[cfg(feature = "agent")]
mod install;
#[cfg(feature = "agent")]
mod netlink;
#[cfg(feature = "agent")]
pub mod node_routes;
pub mod plugin;
mod protocol;
#[cfg(feature = "agent")]
pub mod sysctl;

#[cfg(feature = "agent")]
pub use error::CniError;
#[cfg(feature = "agent")]
pub use install::{Install, install};
