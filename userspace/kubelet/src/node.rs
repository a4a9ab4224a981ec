//! The Node object: registered, its status kept true, its lease renewed.
//!
//! Owns the Node's status and the lease of the same name in kube-node-lease. Needs nothing of the pods. Every failure of
//! the API server is tried again, so that a node outlives its server's absence.

mod conditions;
mod lease;
mod machine;
mod object;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerImage, Node, NodeStatus};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;
use skep_api::{ApiError, ObjectExt as _, ObjectKey, Quantity};
use skep_client::{Client, Patch};
use skep_cri::{Runtime, v1};
use skep_runtime::{Informer, InformerOptions};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::config::KubeletConfig;
use conditions::Health;
use machine::Machine;

/// How often the status is looked at.
const PERIOD: Duration = Duration::from_secs(10);
/// How often while the node is not ready, as pods wait for it; and at most, whatever others write.
const PERIOD_UNREADY: Duration = Duration::from_millis(200);
/// How often an unchanged status is reported.
const REPORT_PERIOD: Duration = Duration::from_secs(300);
const RETRY: Duration = Duration::from_secs(1);
/// The most images that a Node lists, the largest first, as upstream.
const MAX_IMAGES: usize = 50;

/// Keeps the Node and its lease until cancelled.
pub(crate) async fn run(
    client: Client,
    runtime: Arc<dyn Runtime>,
    config: Arc<KubeletConfig>,
    shutdown: CancellationToken,
) {
    let keeping = async {
        let node = register(&client, &config, &*runtime).await;
        let shown = own_node(&client, &config);
        tokio::join!(
            report(&client, &config, &*runtime, Arc::clone(&node), &shown),
            shown.run(shutdown.clone()),
            lease::keep(&client, &node)
        );
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = keeping => {}
    }
}

/// What pods can have on this machine, and its memory in bytes.
pub(crate) fn allocatable(config: &KubeletConfig) -> (BTreeMap<String, Quantity>, i64) {
    let machine = Machine::read(&config.root_dir);
    let amounts = object::status(config, &machine, None)
        .allocatable
        .unwrap_or_default();
    let amounts = amounts
        .into_iter()
        .filter_map(|(name, wire)| Some((name, wire.0.parse().ok()?)));
    (
        amounts.collect(),
        i64::try_from(machine.memory_bytes).unwrap_or(i64::MAX),
    )
}

/// Creates the Node, or brings an existing one's labels up to date; tries until it succeeds.
async fn register(client: &Client, config: &KubeletConfig, runtime: &dyn Runtime) -> Arc<Node> {
    loop {
        let machine = Machine::read(&config.root_dir);
        let status = status(config, &machine, runtime, None).await;
        match try_register(client, config, status).await {
            Ok(node) => {
                tracing::info!(node = config.node_name, "registered");
                return node;
            }
            Err(error) => tracing::warn!(node = config.node_name, %error, "not registered yet; trying again"),
        }
        sleep(RETRY).await;
    }
}

async fn try_register(
    client: &Client,
    config: &KubeletConfig,
    status: NodeStatus,
) -> Result<Arc<Node>, ApiError> {
    let wanted = object::node(config, status);
    match client.create(&wanted).await {
        Err(error) if error.is_already_exists() => {}
        created => return created,
    }
    // Whoever labelled the Node otherwise meanwhile is left alone; what the kubelet says of itself is said again.
    let labels = serde_json::json!({ "metadata": { "labels": wanted.metadata.labels } });
    client.patch(&key(config), &Patch::merge(&labels)?).await
}

/// Shows what others write into the own Node: the node lifecycle controller calls a silent node's conditions unknown.
fn own_node(client: &Client, config: &KubeletConfig) -> Informer<Node> {
    let options = InformerOptions {
        field_selector: Some(format!("metadata.name={}", config.node_name)),
        ..InformerOptions::default()
    };
    Informer::new(client.clone(), options)
}

/// Keeps the status true: in time, and at once when the Node shows something else.
async fn report(
    client: &Client,
    config: &KubeletConfig,
    runtime: &dyn Runtime,
    mut written: Arc<Node>,
    shown: &Informer<Node>,
) {
    let changed = Arc::new(Notify::new());
    let notified = Arc::clone(&changed);
    shown.on_change(move |_| notified.notify_one());
    let mut reported: Option<Instant> = None;
    loop {
        let newest = shown
            .store()
            .get(&key(config))
            .filter(|shown| shown.resource_version() > written.resource_version());
        let known = newest.unwrap_or_else(|| Arc::clone(&written)).status.clone();
        let known = known.unwrap_or_default();
        let machine = Machine::read(&config.root_dir);
        let current = status(config, &machine, runtime, Some(&known)).await;
        let due = reported.is_none_or(|last| last.elapsed() >= REPORT_PERIOD);
        if due || !shows(&known, &current) {
            match send(client, config, &current).await {
                Ok(stored) => {
                    written = stored;
                    reported = Some(Instant::now());
                }
                Err(error) => {
                    tracing::warn!(node = config.node_name, %error, "the status was not reported; trying again");
                    sleep(RETRY).await;
                    continue;
                }
            }
        }
        sleep(PERIOD_UNREADY).await;
        if conditions::is_ready(&current) {
            tokio::select! {
                () = sleep(PERIOD) => {}
                () = changed.notified() => {}
            }
        }
    }
}

/// Merges the status into the Node's: others have conditions, addresses and resources in it too.
async fn send(client: &Client, config: &KubeletConfig, status: &NodeStatus) -> Result<Arc<Node>, ApiError> {
    client
        .patch_status(
            &key(config),
            &Patch::strategic(&serde_json::json!({ "status": status }))?,
        )
        .await
}

/// The status as it is now; transition times of unchanged conditions are the known ones.
async fn status(
    config: &KubeletConfig,
    machine: &Machine,
    runtime: &dyn Runtime,
    known: Option<&NodeStatus>,
) -> NodeStatus {
    let (version, health, images) = tokio::join!(runtime.version(), runtime.status(), runtime.list_images());
    let health = Health {
        runtime: health.map_err(|error| error.to_string()),
        machine,
    };
    let version = version
        .ok()
        .map(|version| format!("{}://{}", version.runtime_name, version.runtime_version));
    let mut status = object::status(config, machine, version);
    status.images = images.ok().map(image_list);
    let known = known
        .and_then(|known| known.conditions.as_deref())
        .unwrap_or_default();
    status.conditions = Some(conditions::all(&health, known, Timestamp::now()));
    status
}

fn image_list(mut images: Vec<v1::Image>) -> Vec<ContainerImage> {
    images.sort_by(|one, other| other.size.cmp(&one.size).then_with(|| one.id.cmp(&other.id)));
    images.truncate(MAX_IMAGES);
    let listed = images.into_iter().map(|image| ContainerImage {
        names: Some(image.repo_digests.into_iter().chain(image.repo_tags).collect()),
        size_bytes: i64::try_from(image.size).ok(),
    });
    listed.collect()
}

/// Whether a Node's status says all that the kubelet says, whenever it was said. What else it says is others'.
fn shows(shown: &NodeStatus, own: &NodeStatus) -> bool {
    let timeless = |status: &NodeStatus| {
        let mut conditions = status.conditions.clone().unwrap_or_default();
        for condition in &mut conditions {
            condition.last_heartbeat_time = None;
        }
        conditions
    };
    let addresses = |status: &NodeStatus| status.addresses.clone().unwrap_or_default();
    holds(&timeless(shown), &timeless(own))
        && holds(&addresses(shown), &addresses(own))
        && has_amounts(shown.capacity.as_ref(), own.capacity.as_ref())
        && has_amounts(shown.allocatable.as_ref(), own.allocatable.as_ref())
        && shown.images == own.images
        && shown.node_info == own.node_info
}

fn holds<T: PartialEq>(all: &[T], part: &[T]) -> bool {
    part.iter().all(|item| all.contains(item))
}

type Amounts<'a> = Option<&'a BTreeMap<String, WireQuantity>>;

fn has_amounts(all: Amounts<'_>, part: Amounts<'_>) -> bool {
    part.into_iter()
        .flatten()
        .all(|(name, amount)| all.and_then(|all| all.get(name)) == Some(amount))
}

fn key(config: &KubeletConfig) -> ObjectKey {
    ObjectKey {
        namespace: String::new(),
        name: config.node_name.clone(),
    }
}
