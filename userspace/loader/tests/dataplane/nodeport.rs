//! Node ports, dialled from outside.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use skep_abi::{Counter, FrontendFlags, Protocol};
use skep_loader::DataplaneConfig;

use crate::lan::{Addresses, Lan, NODE_PORT};
use crate::server::{ask_stream, ask_tcp, ask_udp, dial, udp_socket};

fn is_translated_port(port: u16) -> bool {
    let (first, last) = DataplaneConfig::SOURCE_PORTS;
    (first..=last).contains(&port)
}

#[test]
fn local_backend_is_reached_and_sees_the_client() {
    let lan = Lan::new();
    for at in Addresses::both() {
        for protocol in [Protocol::TCP, Protocol::UDP] {
            lan.expose(protocol, NODE_PORT, &[at.pod1]);
        }
        lan.client.run(|| {
            let answer = ask_tcp(at.node_port()).unwrap();
            assert_eq!((answer.server.as_str(), answer.client.ip()), ("pod1", at.client));
            let (answer, from) = ask_udp(&udp_socket(at.node_port()), at.node_port()).unwrap();
            assert_eq!((answer.server.as_str(), answer.client.ip()), ("pod1", at.client));
            assert_eq!(from, at.node_port());
        });
    }
    assert_eq!(lan.node.counter(Counter::PacketFlowOpened), 4);
}

#[test]
fn remote_backend_is_reached_from_the_node() {
    let lan = Lan::new();
    for at in Addresses::both() {
        for protocol in [Protocol::TCP, Protocol::UDP] {
            lan.expose(protocol, NODE_PORT, &[at.pod2]);
        }
        lan.client.run(|| {
            let answer = ask_tcp(at.node_port()).unwrap();
            assert_eq!((answer.server.as_str(), answer.client.ip()), ("pod2", at.node1));
            assert!(is_translated_port(answer.client.port()), "{answer:?}");
            let (answer, from) = ask_udp(&udp_socket(at.node_port()), at.node_port()).unwrap();
            assert_eq!((answer.server.as_str(), answer.client.ip()), ("pod2", at.node1));
            assert_eq!(from, at.node_port());
        });
    }
}

/// Sends a large message to an echo server and back, in segments as large as the devices take.
fn echo_bulk(at: &Addresses) {
    let stream = dial(at.node_port()).unwrap();
    let mut message: Vec<u8> = (0..8_000_000_u32)
        .map(|i| 33 + (i.wrapping_mul(2_654_435_761) >> 24) as u8 % 90)
        .collect();
    message[..4].copy_from_slice(b"echo");
    message.push(b'\n');
    std::thread::scope(|scope| {
        scope.spawn(|| (&stream).write_all(&message).unwrap());
        let mut back = vec![0; message.len()];
        (&stream).read_exact(&mut back).unwrap();
        assert!(back == message, "the echo differs");
    });
}

#[test]
fn large_transfers_arrive_whole() {
    let lan = Lan::new();
    for at in Addresses::both() {
        for pod in [at.pod1, at.pod2] {
            lan.expose(Protocol::TCP, NODE_PORT, &[pod]);
            lan.client.run(|| echo_bulk(&at));
        }
    }
}

#[test]
fn checksums_are_right_without_offload() {
    let lan = Lan::new();
    for netns in [&lan.client, &lan.node.netns, &lan.node2, &lan.pod1, &lan.pod2] {
        netns.without_offload("eth0");
    }
    lan.node.netns.without_offload("sk1");
    lan.node2.without_offload("sk2");
    for at in Addresses::both() {
        for pod in [at.pod1, at.pod2] {
            for protocol in [Protocol::TCP, Protocol::UDP] {
                lan.expose(protocol, NODE_PORT, &[pod]);
            }
            lan.client.run(|| {
                ask_tcp(at.node_port()).unwrap();
                ask_udp(&udp_socket(at.node_port()), at.node_port()).unwrap();
                echo_bulk(&at);
            });
        }
    }
}

#[test]
fn connections_spread_over_local_and_remote_backends() {
    let lan = Lan::new();
    let at = Addresses::v4();
    lan.expose(Protocol::TCP, NODE_PORT, &[at.pod1, at.pod2]);
    let local = lan.client.run(|| {
        (0..600)
            .filter(|_| ask_tcp(at.node_port()).unwrap().server == "pod1")
            .count()
    });
    // A binomial of n = 600, p = 1/2: five standard deviations are 61.
    assert!(local.abs_diff(300) < 61, "{local} of 600 to the local backend");
}

#[test]
fn one_client_port_on_two_node_ports_stays_two_connections() {
    let lan = Lan::new();
    let at = Addresses::v4();
    for pod in [at.pod1, at.pod2] {
        lan.expose(Protocol::UDP, 30081, &[pod]);
        lan.expose(Protocol::UDP, 30082, &[pod]);
        lan.client.run(|| {
            let socket = udp_socket(at.node_port());
            let ends: [SocketAddr; 2] = [30081, 30082].map(|port| (at.node1, port).into());
            for _ in 0..5 {
                // Both are on their way before either is answered.
                for end in ends {
                    socket.send_to(b"who", end).unwrap();
                }
                let mut heard = [0, 1].map(|_| socket.recv_from(&mut [0; 64]).unwrap().1);
                heard.sort();
                assert_eq!(heard, ends);
            }
        });
    }
}

#[test]
fn node_port_without_backends_is_refused() {
    let lan = Lan::new();
    let at = Addresses::v4();
    for protocol in [Protocol::TCP, Protocol::UDP] {
        lan.expose(protocol, NODE_PORT, &[]);
    }
    lan.client.run(|| {
        let refused = TcpStream::connect_timeout(&at.node_port(), Duration::from_secs(2)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let socket = udp_socket(at.node_port());
        socket.connect(at.node_port()).unwrap();
        socket.send(b"who").unwrap();
        assert_eq!(
            socket.recv(&mut [0; 16]).unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
    });
    assert_eq!(lan.node.counter(Counter::PacketNoBackend), 2);
}

#[test]
fn cluster_ip_from_outside_is_dropped() {
    let lan = Lan::new();
    let backend = [(Addresses::v4().pod1, 8080).into()];
    lan.node.services().add(
        Protocol::TCP,
        FrontendFlags::CLUSTER_IP,
        &["10.96.0.10:80"],
        &backend,
        &[],
    );
    lan.client.ip("route add 10.96.0.0/16 via 172.31.0.11");
    for target in ["10.96.0.10:80", "10.96.0.11:80"] {
        let target = target.parse().unwrap();
        let error = lan
            .client
            .run(|| TcpStream::connect_timeout(&target, Duration::from_millis(200)));
        assert_eq!(error.unwrap_err().kind(), ErrorKind::TimedOut);
    }
    assert!(lan.node.counter(Counter::DropNoService) >= 2);
}

#[test]
fn connection_survives_the_removal_of_its_backend_and_new_ones_go_elsewhere() {
    let lan = Lan::new();
    let at = Addresses::v4();
    for (gone, left) in [(at.pod1, "pod2"), (at.pod2, "pod1")] {
        let (service, ids) = lan.expose(Protocol::TCP, NODE_PORT, &[at.pod1, at.pod2]);
        let wanted = if gone == at.pod1 { "pod1" } else { "pod2" };
        let held = lan.client.run(|| {
            std::iter::repeat_with(|| dial(at.node_port()).unwrap())
                .find(|stream| ask_stream(stream).unwrap().server == wanted)
                .unwrap()
        });
        let services = lan.node.services();
        let stays = usize::from(gone == at.pod1);
        let slot = services
            .maps
            .services()
            .get(&service)
            .unwrap()
            .unwrap()
            .slot_offset;
        services.maps.slots().put(&slot, &ids[stays]).unwrap();
        services.set_range(service, slot, 1);
        services.maps.backends().delete(&ids[1 - stays]).unwrap();
        lan.client.run(|| {
            assert_eq!(ask_stream(&held).unwrap().server, wanted);
            for _ in 0..20 {
                assert_eq!(ask_tcp(at.node_port()).unwrap().server, left);
            }
        });
    }
}

#[test]
fn datagrams_move_when_their_backend_is_gone() {
    let lan = Lan::new();
    let at = Addresses::v4();
    let (service, ids) = lan.expose(Protocol::UDP, NODE_PORT, &[at.pod1, at.pod2]);
    lan.client.run(|| {
        let socket = udp_socket(at.node_port());
        let (first, _) = ask_udp(&socket, at.node_port()).unwrap();
        let stays = usize::from(first.server == "pod1");
        let services = lan.node.services();
        let slot = services
            .maps
            .services()
            .get(&service)
            .unwrap()
            .unwrap()
            .slot_offset;
        services.maps.slots().put(&slot, &ids[stays]).unwrap();
        services.set_range(service, slot, 1);
        services.maps.backends().delete(&ids[1 - stays]).unwrap();
        let (second, from) = ask_udp(&socket, at.node_port()).unwrap();
        assert_ne!(first.server, second.server);
        assert_eq!(from, at.node_port());
    });
}

#[test]
fn agent_restarts_under_load_without_a_failed_connection() {
    let mut lan = Lan::new();
    let at = Addresses::v4();
    let pods: [IpAddr; 2] = [at.pod1, at.pod2];
    lan.expose(Protocol::TCP, NODE_PORT, &pods);
    let client = lan.client.clone();
    let held: Vec<TcpStream> = client.run(|| (0..8).map(|_| dial(at.node_port()).unwrap()).collect());
    let (stop, made) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            client.run(|| {
                while !stop.load(Ordering::Relaxed) || made.load(Ordering::Relaxed) < 1_000 {
                    ask_tcp(at.node_port()).unwrap();
                    made.fetch_add(1, Ordering::Relaxed);
                }
            });
        });
        let mut restarts = 0;
        while made.load(Ordering::Relaxed) < 1_000 && !load.is_finished() {
            lan.node.reopen().unwrap();
            restarts += 1;
        }
        stop.store(true, Ordering::Relaxed);
        load.join().unwrap();
        println!(
            "{} connections during {restarts} restarts",
            made.load(Ordering::Relaxed)
        );
        assert!(restarts > 0);
    });
    for stream in &held {
        ask_stream(stream).unwrap();
    }
}
