//! IP fragments: the first one has ports, the others follow it.

use crate::address::{Address, PortBe, Protocol};
use crate::flow::Hook;
use crate::plain::plain_struct;

/// Key of FRAGMENTS (LRU hash): the packet that a fragment is part of (RFC 791, section 3.2; RFC 8200,
/// section 4.5).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FragmentKey {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Identification of the packet as it lies there; IPv4 has 16 bits.
    pub identification: u32,
    /// Protocol; 0 for IPv6, where only the first fragment knows.
    pub protocol: Protocol,
    /// Where the fragment is seen.
    pub hook: Hook,
    /// Zero.
    pub reserved: u16,
}

plain_struct!(FragmentKey, size = 40, {
    source: Address = 0, destination: Address = 16, identification: u32 = 32, protocol: Protocol = 36,
    hook: Hook = 37, reserved: u16 = 38,
});

/// Value of FRAGMENTS: what the first fragment says of all.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FragmentValue {
    /// Source port; see [`crate::FlowKey`] for ICMP echo.
    pub source_port: PortBe,
    /// Destination port.
    pub destination_port: PortBe,
    /// Protocol.
    pub protocol: Protocol,
    /// Zero.
    pub reserved: [u8; 3],
    /// When the first fragment was seen, in seconds of the monotonic clock.
    pub seen_s: u32,
}

plain_struct!(FragmentValue, size = 12, {
    source_port: PortBe = 0, destination_port: PortBe = 2, protocol: Protocol = 4, reserved: [u8; 3] = 5,
    seen_s: u32 = 8,
});
