//! The Service under which pods know the cluster DNS. It has no selector: every node answers for it
//! itself, so that the address never leads off the node.

use super::ensure::{ensure, leave};
use crate::{ServerConfig, ServerError};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use skep_client::Client;

const PORT: i32 = 53;

pub(super) async fn run(client: &Client, config: &ServerConfig) -> Result<(), ServerError> {
    let labels = [
        ("k8s-app", "kube-dns"),
        ("kubernetes.io/cluster-service", "true"),
        ("kubernetes.io/name", "KubeDNS"),
    ];
    let port = |name: &str, protocol: &str| ServicePort {
        name: Some(name.to_owned()),
        protocol: Some(protocol.to_owned()),
        port: PORT,
        target_port: Some(IntOrString::Int(PORT)),
        ..ServicePort::default()
    };
    let service = Service {
        metadata: ObjectMeta {
            name: Some("kube-dns".to_owned()),
            namespace: Some("kube-system".to_owned()),
            labels: Some(
                labels
                    .into_iter()
                    .map(|(k, v)| (k.to_owned(), v.to_owned()))
                    .collect(),
            ),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            cluster_ip: Some(config.cluster_dns.to_string()),
            ports: Some(vec![port("dns", "UDP"), port("dns-tcp", "TCP")]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    };
    ensure(client, &service, leave).await
}
