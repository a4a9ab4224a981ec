//! A Service's pods as subsets: addresses that serve the same ports together. Pure.

use crate::endpointslice::{pod_reference, stamp_trigger_time};
use crate::pods;
use crate::service_pods::{self, Family, HEADLESS_LABEL};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const CAPACITY_ADDRESSES: usize = 1000;
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const MANAGED_BY_LABEL: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";

pub(crate) fn is_ours(endpoints: &Endpoints) -> bool {
    let labels = endpoints.metadata.labels.as_ref();
    labels
        .and_then(|labels| labels.get(MANAGED_BY_LABEL))
        .map(String::as_str)
        == Some(MANAGER)
}

/// The object to write; None: it is so already.
pub(crate) fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    current: Option<&Endpoints>,
    triggered: Option<Timestamp>,
) -> Option<Endpoints> {
    let (subsets, truncated) = truncate(subsets(service, pods));
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS_LABEL);
    if service.spec.as_ref().is_some_and(service_pods::is_headless) {
        labels.insert(HEADLESS_LABEL.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned());
    let mut wanted = current.cloned().unwrap_or_else(|| Endpoints {
        metadata: ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..Default::default()
        },
        subsets: None,
    });
    let noted = current
        .and_then(|current| current.metadata.annotations.as_ref())
        .is_some_and(|annotations| annotations.contains_key(OVER_CAPACITY));
    if let Some(current) = current
        && current.subsets.as_deref().unwrap_or_default() == subsets
        && current.metadata.labels.as_ref() == Some(&labels)
        && noted == truncated
    {
        return None;
    }
    wanted.subsets = (!subsets.is_empty()).then_some(subsets);
    wanted.metadata.labels = Some(labels);
    stamp_trigger_time(&mut wanted.metadata.annotations, triggered);
    let annotations = wanted.metadata.annotations.get_or_insert_default();
    if truncated {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    Some(wanted)
}

/// A port as it sorts; none for a headless Service without ports.
type Port = Option<(String, i32, String, Option<String>)>;
/// Addresses in order, by what makes them one, with readiness.
type Addresses = BTreeMap<(String, String), (bool, EndpointAddress)>;
/// Equal for equal [`Addresses`]: address, pod uid, readiness.
type AddressesKey = Vec<(String, String, bool)>;

fn subsets(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let Some(spec) = service.spec.as_ref() else {
        return Vec::new();
    };
    let publish = service_pods::publishes_unready(service);
    let family = service_pods::families(spec)
        .first()
        .copied()
        .unwrap_or(Family::V4);
    let mut by_port: BTreeMap<Port, Addresses> = BTreeMap::new();
    for pod in pods
        .iter()
        .filter(|pod| service_pods::may_be_endpoint(pod, publish))
    {
        let Some(ip) = service_pods::addresses(pod, family).into_iter().next() else {
            continue;
        };
        let ready = publish || pods::is_ready(pod);
        let key = (ip.clone(), pod.metadata.uid.clone().unwrap_or_default());
        let address = EndpointAddress {
            ip,
            hostname: service_pods::hostname(pod, service),
            node_name: Some(pods::node_name(pod))
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
            target_ref: Some(pod_reference(pod)),
        };
        for port in ports(service, pod) {
            by_port
                .entry(port)
                .or_default()
                .insert(key.clone(), (ready, address.clone()));
        }
    }
    group(by_port)
}

fn ports(service: &Service, pod: &Pod) -> Vec<Port> {
    let spec = service.spec.as_ref();
    let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    if ports.is_empty() && spec.is_some_and(service_pods::is_headless) {
        return vec![None];
    }
    ports
        .iter()
        .filter_map(|port| {
            let number = service_pods::target_port(pod, port)?;
            let name = port.name.clone().unwrap_or_default();
            Some(Some((
                name,
                number,
                service_pods::protocol(port).to_owned(),
                port.app_protocol.clone(),
            )))
        })
        .collect()
}

/// Ports that the same addresses serve become one subset.
fn group(by_port: BTreeMap<Port, Addresses>) -> Vec<EndpointSubset> {
    let mut by_addresses: BTreeMap<AddressesKey, (BTreeSet<Port>, Addresses)> = BTreeMap::new();
    for (port, addresses) in by_port {
        let key = addresses
            .iter()
            .map(|((ip, uid), (ready, _))| (ip.clone(), uid.clone(), *ready))
            .collect();
        by_addresses
            .entry(key)
            .or_insert_with(|| (BTreeSet::new(), addresses))
            .0
            .insert(port);
    }
    by_addresses
        .into_values()
        .map(|(ports, addresses)| subset(ports, addresses))
        .collect()
}

fn subset(ports: BTreeSet<Port>, addresses: Addresses) -> EndpointSubset {
    let (mut ready, mut unready) = (Vec::new(), Vec::new());
    for (is_ready, address) in addresses.into_values() {
        if is_ready { &mut ready } else { &mut unready }.push(address);
    }
    let ports = ports
        .into_iter()
        .flatten()
        .map(|(name, port, protocol, app_protocol)| EndpointPort {
            name: (!name.is_empty()).then_some(name),
            port,
            protocol: Some(protocol),
            app_protocol,
        });
    EndpointSubset {
        addresses: some(ready),
        not_ready_addresses: some(unready),
        ports: some(ports.collect()),
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// Keeps at most the capacity, ready addresses before others, each subset by its share. Says whether
/// anything was cut.
fn truncate(mut subsets: Vec<EndpointSubset>) -> (Vec<EndpointSubset>, bool) {
    let len = |list: &Option<Vec<EndpointAddress>>| list.as_ref().map_or(0, Vec::len);
    let ready: usize = subsets.iter().map(|subset| len(&subset.addresses)).sum();
    let unready: usize = subsets
        .iter()
        .map(|subset| len(&subset.not_ready_addresses))
        .sum();
    if ready + unready <= CAPACITY_ADDRESSES {
        return (subsets, false);
    }
    let cut_ready = ready > CAPACITY_ADDRESSES;
    let (room, total) = if cut_ready {
        (CAPACITY_ADDRESSES, ready)
    } else {
        (CAPACITY_ADDRESSES - ready, unready)
    };
    let mut left = room;
    for subset in &mut subsets {
        if cut_ready {
            subset.not_ready_addresses = None;
        }
        let list = if cut_ready {
            &mut subset.addresses
        } else {
            &mut subset.not_ready_addresses
        };
        let share = (len(list) * room).div_ceil(total).min(left);
        if let Some(addresses) = list {
            addresses.truncate(share);
        }
        *list = list.take().and_then(some);
        left -= share;
    }
    (subsets, true)
}
