//! What every controller, the scheduler, the kubelet, the proxy and the DNS are built from: informers with their
//! stores, work queues, the reconcile loop, expectations, events and leader election.
//!
//! Speaks to the API through `skep-client` alone. All waiting goes through tokio's clock, so that tests can pause it.
//!
//! The usual shape of a controller:
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use k8s_openapi::api::core::v1::Pod;
//! # use skep_api::ObjectKey;
//! # use skep_runtime::*;
//! # async fn run(client: skep_client::Client, shutdown: tokio_util::sync::CancellationToken) {
//! let informers = InformerSet::new(client.clone());
//! let pods = informers.informer::<Pod>(InformerOptions::default());
//! let queue = WorkQueue::<ObjectKey>::new("pods", WorkQueueOptions::default());
//! pods.feed(&queue, |pod| vec![skep_api::ObjectExt::key(pod)]);
//! let by_node = pods.index(|pod| pod.spec.iter().filter_map(|spec| spec.node_name.clone()).collect());
//! let controller = Controller::new(queue).workers(2);
//! tokio::join!(informers.run(shutdown.clone()), async {
//!     if informers.synced(&shutdown).await {
//!         controller.run(|_key| async { Ok::<_, skep_api::ApiError>(Action::Done) }, shutdown.clone()).await;
//!     }
//! });
//! # let _ = by_node.get("node1");
//! # }
//! ```

mod backoff;
mod controller;
mod events;
mod expectations;
mod informer;
mod informer_set;
mod leader;
mod queue;
mod queue_metrics;
mod store;
mod subscription;

pub use backoff::Backoff;
pub use controller::{Action, Controller};
pub use events::{EventRecorder, EventSource, EventType, object_reference};
pub use expectations::Expectations;
pub use informer::{Informer, InformerOptions};
pub use informer_set::InformerSet;
pub use leader::{LeaderElector, LeaderOptions};
pub use queue::{Taken, WorkQueue, WorkQueueOptions};
pub use queue_metrics::WorkQueueMetrics;
pub use store::{Change, Index, Store};
pub use subscription::Subscription;
