//! Golden files: objects in (`tests/golden/*.yaml`), what the maps then hold out (`tests/golden/*.snap`).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::Value;
use skep_abi::node_port::node_ports_of;
use skep_abi::{BackendFlags, FrontendFlags, Scope};
use skep_service_table::{IdState, Limits, NodeLocal, NodeView, ServiceTable};
use support::MapModel;

fn node() -> NodeView {
    NodeView {
        name: "node1".to_owned(),
        addresses: vec!["172.29.0.11".parse().unwrap(), "fd29::11".parse().unwrap()],
        zone: "a".to_owned(),
        restrict_node_ports: false,
        node_local: vec![NodeLocal {
            namespace: "kube-system".to_owned(),
            name: "kube-dns".to_owned(),
            address: "169.254.20.10".parse().unwrap(),
        }],
    }
}

fn apply(table: &mut ServiceTable, object: Value) {
    match object["kind"].as_str().unwrap() {
        "Service" => table.apply_service(&serde_json::from_value(object).unwrap()),
        "EndpointSlice" => table.apply_slice(&serde_json::from_value(object).unwrap()),
        kind => panic!("{kind} is no input of the table"),
    }
}

#[test]
fn objects_compile_to_the_maps_on_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    assert!(paths.len() >= 5);
    for path in paths {
        let text = fs::read_to_string(&path).unwrap();
        let compile = |state: &IdState| {
            let mut table = ServiceTable::new(node(), Limits::default(), state);
            for object in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
                apply(&mut table, object);
            }
            table
        };
        let mut maps = MapModel::default();
        let mut table = compile(&IdState::default());
        maps.apply_all(&table.take_ops());
        assert_eq!(table.problems(), []);
        assert!(!table.has_deferred());
        assert!(
            maps.frontends
                .keys()
                .all(|frontend| maps.picks(frontend).is_some())
        );
        // A table that starts from these maps finds nothing to do.
        let mut again = compile(&maps.state());
        assert_eq!([again.take_ops(), again.take_ops()], [vec![], vec![]]);

        let name = path.file_stem().unwrap().to_str().unwrap();
        let settings = || {
            let mut settings = insta::Settings::clone_current();
            settings.set_snapshot_path("golden");
            settings.set_prepend_module_to_snapshot(false);
            settings.set_omit_expression(true);
            settings
        };
        settings().bind(|| insta::assert_snapshot!(name, describe(&maps)));
    }
}

/// The maps in words, one line per frontend, service and backend.
pub(crate) fn describe(maps: &MapModel) -> String {
    let mut text = String::new();
    for (key, value) in &maps.frontends {
        let scope = if key.scope == Scope::EXTERNAL {
            " from outside"
        } else {
            ""
        };
        let flags = [
            (FrontendFlags::CLUSTER_IP, "ClusterIP"),
            (FrontendFlags::NODE_PORT, "NodePort"),
            (FrontendFlags::EXTERNAL_IP, "ExternalIP"),
            (FrontendFlags::LOAD_BALANCER, "LoadBalancer"),
            (FrontendFlags::SPLIT, "split"),
            (FrontendFlags::LOCAL_ONLY, "local only"),
            (FrontendFlags::RESTRICTED, "restricted"),
        ];
        let flags: Vec<_> = flags
            .iter()
            .filter(|(flag, _)| value.flags.contains(*flag))
            .map(|(_, name)| *name)
            .collect();
        let (address, port, protocol) = (key.address, key.port, key.protocol);
        let (flags, service) = (flags.join(", "), value.service.0);
        writeln!(
            text,
            "frontend {address} {port}/{protocol}{scope}: {flags} -> service {service}"
        )
        .unwrap();
    }
    for range in &maps.source_ranges {
        let base = if range.address.is_ipv4() { 128 } else { 32 };
        let (service, address, length) = (range.service.0, range.address, range.prefix_length - base);
        writeln!(text, "service {service}: open to {address}/{length}").unwrap();
    }
    for (word, bits) in &maps.node_ports {
        for (protocol, port) in node_ports_of(*word, *bits) {
            writeln!(text, "node port {port}/{protocol}").unwrap();
        }
    }
    for (id, value) in &maps.services {
        let slots = value.slot_offset..value.slot_offset + value.slot_count;
        let backends: Vec<_> = slots.map(|slot| maps.slots[&slot].0).collect();
        let affinity = match value.affinity_timeout_s {
            0 => String::new(),
            timeout => format!(", affinity {timeout} s"),
        };
        writeln!(
            text,
            "service {}: slots from {}, backends {backends:?}{affinity}",
            id.0, value.slot_offset
        )
        .unwrap();
    }
    describe_backends(&mut text, maps);
    text
}

fn describe_backends(text: &mut String, maps: &MapModel) {
    for (id, value) in &maps.backends {
        let flags = [
            (BackendFlags::LOCAL, ", local"),
            (BackendFlags::TERMINATING, ", terminating"),
            (BackendFlags::HOST_NETWORK, ", host network"),
        ];
        let flags: String = flags
            .iter()
            .filter(|(flag, _)| value.flags.contains(*flag))
            .map(|(_, name)| *name)
            .collect();
        writeln!(
            text,
            "backend {}: {} {}/{}{flags}",
            id.0, value.address, value.port, value.protocol
        )
        .unwrap();
    }
}
