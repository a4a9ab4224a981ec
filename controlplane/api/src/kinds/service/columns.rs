//! Services in Tables.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use serde_json::Value;

use crate::resource::Column;
use crate::{LabelSelector, ObjectExt, print};

pub(super) const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::string("Type", "type determines how the Service is exposed."),
    Column::string(
        "Cluster-IP",
        "clusterIP is the IP address of the service and is usually assigned randomly.",
    ),
    Column::string(
        "External-IP",
        "externalIPs is a list of IP addresses for which nodes in the cluster will also accept traffic for this service.",
    ),
    Column::string("Port(s)", "The list of ports that are exposed by this service."),
    Column::AGE,
    Column::string(
        "Selector",
        "Route service traffic to pods with label keys and values matching this selector.",
    )
    .wide(),
];

const NONE: &str = "<none>";

pub(super) fn cells(service: &Service, now: Timestamp) -> Vec<Value> {
    let spec = service.spec.clone().unwrap_or_default();
    let address = spec
        .cluster_ips
        .as_ref()
        .and_then(|ips| ips.first().cloned())
        .or_else(|| spec.cluster_ip.clone());
    let selector = match &spec.selector {
        Some(selector) if !selector.is_empty() => LabelSelector::from_map(selector).to_string(),
        _ => NONE.to_owned(),
    };
    vec![
        service.name().into(),
        spec.type_.clone().unwrap_or_default().into(),
        address
            .filter(|ip| !ip.is_empty())
            .unwrap_or_else(|| NONE.to_owned())
            .into(),
        external(service, &spec).into(),
        ports(spec.ports.as_deref().unwrap_or_default()).into(),
        print::age(&service.metadata, now),
        selector.into(),
    ]
}

fn external(service: &Service, spec: &ServiceSpec) -> String {
    let given = spec.external_ips.clone().unwrap_or_default();
    match spec.type_.as_deref() {
        Some("ExternalName") => spec.external_name.clone().unwrap_or_default(),
        Some("LoadBalancer") => {
            let balancer = service
                .status
                .as_ref()
                .and_then(|status| status.load_balancer.as_ref());
            let ingress = balancer
                .iter()
                .flat_map(|balancer| balancer.ingress.iter().flatten());
            let addresses =
                ingress.filter_map(|ingress| ingress.ip.clone().or_else(|| ingress.hostname.clone()));
            let all: Vec<String> = addresses.chain(given).collect();
            if all.is_empty() {
                "<pending>".to_owned()
            } else {
                all.join(",")
            }
        }
        _ if given.is_empty() => NONE.to_owned(),
        _ => given.join(","),
    }
}

/// `80:30080/TCP,53/UDP`.
fn ports(ports: &[ServicePort]) -> String {
    if ports.is_empty() {
        return NONE.to_owned();
    }
    let texts: Vec<String> = ports
        .iter()
        .map(|port| {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            match port.node_port.filter(|number| *number > 0) {
                Some(number) => format!("{}:{number}/{protocol}", port.port),
                None => format!("{}/{protocol}", port.port),
            }
        })
        .collect();
    texts.join(",")
}
