//! What the dataplane decides, without a kernel: packet parsing and rewriting, checksums, frontend lookup,
//! backend selection, socket decisions, flow tracking and source-port choice.
//!
//! The same code is compiled into the eBPF programs, where the traits of [`tables`] are the pinned maps and
//! [`packet::PacketMut`] is an skb, and for the host, where both are plain memory and everything is unit- and
//! property-tested. No allocation, no clock, no randomness of its own: all of that comes through the traits.
//!
//! Functions are `inline(always)` where the eBPF verifier profits from seeing them whole.
#![cfg_attr(not(any(test, feature = "frames")), no_std)]
#![warn(missing_docs)]

pub mod account;
pub mod answer;
pub mod bind;
pub mod checksum;
pub mod egress;
pub mod flow;
pub mod fragment;
#[cfg(any(test, feature = "frames"))]
pub mod frame;
pub mod icmp;
pub mod ingress;
pub mod lookup;
pub mod packet;
pub mod ports;
pub mod rewrite;
pub mod select;
pub mod socket;
pub mod tables;

#[cfg(test)]
mod fake;

pub use packet::{Bytes, Family, Header, PacketMut, Parsed};
pub use tables::{FlowTable, FragmentTable, PacketWorld, ServiceTables, SocketTables};

use skep_abi::Counter;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Untouched, on to whatever comes next.
    Pass,
    /// Rewritten, on to the node's routing or the wire.
    Translated,
    /// Rewritten and already sent on by [`PacketWorld::forward`].
    Forwarded,
    /// Become its own answer, refused for this reason, and already sent back by [`PacketWorld::forward`].
    Answered(Counter),
    /// Dropped, for this reason.
    Drop(Counter),
}
