//! Names as pods resolve them.

use anyhow::{Result, ensure};
use skep_tests::TestCluster;

use crate::services::in_pod;

pub(crate) fn resolves(cluster: &TestCluster) -> Result<()> {
    let kubectl = cluster.kubectl();
    let address = kubectl.run(&["get", "service", "hello", "-o", "jsonpath={.spec.clusterIP}"])?;
    let script = format!(
        "cat /etc/resolv.conf; nslookup hello.default.svc.cluster.local && nslookup {address} && wget -qO- http://hello"
    );
    let printed = in_pod(&kubectl, "resolves", &script)?;
    let dns = kubectl.run(&[
        "get",
        "service",
        "kube-dns",
        "-n",
        "kube-system",
        "-o",
        "jsonpath={.spec.clusterIP}",
    ])?;
    ensure!(
        printed.contains(&format!("nameserver {dns}")),
        "resolv.conf does not name {dns}:\n{printed}"
    );
    ensure!(
        printed.contains("search default.svc.cluster.local svc.cluster.local cluster.local"),
        "{printed}"
    );
    ensure!(
        printed.contains(&address),
        "the Service's address {address} is not answered:\n{printed}"
    );
    ensure!(
        printed.contains("name = hello.default.svc.cluster.local"),
        "no reverse look-up:\n{printed}"
    );
    ensure!(
        printed.contains("hello from hello-"),
        "the short name does not answer:\n{printed}"
    );
    Ok(())
}

pub(crate) fn headless(cluster: &TestCluster) -> Result<()> {
    let kubectl = cluster.kubectl();
    let manifest = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"heads"},
        "spec":{"clusterIP":"None","selector":{"app":"hello"},"ports":[{"name":"http","port":8080}]}}"#;
    kubectl.with_input(&["create", "-f", "-"], manifest)?;
    let printed = in_pod(
        &kubectl,
        "resolves-heads",
        "sleep 1; nslookup heads.default.svc.cluster.local",
    );
    let path = "jsonpath={.items[*].status.podIP}";
    let addresses = kubectl.run(&["get", "pods", "-l", "app=hello", "-o", path]);
    kubectl.run(&["delete", "service", "heads"])?;
    let (printed, addresses) = (printed?, addresses?);
    for address in addresses.split_whitespace() {
        ensure!(printed.contains(address), "{address} is not among\n{printed}");
    }
    Ok(())
}
