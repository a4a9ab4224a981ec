//! The `kubernetes` Service, by which pods reach the API, with its Endpoints and EndpointSlice. Kept as
//! it must be while the server runs: whoever deletes or edits it gets it back.

use super::ensure::ensure;
use crate::{ServerConfig, ServerError};
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service, ServicePort, ServiceSpec,
};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointPort as SlicePort, EndpointSlice,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use skep_api::Object;
use skep_client::Client;
use skep_runtime::{Informer, InformerOptions};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

const NAME: &str = "kubernetes";
const NAMESPACE: &str = "default";
const PORT_NAME: &str = "https";
const PORT: i32 = 443;
/// After a write that failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Keeps the Service and where it leads.
pub(crate) struct KubernetesService {
    client: Client,
    cluster_ip: IpAddr,
    address: IpAddr,
    port: u16,
}

impl KubernetesService {
    pub(crate) fn new(client: Client, config: &ServerConfig) -> Self {
        Self {
            client,
            cluster_ip: config.kubernetes_service(),
            address: config.advertise,
            port: config.bind.port(),
        }
    }

    /// Writes what is absent or differs.
    pub(crate) async fn reconcile(&self) -> Result<(), ServerError> {
        ensure(&self.client, &self.service(), |standing, desired| {
            let ports = |service: &Service| service.spec.as_ref().and_then(|spec| spec.ports.clone());
            // The registry fills in what is left out; what was asked for is compared.
            let same = ports(standing).is_some_and(|ports| {
                matches!(&ports[..], [one] if one.port == PORT && one.target_port == Some(self.target_port()))
            });
            let mut changed = standing.clone();
            changed.spec.get_or_insert_default().ports = ports(desired);
            (!same).then_some(changed)
        })
        .await?;
        ensure(&self.client, &self.endpoints(), |standing, desired| {
            let changed = Endpoints {
                subsets: desired.subsets.clone(),
                ..standing.clone()
            };
            (standing.subsets != desired.subsets).then_some(changed)
        })
        .await?;
        ensure(&self.client, &self.slice(), |standing, desired| {
            let same = standing.endpoints == desired.endpoints && standing.ports == desired.ports;
            let (endpoints, ports) = (desired.endpoints.clone(), desired.ports.clone());
            (!same).then(|| EndpointSlice {
                endpoints,
                ports,
                ..standing.clone()
            })
        })
        .await
    }

    /// Puts right whatever others change, until `shutdown`.
    pub(crate) async fn run(&self, shutdown: CancellationToken) {
        let changed = Arc::new(Notify::new());
        let services = self.follow::<Service>(&changed);
        let endpoints = self.follow::<Endpoints>(&changed);
        let slices = self.follow::<EndpointSlice>(&changed);
        let keep = async {
            loop {
                changed.notified().await;
                if let Err(error) = self.reconcile().await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the kubernetes Service will be put right again"
                    );
                    tokio::time::sleep(RETRY_AFTER).await;
                    changed.notify_one();
                }
            }
        };
        tokio::join!(
            services.run(shutdown.clone()),
            endpoints.run(shutdown.clone()),
            slices.run(shutdown.clone()),
            shutdown.run_until_cancelled(keep),
        );
    }

    fn follow<K: Object>(&self, changed: &Arc<Notify>) -> Informer<K> {
        let options = InformerOptions {
            namespace: Some(NAMESPACE.to_owned()),
            field_selector: Some(format!("metadata.name={NAME}")),
            ..InformerOptions::default()
        };
        let informer = Informer::new(self.client.clone(), options);
        let changed = changed.clone();
        informer.on_change(move |_change| changed.notify_one());
        informer
    }

    fn target_port(&self) -> IntOrString {
        IntOrString::Int(self.port.into())
    }

    fn service(&self) -> Service {
        Service {
            metadata: meta(&[("component", "apiserver"), ("provider", "kubernetes")]),
            spec: Some(ServiceSpec {
                cluster_ip: Some(self.cluster_ip.to_string()),
                ports: Some(vec![ServicePort {
                    name: Some(PORT_NAME.to_owned()),
                    protocol: Some("TCP".to_owned()),
                    port: PORT,
                    target_port: Some(self.target_port()),
                    ..ServicePort::default()
                }]),
                ..ServiceSpec::default()
            }),
            ..Service::default()
        }
    }

    fn endpoints(&self) -> Endpoints {
        Endpoints {
            // The slice below is written here: the mirroring controller keeps off.
            metadata: meta(&[("endpointslice.kubernetes.io/skip-mirror", "true")]),
            subsets: Some(vec![EndpointSubset {
                addresses: Some(vec![EndpointAddress {
                    ip: self.address.to_string(),
                    ..EndpointAddress::default()
                }]),
                ports: Some(vec![EndpointPort {
                    name: Some(PORT_NAME.to_owned()),
                    port: self.port.into(),
                    protocol: Some("TCP".to_owned()),
                    ..EndpointPort::default()
                }]),
                ..EndpointSubset::default()
            }]),
        }
    }

    fn slice(&self) -> EndpointSlice {
        EndpointSlice {
            metadata: meta(&[("kubernetes.io/service-name", NAME)]),
            address_type: if self.address.is_ipv4() { "IPv4" } else { "IPv6" }.to_owned(),
            endpoints: Some(vec![Endpoint {
                addresses: vec![self.address.to_string()],
                conditions: Some(EndpointConditions {
                    ready: Some(true),
                    ..EndpointConditions::default()
                }),
                ..Endpoint::default()
            }]),
            ports: Some(vec![SlicePort {
                name: Some(PORT_NAME.to_owned()),
                port: Some(self.port.into()),
                protocol: Some("TCP".to_owned()),
                ..SlicePort::default()
            }]),
        }
    }
}

fn meta(labels: &[(&str, &str)]) -> ObjectMeta {
    ObjectMeta {
        name: Some(NAME.to_owned()),
        namespace: Some(NAMESPACE.to_owned()),
        labels: Some(
            labels
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
        ),
        ..ObjectMeta::default()
    }
}
