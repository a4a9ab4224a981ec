//! Tables of golden packets: what goes into a node's hooks and what comes out, byte by byte.
//!
//! A table is a list of conversations. The line of its name begins at the margin; `(4)` or `(6)` after it keeps it
//! to one family, else it is held in both. Then packets, each followed by what becomes of it:
//!
//! ```text
//! TCP to a local backend
//!   in  tcp client:4000 > node:30001 S
//!    -> pass tcp client:4000 > pod:8080 S  +packet_flow_opened
//! ```
//!
//! `in` and `out` is the direction; then one of `pass`, `sent` (on its way without the node's routing) and `drop`,
//! the packet as it leaves (unchanged when there is none), and counters that it must raise. Nothing stays from one
//! conversation to the next, and there is one source port, 20000, so that all that comes out is known.

mod language;

use skep_abi::{
    Counter, FlowKey, FlowValue, FragmentKey, FragmentValue, FrontendFlags, MapSpec, Plain, Protocol, maps,
};
use skep_bpf_maps::{KernelTable, RawMap, Table as _};
use skep_datapath::Family;
use skep_datapath::frame::Frame;

use self::language::{address, end, packet};
use crate::machine::Netns;
use crate::node::Node;

/// The hooks that a table is run over.
struct Hooks {
    /// Pins of the programs.
    ingress: &'static str,
    egress: &'static str,
    /// What a verdict of theirs means.
    meaning: fn(i32) -> &'static str,
}

const TC: Hooks = Hooks {
    ingress: "tcx_ingress@eth0",
    egress: "tcx_egress@eth0",
    meaning: |verdict| match verdict {
        -1 => "pass",
        2 => "drop",
        7 => "sent",
        _ => "?",
    },
};

/// A node with pods `pod`, a route to `far`, one with a small MTU to `narrow`, none to `lost`, and Services of each
/// kind.
fn node() -> Node {
    let netns = Netns::new();
    netns.ip("link add eth0 type veth peer name peer0");
    netns.ip("link set peer0 up");
    netns.ip("link set eth0 up");
    netns.ip("addr add 172.31.0.11/24 dev eth0");
    netns.ip("addr add fd00:31::11/64 dev eth0 nodad");
    netns.ip("route add 10.200.2.0/24 via 172.31.0.12");
    netns.ip("route add fd00:200:2::/64 via fd00:31::12");
    netns.ip("link add narrow0 mtu 1400 type veth peer name narrow1 mtu 1400");
    netns.ip("link set narrow1 up");
    netns.ip("link set narrow0 up");
    netns.ip("addr add 172.31.1.11/24 dev narrow0");
    netns.ip("addr add fd00:31:1::11/64 dev narrow0 nodad");
    netns.ip("route add 10.200.3.0/24 via 172.31.1.12");
    netns.ip("route add fd00:200:3::/64 via fd00:31:1::12");
    let node = Node::open_apart(&netns, |config| {
        config.devices = vec!["eth0".to_owned()];
        config.node_addresses = ["172.31.0.11", "fd00:31::11"]
            .map(|text| text.parse().unwrap())
            .to_vec();
        config.pod_cidrs = ["10.200.1.0/24", "fd00:200:1::/64"]
            .map(|cidr| cidr.parse().unwrap())
            .to_vec();
        config.cluster_pod_cidrs = ["10.200.0.0/16", "fd00:200::/32"]
            .map(|cidr| cidr.parse().unwrap())
            .to_vec();
        config.source_ports = (20_000, 20_000);
        config.map_sizes.flows = 1_024;
    });
    [Family::V4, Family::V6]
        .into_iter()
        .enumerate()
        .for_each(|(index, family)| expose(&node, family, index * 100));
    node
}

/// What is exposed: kind, frontend, backend.
const EXPOSED: [(FrontendFlags, &str, Option<&str>); 18] = {
    use FrontendFlags as Flags;
    [
        (Flags::NODE_PORT, "node:30001", Some("pod:8080")),
        (Flags::NODE_PORT, "node:30002", Some("far:8080")),
        (Flags::NODE_PORT, "node:30003", None),
        (Flags::NODE_PORT, "node:30004", Some("lost:8080")),
        (Flags::NODE_PORT.with(Flags::LOCAL_ONLY), "node:30005", None),
        (Flags::NODE_PORT, "node:30006", Some("node:8080")),
        (Flags::NODE_PORT, "loopback:30007", Some("pod:8080")),
        (Flags::NODE_PORT, "node:30008", Some("newcomer:8080")),
        (Flags::NODE_PORT, "node:30009", Some("pod:8080")),
        (Flags::NODE_PORT, "node:30010", Some("narrow:8080")),
        (Flags::CLUSTER_IP, "clusterip:80", Some("pod:8080")),
        (Flags::EXTERNAL_IP, "external:80", Some("pod:8080")),
        (Flags::EXTERNAL_IP, "external:81", Some("far:8080")),
        (Flags::EXTERNAL_IP, "external:82", None),
        (Flags::EXTERNAL_IP.with(Flags::LOCAL_ONLY), "external:83", None),
        (Flags::LOAD_BALANCER, "balancer:80", Some("pod:8080")),
        (Flags::LOAD_BALANCER, "balancer:81", Some("far:8080")),
        (Flags::LOAD_BALANCER, "balancer:82", None),
    ]
};

fn expose(node: &Node, family: Family, skip: usize) {
    let mut services = node.services();
    services.skip(skip);
    let local = ["pod", "node"].map(|name| address(family, name).parse().unwrap());
    let socket_address = |text: &str| {
        let (address, port) = end(family, text);
        std::net::SocketAddr::new(address.parse().unwrap(), port)
    };
    for protocol in [Protocol::TCP, Protocol::UDP] {
        for (kind, frontend, backend) in EXPOSED {
            let frontend = socket_address(frontend).to_string();
            let backends: Vec<_> = backend.map(socket_address).into_iter().collect();
            services.add(protocol, kind, &[&frontend], &backends, &local);
        }
    }
}

/// Runs a table over a node; returns how many packets it held.
fn run(table: &str, hooks: &Hooks, node: &Node) -> usize {
    let mut failures = Vec::new();
    let mut packets = 0;
    for text in conversations(table) {
        let name = text.lines().next().unwrap();
        for family in [Family::V4, Family::V6] {
            let other = if family == Family::V4 { "(6)" } else { "(4)" };
            if name.ends_with(other) {
                continue;
            }
            forget(node);
            for (number, step) in text.lines().skip(1).collect::<Vec<_>>().chunks(2).enumerate() {
                packets += 1;
                let [what, then] = step else {
                    panic!("{name}: half a step")
                };
                if let Err(failure) = check(node, hooks, family, what, then) {
                    failures.push(format!("{name}, {family:?}, step {}: {failure}", number + 1));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    packets
}

/// The conversations of a table: blocks of lines, comments left out.
fn conversations(table: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in table
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        match found.last_mut() {
            Some(block) if line.starts_with(' ') => {
                block.push('\n');
                block.push_str(line.trim());
            }
            _ => found.push(line.to_owned()),
        }
    }
    found
}

/// Empties what the hooks remember.
fn forget(node: &Node) {
    clear::<FlowKey, FlowValue>(node, &maps::FLOWS);
    clear::<FragmentKey, FragmentValue>(node, &maps::FRAGMENTS);
}

fn clear<K: Plain, V: Plain>(node: &Node, spec: &'static MapSpec) {
    let map = RawMap::open(spec, &node.config.pin_dir).unwrap().unwrap();
    let table = KernelTable::<K, V>::new(map).unwrap();
    for (key, _) in table.entries().unwrap() {
        table.delete(&key).unwrap();
    }
}

/// Sends one packet and compares.
fn check(node: &Node, hooks: &Hooks, family: Family, what: &str, then: &str) -> Result<(), String> {
    let (direction, text) = what.split_once(' ').unwrap();
    let hook = match direction {
        "in" => hooks.ingress,
        "out" => hooks.egress,
        other => panic!("no direction: {other}"),
    };
    let sent = packet(family, text);
    let then = then.strip_prefix("-> ").unwrap_or_else(|| panic!("{then}"));
    let counters: Vec<Counter> = then.split_whitespace().filter_map(counter).collect();
    let then = then.split('+').next().unwrap().trim();
    let (verdict, expected) = then.split_once(' ').unwrap_or((then, ""));
    let count = || -> Vec<u64> { counters.iter().map(|counter| node.counter(*counter)).collect() };
    let before = count();
    let run = node.run_program(hook, &sent.bytes);
    let out = Frame { bytes: run.packet };
    let seen = (hooks.meaning)(run.verdict.cast_signed());
    if seen != verdict {
        return Err(format!("{seen}, not {verdict}"));
    }
    let expected = if expected.is_empty() {
        sent
    } else {
        packet(family, expected)
    };
    if verdict != "drop" && out != expected {
        return Err(format!("is    {:02x?}\n  not {:02x?}", out.bytes, expected.bytes));
    }
    let raised: Vec<u64> = before.iter().map(|count| count + 1).collect();
    if count() != raised {
        return Err(format!("{counters:?}: {before:?}, then {:?}", count()));
    }
    Ok(())
}

/// The counter that `+name` names.
fn counter(word: &str) -> Option<Counter> {
    let name = word.strip_prefix('+')?;
    let found = Counter::ALL.iter().find(|counter| counter.name() == name);
    Some(*found.unwrap_or_else(|| panic!("no counter {name}")))
}

const TABLES: [(&str, &str); 6] = [
    ("translation", include_str!("golden/translation.txt")),
    ("masquerade", include_str!("golden/masquerade.txt")),
    ("errors", include_str!("golden/errors.txt")),
    ("fragments", include_str!("golden/fragments.txt")),
    ("answers", include_str!("golden/answers.txt")),
    ("hostile", include_str!("golden/hostile.txt")),
];

#[test]
fn packets_become_what_the_tables_say() {
    let node = node();
    let mut packets = 0;
    for (name, table) in TABLES {
        let held = run(table, &TC, &node);
        println!("{name}: {held} packets");
        packets += held;
    }
    assert!(packets >= 150, "{packets} packets");
}
