//! What runs beside the API in the server's process and speaks to it: scheduler, controllers, and the
//! keeper of the `kubernetes` Service.

use crate::bootstrap::KubernetesService;
use crate::{ServerConfig, ServerError, StoreConfig};
use prometheus_client::registry::Registry as Metrics;
use skep_api::ObjectKey;
use skep_apiserver::{ApiServer, User};
use skep_client::Client;
use skep_controllers::ControllersConfig;
use skep_pki::names;
use skep_runtime::{LeaderElector, LeaderOptions, WorkQueueMetrics};
use skep_scheduler::{Scheduler, SchedulerConfig};
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The parts, made but not running.
pub(crate) struct Parts {
    scheduler: Scheduler,
    controllers: Controllers,
    kubernetes: KubernetesService,
}

struct Controllers {
    client: Client,
    config: ControllersConfig,
    election: Option<LeaderOptions>,
}

/// The server's own hand; not an identity that anybody can hold a certificate of.
pub(crate) fn own_client(api: &ApiServer) -> Client {
    api.in_process_client(User::new("system:apiserver", [names::MASTERS]))
}

/// A client with a component's own rights, none else.
fn component(api: &ApiServer, name: &str) -> Client {
    api.in_process_client(User::new(name, [] as [&str; 0]))
}

impl Parts {
    pub(crate) fn new(api: &ApiServer, config: &ServerConfig, ca_pem: &str, metrics: &mut Metrics) -> Self {
        let scheduler = SchedulerConfig {
            leader_election: election(config, "kube-scheduler"),
            ..SchedulerConfig::new(RandomState::new().hash_one(config.bind))
        };
        let mut controllers = ControllersConfig {
            cluster_cidrs: vec![config.cluster_cidr],
            root_ca_pem: ca_pem.to_owned(),
            metrics: Some(WorkQueueMetrics::register(metrics)),
            ..ControllersConfig::default()
        };
        if config.cluster_cidr.addr().is_ipv4() {
            controllers.node_cidr_mask_v4 = config.node_cidr_mask;
        } else {
            controllers.node_cidr_mask_v6 = config.node_cidr_mask;
        }
        Self {
            scheduler: Scheduler::new(component(api, names::SCHEDULER), scheduler, metrics),
            controllers: Controllers {
                client: component(api, names::CONTROLLER_MANAGER),
                config: controllers,
                election: election(config, "kube-controller-manager"),
            },
            kubernetes: KubernetesService::new(own_client(api), config),
        }
    }

    /// Runs until `shutdown` or the first failure.
    pub(crate) async fn run(self, shutdown: &CancellationToken) -> Result<(), ServerError> {
        let stop = shutdown.child_token();
        let mut running: JoinSet<Result<(), ServerError>> = JoinSet::new();
        let Self {
            scheduler,
            controllers,
            kubernetes,
        } = self;
        running.spawn(controllers.run(stop.clone()));
        running.spawn({
            let stop = stop.clone();
            async move {
                scheduler.run(stop).await;
                Ok(())
            }
        });
        running.spawn({
            let stop = stop.clone();
            async move {
                kubernetes.run(stop).await;
                Ok(())
            }
        });
        let mut outcome = Ok(());
        while let Some(ended) = running.join_next().await {
            let ended = ended.map_err(ServerError::from).flatten();
            if outcome.is_ok() {
                outcome = ended;
            }
            // One part gone: the rest ends too, and the caller decides.
            stop.cancel();
        }
        outcome
    }
}

impl Controllers {
    async fn run(self, stop: CancellationToken) -> Result<(), ServerError> {
        let Self {
            client,
            config,
            election,
        } = self;
        let Some(options) = election else {
            return Ok(skep_controllers::run(client, config, stop).await?);
        };
        // A failed term ends the candidature, so that the caller hears of it.
        let ended = stop.child_token();
        let (failed, mut failures) = tokio::sync::mpsc::channel(1);
        let elector = LeaderElector::new(client.clone(), options);
        let lead = |leading| {
            let (client, config) = (client.clone(), config.clone());
            let (failed, ended) = (failed.clone(), ended.clone());
            async move {
                if let Err(error) = skep_controllers::run(client, config, leading).await {
                    ended.cancel();
                    // There is room for one, and the candidature ends with the first.
                    drop(failed.try_send(error));
                }
            }
        };
        elector.run(lead, ended.clone()).await;
        failures.try_recv().map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Servers over one etcd elect who works; over the embedded store there is only one.
fn election(config: &ServerConfig, lease: &str) -> Option<LeaderOptions> {
    match config.store {
        StoreConfig::Embedded => None,
        StoreConfig::Etcd { .. } => {
            let identity = SocketAddr::new(config.advertise, config.bind.port()).to_string();
            Some(LeaderOptions::new(ObjectKey::new("kube-system", lease), identity))
        }
    }
}
