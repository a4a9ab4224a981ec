//! Runs controllers against an API in memory, with time paused, and plays the kubelet.

use crate::clock::Clock;
use crate::config::ControllersConfig;
use crate::context::{Context, Task};
use crate::run_tasks;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, Pod};
use serde_json::{Value, json};
use skep_api::{Object, ObjectKey};
use skep_client::Client;
use skep_client::testing::FakeTransport;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long (paused time) a condition may take.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Bench {
    pub(crate) api: FakeTransport,
    pub(crate) clock: Clock,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Bench {
    pub(crate) fn start(
        api: FakeTransport,
        config: ControllersConfig,
        controllers: impl FnOnce(&Context) -> Vec<Task>,
    ) -> Self {
        let client = api.client();
        Self::with_client(api, client, config, controllers)
    }

    /// With a client that reaches the API in another way than straight.
    pub(crate) fn with_client(
        api: FakeTransport,
        client: Client,
        config: ControllersConfig,
        controllers: impl FnOnce(&Context) -> Vec<Task>,
    ) -> Self {
        let shutdown = CancellationToken::new();
        let clock = Clock::tokio(Timestamp::now());
        let context = Context::new(client, config, clock, shutdown.clone());
        let tasks = controllers(&context)
            .into_iter()
            .map(|task| ("tested", task))
            .collect();
        let end = shutdown.clone();
        let task = tokio::spawn(async move {
            run_tasks(&context, tasks, end)
                .await
                .expect("controllers run until cancelled");
        });
        Self {
            api,
            clock,
            shutdown,
            task,
        }
    }

    /// Waits until the condition holds.
    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&FakeTransport) -> bool) {
        let start = tokio::time::Instant::now();
        while !condition(&self.api) {
            assert!(
                start.elapsed() < PATIENCE,
                "in vain: {what}; writes: {:#?}",
                self.api.writes()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Lets everything settle for so long.
    pub(crate) async fn settle(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("controllers end without panics");
    }

    /// Every pod that is not yet bound and ready becomes so.
    pub(crate) fn play_kubelet(&self) {
        let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.clock.now());
        for mut pod in self.api.all::<Pod>() {
            if pod.metadata.deletion_timestamp.is_some() {
                self.api.remove::<Pod>(&ObjectKey::of(&pod.metadata));
            } else if !crate::pods::is_ready(&pod) {
                pod.spec.get_or_insert_default().node_name = Some("n1".to_owned());
                pod.status = serde_json::from_value(json!({ "phase": "Running", "podIP": "10.1.0.1",
                    "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": now }] }))
                .ok();
                self.api.put(&pod);
            }
        }
    }

    /// The reasons and messages of all events, sorted.
    pub(crate) fn events(&self) -> Vec<String> {
        let text = |event: Event| {
            format!(
                "{}: {}",
                event.reason.unwrap_or_default(),
                event.message.unwrap_or_default()
            )
        };
        let mut events: Vec<_> = self.api.all::<Event>().into_iter().map(text).collect();
        events.sort();
        events
    }
}

/// An object from its JSON.
pub(crate) fn object<K: Object>(mut value: Value) -> K {
    value["apiVersion"] = K::API_VERSION.into();
    value["kind"] = K::KIND.into();
    serde_json::from_value(value).expect("tests write valid objects")
}
