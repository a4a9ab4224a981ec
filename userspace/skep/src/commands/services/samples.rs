//! A node's maps, for tests: node 172.29.0.11, pods 10.128.1.0/24 of 10.128.0.0/16, services 10.64.0.0/16.

use std::net::{IpAddr, SocketAddr};

use skep_abi::{
    BackendFlags, BackendId, BackendValue, FrontendFlags, FrontendKey, FrontendValue, Label, PodRange,
    PortBe, PrefixKey, Protocol, Scope, ServiceFlags, ServiceId, ServiceName, ServiceSerial, ServiceStats,
    ServiceValue,
};
use skep_loader::Snapshot;

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// default/web with a NodePort under externalTrafficPolicy Local whose backends are elsewhere, and kube-system/dns.
pub(super) fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.config.ipv4 = ip("172.29.0.11").into();
    snapshot
        .service_ranges
        .insert(PrefixKey::new(ip("10.64.0.0"), 16), 1);
    let all = PodRange::CLUSTER;
    for (prefix, range) in [
        (PrefixKey::new(ip("10.128.0.0"), 16), all),
        (PrefixKey::new(ip("10.128.1.0"), 24), all.with(PodRange::NODE)),
    ] {
        snapshot.pod_ranges.insert(prefix, range);
    }
    add_web(&mut snapshot);
    let dns = name("kube-system", "dns", "dns", Protocol::UDP, 0);
    let here = [("[fd00:128::2]:53", BackendFlags::LOCAL)];
    let dns = add_port(&mut snapshot, dns, ServiceStats::default(), &here);
    let kind = FrontendFlags::CLUSTER_IP;
    add_frontend(
        &mut snapshot,
        "[fd00:64::a]:53",
        Protocol::UDP,
        Scope::ANY,
        kind,
        dns,
    );
    snapshot
}

fn add_web(snapshot: &mut Snapshot) {
    let web = |local| name("default", "web", "http", Protocol::TCP, local);
    let counted = ServiceStats {
        socket_connections: 10,
        flows: 2,
        packets_in: 30,
        bytes_in: 4_100,
        packets_out: 28,
        bytes_out: 12_000,
        ..ServiceStats::default()
    };
    let backends = [
        ("10.128.2.2:8080", BackendFlags::NONE),
        ("10.128.2.3:8080", BackendFlags::TERMINATING),
    ];
    let cluster = add_port(snapshot, web(0), counted, &backends);
    let refused = ServiceStats {
        flow_refusals: 3,
        ..ServiceStats::default()
    };
    let local = add_port(snapshot, web(1), refused, &[]);
    let (node_port, kind) = ("172.29.0.11:30080", FrontendFlags::NODE_PORT);
    for (at, scope, flags, service) in [
        ("10.64.0.7:80", Scope::ANY, FrontendFlags::CLUSTER_IP, cluster),
        (node_port, Scope::ANY, kind.with(FrontendFlags::SPLIT), cluster),
        (
            node_port,
            Scope::EXTERNAL,
            kind.with(FrontendFlags::LOCAL_ONLY),
            local,
        ),
    ] {
        add_frontend(snapshot, at, Protocol::TCP, scope, flags, service);
    }
}

fn name(namespace: &str, name: &str, port: &str, protocol: Protocol, local: u8) -> ServiceName {
    ServiceName {
        namespace: Label::new(namespace),
        name: Label::new(name),
        port: Label::new(port),
        protocol,
        local,
        reserved: 0,
    }
}

fn add_port(
    snapshot: &mut Snapshot,
    name: ServiceName,
    stats: ServiceStats,
    backends: &[(&str, BackendFlags)],
) -> ServiceId {
    let number = u32::try_from(snapshot.services.len()).unwrap() + 1;
    let (id, serial) = (ServiceId(number), ServiceSerial(number + 100));
    let value = ServiceValue {
        slot_offset: number * 10,
        slot_count: u32::try_from(backends.len()).unwrap(),
        flags: ServiceFlags::PRESENT,
        serial,
        ..ServiceValue::default()
    };
    for (slot, (at, flags)) in (number * 10..).zip(backends) {
        let at: SocketAddr = at.parse().unwrap();
        let backend = BackendValue {
            address: at.ip().into(),
            port: PortBe::from_host(at.port()),
            protocol: name.protocol,
            flags: flags.with(BackendFlags::PRESENT),
            ..BackendValue::default()
        };
        snapshot.slots.insert(slot, BackendId(slot));
        snapshot.backends.insert(BackendId(slot), backend);
    }
    snapshot.services.insert(id, value);
    snapshot.names.insert(serial, name);
    snapshot.stats.insert(serial, stats);
    id
}

fn add_frontend(
    snapshot: &mut Snapshot,
    at: &str,
    protocol: Protocol,
    scope: Scope,
    flags: FrontendFlags,
    service: ServiceId,
) {
    let at: SocketAddr = at.parse().unwrap();
    let key = FrontendKey {
        address: at.ip().into(),
        port: PortBe::from_host(at.port()),
        protocol,
        scope,
    };
    snapshot.frontends.insert(key, FrontendValue { service, flags });
}
