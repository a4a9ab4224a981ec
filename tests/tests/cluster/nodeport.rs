//! NodePorts as the world outside the cluster sees them.

use std::net::UdpSocket;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use skep_tests::{TestCluster, curl, eventually};

const PATIENCE: Duration = Duration::from_secs(40);
const NODES: [&str; 2] = ["node1", "node2"];

pub(crate) fn every_node_answers(cluster: &TestCluster) -> Result<()> {
    let (http, echo) = (
        cluster.node_port("hello", "http")?,
        cluster.node_port("hello", "echo")?,
    );
    for node in NODES {
        let address = cluster.node_address(node)?;
        for _ in 0..20 {
            let line = curl(&format!("http://{address}:{http}/"))?;
            ensure!(
                line.starts_with("hello from hello-"),
                "{address} answered {line:?}"
            );
        }
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        let mut buffer = [0; 512];
        for _ in 0..10 {
            socket.send_to(b"hi", (address.as_str(), echo))?;
            let (length, from) = socket
                .recv_from(&mut buffer)
                .with_context(|| format!("UDP echo from {address}"))?;
            ensure!(
                from.to_string() == format!("{address}:{echo}"),
                "the echo came from {from}"
            );
            ensure!(
                buffer[..length].starts_with(b"hello from hello-"),
                "{:?}",
                &buffer[..length]
            );
        }
    }
    Ok(())
}

/// With one replica, one of the nodes has no backend of its own.
pub(crate) fn remote_backend(cluster: &TestCluster) -> Result<()> {
    let kubectl = cluster.kubectl();
    let port = cluster.node_port("hello", "http")?;
    kubectl.run(&["scale", "deployment/hello", "--replicas=1"])?;
    let result = eventually("one pod is left", PATIENCE, || {
        let pods = kubectl.run(&["get", "pods", "-l", "app=hello", "-o", "name"])?;
        ensure!(pods.lines().count() == 1, "{pods}");
        Ok(())
    })
    .and_then(|()| {
        let home = kubectl.run(&[
            "get",
            "pods",
            "-l",
            "app=hello",
            "-o",
            "jsonpath={.items[0].spec.nodeName}",
        ])?;
        for node in NODES {
            let address = cluster.node_address(node)?;
            for _ in 0..10 {
                let line = curl(&format!("http://{address}:{port}/"))?;
                ensure!(
                    line.contains(&format!(" on {home},")),
                    "{node} answered {line:?}, the pod is on {home}"
                );
            }
        }
        Ok(())
    });
    kubectl.run(&["scale", "deployment/hello", "--replicas=3"])?;
    kubectl.run(&["rollout", "status", "deployment/hello", "--timeout=60s"])?;
    result
}
