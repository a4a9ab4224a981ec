//! The agent comes and goes; the dataplane stays.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use skep_abi::{FrontendFlags, LAYOUT_FINGERPRINT, Protocol, maps};
use skep_bpf_maps::{KernelTable, RawMap, Table as _};
use skep_loader::{Dataplane, LinkTarget, LoadError};

use crate::machine::Netns;
use crate::node::{Node, chain};
use crate::server::{Server, ask_stream, ask_tcp, ask_udp, dial, udp_socket};

const FRONTEND: &str = "10.96.0.10:80";
const BACKEND: &str = "10.200.0.1:8080";

fn scene() -> (Node, Server) {
    let netns = Netns::new();
    netns.ip("addr add 10.200.0.1/32 dev lo");
    netns.ip("link add eth0 type veth peer name peer0");
    netns.ip("link set eth0 up");
    let node = Node::open(&netns, |config| config.devices = vec!["eth0".to_owned()]);
    let server = Server::start(&netns, "backend", BACKEND.parse().unwrap());
    let mut services = node.services();
    for protocol in [Protocol::TCP, Protocol::UDP] {
        services.add(
            protocol,
            FrontendFlags::CLUSTER_IP,
            &[FRONTEND],
            &[BACKEND.parse().unwrap()],
            &[],
        );
    }
    (node, server)
}

#[test]
fn agent_restarts_under_load_without_a_failed_connection() {
    let (mut node, _server) = scene();
    let frontend: SocketAddr = FRONTEND.parse().unwrap();
    let netns = node.netns.clone();
    let (held, udp) = netns.run(|| (dial(frontend).unwrap(), udp_socket(frontend)));
    ask_stream(&held).unwrap();
    ask_udp(&udp, frontend).unwrap();
    let before = node.dataplane().status().unwrap();

    let (stop, made) = (AtomicBool::new(false), AtomicU32::new(0));
    let reopened = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            netns.run(|| {
                while !stop.load(Ordering::Relaxed) || made.load(Ordering::Relaxed) < 1_000 {
                    ask_tcp(frontend).unwrap();
                    made.fetch_add(1, Ordering::Relaxed);
                }
            });
        });
        let mut reopened = 0;
        while made.load(Ordering::Relaxed) < 1_000 && !load.is_finished() {
            node.reopen().unwrap();
            reopened += 1;
        }
        stop.store(true, Ordering::Relaxed);
        load.join().unwrap();
        reopened
    });
    println!(
        "{} connections during {reopened} restarts",
        made.load(Ordering::Relaxed)
    );
    assert!(reopened > 0);

    assert_eq!(held.peer_addr().unwrap(), frontend);
    ask_stream(&held).unwrap();
    assert_eq!(ask_udp(&udp, frontend).unwrap().1, frontend);
    let after = node.dataplane().status().unwrap();
    assert_eq!(before.programs.len(), 12);
    for (old, new) in before.programs.iter().zip(&after.programs) {
        assert_eq!((&old.hook, &old.target), (&new.hook, &new.target));
        assert_ne!(old.id, new.id, "{} was not replaced", old.hook);
    }
}

#[test]
fn dataplane_works_while_no_agent_runs() {
    let (mut node, _server) = scene();
    node.dataplane = None;
    node.netns.run(|| ask_tcp(FRONTEND.parse().unwrap())).unwrap();
    let status = Dataplane::inspect(&node.config.pin_dir).unwrap();
    assert_eq!(status.counter(skep_abi::Counter::SocketConnect), 1);
    let frontends = status.maps.iter().find(|map| map.name == "FRONTENDS").unwrap();
    assert_eq!((frontends.entries, frontends.capacity), (2, 262_144));
    let cgroup = status
        .programs
        .iter()
        .find(|program| program.hook == "connect4")
        .unwrap();
    let path = Some(node.config.cgroup.clone());
    assert!(matches!(&cgroup.target, LinkTarget::Cgroup { path: found, .. } if *found == path));
    let device = status
        .programs
        .iter()
        .find(|program| program.hook == "tcx_ingress@eth0")
        .unwrap();
    assert!(matches!(&device.target, LinkTarget::Device { name, .. } if name == "eth0"));
    for program in &status.programs {
        println!(
            "{:20} {:16} {:6} instructions verified, {:6} bytes of machine code",
            program.hook, program.name, program.verified_instructions, program.jited_bytes
        );
    }
}

#[test]
fn second_agent_is_refused() {
    let (node, _server) = scene();
    let config = node.config.clone();
    let refused = node.netns.run(|| Dataplane::open(config)).unwrap_err();
    let own = std::process::id();
    assert!(
        matches!(refused, LoadError::AlreadyRunning { pid: Some(pid), .. } if pid == own),
        "{refused}"
    );
}

#[test]
fn link_to_a_device_that_was_replaced_is_made_anew() {
    let (mut node, _server) = scene();
    node.netns.ip("link del eth0");
    let status = node.dataplane().status().unwrap();
    assert_eq!(status.detached().count(), 2);
    let missing = node.reopen().unwrap_err();
    assert!(
        matches!(&missing, LoadError::NoDevice { name } if name == "eth0"),
        "{}",
        chain(&missing)
    );
    node.netns.ip("link add eth0 type veth peer name peer0");
    node.reopen().unwrap();
    assert_eq!(node.dataplane().status().unwrap().detached().count(), 0);
    node.config.devices.clear();
    node.reopen().unwrap();
    assert_eq!(node.dataplane().status().unwrap().programs.len(), 10);
}

#[test]
fn start_that_fails_half_way_takes_back_what_it_attached() {
    let (mut node, _server) = scene();
    node.netns.ip("link add eth1 type veth peer name peer1");
    node.config.devices.push("eth1".to_owned());
    // The egress program of eth1 is attached first, then the ingress program finds its pin in the way.
    let in_the_way = node.config.pin_dir.join("links/tcx_ingress@eth1");
    std::fs::create_dir(&in_the_way).unwrap();
    let failed = node.reopen().unwrap_err();
    assert!(matches!(failed, LoadError::Io { .. }), "{}", chain(&failed));
    std::fs::remove_dir(&in_the_way).unwrap();
    let status = Dataplane::inspect(&node.config.pin_dir).unwrap();
    let hooks: Vec<_> = status
        .programs
        .iter()
        .map(|program| program.hook.as_str())
        .collect();
    assert_eq!(hooks.len(), 12, "{hooks:?}");
    assert!(!hooks.contains(&"tcx_egress@eth1"), "{hooks:?}");
    // What was there before goes on, and the next start finds nothing in its way.
    node.netns.run(|| ask_tcp(FRONTEND.parse().unwrap())).unwrap();
    node.reopen().unwrap();
    assert_eq!(node.dataplane().status().unwrap().programs.len(), 14);
}

#[test]
fn maps_of_another_layout_are_refused_and_named() {
    let (mut node, _server) = scene();
    let map = RawMap::open(&maps::LAYOUT, &node.config.pin_dir)
        .unwrap()
        .unwrap();
    let layout = KernelTable::<u32, u64>::new(map).unwrap();
    layout.put(&0, &(LAYOUT_FINGERPRINT ^ 1)).unwrap();
    let refused = node.reopen().unwrap_err();
    assert!(matches!(refused, LoadError::LayoutMismatch { .. }), "{refused}");
    assert!(refused.to_string().contains("remove that folder"), "{refused}");
    // Nothing was detached meanwhile.
    node.netns.run(|| ask_tcp(FRONTEND.parse().unwrap())).unwrap();
}

#[test]
fn detach_leaves_nothing_and_may_be_repeated() {
    let (mut node, _server) = scene();
    node.dataplane = None;
    skep_loader::detach(&node.config.pin_dir).unwrap();
    assert!(!node.config.pin_dir.exists());
    skep_loader::detach(&node.config.pin_dir).unwrap();
    let gone = Dataplane::inspect(&node.config.pin_dir).unwrap_err();
    assert!(matches!(gone, LoadError::NoDataplane { .. }), "{gone}");
    let refused = node
        .netns
        .run(|| std::net::TcpStream::connect(FRONTEND))
        .unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::NetworkUnreachable);
}
