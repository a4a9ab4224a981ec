//! Who dials, and on which node that is decided.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use skep_abi::{Address, PodRange};
use skep_api::ObjectKey;
use skep_client::Client as ApiClient;
use skep_loader::{Client, Snapshot};

use crate::commands::block_on;

/// Whoever `--from` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    address: Option<IpAddr>,
    /// The pod, if it was named as one.
    pod: Option<String>,
}

impl Asker {
    /// Parses an address, or asks the API server for a pod's.
    pub(super) fn find(from: Option<&str>, kubeconfig: Option<&Path>) -> Result<Self> {
        let Some(from) = from else {
            return Ok(Self {
                address: None,
                pod: None,
            });
        };
        if let Ok(address) = from.parse::<IpAddr>() {
            return Ok(Self {
                address: Some(address.to_canonical()),
                pod: None,
            });
        }
        let (namespace, name) = from.split_once('/').unwrap_or(("default", from));
        let Some(kubeconfig) = kubeconfig else {
            bail!(
                "{from} is no address, and to look up a pod the API is needed: set KUBECONFIG, or say --from with \
                 the pod's address"
            );
        };
        let address = block_on(pod_address(kubeconfig, namespace, name))?
            .with_context(|| format!("look up pod {namespace}/{name}; --from takes an address as well"))?;
        Ok(Self {
            address: Some(address),
            pod: Some(format!("{namespace}/{name}")),
        })
    }

    /// The node on which the connection is decided: where the client is, else where the address dialled is, else
    /// the first.
    pub(super) fn node_of<'a>(
        &self,
        nodes: &'a [(String, Snapshot)],
        dialled: IpAddr,
    ) -> (&'a str, &'a Snapshot) {
        let client = self.address.map(Address::from);
        let has = |snapshot: &Snapshot, address: Address| {
            !address.is_loopback()
                && (snapshot.is_node(&address) || snapshot.pod_range(&address).contains(PodRange::NODE))
        };
        let of_client = client.and_then(|client| nodes.iter().find(|(_, snapshot)| has(snapshot, client)));
        let of_address = || nodes.iter().find(|(_, snapshot)| has(snapshot, dialled.into()));
        let (node, snapshot) = of_client
            .or_else(of_address)
            .or_else(|| nodes.first())
            .expect("a place has at least one node");
        (node, snapshot)
    }

    /// What the client is to that node.
    pub(super) fn client(&self, snapshot: &Snapshot) -> Client {
        let Some(ip) = self.address else {
            return Client::Node;
        };
        let address = Address::from(ip);
        if snapshot.is_node(&address) {
            Client::Node
        } else if snapshot.pod_range(&address).contains(PodRange::NODE) {
            Client::Pod(ip)
        } else {
            Client::Packet(ip)
        }
    }

    /// The client in words.
    pub(super) fn describe(&self, snapshot: &Snapshot, client: Client) -> String {
        let who = match (&self.pod, self.address) {
            (Some(pod), Some(address)) => format!("pod {pod} ({address})"),
            (_, Some(address)) => address.to_string(),
            (_, None) => return "a program on the node".to_owned(),
        };
        let what = match client {
            Client::Node => "the node itself",
            Client::Pod(_) => "a pod of the node",
            Client::Packet(ip) if snapshot.pod_range(&ip.into()).contains(PodRange::CLUSTER) => {
                "a pod of another node, whose packets come in"
            }
            Client::Packet(_) => "outside the cluster, whose packets come in",
        };
        format!("{who}, {what}")
    }
}

async fn pod_address(kubeconfig: &Path, namespace: &str, name: &str) -> Result<IpAddr> {
    let client = ApiClient::from_kubeconfig(kubeconfig)?;
    let pod = client.get::<Pod>(&ObjectKey::new(namespace, name)).await?;
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    let address = address.context("the pod has no address yet")?;
    address
        .parse()
        .with_context(|| format!("the pod's address {address} is none"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::services::samples::{self, ip};

    fn asker(from: Option<&str>) -> Asker {
        Asker::find(from, None).unwrap()
    }

    #[test]
    fn an_address_says_what_the_client_is() {
        let snapshot = samples::snapshot();
        for (from, client, words) in [
            (None, Client::Node, "a program on the node"),
            (Some("172.29.0.11"), Client::Node, "the node itself"),
            (
                Some("10.128.1.5"),
                Client::Pod(ip("10.128.1.5")),
                "a pod of the node",
            ),
            (
                Some("10.128.2.5"),
                Client::Packet(ip("10.128.2.5")),
                "a pod of another node",
            ),
            (Some("192.0.2.1"), Client::Packet(ip("192.0.2.1")), "outside"),
        ] {
            let asker = asker(from);
            assert_eq!(asker.client(&snapshot), client, "{from:?}");
            assert!(asker.describe(&snapshot, client).contains(words), "{from:?}");
        }
    }

    #[test]
    fn the_node_is_the_clients_or_that_of_the_address() {
        let (one, mut two) = (samples::snapshot(), samples::snapshot());
        two.config.ipv4 = ip("172.29.0.12").into();
        two.pod_ranges = one
            .pod_ranges
            .iter()
            .filter(|(key, _)| key.prefix_length < 96 + 24)
            .map(|(k, v)| (*k, *v))
            .collect();
        let nodes = [("two".to_owned(), two), ("one".to_owned(), one)];
        for (from, dialled, node) in [
            (Some("10.128.1.5"), "10.64.0.7", "one"),
            (Some("192.0.2.1"), "172.29.0.11", "one"),
            (Some("192.0.2.1"), "172.29.0.12", "two"),
            (None, "10.64.0.7", "two"),
            (None, "127.0.0.1", "two"),
        ] {
            assert_eq!(
                asker(from).node_of(&nodes, ip(dialled)).0,
                node,
                "{from:?} {dialled}"
            );
        }
    }

    #[test]
    fn a_pod_needs_the_api() {
        let error = Asker::find(Some("default/web-1"), None).unwrap_err().to_string();
        assert!(
            error.contains("KUBECONFIG") && error.contains("address"),
            "{error}"
        );
    }
}
