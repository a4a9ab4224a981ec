//! The garbage collector: objects whose owners are gone go too; owners that wait for their dependents, or
//! that let them go, are served.
//!
//! It follows the metadata of every kind ([`reflector`]) in one graph of owners ([`graph`]). The graph says
//! whom to look at; what is done is decided on the server's present state ([`plan`]).

mod graph;
pub(crate) mod metadata;
mod plan;
mod reflector;
#[cfg(test)]
mod tests;
mod work;

use crate::context::{Context, Task};
use futures::FutureExt;
use futures::future::join_all;
use graph::Graph;
use metadata::Kind;
use parking_lot::Mutex;
use reflector::Reflector;
use skep_api::{ApiError, ResourceTable};
use skep_runtime::{Action, Controller, WorkQueue};
use std::sync::Arc;
use work::{Collector, Job};

const WORKERS: usize = 20;

pub(crate) fn controller(context: &Context) -> Task {
    let queue: WorkQueue<Job> = context.queue("garbage_collector");
    let kinds: Vec<Arc<Kind>> = kinds();
    let graph = Arc::new(Mutex::new(Graph::default()));
    let reflectors: Vec<Reflector> = kinds
        .iter()
        .map(|kind| Reflector::new(context.client.clone(), kind.clone(), graph.clone(), queue.clone()))
        .collect();
    let collector = Arc::new(Collector::new(
        context.client.clone(),
        graph,
        kinds,
        queue.clone(),
    ));
    let shutdown = context.shutdown.clone();
    async move {
        let following = join_all(reflectors.iter().map(|reflector| reflector.run(shutdown.clone())));
        let working = async {
            // Half a graph would take dependents for orphans of unknown owners.
            let synced = join_all(reflectors.iter().map(Reflector::synced));
            if shutdown.run_until_cancelled(synced).await.is_some() {
                let reconcile = move |job: Job| {
                    let collector = collector.clone();
                    async move {
                        collector
                            .work(job)
                            .await
                            .map(|()| Action::Done)
                            .or_else(after_conflict)
                    }
                };
                Controller::new(queue)
                    .workers(WORKERS)
                    .run(reconcile, shutdown.clone())
                    .await;
            }
        };
        futures::join!(following, working);
    }
    .boxed()
}

/// The object changed under the decision: decide again.
fn after_conflict(error: ApiError) -> Result<Action, ApiError> {
    if error.is_conflict() {
        Ok(Action::RequeueAfter(work::CONFLICT_DELAY))
    } else {
        Err(error)
    }
}

/// Every kind that can be followed and deleted, but events: they have no dependents, and expire.
fn kinds() -> Vec<Arc<Kind>> {
    use skep_api::Verb::{Delete, List, Watch};
    ResourceTable::builtin()
        .iter()
        .filter(|row| [Delete, List, Watch].iter().all(|verb| row.verbs.contains(verb)))
        .filter(|row| row.gvr.resource != "events")
        .map(|row| {
            Arc::new(Kind {
                gvr: row.gvr.clone(),
                kind: row.kind.clone(),
                namespaced: row.namespaced,
            })
        })
        .collect()
}
