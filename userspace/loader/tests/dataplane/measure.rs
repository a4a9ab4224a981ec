//! What a run of each program costs, on real traffic. Prints; asserts only that every program ran.

use std::net::{SocketAddr, UdpSocket};

use skep_abi::{FrontendFlags, Protocol};
use skep_bpf_maps::sys;

use crate::lan::{Addresses, Lan, NODE_PORT};
use crate::machine::Netns;
use crate::node::Node;
use crate::server::{Server, ask_udp, dial, udp_socket};

const ROUNDS: u32 = 5_000;

fn print(title: &str, node: &Node) {
    println!("{title}");
    for program in node.dataplane().status().unwrap().programs {
        if let Some(mean_ns) = program.mean_run_ns() {
            println!(
                "  {:20} {mean_ns:6} ns/run over {} runs",
                program.hook, program.run_count
            );
        }
    }
}

#[test]
fn run_times_of_socket_programs() {
    let netns = Netns::new();
    netns.ip("addr add 10.200.0.1/32 dev lo");
    let node = Node::open(&netns, |_| {});
    let backend: SocketAddr = "10.200.0.1:8080".parse().unwrap();
    let _server = Server::start(&netns, "backend", backend);
    let frontend: SocketAddr = "10.96.0.10:80".parse().unwrap();
    let mut services = node.services();
    for protocol in [Protocol::TCP, Protocol::UDP] {
        services.add(
            protocol,
            FrontendFlags::CLUSTER_IP,
            &["10.96.0.10:80"],
            &[backend],
            &[],
        );
    }
    let _statistics = sys::enable_run_statistics().unwrap();
    netns.run(|| {
        for _ in 0..ROUNDS {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect(frontend).unwrap();
            socket.peer_addr().unwrap();
        }
        let socket = udp_socket(frontend);
        for _ in 0..ROUNDS {
            ask_udp(&socket, frontend).unwrap();
        }
    });
    print("connects and datagrams to a Service", &node);
    let status = node.dataplane().status().unwrap();
    for hook in ["connect4", "getpeername4", "sendmsg4", "recvmsg4"] {
        let program = status
            .programs
            .iter()
            .find(|program| program.hook == hook)
            .unwrap();
        assert!(program.run_count >= u64::from(ROUNDS), "{program:?}");
    }
    node.netns.run(|| {
        for _ in 0..ROUNDS {
            UdpSocket::bind("0.0.0.0:0").unwrap().connect(backend).unwrap();
        }
    });
    print("and as many connects to a plain address", &node);
}

#[test]
fn run_times_of_packet_programs() {
    for (title, remote) in [
        ("NodePort, local backend", false),
        ("NodePort, remote backend", true),
    ] {
        let lan = Lan::new();
        let at = Addresses::v4();
        lan.expose(
            Protocol::UDP,
            NODE_PORT,
            &[if remote { at.pod2 } else { at.pod1 }],
        );
        let _statistics = sys::enable_run_statistics().unwrap();
        lan.client.run(|| {
            let socket = udp_socket(at.node_port());
            for _ in 0..ROUNDS {
                ask_udp(&socket, at.node_port()).unwrap();
            }
        });
        print(title, &lan.node);
        let status = lan.node.dataplane().status().unwrap();
        let ingress = status
            .programs
            .iter()
            .find(|program| program.hook.starts_with("tcx_ingress"));
        assert!(ingress.unwrap().run_count >= u64::from(ROUNDS));
    }
    let lan = Lan::new();
    let outside = SocketAddr::new(Addresses::v4().client, 9090);
    let _statistics = sys::enable_run_statistics().unwrap();
    lan.pod1.run(|| {
        for _ in 0..1_000 {
            dial(outside).unwrap();
        }
    });
    print("masquerade, one connection for each few packets", &lan.node);
}
