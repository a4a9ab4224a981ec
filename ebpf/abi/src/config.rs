//! What the programs know of their node.

use crate::address::Address;
use crate::plain::{bit_set, plain_struct};

/// The only element of CONFIG (array of 1).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeConfig {
    /// Cookie of the node's network namespace: only there does a loopback node port exist.
    pub netns_cookie: u64,
    /// The node's IPv4 address for translated sources; unspecified = none.
    pub ipv4: Address,
    /// The node's IPv6 address for translated sources; unspecified = none.
    pub ipv6: Address,
    /// First port for translated sources, host byte order.
    pub source_port_first: u16,
    /// Last port for translated sources, host byte order.
    pub source_port_last: u16,
    /// Zero.
    pub reserved: u32,
}

plain_struct!(NodeConfig, size = 48, {
    netns_cookie: u64 = 0, ipv4: Address = 8, ipv6: Address = 24, source_port_first: u16 = 40,
    source_port_last: u16 = 42, reserved: u32 = 44,
});

/// Value of POD_NETWORKS (hash by the cookie of a pod's network namespace).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodAddresses {
    /// The pod's IPv4 address; unspecified = none.
    pub ipv4: Address,
    /// The pod's IPv6 address; unspecified = none.
    pub ipv6: Address,
}

plain_struct!(PodAddresses, size = 32, { ipv4: Address = 0, ipv6: Address = 16 });

bit_set! {
    /// Value of POD_RANGES. The longest prefix counts, so that of a node within that of the cluster has both bits.
    PodRange: u32 {
        /// Pods of the cluster, on whatever node.
        CLUSTER = 1;
        /// Pods of this node.
        NODE = 1 << 1;
    }
}

/// Key of the longest-prefix maps: SERVICE_RANGES, NON_MASQUERADE (their value is a `u32`, 1) and POD_RANGES
/// ([`PodRange`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PrefixKey {
    /// Significant leading bits of `address`, 0 to 128; IPv4 prefixes count from 96.
    pub prefix_length: u32,
    /// The network address.
    pub address: Address,
}

plain_struct!(PrefixKey, size = 20, { prefix_length: u32 = 0, address: Address = 4 });

impl PrefixKey {
    /// The prefix `address/length`, where `length` counts in the address's own family.
    pub fn new(address: impl Into<Address>, length: u8) -> Self {
        let address = address.into();
        let base = if address.is_ipv4() { 96 } else { 0 };
        Self {
            prefix_length: base + u32::from(length),
            address,
        }
    }
}
