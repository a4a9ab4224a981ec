//! Connection tracking and address translation of packets.
//!
//! A translated flow is a pair of entries in FLOWS. An entry maps the tuple of a packet as it arrives to the
//! tuple it leaves with. The partner's key is the leaving tuple reversed, and the partner's value is the
//! arriving tuple reversed: either entry can rebuild the other.

use crate::address::{Address, PortBe, Protocol};
use crate::plain::{Plain, bit_set, plain_struct};
use crate::service::BackendId;
use crate::stats::ServiceSerial;

/// The hook that looks an entry up.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hook(pub u8);

// SAFETY: transparent over an integer.
unsafe impl Plain for Hook {}

impl Hook {
    /// Packets that come in from a device.
    pub const INGRESS: Self = Self(0);
    /// Packets that leave by a device.
    pub const EGRESS: Self = Self(1);
}

/// Key of FLOWS (LRU hash): a packet's tuple where a hook sees it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Source port; the identifier of an ICMP echo request.
    pub source_port: PortBe,
    /// Destination port; the identifier of an ICMP echo reply.
    pub destination_port: PortBe,
    /// Protocol.
    pub protocol: Protocol,
    /// Where the packet is seen.
    pub hook: Hook,
    /// Zero.
    pub reserved: u16,
}

plain_struct!(FlowKey, size = 40, {
    source: Address = 0, destination: Address = 16, source_port: PortBe = 32, destination_port: PortBe = 34,
    protocol: Protocol = 36, hook: Hook = 37, reserved: u16 = 38,
});

bit_set! {
    /// What is known of one direction of a flow.
    FlowFlags: u8 {
        /// The direction that opened the flow.
        FORWARD = 1;
        /// The packet is sent on by the program, not by the node's routing: its new source is an address of
        /// this node, which routing would refuse.
        REDIRECT = 1 << 1;
        /// A service's flow (the backend id means something), not masquerade.
        SERVICE = 1 << 2;
        /// This direction has sent a packet after the opening one.
        ESTABLISHED = 1 << 3;
        /// This direction has sent FIN.
        FIN = 1 << 4;
        /// This direction has sent RST.
        RST = 1 << 5;
    }
}

/// Value of FLOWS.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowValue {
    /// Source address to leave with.
    pub source: Address,
    /// Destination address to leave with.
    pub destination: Address,
    /// Source port to leave with.
    pub source_port: PortBe,
    /// Destination port to leave with.
    pub destination_port: PortBe,
    /// State of this direction.
    pub flags: FlowFlags,
    /// The hook of the partner entry.
    pub partner_hook: Hook,
    /// Zero.
    pub reserved: u16,
    /// The backend of a service's flow, else 0.
    pub backend: BackendId,
    /// When this direction last had a packet, in seconds of the monotonic clock (coarse: up to
    /// [`REFRESH_INTERVAL_S`] old).
    pub last_seen_s: u32,
    /// Where a service's flow is counted, else 0.
    pub serial: ServiceSerial,
}

plain_struct!(FlowValue, size = 52, {
    source: Address = 0, destination: Address = 16, source_port: PortBe = 32, destination_port: PortBe = 34,
    flags: FlowFlags = 36, partner_hook: Hook = 37, reserved: u16 = 38, backend: BackendId = 40,
    last_seen_s: u32 = 44, serial: ServiceSerial = 48,
});

/// How old `last_seen_s` may get before a packet renews it.
pub const REFRESH_INTERVAL_S: u32 = 1;
