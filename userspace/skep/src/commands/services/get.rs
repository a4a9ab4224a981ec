//! `skep service get`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use skep_loader::{ServicePort, Snapshot};

use super::{Shown, snapshots, words};
use crate::output::{Format, bold, bytes, print, print_json, table};

/// How different a name may be that is offered instead of one that is not there.
const NEAR: f64 = 0.6;
/// Names offered.
const MAX_OFFERED: usize = 3;

pub(super) fn run(service: &str, shown: &Shown) -> Result<()> {
    let wanted = if service.contains('/') {
        service.to_owned()
    } else {
        format!("default/{service}")
    };
    let snapshots = snapshots(&shown.place)?;
    if snapshots
        .iter()
        .all(|(_, snapshot)| ports_of(snapshot, &wanted).is_empty())
    {
        bail!("{}", unknown(&wanted, &snapshots));
    }
    let mut all = Vec::new();
    for (node, snapshot) in &snapshots {
        let ports = ports_of(snapshot, &wanted);
        match shown.output {
            Format::Table => {
                print(&format!("{}\n", bold(&format!("Service {wanted} on {node}"))))?;
                for port in &ports {
                    print(&format!("{}\n", describe(port)))?;
                }
                if ports.is_empty() {
                    print("  is not in the maps of this node\n")?;
                }
            }
            Format::Json => all.extend(ports.iter().map(|port| entry(node, port))),
        }
    }
    print_json(shown.output, &all)
}

fn ports_of<'a>(snapshot: &'a Snapshot, service: &str) -> Vec<ServicePort<'a>> {
    let mut ports = snapshot.ports();
    ports.retain(|port| port.name.is_some() && words::service(port.name) == service);
    ports
}

/// What to say when no node has the Service.
fn unknown(wanted: &str, snapshots: &[(String, Snapshot)]) -> String {
    let ports = snapshots.iter().flat_map(|(_, snapshot)| snapshot.ports());
    let known: BTreeSet<String> = ports
        .filter_map(|port| Some(words::service(Some(port.name?))))
        .collect();
    let mut near: Vec<(f64, &String)> = known
        .iter()
        .map(|name| (strsim::normalized_damerau_levenshtein(wanted, name), name))
        .collect();
    near.retain(|(likeness, _)| *likeness >= NEAR);
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near: Vec<&str> = near
        .iter()
        .take(MAX_OFFERED)
        .map(|(_, name)| name.as_str())
        .collect();
    let nodes: Vec<&str> = snapshots.iter().map(|(node, _)| node.as_str()).collect();
    let offer = if near.is_empty() {
        "`skep service list` shows those that are".to_owned()
    } else {
        format!("did you mean {}?", near.join(" or "))
    };
    format!(
        "Service {wanted} is not in the maps of {}: it does not exist, or is headless or of type ExternalName and \
         needs none; {offer}",
        nodes.join(", ")
    )
}

fn describe(port: &ServicePort<'_>) -> String {
    let protocol = port.name.map(|name| name.protocol).unwrap_or_default();
    let (stats, mut text) = (&port.stats, String::new());
    let mut line = |label: &str, value: String| {
        // Writing to a String does not fail.
        let _written = writeln!(text, "  {label:<12} {value}");
    };
    line("port", format!("{} ({protocol})", words::port(port.name)));
    line("reach", words::reach(port.name).to_owned());
    line("affinity", affinity(port));
    line(
        "connections",
        format!(
            "{} by sockets, {} by packets; {} refused",
            stats.socket_connections,
            stats.flows,
            stats.refusals()
        ),
    );
    line(
        "packets",
        format!(
            "{} in ({}), {} out ({})",
            stats.packets_in,
            bytes(stats.bytes_in),
            stats.packets_out,
            bytes(stats.bytes_out)
        ),
    );
    let mut frontends = table(&["FRONTEND", "TYPE", "CLIENTS"], &[]);
    for (key, value) in &port.frontends {
        frontends.add_row([
            words::end(&key.address, key.port),
            words::kind(value).to_owned(),
            words::clients(key, value).to_owned(),
        ]);
    }
    let mut backends = table(&["BACKEND", "STATE"], &[]);
    for backend in &port.backends {
        backends.add_row([
            words::end(&backend.address, backend.port),
            words::state_column(backend),
        ]);
    }
    for (rows, none) in [
        (frontends, "no frontend leads to it"),
        (backends, "no backend: nothing answers"),
    ] {
        let rows = if rows.is_empty() {
            format!("  {none}")
        } else {
            rows.to_string()
        };
        text.push_str(&rows);
        text.push('\n');
    }
    text
}

fn affinity(port: &ServicePort<'_>) -> String {
    match port.value.affinity_timeout_s {
        0 => "none".to_owned(),
        timeout_s => format!("a client keeps its backend for {timeout_s} s"),
    }
}

fn entry(node: &str, port: &ServicePort<'_>) -> Value {
    let stats = &port.stats;
    let frontends = port.frontends.iter().map(|(key, value)| {
        json!({
            "address": key.address.to_string(),
            "port": key.port.to_host(),
            "type": words::kind(value),
            "clients": words::clients(key, value),
        })
    });
    let backends = port.backends.iter().map(|backend| {
        json!({
            "address": backend.address.to_string(),
            "port": backend.port.to_host(),
            "state": words::state(backend),
        })
    });
    json!({
        "node": node,
        "service": words::service(port.name),
        "portName": port.name.map(|name| name.port.as_str()),
        "protocol": port.name.map(|name| name.protocol.to_string()),
        "reach": words::reach(port.name),
        "affinityTimeoutSeconds": port.value.affinity_timeout_s,
        "frontends": frontends.collect::<Vec<_>>(),
        "backends": backends.collect::<Vec<_>>(),
        "socketConnections": stats.socket_connections,
        "packetConnections": stats.flows,
        "refusals": stats.refusals(),
        "packetsIn": stats.packets_in,
        "bytesIn": stats.bytes_in,
        "packetsOut": stats.packets_out,
        "bytesOut": stats.bytes_out,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::services::samples;

    #[test]
    fn a_port_is_shown_with_what_leads_to_it_and_what_it_picks() {
        let snapshot = samples::snapshot();
        let ports = ports_of(&snapshot, "default/web");
        let [cluster, local] = ports.as_slice() else {
            panic!("{ports:?}");
        };
        let text = describe(cluster);
        for part in [
            "http (TCP)",
            "10 by sockets, 2 by packets; 0 refused",
            "30 in (4.0 KiB), 28 out (11.7 KiB)",
            "10.64.0.7:80",
            "10.128.2.3:8080",
            "terminating",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        let text = describe(local);
        assert!(
            text.contains("this node") && text.contains("no backend: nothing answers"),
            "{text}"
        );
    }

    #[test]
    fn a_name_that_is_not_there_is_met_with_near_ones() {
        let snapshots = [("node1".to_owned(), samples::snapshot())];
        let text = unknown("default/wbe", &snapshots);
        assert!(text.contains("did you mean default/web"), "{text}");
        assert!(text.contains("not in the maps of node1"), "{text}");
        assert!(unknown("zzz/qqq", &snapshots).contains("`skep service list`"));
    }

    #[test]
    fn programs_get_every_count() {
        let snapshot = samples::snapshot();
        let value = entry("node1", &ports_of(&snapshot, "default/web")[0]);
        assert_eq!(value["backends"][1]["state"], json!(["terminating"]));
        assert_eq!(value["frontends"].as_array().map(Vec::len), Some(2));
        assert_eq!(
            (&value["bytesIn"], &value["socketConnections"]),
            (&json!(4_100), &json!(10))
        );
    }
}
