//! Frontends, services, slots and backends: what a Service is to the kernel.
//!
//! A packet or socket address finds a frontend, the frontend names a service, the service names a contiguous
//! range of slots, a slot names a backend. Replacing one [`ServiceValue`] switches every frontend of that
//! service port at once.

use crate::address::{Address, PortBe, Protocol};
use crate::config::PrefixKey;
use crate::plain::{Plain, bit_set, plain_struct};
use crate::stats::ServiceSerial;

/// Index into SERVICES. 0 is never used.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId(pub u32);

// SAFETY: transparent over an integer.
unsafe impl Plain for ServiceId {}

/// Index into BACKENDS. 0 is never used: a zero slot names no backend.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(pub u32);

// SAFETY: transparent over an integer.
unsafe impl Plain for BackendId {}

/// Which traffic a frontend entry is for.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(pub u8);

// SAFETY: transparent over an integer.
unsafe impl Plain for Scope {}

impl Scope {
    /// Sockets of this node and, unless the entry has [`FrontendFlags::SPLIT`], packets from outside.
    pub const ANY: Self = Self(0);
    /// Packets from outside, for a frontend whose [`Scope::ANY`] entry has [`FrontendFlags::SPLIT`].
    pub const EXTERNAL: Self = Self(1);
}

/// Key of FRONTENDS (hash).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrontendKey {
    /// The address that clients dial.
    pub address: Address,
    /// The port that clients dial.
    pub port: PortBe,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// Whom the entry is for.
    pub scope: Scope,
}

plain_struct!(FrontendKey, size = 20, {
    address: Address = 0, port: PortBe = 16, protocol: Protocol = 18, scope: Scope = 19,
});

bit_set! {
    /// Kind and properties of a frontend. Exactly one of the first four bits is set.
    FrontendFlags: u32 {
        /// A ClusterIP: sockets only, packets from outside to it are dropped.
        CLUSTER_IP = 1;
        /// A node port on one address of this node.
        NODE_PORT = 1 << 1;
        /// One of `spec.externalIPs`.
        EXTERNAL_IP = 1 << 2;
        /// A load balancer ingress address.
        LOAD_BALANCER = 1 << 3;
        /// Packets from outside look again, with [`Scope::EXTERNAL`].
        SPLIT = 1 << 8;
        /// externalTrafficPolicy Local: without a local backend packets from outside are dropped, not refused.
        LOCAL_ONLY = 1 << 9;
        /// Only clients in the SOURCE_RANGES of the service may use it.
        RESTRICTED = 1 << 10;
    }
}

/// Value of FRONTENDS.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrontendValue {
    /// The service port behind this frontend.
    pub service: ServiceId,
    /// Kind and properties.
    pub flags: FrontendFlags,
}

plain_struct!(FrontendValue, size = 8, { service: ServiceId = 0, flags: FrontendFlags = 4 });

/// Key of SOURCE_RANGES (longest-prefix trie; the value is 1): clients that may use the restricted frontends of a
/// service.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceRangeKey {
    /// Significant leading bits of `service` and `address`, 32 to 160; IPv4 prefixes count from 128.
    pub prefix_length: u32,
    /// The service, as it is.
    pub service: ServiceId,
    /// The network address.
    pub address: Address,
}

plain_struct!(SourceRangeKey, size = 24, {
    prefix_length: u32 = 0, service: ServiceId = 4, address: Address = 8,
});

impl SourceRangeKey {
    /// The service's bits, which all are significant.
    const SERVICE_BITS: u32 = 32;

    /// The clients of `prefix`.
    pub const fn new(service: ServiceId, prefix: PrefixKey) -> Self {
        Self {
            prefix_length: Self::SERVICE_BITS + prefix.prefix_length,
            service,
            address: prefix.address,
        }
    }

    /// The clients.
    pub const fn prefix(&self) -> PrefixKey {
        PrefixKey {
            prefix_length: self.prefix_length.saturating_sub(Self::SERVICE_BITS),
            address: self.address,
        }
    }

    /// To look up one client.
    #[inline(always)]
    pub const fn of_client(service: ServiceId, client: Address) -> Self {
        Self {
            prefix_length: Self::SERVICE_BITS + 128,
            service,
            address: client,
        }
    }
}

bit_set! {
    /// Properties of a service port. No bit is interpreted yet; ClientIP affinity and the choice algorithm
    /// come with their code.
    ServiceFlags: u32 {
        /// The element is in use (distinguishes a service without backends from an absent one).
        PRESENT = 1;
    }
}

/// Value of SERVICES (array by [`ServiceId`]).
///
/// `slot_offset` and `slot_count` share one aligned 64-bit word, which array maps copy and programs read as a
/// whole: a reader sees either the old range or the new one, never a mixture.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceValue {
    /// First slot of the service's range.
    pub slot_offset: u32,
    /// Slots in use from there on; 0 = no ready endpoint.
    pub slot_count: u32,
    /// Properties.
    pub flags: ServiceFlags,
    /// sessionAffinity ClientIP timeout in seconds, 0 = no affinity.
    pub affinity_timeout_s: u32,
    /// First element of the service's permutation table, for algorithms that have one.
    pub permutation_offset: u32,
    /// Length of the permutation table, 0 = none.
    pub permutation_length: u32,
    /// Where it is counted, and its name.
    pub serial: ServiceSerial,
    /// Zero.
    pub reserved: u32,
}

plain_struct!(ServiceValue, size = 32, {
    slot_offset: u32 = 0, slot_count: u32 = 4, flags: ServiceFlags = 8, affinity_timeout_s: u32 = 12,
    permutation_offset: u32 = 16, permutation_length: u32 = 20, serial: ServiceSerial = 24,
    reserved: u32 = 28,
});

impl ServiceValue {
    /// Offset and count of the slots, read at once: both from before or both from after a concurrent change.
    #[inline(always)]
    pub fn slots(&self) -> (u32, u32) {
        // SAFETY: self is live and 8-aligned (asserted by repr), and its first 8 bytes are the two fields
        // (asserted above). Volatile, because userspace may replace the element meanwhile.
        let both = unsafe { core::ptr::read_volatile(core::ptr::from_ref(self).cast::<u64>()) };
        let bytes = both.to_ne_bytes();
        (
            u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        )
    }
}

bit_set! {
    /// State of a backend.
    BackendFlags: u32 {
        /// The element is in use.
        PRESENT = 1;
        /// Runs on this node.
        LOCAL = 1 << 1;
        /// Being deleted: gets no new connections unless nothing else is left, keeps those it has.
        TERMINATING = 1 << 2;
        /// Gone for good: packets of its connections are not translated any more.
        DEAD = 1 << 3;
        /// Has an address of this node itself, as pods in its network have.
        HOST_NETWORK = 1 << 4;
    }
}

/// Value of BACKENDS (array by [`BackendId`]).
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendValue {
    /// The endpoint's address.
    pub address: Address,
    /// The endpoint's port.
    pub port: PortBe,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// Relative share of new connections; 0 means 1.
    pub weight: u8,
    /// State.
    pub flags: BackendFlags,
    /// Number of the node that runs it, as userspace numbers them; 0 = unknown.
    pub node: u32,
    /// Number of its zone, as userspace numbers them; 0 = unknown.
    pub zone: u32,
}

plain_struct!(BackendValue, size = 32, {
    address: Address = 0, port: PortBe = 16, protocol: Protocol = 18, weight: u8 = 19,
    flags: BackendFlags = 20, node: u32 = 24, zone: u32 = 28,
});
