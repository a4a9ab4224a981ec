//! Hearing of what happens to containers: by the runtime's events, or by polling its lists where it has none.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use skep_cri::{Runtime, RuntimeError};
use tokio_util::sync::CancellationToken;

use crate::manager::{Manager, identity};

/// With events the lists are still compared now and then: an event may have been lost.
const CHECK_PERIOD: Duration = Duration::from_secs(10);
/// How long to wait after the runtime went away.
const RETRY: Duration = Duration::from_millis(500);

/// Wakes pods until cancelled.
pub(crate) async fn run(
    manager: &Manager,
    runtime: &dyn Runtime,
    poll: Duration,
    shutdown: &CancellationToken,
) {
    let following = async {
        let mut known = Known::default();
        loop {
            match follow(manager, runtime, &mut known).await {
                Ok(()) => tracing::info!("the runtime's events ended, subscribing again"),
                Err(error) if error.is_unimplemented() => {
                    tracing::info!(
                        interval_ms = poll.as_millis(),
                        "the runtime tells of no events, polling"
                    );
                    loop {
                        compare_or_warn(manager, runtime, &mut known).await;
                        tokio::time::sleep(poll).await;
                    }
                }
                Err(error) => tracing::warn!(%error, "no events of the runtime, trying again"),
            }
            tokio::time::sleep(RETRY).await;
        }
    };
    shutdown.run_until_cancelled(following).await;
}

async fn follow(manager: &Manager, runtime: &dyn Runtime, known: &mut Known) -> Result<(), RuntimeError> {
    let mut events = runtime.events().await?;
    // What happened before the subscription is only in the lists.
    manager.wake_all();
    let mut check = tokio::time::interval(CHECK_PERIOD);
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(event) => manager.wake_by_runtime_id(&event?.container_id),
                None => return Ok(()),
            },
            _ = check.tick() => compare(manager, runtime, known).await?,
        }
    }
}

/// The states that were seen last, by id.
#[derive(Default)]
struct Known(HashMap<String, i32>);

async fn compare_or_warn(manager: &Manager, runtime: &dyn Runtime, known: &mut Known) {
    if let Err(error) = compare(manager, runtime, known).await {
        tracing::warn!(%error, "the runtime's lists were not read");
    }
}

/// Wakes every pod of which a sandbox or container changed since the last time.
async fn compare(manager: &Manager, runtime: &dyn Runtime, known: &mut Known) -> Result<(), RuntimeError> {
    let (sandboxes, containers) =
        tokio::try_join!(runtime.list_pod_sandboxes(None), runtime.list_containers(None))?;
    let sandboxes = sandboxes
        .into_iter()
        .map(|sandbox| (sandbox.id, sandbox.state, sandbox.labels));
    let containers = containers
        .into_iter()
        .map(|container| (container.id, container.state, container.labels));
    let mut seen = HashMap::new();
    for (id, state, labels) in sandboxes.chain(containers) {
        if known.0.get(&id) != Some(&state)
            && let Some(pod) = identity(&labels)
        {
            manager.wake(&pod.uid);
        }
        seen.insert(id, state);
    }
    for gone in known.0.keys().filter(|id| !seen.contains_key(*id)) {
        manager.wake_by_runtime_id(gone);
    }
    known.0 = seen;
    Ok(())
}
