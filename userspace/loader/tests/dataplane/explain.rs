//! Reading the maps back: what they hold, and what would become of a connection, beside what does become of it.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};

use skep_abi::{Counter, MapKind, Protocol, maps};
use skep_loader::{Client, Dataplane, LoadError, Outcome, Question, Snapshot, dump, explain};

use crate::lan::{Addresses, Lan, NODE_PORT};
use crate::server::ask_tcp;

fn ask(snapshot: &Snapshot, at: SocketAddr, client: IpAddr) -> Outcome {
    let question = Question {
        protocol: Protocol::TCP,
        address: at.ip(),
        port: at.port(),
        client: Client::Packet(client),
    };
    explain(snapshot, &question).outcome
}

#[test]
fn what_is_explained_is_what_happens() {
    let lan = Lan::new();
    for at in Addresses::both() {
        let (service, _) = lan.expose(Protocol::TCP, NODE_PORT, &[at.pod1, at.pod2]);
        let nobody = SocketAddr::new(at.node1, NODE_PORT + 1);
        lan.expose(Protocol::TCP, NODE_PORT + 1, &[]);
        let snapshot = Snapshot::read(&lan.node.config.pin_dir).unwrap();
        let name = snapshot.name(service).unwrap();
        assert_eq!((name.namespace.as_str(), name.port.as_str()), ("default", "http"));
        let Outcome::Backends(shares) = ask(&snapshot, at.node_port(), at.client) else {
            panic!("no backends for {at:?}");
        };
        let explained: BTreeSet<IpAddr> = shares.iter().map(|share| share.address.to_ip()).collect();
        assert!(
            shares.iter().all(|share| (share.share - 0.5).abs() < 0.01),
            "{shares:?}"
        );
        let met: BTreeSet<IpAddr> = lan.client.run(|| {
            let servers = (0..40).map(|_| ask_tcp(at.node_port()).unwrap().server);
            servers
                .map(|server| if server == "pod1" { at.pod1 } else { at.pod2 })
                .collect()
        });
        assert_eq!(explained, met);
        if at.node1.is_ipv4() {
            assert_eq!(
                ask(&snapshot, nobody, at.client),
                Outcome::LeftToNode(Counter::PacketNoBackend)
            );
            let refused = lan.client.run(|| TcpStream::connect(nobody)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        }
    }
}

#[test]
fn every_map_can_be_listed_and_dumped() {
    let lan = Lan::new();
    let at = Addresses::v4();
    lan.expose(Protocol::TCP, NODE_PORT, &[at.pod1]);
    lan.client.run(|| ask_tcp(at.node_port()).unwrap());
    let pins = &lan.node.config.pin_dir;
    let status = Dataplane::inspect(pins).unwrap();
    assert_eq!(status.maps.len(), maps::ALL.len());
    for map in &status.maps {
        let entries = dump(pins, map.name).unwrap();
        assert_eq!(entries.len(), map.entries as usize, "{}", map.name);
        let least = u64::from(map.key_size + map.value_size) * u64::from(map.entries);
        assert!(map.memory_bytes >= least, "{map:?}");
        if map.kind == MapKind::Array {
            assert!(
                map.memory_bytes >= u64::from(map.value_size) * u64::from(map.capacity),
                "{map:?}"
            );
        }
    }
    let frontends = dump(pins, "frontends").unwrap();
    let expected = format!("address={} port={NODE_PORT} protocol=TCP", at.node1);
    assert!(
        frontends.iter().any(|entry| entry.key.to_string() == expected),
        "{frontends:?}"
    );
    let counters = dump(pins, "COUNTERS").unwrap();
    let opened = counters
        .iter()
        .find(|entry| entry.key.to_string() == "packet_flow_opened");
    assert_eq!(opened.unwrap().value.to_string(), "1");
    let unknown = dump(pins, "BACKEND").unwrap_err();
    assert!(matches!(&unknown, LoadError::NoSuchMap { .. }) && unknown.to_string().contains("BACKENDS"));
}

#[test]
fn a_folder_without_a_dataplane_is_told() {
    let root = skep_loader::bpffs().unwrap();
    for folder in [root.join("skep-test-nowhere"), root] {
        let error = Snapshot::read(&folder).unwrap_err();
        assert!(matches!(error, LoadError::NoDataplane { .. }), "{error}");
        assert!(
            error.to_string().contains(&folder.display().to_string()),
            "{error}"
        );
    }
}
