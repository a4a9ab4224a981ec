//! Socket contexts (`struct bpf_sock_addr`).

use core::ptr::{addr_of, addr_of_mut, read_volatile, write_volatile};

use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::{bpf_get_netns_cookie, bpf_get_socket_cookie};
use skep_abi::{Address, PortBe, Protocol, SocketKey, SocketValue};
use skep_datapath::SocketTables;
use skep_datapath::bind::BindTables;
use skep_datapath::socket::Target;

use crate::maps;
use crate::world::World;

/// The address families that a hook can be of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl World<*mut bpf_sock_addr> {
    /// The socket and the remote end that the call is about; `None` for protocols other than TCP and UDP.
    #[inline(always)]
    pub fn target(&self, family: Family) -> Option<Target> {
        let context = self.context;
        // SAFETY: the context is valid while the program runs. Volatile, because the verifier allows only
        // loads of the fields' own width, which the compiler must neither split nor join.
        let (protocol, port, cookie) = unsafe {
            (
                read_volatile(addr_of!((*context).protocol)),
                read_volatile(addr_of!((*context).user_port)),
                bpf_get_socket_cookie(context.cast()),
            )
        };
        let protocol = Protocol(u8::try_from(protocol).ok()?);
        if protocol != Protocol::TCP && protocol != Protocol::UDP {
            return None;
        }
        // The field's low half holds the port in network byte order.
        Some(Target {
            cookie,
            protocol,
            address: self.address(family),
            port: PortBe::from_be(port as u16),
        })
    }

    #[inline(always)]
    fn address(&self, family: Family) -> Address {
        let context = self.context;
        // SAFETY: as in `target`.
        unsafe {
            match family {
                Family::V4 => Address::from_ipv4_be(read_volatile(addr_of!((*context).user_ip4))),
                Family::V6 => Address::from_words_be([
                    read_volatile(addr_of!((*context).user_ip6[0])),
                    read_volatile(addr_of!((*context).user_ip6[1])),
                    read_volatile(addr_of!((*context).user_ip6[2])),
                    read_volatile(addr_of!((*context).user_ip6[3])),
                ]),
            }
        }
    }

    /// Replaces the remote end. An IPv6 end is left out of an IPv4 context: there it has no form.
    #[inline(always)]
    pub fn set_remote(&self, family: Family, address: &Address, port: PortBe) -> bool {
        let context = self.context;
        // SAFETY: as in `target`; these fields are writable for all hooks of this project.
        unsafe {
            match family {
                Family::V4 if !address.is_ipv4() => return false,
                Family::V4 => write_volatile(addr_of_mut!((*context).user_ip4), address.ipv4_be()),
                Family::V6 => {
                    let words = address.words_be();
                    write_volatile(addr_of_mut!((*context).user_ip6[0]), words[0]);
                    write_volatile(addr_of_mut!((*context).user_ip6[1]), words[1]);
                    write_volatile(addr_of_mut!((*context).user_ip6[2]), words[2]);
                    write_volatile(addr_of_mut!((*context).user_ip6[3]), words[3]);
                }
            }
            write_volatile(addr_of_mut!((*context).user_port), u32::from(port.to_be()));
        }
        true
    }
}

impl SocketTables for World<*mut bpf_sock_addr> {
    #[inline(always)]
    fn choice(&self, key: &SocketKey) -> Option<SocketValue> {
        maps::read(&maps::SOCKET_CHOICE, key)
    }

    #[inline(always)]
    fn put_choice(&self, key: &SocketKey, value: &SocketValue) -> bool {
        maps::write(&maps::SOCKET_CHOICE, key, value, 0).is_ok()
    }

    #[inline(always)]
    fn reverse(&self, key: &SocketKey) -> Option<SocketValue> {
        maps::read(&maps::SOCKET_REVERSE, key)
    }

    #[inline(always)]
    fn put_reverse(&self, key: &SocketKey, value: &SocketValue) -> bool {
        maps::write(&maps::SOCKET_REVERSE, key, value, 0).is_ok()
    }

    #[inline(always)]
    fn remove_reverse(&self, key: &SocketKey) {
        maps::remove(&maps::SOCKET_REVERSE, key);
    }

    #[inline(always)]
    fn in_node_network(&self) -> bool {
        // SAFETY: the context is valid while the program runs.
        is_node_network(unsafe { bpf_get_netns_cookie(self.context.cast()) })
    }

    #[inline(always)]
    fn client(&self, remote: &Address) -> Address {
        // SAFETY: the context is valid while the program runs.
        let cookie = unsafe { bpf_get_netns_cookie(self.context.cast()) };
        let v4 = remote.is_ipv4();
        if let Some(config) = maps::CONFIG.get(0)
            && config.netns_cookie == cookie
        {
            return if v4 { config.ipv4 } else { config.ipv6 };
        }
        // SAFETY: the value is copied at once; the map is BPF_F_NO_PREALLOC, so elements are not reused while the
        // program runs.
        match unsafe { maps::POD_NETWORKS.get(&cookie) } {
            Some(pod) if v4 => pod.ipv4,
            Some(pod) => pod.ipv6,
            None => Address::UNSPECIFIED,
        }
    }
}

/// Whether this is the cookie of the node's own network namespace.
#[inline(always)]
fn is_node_network(cookie: u64) -> bool {
    maps::CONFIG
        .get(0)
        .is_some_and(|config| config.netns_cookie == cookie)
}

impl World<*mut bpf_sock> {
    /// The protocol and the local port of a socket that is just bound.
    #[inline(always)]
    pub fn bound(&self) -> (u32, PortBe) {
        // SAFETY: the context is valid while the program runs. Volatile, because the verifier allows only loads of
        // the fields' own width. The port is in host byte order (struct bpf_sock).
        let (protocol, port) = unsafe {
            (
                read_volatile(addr_of!((*self.context).protocol)),
                read_volatile(addr_of!((*self.context).src_port)),
            )
        };
        (protocol, PortBe::from_host(port as u16))
    }
}

impl BindTables for World<*mut bpf_sock> {
    #[inline(always)]
    fn in_node_network(&self) -> bool {
        // SAFETY: the context is valid while the program runs.
        is_node_network(unsafe { bpf_get_netns_cookie(self.context.cast()) })
    }

    #[inline(always)]
    fn node_ports(&self, word: u32) -> u64 {
        maps::NODE_PORTS.get(word).copied().unwrap_or(0)
    }
}
