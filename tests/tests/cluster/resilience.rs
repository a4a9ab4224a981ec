//! What goes on working while things are killed.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use skep_tests::{Kubectl, Load, TestCluster, eventually};

use crate::services::start_asking;

const PATIENCE: Duration = Duration::from_secs(60);

fn node_port_of(cluster: &TestCluster, node: &str) -> Result<SocketAddr> {
    let (address, port) = (cluster.node_address(node)?, cluster.node_port("hello", "http")?);
    format!("{address}:{port}")
        .parse()
        .context("a NodePort's address")
}

fn first_pod(cluster: &TestCluster) -> Result<String> {
    let path = "jsonpath={.items[0].metadata.name}";
    cluster
        .kubectl()
        .run(&["get", "pods", "-l", "app=hello", "-o", path])
}

/// The count with which a client in a pod ends.
fn last_line(kubectl: &Kubectl, pod: &str) -> Result<String> {
    eventually("the client ends", PATIENCE, || {
        let log = kubectl.run(&["logs", pod, "--tail=1"])?;
        ensure!(log.starts_with("answered"), "{log}");
        Ok(log.trim().to_owned())
    })
}

fn answered(line: &str) -> u64 {
    line.split(' ')
        .nth(1)
        .and_then(|count| count.parse().ok())
        .unwrap_or(0)
}

fn delete(kubectl: &Kubectl, pod: &str) -> Result<()> {
    kubectl.run(&["delete", "pod", pod, "--ignore-not-found", "--timeout=60s"])?;
    Ok(())
}

pub(crate) fn delete_backend(cluster: &TestCluster) -> Result<()> {
    let kubectl = cluster.kubectl();
    let outside = Load::start(node_port_of(cluster, "node1")?);
    let work = start_asking(&kubectl, "load", &["--seconds", "12", "tcp://hello:80"]).and_then(|()| {
        kubectl.run(&["wait", "pod/load", "--for=condition=Ready", "--timeout=30s"])?;
        std::thread::sleep(Duration::from_secs(1));
        kubectl.run(&["delete", "pod", &first_pod(cluster)?, "--timeout=60s"])?;
        kubectl.run(&["rollout", "status", "deployment/hello", "--timeout=60s"])?;
        last_line(&kubectl, "load")
    });
    let tally = outside.stop();
    delete(&kubectl, "load")?;
    let log = work?;
    println!("outside: {} answered; inside: {}", tally.answered, log.trim());
    ensure!(
        tally.failures.is_empty(),
        "{} answered, failed: {:#?}",
        tally.answered,
        tally.failures
    );
    ensure!(tally.answered > 100, "only {} requests", tally.answered);
    ensure!(
        log.contains("failed 0") && !log.contains("answered 0"),
        "inside: {log}"
    );
    Ok(())
}

/// A held connection and a thousand new ones, from a pod and from outside, while every agent dies and comes back.
pub(crate) fn kill_agent(cluster: &TestCluster) -> Result<()> {
    let kubectl = cluster.kubectl();
    let address = kubectl.run(&["get", "service", "hello", "-o", "jsonpath={.spec.clusterIP}"])?;
    start_asking(
        &kubectl,
        "holds",
        &["--timeout", "60", &format!("tcp://{address}:80/hold/12")],
    )?;
    start_asking(
        &kubectl,
        "renews",
        &["--seconds", "12", &format!("tcp://{address}:80")],
    )?;
    let outside = Load::start(node_port_of(cluster, "node2")?);
    let pods = ["holds", "renews"];
    let result = kubectl.run(&[
        "wait",
        "pod/holds",
        "pod/renews",
        "--for=condition=Ready",
        "--timeout=30s",
    ]);
    let result = result.and_then(|_| {
        for agent in ["agent-node1", "agent-node2"] {
            cluster.kill(agent)?;
            std::thread::sleep(Duration::from_secs(2));
        }
        pods.iter()
            .map(|pod| last_line(&kubectl, pod))
            .collect::<Result<Vec<_>>>()
    });
    let tally = outside.stop();
    for pod in pods {
        delete(&kubectl, pod)?;
    }
    let [held, renewed] = <[String; 2]>::try_from(result?).expect("a line for each pod");
    println!(
        "outside: {} answered; held: {held}; new: {renewed}",
        tally.answered
    );
    ensure!(held == "answered 1 failed 0", "the held connection: {held}");
    ensure!(renewed.contains("failed 0"), "new connections: {renewed}");
    ensure!(
        answered(&renewed) + tally.answered > 1000,
        "too few connections: {renewed}"
    );
    ensure!(tally.failures.is_empty(), "outside: {:#?}", tally.failures);
    Ok(())
}

pub(crate) fn containers_survive(cluster: &TestCluster) -> Result<()> {
    let kubectl = cluster.kubectl();
    let facts = || {
        let path = "jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].containerID} \
                    {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
        kubectl.run(&["get", "pods", "-l", "app=hello", "-o", path])
    };
    let before = facts()?;
    cluster.kill("agent-node1")?;
    std::thread::sleep(Duration::from_secs(5));
    eventually("the node is ready", PATIENCE, || {
        kubectl.run(&["wait", "node/node1", "--for=condition=Ready", "--timeout=1s"])
    })?;
    let after = facts()?;
    ensure!(before == after, "before:\n{before}after:\n{after}");
    Ok(())
}

pub(crate) fn kill_server(cluster: &TestCluster) -> Result<()> {
    let kubectl = cluster.kubectl();
    for number in 0..20 {
        kubectl.run(&[
            "create",
            "configmap",
            &format!("kept-{number}"),
            "--from-literal=a=1",
        ])?;
    }
    cluster.kill("server")?;
    let kept = eventually("the server is back", PATIENCE, || {
        let names = kubectl.run(&["get", "configmaps", "-o", "name"])?;
        Ok(names.lines().filter(|name| name.contains("/kept-")).count())
    })?;
    for number in 0..20 {
        kubectl.run(&[
            "delete",
            "configmap",
            &format!("kept-{number}"),
            "--ignore-not-found",
        ])?;
    }
    ensure!(kept == 20, "{kept} of 20 objects are left");
    // Controllers and kubelets find their way back: a new rollout goes through.
    kubectl.run(&["rollout", "restart", "deployment/hello"])?;
    kubectl.run(&["rollout", "status", "deployment/hello", "--timeout=90s"])?;
    Ok(())
}
