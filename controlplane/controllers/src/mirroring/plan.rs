//! Which slices mirror a Service's Endpoints. Pure.

use crate::endpointslice::packing::{self, Group, Groups, Template, Writes, group_key};
use crate::owner;
use crate::service_pods::Family;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER_ANNOTATION: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const MAX_ENDPOINTS_PER_SLICE: usize = 1000;
/// Addresses of one subset beyond this are not mirrored.
const MAX_ENDPOINTS_PER_SUBSET: usize = 1000;

pub(crate) fn plan(
    service: Option<&Service>,
    endpoints: Option<&Endpoints>,
    existing: &[Arc<EndpointSlice>],
) -> Writes {
    let Some(endpoints) = endpoints.filter(|endpoints| is_mirrored(service, endpoints)) else {
        return Writes {
            delete: existing.iter().map(|slice| EndpointSlice::clone(slice)).collect(),
            ..Default::default()
        };
    };
    let mut all = Writes::default();
    for family in [Family::V4, Family::V6] {
        let template = template(endpoints, family.address_type());
        let existing: Vec<_> = existing
            .iter()
            .filter(|slice| slice.address_type == family.address_type())
            .cloned()
            .collect();
        let writes = packing::pack(&template, &existing, groups(endpoints, family), false);
        all.create.extend(writes.create);
        all.update.extend(writes.update);
        all.delete.extend(writes.delete);
    }
    all
}

fn is_mirrored(service: Option<&Service>, endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    let skipped = meta
        .labels
        .as_ref()
        .and_then(|labels| labels.get(SKIP_LABEL))
        .is_some_and(|skip| skip == "true");
    let elects = meta
        .annotations
        .as_ref()
        .is_some_and(|notes| notes.contains_key(LEADER_ANNOTATION));
    let by_hand = service
        .and_then(|service| service.spec.as_ref())
        .is_some_and(|spec| spec.selector.is_none() && spec.type_.as_deref() != Some("ExternalName"));
    by_hand && !skipped && !elects
}

fn groups(endpoints: &Endpoints, family: Family) -> Groups {
    let mut groups = Groups::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports = ports(subset);
        let group = groups.entry(group_key(&ports)).or_insert_with(|| Group {
            ports,
            endpoints: Vec::new(),
        });
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let unready = subset
            .not_ready_addresses
            .iter()
            .flatten()
            .map(|address| (address, false));
        let mirrored = ready
            .chain(unready)
            .filter(|(address, _)| Family::of(&address.ip) == Some(family))
            .take(MAX_ENDPOINTS_PER_SUBSET)
            .map(|(address, ready)| endpoint(address, ready));
        group.endpoints.extend(mirrored);
    }
    groups
}

fn ports(subset: &EndpointSubset) -> Vec<EndpointPort> {
    subset
        .ports
        .iter()
        .flatten()
        .map(|port| EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(port.port),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
            app_protocol: port.app_protocol.clone(),
        })
        .collect()
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..Default::default()
        }),
        hostname: address.hostname.clone().filter(|hostname| !hostname.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Default::default()
    }
}

fn template(endpoints: &Endpoints, address_type: &'static str) -> Template {
    let meta = &endpoints.metadata;
    let name = meta.name.clone().unwrap_or_default();
    let mut labels = meta.labels.clone().unwrap_or_default();
    labels.insert(packing::SERVICE_NAME_LABEL.to_owned(), name.clone());
    labels.insert(packing::MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned());
    let annotations: BTreeMap<String, String> = meta
        .annotations
        .iter()
        .flatten()
        .filter(|(key, _)| key.as_str() != LAST_APPLIED)
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    Template {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name,
        address_type,
        labels,
        annotations,
        owner: owner::controller_ref::<Endpoints>(meta),
        max_per_slice: MAX_ENDPOINTS_PER_SLICE,
    }
}
