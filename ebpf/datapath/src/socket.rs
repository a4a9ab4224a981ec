//! What the socket hooks do to connect, sendmsg, recvmsg and getpeername.

use skep_abi::{
    Address, BackendFlags, BackendId, BackendValue, Counter, FrontendFlags, PortBe, Protocol, SocketKey,
    SocketValue,
};

use crate::account::{self, Event};
use crate::lookup::{self, Lookup};
use crate::select::{self, Choice};
use crate::tables::{ServiceTables, SocketTables};

/// A socket and the remote end that it names.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The socket's cookie.
    pub cookie: u64,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The remote address.
    pub address: Address,
    /// The remote port.
    pub port: PortBe,
}

/// What becomes of the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketVerdict {
    /// Goes on as it is.
    Pass,
    /// Goes to this end instead.
    Redirect(Address, PortBe),
    /// Fails with ECONNREFUSED, for this reason.
    Refuse(Counter),
}

impl Target {
    #[inline(always)]
    fn key(&self, address: Address, port: PortBe) -> SocketKey {
        SocketKey {
            cookie: self.cookie,
            address,
            port,
            protocol: self.protocol,
            reserved: [0; 5],
        }
    }
}

/// connect(2), TCP and UDP. What was dialled is remembered for [`original`], and forgotten when the same socket
/// dials a backend by its own address.
#[inline(always)]
pub fn connect<T: ServiceTables + SocketTables>(tables: &T, target: &Target) -> SocketVerdict {
    let frontend = match frontend_of(tables, target) {
        Ok(frontend) => frontend,
        Err(None) => return SocketVerdict::Pass,
        Err(Some(reason)) => return SocketVerdict::Refuse(reason),
    };
    match select::choose(tables, frontend) {
        Choice::Backend(id, backend) => {
            remember_reverse(tables, target, &chosen(id, backend));
            tables.count(Counter::SocketConnect);
            account::service(tables, frontend, Event::SocketConnected);
            SocketVerdict::Redirect(backend.address, backend.port)
        }
        Choice::NoBackend => {
            account::service(tables, frontend, Event::SocketRefused);
            SocketVerdict::Refuse(Counter::SocketNoBackend)
        }
        Choice::Hole => SocketVerdict::Refuse(Counter::SocketTableHole),
    }
}

/// sendmsg(2) on an unconnected UDP socket: one socket keeps its backend for a frontend as long as that
/// backend lives.
#[inline(always)]
pub fn send<T: ServiceTables + SocketTables>(tables: &T, target: &Target) -> SocketVerdict {
    let frontend = match frontend_of(tables, target) {
        Ok(frontend) => frontend,
        Err(None) => return SocketVerdict::Pass,
        Err(Some(reason)) => return SocketVerdict::Refuse(reason),
    };
    let choice_key = target.key(target.address, target.port);
    if let Some(chosen) = tables.choice(&choice_key)
        && is_alive(tables, &chosen)
    {
        remember_reverse(tables, target, &chosen);
        return SocketVerdict::Redirect(chosen.address, chosen.port);
    }
    match select::choose(tables, frontend) {
        Choice::Backend(id, backend) => {
            let chosen = chosen(id, backend);
            remember_reverse(tables, target, &chosen);
            if !tables.put_choice(&choice_key, &chosen) {
                tables.count(Counter::SocketStateFull);
            }
            tables.count(Counter::SocketSend);
            account::service(tables, frontend, Event::SocketConnected);
            SocketVerdict::Redirect(backend.address, backend.port)
        }
        Choice::NoBackend => {
            account::service(tables, frontend, Event::SocketRefused);
            SocketVerdict::Refuse(Counter::SocketNoBackend)
        }
        Choice::Hole => SocketVerdict::Refuse(Counter::SocketTableHole),
    }
}

/// The end that the program dialled to reach `remote`, for recvmsg(2) and getpeername(2); `None` when that
/// was `remote` itself.
#[inline(always)]
pub fn original<T: SocketTables>(tables: &T, remote: &Target) -> Option<(Address, PortBe)> {
    let value = tables.reverse(&remote.key(remote.address, remote.port))?;
    Some((value.address, value.port))
}

/// The service behind what is dialled. Err: why the call is refused, or None when it goes on as it is. (Not a
/// [`SocketVerdict`], which compiles to a copy of bytes that [`SocketVerdict::Pass`] does not have.)
#[inline(always)]
fn frontend_of<T: ServiceTables + SocketTables>(
    tables: &T,
    target: &Target,
) -> Result<skep_abi::ServiceId, Option<Counter>> {
    // A loopback node port is the node's: in a pod, loopback is the pod's own.
    let found = if target.address.is_loopback() && !tables.in_node_network() {
        Lookup::Foreign
    } else {
        lookup::for_socket(tables, target.address, target.port, target.protocol)
    };
    match found {
        Lookup::Frontend(frontend) if frontend.flags.contains(FrontendFlags::RESTRICTED) => {
            let client = tables.client(&target.address);
            if tables.in_source_ranges(frontend.service, &client) {
                Ok(frontend.service)
            } else {
                Err(Some(Counter::SocketSourceRange))
            }
        }
        Lookup::Frontend(frontend) => Ok(frontend.service),
        Lookup::NoService => Err(Some(Counter::SocketNoService)),
        Lookup::Foreign => {
            let key = target.key(target.address, target.port);
            if tables.reverse(&key).is_some() {
                tables.remove_reverse(&key);
            }
            Err(None)
        }
    }
}

#[inline(always)]
fn chosen(id: BackendId, backend: &BackendValue) -> SocketValue {
    SocketValue {
        address: backend.address,
        port: backend.port,
        reserved: 0,
        backend: id,
    }
}

/// Remembers what was dialled to reach the chosen backend. A socket may reach one backend by several
/// frontends, and the entry may have been evicted: the last frontend dialled is what it hears from.
#[inline(always)]
fn remember_reverse<T: ServiceTables + SocketTables>(tables: &T, target: &Target, chosen: &SocketValue) {
    let key = target.key(chosen.address, chosen.port);
    let dialled = SocketValue {
        address: target.address,
        port: target.port,
        reserved: 0,
        backend: chosen.backend,
    };
    if tables.reverse(&key) != Some(dialled) && !tables.put_reverse(&key, &dialled) {
        tables.count(Counter::SocketStateFull);
    }
}

#[inline(always)]
fn is_alive<T: ServiceTables>(tables: &T, chosen: &SocketValue) -> bool {
    tables.backend(chosen.backend).is_some_and(|backend| {
        backend.flags.contains(BackendFlags::PRESENT)
            && !backend.flags.contains(BackendFlags::DEAD)
            && backend.address == chosen.address
            && backend.port == chosen.port
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{World, address};

    fn target(to: &str, port: u16, protocol: Protocol) -> Target {
        Target {
            cookie: 7,
            protocol,
            address: address(to),
            port: PortBe::from_host(port),
        }
    }

    fn world_with(backends: &[&str]) -> World {
        let mut world = World::new();
        let service = world.add_service(backends);
        for protocol in [Protocol::TCP, Protocol::UDP] {
            world.add_frontend("10.64.0.10:53", protocol, service, FrontendFlags::CLUSTER_IP);
            world.add_frontend("127.0.0.1:30053", protocol, service, FrontendFlags::NODE_PORT);
        }
        world
    }

    #[test]
    fn connect_goes_to_a_backend_and_remembers_what_was_dialled() {
        let world = world_with(&["10.128.0.5:5353"]);
        let to = target("10.64.0.10", 53, Protocol::TCP);
        let expected = (address("10.128.0.5"), PortBe::from_host(5353));
        assert_eq!(
            connect(&world, &to),
            SocketVerdict::Redirect(expected.0, expected.1)
        );
        let remote = Target {
            address: expected.0,
            port: expected.1,
            ..to
        };
        assert_eq!(original(&world, &remote), Some((to.address, to.port)));
        assert_eq!(original(&world, &Target { cookie: 8, ..remote }), None);
    }

    #[test]
    fn nothing_behind_a_service_address_is_refused() {
        let world = world_with(&[]);
        let refused = |port| connect(&world, &target("10.64.0.10", port, Protocol::TCP));
        assert_eq!(refused(53), SocketVerdict::Refuse(Counter::SocketNoBackend));
        assert_eq!(refused(54), SocketVerdict::Refuse(Counter::SocketNoService));
        assert_eq!(
            connect(&world, &target("192.0.2.1", 53, Protocol::TCP)),
            SocketVerdict::Pass
        );
    }

    #[test]
    fn loopback_node_port_exists_only_on_the_node() {
        let mut world = world_with(&["10.128.0.5:5353"]);
        let to = target("127.0.0.1", 30053, Protocol::TCP);
        assert_eq!(connect(&world, &to), SocketVerdict::Pass);
        world.in_node_network = true;
        assert!(matches!(connect(&world, &to), SocketVerdict::Redirect(..)));
    }

    #[test]
    fn restricted_frontend_admits_clients_of_its_ranges_only() {
        let mut world = world_with(&["10.128.0.5:53"]);
        let service = skep_abi::ServiceId(1);
        let restricted = FrontendFlags::LOAD_BALANCER.with(FrontendFlags::RESTRICTED);
        for at in ["198.51.100.1:53", "[2001:db8::1]:53"] {
            world.add_frontend(at, Protocol::UDP, service, restricted);
        }
        let (v4, v6) = ("198.51.100.1", "2001:db8::1");
        let to = |at: &str| target(at, 53, Protocol::UDP);
        let refused = SocketVerdict::Refuse(Counter::SocketSourceRange);
        world.clients = (address("10.128.0.7"), address("fd00:128::7"));
        for at in [v4, v6] {
            assert_eq!(send(&world, &to(at)), refused, "no range at all");
        }
        world.add_source_range(service, "10.128.0.7", 32);
        assert!(matches!(send(&world, &to(v4)), SocketVerdict::Redirect(..)));
        assert_eq!(connect(&world, &to(v6)), refused, "ranges of the other family");
        world.add_source_range(service, "fd00:128::", 64);
        assert!(matches!(connect(&world, &to(v6)), SocketVerdict::Redirect(..)));
        world.clients.0 = address("10.128.0.8");
        assert_eq!(
            send(&world, &to(v4)),
            refused,
            "another client, also where a choice is stored"
        );
        assert!(matches!(
            send(&world, &to("10.64.0.10")),
            SocketVerdict::Redirect(..)
        ));
        world.clients.0 = Address::UNSPECIFIED;
        assert_eq!(send(&world, &to(v4)), refused, "who is not known");
    }

    #[test]
    fn unconnected_socket_keeps_its_backend_while_it_lives() {
        let mut world = world_with(&["10.128.0.5:53", "10.128.0.6:53", "10.128.0.7:53", "10.128.0.8:53"]);
        let to = target("10.64.0.10", 53, Protocol::UDP);
        let first = send(&world, &to);
        assert!((0..50).all(|_| send(&world, &to) == first));
        let SocketVerdict::Redirect(gone, _) = first else {
            panic!("{first:?}")
        };
        world.backends.retain(|_, backend| backend.address != gone);
        world.refill_slots();
        let second = send(&world, &to);
        assert!(
            matches!(second, SocketVerdict::Redirect(now, _) if now != gone),
            "{second:?}"
        );
        assert!((0..50).all(|_| send(&world, &to) == second));
    }

    #[test]
    fn socket_hears_from_the_end_it_spoke_to_last() {
        let mut world = world_with(&["10.128.0.5:53"]);
        let service = skep_abi::ServiceId(1);
        world.add_frontend("10.64.0.11:53", Protocol::UDP, service, FrontendFlags::CLUSTER_IP);
        let backend = target("10.128.0.5", 53, Protocol::UDP);
        let [first, second] = ["10.64.0.10", "10.64.0.11"].map(|to| target(to, 53, Protocol::UDP));
        for to in [first, second, first, second] {
            send(&world, &to);
            assert_eq!(original(&world, &backend), Some((to.address, to.port)));
        }
        assert_eq!(send(&world, &backend), SocketVerdict::Pass);
        assert_eq!(original(&world, &backend), None);
        send(&world, &first);
        assert_eq!(original(&world, &backend), Some((first.address, first.port)));
    }

    #[test]
    fn connect_to_a_backends_own_address_shows_that_address() {
        let world = world_with(&["10.128.0.5:5353"]);
        let backend = target("10.128.0.5", 5353, Protocol::TCP);
        connect(&world, &target("10.64.0.10", 53, Protocol::TCP));
        assert!(original(&world, &backend).is_some());
        assert_eq!(connect(&world, &backend), SocketVerdict::Pass);
        assert_eq!(original(&world, &backend), None);
    }

    #[test]
    fn evicted_reverse_entry_is_written_again() {
        let world = world_with(&["10.128.0.5:53"]);
        let to = target("10.64.0.10", 53, Protocol::UDP);
        send(&world, &to);
        world.reverses.borrow_mut().clear();
        send(&world, &to);
        assert_eq!(world.reverses.borrow().len(), 1);
    }
    #[test]
    fn sockets_are_counted_for_their_service() {
        let world = world_with(&["10.128.0.5:53"]);
        connect(&world, &target("10.64.0.10", 53, Protocol::TCP));
        let udp = target("10.64.0.10", 53, Protocol::UDP);
        send(&world, &udp);
        send(&world, &udp);
        let serial = World::serial_of(skep_abi::ServiceId(1));
        assert_eq!(*world.events.borrow(), [(serial, Event::SocketConnected); 2]);
        let world = world_with(&[]);
        connect(&world, &udp);
        connect(&world, &target("10.64.0.99", 53, Protocol::UDP));
        assert_eq!(*world.events.borrow(), [(serial, Event::SocketRefused)]);
    }
}
