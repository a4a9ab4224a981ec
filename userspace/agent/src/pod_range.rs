//! The node's pod addresses: handed out by a controller, remembered across restarts.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context as _, Result};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use skep_client::Client;
use skep_runtime::{Informer, InformerOptions};
use tokio_util::sync::CancellationToken;

const FILE: &str = "pod-cidr";

/// The range that an earlier run was given, if any.
pub(crate) fn remembered(state_dir: &Path) -> Result<Option<Ipv4Net>> {
    let path = state_dir.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let range = text
                .trim()
                .parse()
                .with_context(|| format!("{} holds no address range", path.display()))?;
            Ok(Some(range))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// The node's range. The remembered one serves at once, also while the API server is away; else the Node's is waited
/// for. Nothing when cancelled first.
pub(crate) async fn of_node(
    client: Client,
    node: &str,
    state_dir: &Path,
    shutdown: &CancellationToken,
) -> Result<Option<Ipv4Net>> {
    if let Some(range) = remembered(state_dir)? {
        return Ok(Some(range));
    }
    let Some(range) = wait(client, node, shutdown).await else {
        return Ok(None);
    };
    // Renamed into place: a half-written range would name other addresses.
    let path = state_dir.join(FILE);
    let partial = path.with_extension("partial");
    fs::write(&partial, range.to_string()).with_context(|| format!("write {}", partial.display()))?;
    fs::rename(&partial, &path).with_context(|| format!("rename {} into place", partial.display()))?;
    tracing::info!(%range, "the node has its pod addresses");
    Ok(Some(range))
}

async fn wait(client: Client, node: &str, shutdown: &CancellationToken) -> Option<Ipv4Net> {
    let field_selector = Some(format!("metadata.name={node}"));
    let informer = Informer::<Node>::new(
        client,
        InformerOptions {
            field_selector,
            ..InformerOptions::default()
        },
    );
    let mut changes = informer.subscribe();
    let watching = shutdown.child_token();
    let found = async {
        loop {
            let change = changes.next().await?;
            if let Some(range) = change.after().and_then(|node| range_of(node)) {
                return Some(range);
            }
        }
    };
    let found = tokio::select! {
        () = informer.run(watching.clone()) => None,
        found = found => found,
    };
    watching.cancel();
    found
}

fn range_of(node: &Node) -> Option<Ipv4Net> {
    let spec = node.spec.as_ref()?;
    let all = spec.pod_cidrs.iter().flatten().chain(spec.pod_cidr.iter());
    all.filter_map(|range| range.parse().ok()).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_is_remembered_and_garbage_is_told() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(remembered(state.path()).unwrap(), None);
        fs::write(state.path().join(FILE), "10.128.3.0/24\n").unwrap();
        assert_eq!(
            remembered(state.path()).unwrap(),
            Some("10.128.3.0/24".parse().unwrap())
        );
        fs::write(state.path().join(FILE), "10.128.3").unwrap();
        assert!(remembered(state.path()).is_err());
    }
}
