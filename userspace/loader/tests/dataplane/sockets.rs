//! What programs in the node's cgroup get when they dial Services.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};

use skep_abi::{Counter, FrontendFlags, PortBe, Protocol, SocketKey, SocketValue, maps};
use skep_bpf_maps::{KernelTable, RawMap, Table as _};

use crate::machine::Netns;
use crate::node::Node;
use crate::server::{Server, ask_stream, ask_tcp, ask_udp, dial, udp_socket};

const BACKENDS_V4: [&str; 3] = ["10.200.0.1:8080", "10.200.0.2:8080", "10.200.0.3:8080"];
const BACKENDS_V6: [&str; 2] = ["[fd00:200::1]:8080", "[fd00:200::2]:8080"];
const FRONTEND_V4: &str = "10.96.0.10:80";
const FRONTEND_V6: &str = "[fd00:96::10]:80";
const EMPTY_V4: &str = "10.96.0.20:80";
const EMPTY_V6: &str = "[fd00:96::20]:80";

/// A namespace whose loopback has the backends' addresses, their servers, and a node over it.
struct Scene {
    node: Node,
    _servers: Vec<Server>,
}

fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

impl Scene {
    fn new() -> Self {
        let netns = Netns::new();
        let backends = addresses(&[BACKENDS_V4.as_slice(), &BACKENDS_V6].concat());
        for backend in &backends {
            let length = if backend.is_ipv4() { 32 } else { 128 };
            netns.ip(&format!("addr add {}/{length} dev lo", backend.ip()));
        }
        let node = Node::open(&netns, |_| {});
        let servers = backends
            .iter()
            .map(|&at| Server::start(&netns, &at.to_string(), at))
            .collect();
        let mut services = node.services();
        for protocol in [Protocol::TCP, Protocol::UDP] {
            let kind = FrontendFlags::CLUSTER_IP;
            services.add(protocol, kind, &[FRONTEND_V4], &addresses(&BACKENDS_V4), &[]);
            services.add(protocol, kind, &[FRONTEND_V6], &addresses(&BACKENDS_V6), &[]);
            services.add(protocol, kind, &[EMPTY_V4, EMPTY_V6], &[], &[]);
            let kind = FrontendFlags::NODE_PORT;
            services.add(
                protocol,
                kind,
                &["127.0.0.1:30080"],
                &addresses(&BACKENDS_V4),
                &[],
            );
        }
        Self {
            node,
            _servers: servers,
        }
    }

    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.node.netns.run(work)
    }
}

#[test]
fn tcp_reaches_a_backend_and_shows_the_service() {
    let scene = Scene::new();
    for frontend in [FRONTEND_V4, FRONTEND_V6] {
        let frontend: SocketAddr = frontend.parse().unwrap();
        scene.run(|| {
            let stream = dial(frontend).unwrap();
            assert_eq!(stream.peer_addr().unwrap(), frontend);
            let answer = ask_stream(&stream).unwrap();
            assert!(BACKENDS_V4.contains(&&*answer.server) || BACKENDS_V6.contains(&&*answer.server));
        });
    }
    assert!(scene.node.counter(Counter::SocketConnect) >= 2);
}

#[test]
fn mapped_address_of_an_ipv6_socket_is_the_ipv4_service() {
    let scene = Scene::new();
    let mapped: SocketAddr = "[::ffff:10.96.0.10]:80".parse().unwrap();
    scene.run(|| {
        let stream = dial(mapped).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), mapped);
        assert!(BACKENDS_V4.contains(&&*ask_stream(&stream).unwrap().server));
        let (answer, from) = ask_udp(&udp_socket(mapped), mapped).unwrap();
        assert!(BACKENDS_V4.contains(&&*answer.server));
        assert_eq!(from, mapped);
    });
}

#[test]
fn unconnected_udp_keeps_one_backend_and_hears_from_the_service() {
    let scene = Scene::new();
    for frontend in [FRONTEND_V4, FRONTEND_V6] {
        let frontend: SocketAddr = frontend.parse().unwrap();
        scene.run(|| {
            let socket = udp_socket(frontend);
            let (first, from) = ask_udp(&socket, frontend).unwrap();
            assert_eq!(from, frontend);
            for _ in 0..20 {
                assert_eq!(ask_udp(&socket, frontend).unwrap().0.server, first.server);
            }
        });
    }
}

#[test]
fn one_udp_socket_speaks_to_several_services_and_to_none() {
    let scene = Scene::new();
    let mut services = scene.node.services();
    services.skip(20);
    // Two Services in front of one backend.
    for (one, other, backend) in [
        ("10.96.0.31:80", "10.96.0.32:80", BACKENDS_V4[0]),
        ("[fd00:96::31]:80", "[fd00:96::32]:80", BACKENDS_V6[0]),
    ] {
        let kind = FrontendFlags::CLUSTER_IP;
        services.add(Protocol::UDP, kind, &[one, other], &addresses(&[backend]), &[]);
        let [one, other, direct] = [one, other, backend].map(|at| at.parse::<SocketAddr>().unwrap());
        scene.run(|| {
            let socket = udp_socket(one);
            for end in [one, other, one, direct, other, direct] {
                assert_eq!(ask_udp(&socket, end).unwrap().1, end);
            }
        });
    }
}

#[test]
fn socket_that_dials_anew_shows_what_it_dialled_last() {
    let scene = Scene::new();
    for (frontend, backend) in [
        ("10.96.0.33:80", BACKENDS_V4[0]),
        ("[fd00:96::33]:80", BACKENDS_V6[0]),
    ] {
        let mut services = scene.node.services();
        services.skip(if backend.contains('[') { 30 } else { 31 });
        let kind = FrontendFlags::CLUSTER_IP;
        services.add(Protocol::UDP, kind, &[frontend], &addresses(&[backend]), &[]);
        let [frontend, direct] = [frontend, backend].map(|at| at.parse::<SocketAddr>().unwrap());
        scene.run(|| {
            let socket = udp_socket(frontend);
            for end in [frontend, direct, frontend] {
                socket.connect(end).unwrap();
                assert_eq!(socket.peer_addr().unwrap(), end);
            }
        });
    }
}

#[test]
fn connected_udp_shows_the_service() {
    let scene = Scene::new();
    scene.run(|| {
        let frontend: SocketAddr = FRONTEND_V4.parse().unwrap();
        let socket = udp_socket(frontend);
        socket.connect(frontend).unwrap();
        assert_eq!(socket.peer_addr().unwrap(), frontend);
        socket.send(b"who").unwrap();
        let (_, from) = socket.recv_from(&mut [0; 64]).unwrap();
        assert_eq!(from, frontend);
    });
}

#[test]
fn service_without_backends_and_address_without_service_refuse_at_once() {
    let scene = Scene::new();
    // Nothing routes to these addresses: without the dataplane the error would be another one.
    for target in [
        EMPTY_V4,
        EMPTY_V6,
        "10.96.0.99:80",
        "[fd00:96::99]:80",
        "10.96.0.10:81",
    ] {
        let target: SocketAddr = target.parse().unwrap();
        scene.run(|| {
            let refused = TcpStream::connect(target).unwrap_err();
            assert_eq!(
                refused.kind(),
                ErrorKind::ConnectionRefused,
                "{target}: {refused}"
            );
            let socket = udp_socket(target);
            let refused = socket.send_to(b"who", target).unwrap_err();
            assert_eq!(
                refused.kind(),
                ErrorKind::ConnectionRefused,
                "{target}: {refused}"
            );
            let refused = socket.connect(target).unwrap_err();
            assert_eq!(
                refused.kind(),
                ErrorKind::ConnectionRefused,
                "{target}: {refused}"
            );
        });
    }
    assert_eq!(scene.node.counter(Counter::SocketNoBackend), 6);
    assert_eq!(scene.node.counter(Counter::SocketNoService), 9);
}

#[test]
fn other_addresses_are_left_alone() {
    let scene = Scene::new();
    scene.run(|| {
        let direct: SocketAddr = BACKENDS_V4[1].parse().unwrap();
        let stream = dial(direct).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), direct);
        assert_eq!(ask_stream(&stream).unwrap().server, BACKENDS_V4[1]);
    });
    assert_eq!(scene.node.counter(Counter::SocketConnect), 0);
}

#[test]
fn loopback_node_port_is_the_nodes_and_not_a_pods() {
    let scene = Scene::new();
    let loopback: SocketAddr = "127.0.0.1:30080".parse().unwrap();
    assert!(scene.run(|| ask_tcp(loopback)).is_ok());
    // A pod: another namespace, in the same cgroup.
    let refused = Netns::new().run(|| TcpStream::connect(loopback)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(scene.node.counter(Counter::SocketConnect), 1);
}

#[test]
fn sockets_outside_the_cgroup_are_left_alone() {
    let scene = Scene::new();
    let Scene { node, _servers } = scene;
    // The dataplane of another node, whose maps are empty, covers this process instead.
    let netns = node.netns.clone();
    drop(node);
    let other = Node::open(&netns, |config| config.service_cidrs.clear());
    let error = netns.run(|| TcpStream::connect(FRONTEND_V4)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
    drop(other);
}

#[test]
fn udp_socket_moves_on_when_its_backend_is_gone() {
    let scene = Scene::new();
    let frontend: SocketAddr = FRONTEND_V4.parse().unwrap();
    let socket = scene.run(|| udp_socket(frontend));
    let (first, _) = ask_udp(&socket, frontend).unwrap();
    let maps = scene.node.dataplane().service_maps();
    let backends = maps.backends().entries().unwrap();
    let gone: SocketAddr = first.server.parse().unwrap();
    let is_gone = |address: IpAddr, protocol| address == gone.ip() && protocol == Protocol::UDP;
    // The UDP service is the fifth that the scene adds. Close the hole with the last slot, then shrink.
    let service = skep_abi::ServiceId(5);
    let value = maps.services().get(&service).unwrap().unwrap();
    let last = maps.slots().get(&(value.slot_offset + 2)).unwrap().unwrap();
    for (id, backend) in backends {
        if is_gone(backend.address.to_ip(), backend.protocol)
            && (value.slot_offset..value.slot_offset + 3).contains(&id.0)
        {
            maps.slots().put(&id.0, &last).unwrap();
            maps.services()
                .put(
                    &service,
                    &skep_abi::ServiceValue {
                        slot_count: 2,
                        ..value
                    },
                )
                .unwrap();
            maps.backends().delete(&id).unwrap();
        }
    }
    let (second, _) = ask_udp(&socket, frontend).unwrap();
    assert_ne!(second.server, first.server);
    assert_eq!(ask_udp(&socket, frontend).unwrap().0, second);
}

#[test]
fn twenty_thousand_choices_are_uniform() {
    let scene = Scene::new();
    let connects = 20_001_u32;
    scene.run(|| {
        for _ in 0..connects {
            UdpSocket::bind("0.0.0.0:0")
                .unwrap()
                .connect(FRONTEND_V4)
                .unwrap();
        }
    });
    let map = RawMap::open(&maps::SOCKET_REVERSE, &scene.node.config.pin_dir)
        .unwrap()
        .unwrap();
    let table = KernelTable::<SocketKey, SocketValue>::new(map).unwrap();
    let mut hits = std::collections::BTreeMap::new();
    for (key, value) in table.entries().unwrap() {
        assert_eq!(value.port, PortBe::from_host(80));
        *hits.entry(key.address).or_insert(0_u32) += 1;
    }
    println!("choices: {hits:?}");
    assert_eq!(hits.values().sum::<u32>(), connects);
    // Three binomials of n = 20,001, p = 1/3: five standard deviations are 333.
    assert!(
        hits.len() == 3 && hits.values().all(|&n| n.abs_diff(connects / 3) < 333),
        "{hits:?}"
    );
}
