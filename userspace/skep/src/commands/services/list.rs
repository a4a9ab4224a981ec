//! `skep service list`.

use anyhow::Result;
use serde_json::{Value, json};
use skep_abi::{FrontendKey, FrontendValue};
use skep_loader::{ServicePort, Snapshot};

use super::{Shown, snapshots, words};
use crate::output::{Format, bold, print, print_json, table};

pub(super) fn run(shown: &Shown) -> Result<()> {
    let mut all = Vec::new();
    for (node, snapshot) in snapshots(&shown.place)? {
        match shown.output {
            Format::Table => print(&format!(
                "{}\n{}\n",
                bold(&format!("Node {node}")),
                list_table(&snapshot)
            ))?,
            Format::Json => all.extend(rows(&snapshot, |port, key, value| entry(&node, port, key, value))),
        }
    }
    print_json(shown.output, &all)
}

/// Something for every frontend, by Service and then by frontend.
fn rows<T>(
    snapshot: &Snapshot,
    mut row: impl FnMut(&ServicePort<'_>, &FrontendKey, &FrontendValue) -> T,
) -> Vec<T> {
    let mut rows = Vec::new();
    for port in snapshot.ports() {
        for (key, value) in &port.frontends {
            rows.push(row(&port, key, value));
        }
    }
    rows
}

fn list_table(snapshot: &Snapshot) -> String {
    let header = [
        "SERVICE",
        "PORT",
        "FRONTEND",
        "PROTOCOL",
        "TYPE",
        "CLIENTS",
        "REACH",
        "BACKENDS",
        "CONNECTIONS",
        "REFUSED",
    ];
    let mut table = table(&header, &[7, 8, 9]);
    let rows = rows(snapshot, |port, key, value| {
        [
            words::service(port.name),
            words::port(port.name).to_owned(),
            words::end(&key.address, key.port),
            key.protocol.to_string(),
            words::kind(value).to_owned(),
            words::clients(key, value).to_owned(),
            words::reach(port.name).to_owned(),
            port.backends.len().to_string(),
            port.stats.connections().to_string(),
            port.stats.refusals().to_string(),
        ]
    });
    if rows.is_empty() {
        return "  no Service is in the maps".to_owned();
    }
    table.add_rows(rows);
    table.to_string()
}

fn entry(node: &str, port: &ServicePort<'_>, key: &FrontendKey, value: &FrontendValue) -> Value {
    json!({
        "node": node,
        "service": words::service(port.name),
        "portName": port.name.map(|name| name.port.as_str()),
        "address": key.address.to_string(),
        "port": key.port.to_host(),
        "protocol": key.protocol.to_string(),
        "type": words::kind(value),
        "clients": words::clients(key, value),
        "reach": words::reach(port.name),
        "backends": port.backends.len(),
        "connections": port.stats.connections(),
        "refusals": port.stats.refusals(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::services::samples;

    #[test]
    fn every_frontend_has_a_line() {
        let expected = "\
SERVICE PORT FRONTEND PROTOCOL TYPE CLIENTS REACH BACKENDS CONNECTIONS REFUSED
default/web http 10.64.0.7:80 TCP ClusterIP inside cluster 2 12 0
default/web http 172.29.0.11:30080 TCP NodePort inside cluster 2 12 0
default/web http 172.29.0.11:30080 TCP NodePort outside this node 0 0 3
kube-system/dns dns [fd00:64::a]:53 UDP ClusterIP inside cluster 1 0 0";
        let table = list_table(&samples::snapshot());
        let words = |text: &str| -> Vec<Vec<String>> {
            let lines = text
                .lines()
                .map(|line| line.split_whitespace().map(str::to_owned).collect());
            lines.collect()
        };
        let (expected, found) = (words(expected), words(&table));
        assert_eq!(found, expected, "{table}");
    }

    #[test]
    fn programs_get_numbers_and_names() {
        let snapshot = samples::snapshot();
        let rows = rows(&snapshot, |port, key, value| entry("node1", port, key, value));
        let expected = json!({
            "node": "node1", "service": "default/web", "portName": "http", "address": "10.64.0.7", "port": 80,
            "protocol": "TCP", "type": "ClusterIP", "clients": "inside", "reach": "cluster", "backends": 2,
            "connections": 12, "refusals": 0,
        });
        assert_eq!((rows.len(), &rows[0]), (4, &expected));
    }

    #[test]
    fn an_empty_map_says_so() {
        assert_eq!(list_table(&Snapshot::default()), "  no Service is in the maps");
    }
}
