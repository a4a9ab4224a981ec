//! Which frontend, if any, an address is.

use skep_abi::{
    Address, FlowKey, FrontendFlags, FrontendKey, FrontendValue, PodRange, PortBe, Protocol, Scope,
};

use crate::tables::{PacketWorld, ServiceTables};

/// What an address is to the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// A frontend.
    Frontend(FrontendValue),
    /// An address that only services use, but no frontend.
    NoService,
    /// None of our business.
    Foreign,
}

/// Looks up what a program on this node dials. The order: the exact frontend, then the service ranges.
#[inline(always)]
pub fn for_socket<T: ServiceTables>(
    tables: &T,
    address: Address,
    port: PortBe,
    protocol: Protocol,
) -> Lookup {
    match tables.frontend(&FrontendKey {
        address,
        port,
        protocol,
        scope: Scope::ANY,
    }) {
        Some(frontend) => Lookup::Frontend(frontend),
        None if tables.in_service_range(&address) => Lookup::NoService,
        None => Lookup::Foreign,
    }
}

/// Looks up what a packet from a device is addressed to: as [`for_socket`], and then, when the frontend treats
/// outside traffic apart, the frontend for outside traffic. Pods of the cluster are not outside, on whatever
/// node they are (kube-proxy: "pod traffic is treated as internal", proxy/iptables/proxier.go).
#[inline(always)]
pub fn for_packet<W: PacketWorld>(world: &W, key: &FlowKey) -> Lookup {
    let found = for_socket(world, key.destination, key.destination_port, key.protocol);
    match found {
        Lookup::Frontend(any)
            if any.flags.contains(FrontendFlags::SPLIT)
                && !world.pod_range(&key.source).contains(PodRange::CLUSTER) =>
        {
            match world.frontend(&FrontendKey {
                address: key.destination,
                port: key.destination_port,
                protocol: key.protocol,
                scope: Scope::EXTERNAL,
            }) {
                Some(external) => Lookup::Frontend(external),
                None => Lookup::NoService,
            }
        }
        _ => found,
    }
}

#[cfg(test)]
mod tests {
    use skep_abi::ServiceId;

    use super::*;
    use crate::fake::{World, address};

    const PORT: PortBe = PortBe::from_host(80);

    #[test]
    fn frontend_wins_over_range_and_protocols_are_apart() {
        let mut world = World::new();
        let service = world.add_service(&["10.128.0.5:8080"]);
        world.add_frontend("10.64.0.10:80", Protocol::TCP, service, FrontendFlags::CLUSTER_IP);
        let found = for_socket(&world, address("10.64.0.10"), PORT, Protocol::TCP);
        assert!(matches!(found, Lookup::Frontend(FrontendValue { service: s, .. }) if s == service));
        assert_eq!(
            for_socket(&world, address("10.64.0.10"), PORT, Protocol::UDP),
            Lookup::NoService
        );
        assert_eq!(
            for_socket(&world, address("10.64.0.11"), PORT, Protocol::TCP),
            Lookup::NoService
        );
        assert_eq!(
            for_socket(&world, address("192.0.2.1"), PORT, Protocol::TCP),
            Lookup::Foreign
        );
    }

    #[test]
    fn split_frontend_has_its_own_entry_for_packets_from_outside() {
        let mut world = World::new();
        let all = world.add_service(&["10.128.0.5:80", "10.129.0.5:80"]);
        let local = world.add_service(&["10.128.0.5:80"]);
        let flags = FrontendFlags::NODE_PORT.with(FrontendFlags::SPLIT);
        world.add_frontend("172.29.0.11:30080", Protocol::TCP, all, flags);
        let key = |source| FlowKey {
            source: address(source),
            destination: address("172.29.0.11"),
            destination_port: PortBe::from_host(30080),
            protocol: Protocol::TCP,
            ..FlowKey::default()
        };
        let outside = key("192.0.2.1");
        assert_eq!(for_packet(&world, &outside), Lookup::NoService);
        world.add_external_frontend(
            "172.29.0.11:30080",
            Protocol::TCP,
            local,
            FrontendFlags::NODE_PORT,
        );
        let service_of = |lookup| match lookup {
            Lookup::Frontend(frontend) => frontend.service,
            _ => ServiceId(0),
        };
        assert_eq!(service_of(for_packet(&world, &outside)), local);
        let socket = for_socket(
            &world,
            outside.destination,
            outside.destination_port,
            Protocol::TCP,
        );
        assert_eq!(service_of(socket), all);
        for pod in ["10.128.0.9", "10.128.7.9"] {
            assert_eq!(service_of(for_packet(&world, &key(pod))), all, "{pod}");
        }
    }
}
