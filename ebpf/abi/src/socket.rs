//! What the socket hooks remember of a socket.

use crate::address::{Address, PortBe, Protocol};
use crate::plain::plain_struct;
use crate::service::BackendId;

/// Key of SOCKET_REVERSE (`address`, `port` are the backend's) and of SOCKET_CHOICE (they are the
/// frontend's). Both are LRU hashes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SocketKey {
    /// The kernel's socket cookie, unique for the machine's life.
    pub cookie: u64,
    /// The remote address.
    pub address: Address,
    /// The remote port.
    pub port: PortBe,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Zero.
    pub reserved: [u8; 5],
}

plain_struct!(SocketKey, size = 32, {
    cookie: u64 = 0, address: Address = 8, port: PortBe = 24, protocol: Protocol = 26, reserved: [u8; 5] = 27,
});

/// Value of SOCKET_REVERSE (the frontend that the program dialled) and of SOCKET_CHOICE (the backend that an
/// unconnected UDP socket uses for a frontend).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SocketValue {
    /// The other address.
    pub address: Address,
    /// The other port.
    pub port: PortBe,
    /// Zero.
    pub reserved: u16,
    /// The backend chosen.
    pub backend: BackendId,
}

plain_struct!(SocketValue, size = 24, {
    address: Address = 0, port: PortBe = 16, reserved: u16 = 18, backend: BackendId = 20,
});
