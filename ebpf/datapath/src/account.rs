//! What is counted of each service port.

use skep_abi::{FlowFlags, FlowValue, ServiceId, ServiceSerial};

use crate::packet::Header;
use crate::tables::ServiceTables;

/// Something that happened to a service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A socket was sent to a backend.
    SocketConnected,
    /// A socket was refused for want of a backend.
    SocketRefused,
    /// A packet opened a flow.
    FlowOpened,
    /// A packet opened none for want of a backend.
    FlowRefused,
    /// A packet from a client went on to a backend.
    PacketIn {
        /// From the IP header on.
        bytes: u32,
    },
    /// A packet from a backend went on to a client.
    PacketOut {
        /// From the IP header on.
        bytes: u32,
    },
}

/// The number under which a service port is counted; 0 if it is gone.
#[inline(always)]
pub fn serial<T: ServiceTables>(tables: &T, service: ServiceId) -> ServiceSerial {
    tables
        .service(service)
        .map_or(ServiceSerial(0), |value| value.serial)
}

/// Counts what happened to a service port.
#[inline(always)]
pub fn service<T: ServiceTables>(tables: &T, id: ServiceId, event: Event) {
    tables.account(serial(tables, id), event);
}

/// Counts a packet of `length` bytes, link header included, that goes its flow's way.
#[inline(always)]
pub fn packet<T: ServiceTables>(tables: &T, header: &Header, value: &FlowValue, length: u32) {
    if !value.flags.contains(FlowFlags::SERVICE) {
        return;
    }
    let bytes = length.saturating_sub(header.l3_offset);
    let event = if value.flags.contains(FlowFlags::FORWARD) {
        Event::PacketIn { bytes }
    } else {
        Event::PacketOut { bytes }
    };
    tables.account(value.serial, event);
}
