//! Pods' networks: the plugin's other half, and the collection of what dead sandboxes left.

use std::collections::HashSet;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use skep_client::Client;
use skep_cni::agent::{AgentHandle, CniConfig, Observer, ObserverError};
use skep_cni::{Install, agent as cni, install};
use skep_cri::Runtime;
use skep_loader::Dataplane;
use tokio_util::sync::CancellationToken;

use crate::{AgentConfig, pod_range};

/// Pods are on the same wire as nodes: no encapsulation takes bytes away.
const POD_MTU: u32 = 1500;
/// How often addresses of sandboxes that are gone are looked for. They are rare: the runtime tells the plugin of every
/// sandbox that it removes, and only one that lost its own records does not.
const COLLECTION: Duration = Duration::from_secs(60);

/// Serves the CNI plugin once the node has its addresses; tells the dataplane of them, and then the runtime of the
/// network.
pub(crate) async fn run(
    client: Client,
    runtime: Arc<dyn Runtime>,
    dataplane: Arc<Dataplane>,
    config: AgentConfig,
    shutdown: CancellationToken,
) -> Result<()> {
    let range = pod_range::of_node(client, &config.node_name, &config.state_dir, &shutdown).await?;
    let Some(pod_cidr) = range else { return Ok(()) };
    // Before the first pod can have one of them.
    dataplane.set_pod_cidrs(&[pod_cidr.into()])?;
    let socket = config.run_dir.join("cni.sock");
    let handle = cni::open(CniConfig {
        socket: socket.clone(),
        pod_cidr,
        mtu: POD_MTU,
        state_dir: config.state_dir.join("cni"),
        observer: Arc::new(Sockets(dataplane)),
    })
    .await?;
    install(&Install {
        plugin: config.cni_plugin,
        bin_dir: config.cni_bin_dir,
        conf_dir: config.cni_conf_dir,
        socket,
    })?;
    let collector = collect(&*runtime, &handle);
    tokio::select! {
        served = cni::serve(handle.clone(), shutdown) => Ok(served?),
        never = collector => match never {},
    }
}

/// Tells the dataplane whose sockets are whose.
#[derive(Debug)]
struct Sockets(Arc<Dataplane>);

impl Observer for Sockets {
    fn connected(&self, netns: BorrowedFd<'_>, address: IpAddr) -> Result<(), ObserverError> {
        Ok(self.0.add_pod(netns, address)?)
    }

    fn disconnected(&self, address: IpAddr) -> Result<(), ObserverError> {
        Ok(self.0.remove_pod(address)?)
    }
}

async fn collect(runtime: &dyn Runtime, networks: &AgentHandle) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(COLLECTION).await;
        let sandboxes = match runtime.list_pod_sandboxes(None).await {
            Ok(sandboxes) => sandboxes
                .into_iter()
                .map(|sandbox| sandbox.id)
                .collect::<HashSet<_>>(),
            Err(error) => {
                tracing::debug!(%error, "the runtime does not list its sandboxes now");
                continue;
            }
        };
        match networks.retain(&sandboxes).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "took away the networks of sandboxes that are gone"),
            Err(error) => {
                tracing::warn!(%error, "the network of a sandbox that is gone could not be taken away")
            }
        }
    }
}
