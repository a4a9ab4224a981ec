//! What the command line reads in the kernel, beside what really happens.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use skep_tests::{TestCluster, eventually, expect_success, skep};

use crate::services::in_pod;

const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a command on the cluster; what it prints is JSON.
fn ask(cluster: &TestCluster, arguments: &[&str]) -> Result<Value> {
    let place = ["--name", cluster.name(), "--output", "json"];
    let output = skep(&[arguments, &place].concat())?;
    expect_success(&output).with_context(|| format!("skep {}", arguments.join(" ")))?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What a command complains of.
fn fails(cluster: &TestCluster, arguments: &[&str]) -> Result<String> {
    let output = skep(&[arguments, &["--name", cluster.name()]].concat())?;
    ensure!(
        !output.status.success(),
        "skep {} should fail",
        arguments.join(" ")
    );
    Ok(String::from_utf8(output.stderr)?)
}

fn hello(cluster: &TestCluster) -> Result<String> {
    let kubectl = cluster.kubectl();
    Ok(kubectl
        .run(&["get", "service", "hello", "-o", "jsonpath={.spec.clusterIP}"])?
        .trim()
        .to_owned())
}

/// Connections to the demo's TCP port that the nodes have counted.
fn connections(cluster: &TestCluster) -> Result<u64> {
    let ports = ask(cluster, &["service", "get", "hello"])?;
    let ports = ports.as_array().context("an array")?.iter();
    let tcp = ports.filter(|port| port["protocol"] == "TCP");
    Ok(tcp.filter_map(|port| port["socketConnections"].as_u64()).sum())
}

pub(crate) fn list_and_get(cluster: &TestCluster) -> Result<()> {
    let address = hello(cluster)?;
    let rows = ask(cluster, &["service", "list"])?;
    let rows = rows.as_array().context("an array")?;
    for node in ["node1", "node2"] {
        let of_node =
            |row: &&Value| row["node"] == node && row["address"] == *address && row["protocol"] == "TCP";
        let row = rows
            .iter()
            .find(of_node)
            .with_context(|| format!("{address} on {node}"))?;
        ensure!(row["service"] == "default/hello" && row["backends"] == 3, "{row}");
    }
    let before = connections(cluster)?;
    in_pod(
        &cluster.kubectl(),
        "is-counted",
        &format!("for i in $(seq 20); do wget -qO- http://{address} || exit 1; done"),
    )?;
    let after = connections(cluster)?;
    ensure!(
        after - before == 20,
        "20 connections are counted as {}",
        after - before
    );
    let complaint = fails(cluster, &["service", "get", "default/helo"])?;
    ensure!(complaint.contains("did you mean default/hello"), "{complaint}");
    let complaint = fails(cluster, &["service", "list", "--node", "node9"])?;
    ensure!(complaint.contains("its nodes are node1, node2"), "{complaint}");
    Ok(())
}

pub(crate) fn explain(cluster: &TestCluster) -> Result<()> {
    let kubectl = cluster.kubectl();
    let target = format!("{}:80", hello(cluster)?);
    let path = "jsonpath={.items[0].metadata.name} {.items[0].spec.nodeName}";
    let pod = kubectl.run(&["get", "pods", "-l", "app=hello", "-o", path])?;
    let (pod, node) = pod.trim().split_once(' ').context("a pod and its node")?;
    let answer = ask(
        cluster,
        &["service", "explain", &target, "--from", &format!("default/{pod}")],
    )?;
    ensure!(
        answer["node"] == node && answer["service"] == "default/hello",
        "{answer:#}"
    );
    let shares = answer["backends"].as_array().context("backends")?;
    let even = |share: &Value| {
        share["share"]
            .as_f64()
            .is_some_and(|share| (share - 1.0 / 3.0).abs() < 0.01)
    };
    ensure!(shares.len() == 3 && shares.iter().all(even), "{answer:#}");

    let empty = ask(cluster, &["service", "explain", &target.replace(":80", ":81")])?;
    ensure!(
        empty["outcome"] == "refused" && empty["reason"] == "socket_no_service",
        "{empty:#}"
    );
    kubectl.run(&["create", "service", "clusterip", "nobody", "--tcp=80:80"])?;
    let address = kubectl.run(&["get", "service", "nobody", "-o", "jsonpath={.spec.clusterIP}"])?;
    let target = format!("{}:80", address.trim());
    let answer = eventually("the Service reaches the maps", PATIENCE, || {
        let answer = ask(cluster, &["service", "explain", &target])?;
        ensure!(answer["service"] == "default/nobody", "{answer:#}");
        Ok(answer)
    });
    kubectl.run(&["delete", "service", "nobody"])?;
    let answer = answer?;
    ensure!(
        answer["outcome"] == "refused" && answer["reason"] == "socket_no_backend",
        "{answer:#}"
    );
    let outside = format!(
        "{}:{}",
        cluster.node_address("node1")?,
        cluster.node_port("hello", "http")?
    );
    let answer = ask(cluster, &["service", "explain", &outside, "--from", "192.0.2.1"])?;
    ensure!(
        answer["node"] == "node1" && answer["outcome"] == "backends",
        "{answer:#}"
    );
    Ok(())
}

pub(crate) fn maps(cluster: &TestCluster) -> Result<()> {
    let maps = ask(cluster, &["maps", "--node", "node1"])?;
    for map in maps.as_array().context("an array")? {
        let name = map["map"].as_str().context("a name")?;
        let entries = ask(cluster, &["maps", "dump", name, "--node", "node1"])?;
        ensure!(entries.is_array(), "{name}: {entries}");
    }
    let names = ask(cluster, &["maps", "dump", "SERVICE_NAMES", "--node", "node1"])?;
    ensure!(names.to_string().contains(r#""name":"kube-dns""#), "{names}");
    let complaint = fails(cluster, &["maps", "dump", "NOTHING"])?;
    ensure!(complaint.contains("FRONTENDS"), "{complaint}");
    Ok(())
}
