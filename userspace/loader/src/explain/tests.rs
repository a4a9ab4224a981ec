//! Questions over a copy of the maps that was never in a kernel.

use std::net::SocketAddr;

use skep_abi::{
    BackendFlags, BackendId, FrontendFlags, Scope, ServiceFlags, ServiceId, ServiceValue, SourceRangeKey,
};

use super::*;

const NODE: &str = "172.29.0.11";
const OUTSIDE: &str = "192.0.2.1";
const POD_ELSEWHERE: &str = "10.128.2.9";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pod() -> Client {
    Client::Pod(ip("10.128.1.5"))
}

/// A node, 172.29.0.11, with pods 10.128.1.0/24 of 10.128.0.0/16 and services in 10.64.0.0/16.
fn empty() -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.config.ipv4 = ip(NODE).into();
    snapshot.config.source_port_first = 32_768;
    snapshot.config.source_port_last = 60_999;
    snapshot
        .service_ranges
        .insert(PrefixKey::new(ip("10.64.0.0"), 16), 1);
    let cluster = PodRange::CLUSTER;
    snapshot
        .pod_ranges
        .insert(PrefixKey::new(ip("10.128.0.0"), 16), cluster);
    let node = cluster.with(PodRange::NODE);
    snapshot
        .pod_ranges
        .insert(PrefixKey::new(ip("10.128.1.0"), 24), node);
    snapshot
}

fn add_service(snapshot: &mut Snapshot, backends: &[&str]) -> ServiceId {
    let id = ServiceId(u32::try_from(snapshot.services.len()).unwrap() + 1);
    let offset = id.0 * 100;
    for (slot, text) in (offset..).zip(backends) {
        let at: SocketAddr = text.parse().unwrap();
        let backend = BackendValue {
            address: at.ip().into(),
            port: PortBe::from_host(at.port()),
            protocol: Protocol::TCP,
            flags: BackendFlags::PRESENT,
            ..BackendValue::default()
        };
        snapshot.slots.insert(slot, BackendId(slot));
        snapshot.backends.insert(BackendId(slot), backend);
    }
    let value = ServiceValue {
        slot_offset: offset,
        slot_count: u32::try_from(backends.len()).unwrap(),
        flags: ServiceFlags::PRESENT,
        ..ServiceValue::default()
    };
    snapshot.services.insert(id, value);
    id
}

fn add_frontend(snapshot: &mut Snapshot, at: &str, scope: Scope, flags: FrontendFlags, service: ServiceId) {
    let at: SocketAddr = at.parse().unwrap();
    let key = FrontendKey {
        address: at.ip().into(),
        port: PortBe::from_host(at.port()),
        protocol: Protocol::TCP,
        scope,
    };
    snapshot.frontends.insert(key, FrontendValue { service, flags });
}

fn ask(snapshot: &Snapshot, to: &str, client: Client) -> Explanation {
    let to: SocketAddr = to.parse().unwrap();
    let question = Question {
        protocol: Protocol::TCP,
        address: to.ip(),
        port: to.port(),
        client,
    };
    explain(snapshot, &question)
}

fn shares_of(explanation: &Explanation) -> Vec<(String, String)> {
    let Outcome::Backends(shares) = &explanation.outcome else {
        panic!("{explanation:?}");
    };
    let show = |share: &Share| {
        assert!(share.backend.is_some());
        (share.address.to_string(), format!("{:.3}", share.share))
    };
    shares.iter().map(show).collect()
}

#[test]
fn a_socket_may_get_every_backend_with_its_share() {
    let mut snapshot = empty();
    let service = add_service(
        &mut snapshot,
        &["10.128.1.2:8080", "10.128.2.2:8080", "10.128.2.3:8080"],
    );
    add_frontend(
        &mut snapshot,
        "10.64.0.7:80",
        Scope::ANY,
        FrontendFlags::CLUSTER_IP,
        service,
    );
    for client in [Client::Node, pod()] {
        let explanation = ask(&snapshot, "10.64.0.7:80", client);
        let third = |address: &str| (address.to_owned(), "0.333".to_owned());
        let expected = ["10.128.1.2", "10.128.2.2", "10.128.2.3"].map(third);
        assert_eq!(shares_of(&explanation), expected);
        assert!(matches!(explanation.steps[..], [Step::Frontend(_, Some(_))]));
        assert_eq!(explanation.frontend.unwrap().1.service, service);
    }
}

#[test]
fn a_traffic_policy_parts_the_clients() {
    let mut snapshot = empty();
    let all = add_service(&mut snapshot, &["10.128.1.2:8080", "10.128.2.2:8080"]);
    let local = add_service(&mut snapshot, &["10.128.1.2:8080"]);
    let (at, kind) = ("172.29.0.11:30080", FrontendFlags::NODE_PORT);
    add_frontend(
        &mut snapshot,
        at,
        Scope::ANY,
        kind.with(FrontendFlags::SPLIT),
        all,
    );
    let local_only = kind.with(FrontendFlags::LOCAL_ONLY);
    add_frontend(&mut snapshot, at, Scope::EXTERNAL, local_only, local);

    let outside = ask(&snapshot, at, Client::Packet(ip(OUTSIDE)));
    assert_eq!(
        shares_of(&outside),
        [("10.128.1.2".to_owned(), "1.000".to_owned())]
    );
    let [
        Step::Frontend(..),
        Step::PodRange(_, PodRange::NONE),
        Step::Frontend(key, Some(_)),
        ..,
    ] = outside.steps[..]
    else {
        panic!("{:?}", outside.steps);
    };
    assert_eq!(key.scope, Scope::EXTERNAL);
    let pod = ask(&snapshot, at, Client::Packet(ip(POD_ELSEWHERE)));
    assert_eq!(shares_of(&pod).len(), 2);
    assert_eq!(shares_of(&ask(&snapshot, at, Client::Node)).len(), 2);

    snapshot.services.get_mut(&local).unwrap().slot_count = 0;
    let outside = ask(&snapshot, at, Client::Packet(ip(OUTSIDE)));
    assert_eq!(outside.outcome, Outcome::Dropped(Counter::DropNoBackend));
    assert_eq!(outside.frontend.unwrap().1.service, local);
}

#[test]
fn a_restricted_frontend_tells_the_range_of_its_clients() {
    let mut snapshot = empty();
    let service = add_service(&mut snapshot, &["10.128.1.2:8080"]);
    let (at, restricted) = (
        "198.51.100.1:80",
        FrontendFlags::LOAD_BALANCER.with(FrontendFlags::RESTRICTED),
    );
    add_frontend(&mut snapshot, at, Scope::ANY, restricted, service);
    let range = |text: &str, length| SourceRangeKey::new(service, PrefixKey::new(ip(text), length));
    snapshot.source_ranges.insert(range("192.0.2.0", 24), 1);
    snapshot.source_ranges.insert(range("10.128.1.5", 32), 1);
    for (client, prefix, refused) in [
        (Client::Packet(ip(OUTSIDE)), Some(("192.0.2.0", 24)), None),
        (
            Client::Packet(ip("203.0.113.1")),
            None,
            Some(Outcome::Dropped(Counter::DropSourceRange)),
        ),
        (pod(), Some(("10.128.1.5", 32)), None),
        (
            Client::Node,
            None,
            Some(Outcome::Refused(Counter::SocketSourceRange)),
        ),
    ] {
        let answer = ask(&snapshot, at, client);
        let found = answer.steps.iter().find_map(|step| match step {
            Step::SourceRange(_, found) => Some(*found),
            _ => None,
        });
        let expected = prefix.map(|(address, length)| PrefixKey::new(ip(address), length));
        assert_eq!(found, Some(expected), "{client:?}");
        match refused {
            Some(outcome) => assert_eq!(answer.outcome, outcome, "{client:?}"),
            None => assert_eq!(shares_of(&answer).len(), 1, "{client:?}"),
        }
    }
}

/// Nothing behind a ClusterIP and a NodePort.
/// Nothing behind a ClusterIP, a NodePort and an external IP.
fn deserted() -> Snapshot {
    let mut snapshot = empty();
    let nobody = add_service(&mut snapshot, &[]);
    for (at, kind) in [
        ("10.64.0.7:80", FrontendFlags::CLUSTER_IP),
        ("172.29.0.11:30080", FrontendFlags::NODE_PORT),
        ("127.0.0.1:30080", FrontendFlags::NODE_PORT),
        ("203.0.113.9:80", FrontendFlags::EXTERNAL_IP),
    ] {
        add_frontend(&mut snapshot, at, Scope::ANY, kind, nobody);
    }
    snapshot
}

#[test]
fn why_nothing_answers_a_socket_is_told() {
    let snapshot = deserted();
    for (to, client, outcome) in [
        ("10.64.0.7:80", pod(), Outcome::Refused(Counter::SocketNoBackend)),
        ("10.64.0.7:81", pod(), Outcome::Refused(Counter::SocketNoService)),
        ("192.0.2.9:80", Client::Node, Outcome::LeftAlone),
        (
            "127.0.0.1:30080",
            Client::Node,
            Outcome::Refused(Counter::SocketNoBackend),
        ),
        ("127.0.0.1:30080", pod(), Outcome::LeftAlone),
    ] {
        assert_eq!(ask(&snapshot, to, client).outcome, outcome, "{to} {client:?}");
    }
    let range = ask(&snapshot, "10.64.0.7:81", pod()).steps;
    assert!(
        matches!(
            range[..],
            [Step::Frontend(_, None), Step::ServiceRange(_, Some(_))]
        ),
        "{range:?}"
    );
}

#[test]
fn why_nothing_answers_a_packet_is_told() {
    let (snapshot, node_port) = (deserted(), "172.29.0.11:30080");
    for (to, source, outcome) in [
        ("10.64.0.7:80", OUTSIDE, Outcome::Dropped(Counter::DropNoService)),
        ("10.64.9.9:80", OUTSIDE, Outcome::Dropped(Counter::DropNoService)),
        (node_port, OUTSIDE, Outcome::LeftToNode(Counter::PacketNoBackend)),
        ("203.0.113.9:80", OUTSIDE, Outcome::Refused(Counter::PacketReset)),
        (
            node_port,
            "127.0.0.1",
            Outcome::LeftToNode(Counter::PacketMartian),
        ),
        (node_port, "fd00::1", Outcome::NotHandled),
        ("192.0.2.9:80", OUTSIDE, Outcome::LeftAlone),
    ] {
        let client = Client::Packet(ip(source));
        assert_eq!(ask(&snapshot, to, client).outcome, outcome, "{to} {source}");
    }
}

#[test]
fn many_backends_have_even_shares() {
    let mut snapshot = empty();
    let backends: Vec<String> = (0..100).map(|n| format!("10.128.2.{n}:80")).collect();
    let backends: Vec<&str> = backends.iter().map(String::as_str).collect();
    let service = add_service(&mut snapshot, &backends);
    add_frontend(
        &mut snapshot,
        "10.64.0.7:80",
        Scope::ANY,
        FrontendFlags::CLUSTER_IP,
        service,
    );
    let Outcome::Backends(shares) = ask(&snapshot, "10.64.0.7:80", pod()).outcome else {
        panic!("no backends");
    };
    assert_eq!(shares.len(), 100);
    assert!(
        shares
            .iter()
            .all(|share| (share.share - 0.01).abs() < 0.01 / 32.0),
        "{shares:?}"
    );
}
