//! The node's lease in kube-node-lease: renewed so often that a silent node is noticed (KEP-589).

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use skep_api::{ApiError, ObjectExt as _, ObjectKey};
use skep_client::{Client, Patch};
use tokio::time::sleep;

const NAMESPACE: &str = "kube-node-lease";
const DURATION_SECONDS: i32 = 40;
const PERIOD: Duration = Duration::from_secs(10);
/// A renewal that failed is tried again well before the lease runs out.
const RETRY: Duration = Duration::from_secs(2);

/// Renews for ever.
pub(super) async fn keep(client: &Client, node: &Node) {
    loop {
        match renew(client, node).await {
            Ok(()) => sleep(PERIOD).await,
            Err(error) => {
                tracing::warn!(node = node.name(), %error, "the lease was not renewed; trying again");
                sleep(RETRY).await;
            }
        }
    }
}

async fn renew(client: &Client, node: &Node) -> Result<(), ApiError> {
    let key = ObjectKey {
        namespace: NAMESPACE.to_owned(),
        name: node.name().to_owned(),
    };
    let now = MicroTime(Timestamp::now());
    let spec = LeaseSpec {
        holder_identity: Some(key.name.clone()),
        lease_duration_seconds: Some(DURATION_SECONDS),
        renew_time: Some(now),
        ..LeaseSpec::default()
    };
    let patch = Patch::merge(&serde_json::json!({ "spec": spec }))?;
    match client.patch::<Lease>(&key, &patch).await {
        Err(error) if error.is_not_found() => client.create(&lease(&key, node, spec)).await.map(drop),
        renewed => renewed.map(drop),
    }
}

fn lease(key: &ObjectKey, node: &Node, spec: LeaseSpec) -> Lease {
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: key.name.clone(),
        uid: node.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    Lease {
        metadata: ObjectMeta {
            namespace: Some(key.namespace.clone()),
            name: Some(key.name.clone()),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
    }
}
