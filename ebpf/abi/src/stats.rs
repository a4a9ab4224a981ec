//! What is counted of each service port, and what it is called.

use core::fmt;

use crate::address::Protocol;
use crate::plain::{Plain, Scribe, plain_struct};

/// Number of a service port that no other gets, whereas a [`crate::ServiceId`] is reused: what still counts for
/// a service port that is gone does not count for its successor. 0 = none.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceSerial(pub u32);

// SAFETY: transparent over an integer.
unsafe impl Plain for ServiceSerial {}

/// Value of SERVICE_STATS (per-CPU hash by [`ServiceSerial`]). Userspace makes the element before the service
/// port can be found and removes it after; programs only add to it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceStats {
    /// Sockets that were sent to a backend: connects, and first datagrams of unconnected ones.
    pub socket_connections: u64,
    /// Sockets that were refused for want of a backend.
    pub socket_refusals: u64,
    /// Flows of packets that were opened.
    pub flows: u64,
    /// Packets that opened no flow for want of a backend.
    pub flow_refusals: u64,
    /// Packets from clients to backends, as the programs see them: a large one may be several on the wire.
    pub packets_in: u64,
    /// Their bytes, from the IP header on.
    pub bytes_in: u64,
    /// Packets from backends to clients.
    pub packets_out: u64,
    /// Their bytes, from the IP header on.
    pub bytes_out: u64,
}

plain_struct!(ServiceStats, size = 64, {
    socket_connections: u64 = 0, socket_refusals: u64 = 8, flows: u64 = 16, flow_refusals: u64 = 24,
    packets_in: u64 = 32, bytes_in: u64 = 40, packets_out: u64 = 48, bytes_out: u64 = 56,
});

impl ServiceStats {
    /// New connections, by sockets and by packets.
    pub fn connections(&self) -> u64 {
        self.socket_connections.wrapping_add(self.flows)
    }

    /// Refused ones, by sockets and by packets.
    pub fn refusals(&self) -> u64 {
        self.socket_refusals.wrapping_add(self.flow_refusals)
    }
}

impl core::ops::AddAssign for ServiceStats {
    fn add_assign(&mut self, other: Self) {
        for (count, more) in [
            (&mut self.socket_connections, other.socket_connections),
            (&mut self.socket_refusals, other.socket_refusals),
            (&mut self.flows, other.flows),
            (&mut self.flow_refusals, other.flow_refusals),
            (&mut self.packets_in, other.packets_in),
            (&mut self.bytes_in, other.bytes_in),
            (&mut self.packets_out, other.packets_out),
            (&mut self.bytes_out, other.bytes_out),
        ] {
            *count = count.wrapping_add(more);
        }
    }
}

/// Longest DNS label (RFC 1123): a namespace, a Service's name, the name of a port.
const LABEL_BYTES: usize = 63;

/// A DNS label, or nothing; zeroes follow its end.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label([u8; LABEL_BYTES]);

// SAFETY: transparent over an array of integers.
unsafe impl Plain for Label {
    const LAYOUT: u64 = <[u8; LABEL_BYTES]>::LAYOUT;

    fn describe(&self, scribe: &mut dyn Scribe) {
        scribe.text(self);
    }
}

impl Label {
    /// The label; what is longer than any label can be is cut off.
    pub fn new(text: &str) -> Self {
        let mut label = Self::default();
        for (to, from) in label.0.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        label
    }

    /// The label as text.
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(LABEL_BYTES);
        let text = self.0.get(..end).unwrap_or_default();
        core::str::from_utf8(text).unwrap_or("?")
    }
}

impl Default for Label {
    fn default() -> Self {
        Self([0; LABEL_BYTES])
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// Value of SERVICE_NAMES (hash by [`ServiceSerial`]): what a service port is, for people. Programs do not read
/// it. Written before the service port can be found, removed after.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceName {
    /// The Service's namespace.
    pub namespace: Label,
    /// The Service's name.
    pub name: Label,
    /// The port's name; empty for an only, unnamed port.
    pub port: Label,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// 1 if the backends are restricted to this node's, as under a traffic policy Local.
    pub local: u8,
    /// Zero.
    pub reserved: u8,
}

plain_struct!(ServiceName, size = 192, {
    namespace: Label = 0, name: Label = 63, port: Label = 126, protocol: Protocol = 189, local: u8 = 190,
    reserved: u8 = 191,
});

#[cfg(test)]
mod tests {
    use super::Label;

    #[test]
    fn labels_of_every_length_come_back() {
        let longest = "a".repeat(63);
        for text in ["", "web", &longest] {
            assert_eq!(Label::new(text).as_str(), text);
        }
        assert_eq!(Label::new(&"a".repeat(64)).as_str(), longest);
    }
}
