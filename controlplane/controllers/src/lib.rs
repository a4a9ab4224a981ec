//! The controllers: each keeps one part of the cluster as its objects say.
//!
//! One module per controller, in the same three steps: gather what the informers show, plan (pure), apply
//! through the client. They share one client, one set of informers and a clock ([`context`]), and never
//! speak to each other but through the API. Called by the server, in whose process they run.

mod claims;
mod clock;
mod config;
mod context;
mod deployment;
mod endpoints;
mod endpointslice;
mod garbage;
mod mirroring;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod owner;
mod pod_gc;
mod pods;
mod replicaset;
mod root_ca;
mod service_account;
mod service_pods;
mod taint_eviction;

#[cfg(test)]
mod testing;

pub use config::{ControllersConfig, ControllersError};

use context::{Context, Task};
use skep_client::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Runs all controllers until cancelled.
///
/// # Errors
/// When the configuration cannot be used, or when a controller ended by a defect of its own.
pub async fn run(
    client: Client,
    config: ControllersConfig,
    shutdown: CancellationToken,
) -> Result<(), ControllersError> {
    config.check()?;
    let context = Context::new(client, config, clock::Clock::system(), shutdown.clone());
    run_tasks(&context, all(&context), shutdown).await
}

fn all(context: &Context) -> Vec<(&'static str, Task)> {
    vec![
        ("replicaset", replicaset::controller(context)),
        ("deployment", deployment::controller(context)),
        ("endpointslice", endpointslice::controller(context)),
        ("endpoints", endpoints::controller(context)),
        ("endpointslicemirroring", mirroring::controller(context)),
        ("namespace", namespace::controller(context)),
        ("garbagecollector", garbage::controller(context)),
        ("nodelifecycle", node_lifecycle::controller(context)),
        ("tainteviction", taint_eviction::controller(context)),
        ("podgc", pod_gc::controller(context)),
        ("nodeipam", node_ipam::controller(context)),
        ("serviceaccount", service_account::controller(context)),
        ("rootca", root_ca::controller(context)),
    ]
}

/// Runs the controllers, then their informers, so that no change is missed between.
async fn run_tasks(
    context: &Context,
    controllers: Vec<(&'static str, Task)>,
    shutdown: CancellationToken,
) -> Result<(), ControllersError> {
    let mut tasks = JoinSet::new();
    for (name, task) in controllers.into_iter().chain(context.services()) {
        tasks.spawn(async move {
            task.await;
            name
        });
    }
    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(name) if shutdown.is_cancelled() => tracing::debug!(controller = name, "ended"),
            Ok(name) => {
                result = Err(ControllersError::Ended {
                    controller: name.to_owned(),
                })
            }
            Err(error) => {
                result = Err(ControllersError::Ended {
                    controller: error.to_string(),
                })
            }
        }
        // One part gone: the rest ends too, and the caller decides.
        shutdown.cancel();
    }
    result
}
