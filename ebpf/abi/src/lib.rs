//! The binary interface between the eBPF programs and userspace: map keys and values, counters, limits,
//! map names and the fingerprint of their layout.
//!
//! Owns the layout and nothing else. Must not hold logic (that is `skep-datapath`), must not depend on
//! anything of the workspace. Everything here is `repr(C)` with explicit padding, has its size and offsets
//! asserted at compile time, and names its byte order in the type. Every zero-filled value is valid and
//! means "absent", because array maps start that way.
//!
//! A change of layout changes [`maps::LAYOUT_FINGERPRINT`]; an agent that finds pinned maps with another
//! fingerprint refuses to use them.
#![no_std]
#![warn(missing_docs)]

pub mod address;
pub mod config;
pub mod counter;
pub mod flow;
pub mod fragment;
pub mod maps;
pub mod node_port;
pub mod plain;
pub mod report;
pub mod service;
pub mod socket;
pub mod stats;

pub use address::{Address, PortBe, Protocol};
pub use config::{NodeConfig, PodAddresses, PodRange, PrefixKey};
pub use counter::Counter;
pub use flow::{FlowFlags, FlowKey, FlowValue, Hook};
pub use fragment::{FragmentKey, FragmentValue};
pub use maps::{LAYOUT_FINGERPRINT, MapKind, MapSpec};
pub use plain::{Plain, Scribe};
pub use report::ReportBudget;
pub use service::{
    BackendFlags, BackendId, BackendValue, FrontendFlags, FrontendKey, FrontendValue, Scope, ServiceFlags,
    ServiceId, ServiceValue, SourceRangeKey,
};
pub use socket::{SocketKey, SocketValue};
pub use stats::{Label, ServiceName, ServiceSerial, ServiceStats};
