//! The container runtime interface: what Skep's kubelet says to containerd (or any CRI v1 runtime).
//!
//! Owns the protocol subset (`proto/`, compiled at build time), the object-safe [`Runtime`] trait that
//! the kubelet programs against, and [`Containerd`], its implementation over a unix socket. It knows
//! nothing of pods as the API has them: turning a Pod into these messages is the kubelet's work.
//!
//! With the feature `testing`, [`testing`] holds an in-memory runtime and a harness that runs a real
//! containerd of its own; the facts that the former models are checked against the latter.

mod containerd;
mod error;
mod events;
mod runtime;
#[cfg(feature = "testing")]
pub mod testing;

pub use containerd::Containerd;
pub use error::{RuntimeError, RuntimeErrorKind};
pub use runtime::{ContainerStats, Runtime, RuntimeEvent, RuntimeEventKind};

/// The messages of CRI v1, under their public names.
pub mod v1 {
    #![allow(
        clippy::allow_attributes_without_reason,
        unused_qualifications,
        reason = "generated from proto/cri.proto"
    )]
    tonic::include_proto!("runtime.v1");
}

/// containerd's own event service.
mod native {
    #![allow(
        clippy::allow_attributes_without_reason,
        unreachable_pub,
        unused_qualifications,
        reason = "generated from proto/containerd_events.proto"
    )]
    tonic::include_proto!("containerd.services.events.v1");
}
