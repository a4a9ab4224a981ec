//! Endpoints into slices, with few writes. Pure; used for Services with selectors and for mirrored
//! Endpoints.
//!
//! An endpoint stays in the slice in which it is. New endpoints fill slices that are written anyway, then
//! the unchanged slice that they fill best, then new slices. Slices are never rebalanced.

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
pub(crate) const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";

/// Endpoints that serve the same ports.
pub(crate) struct Group {
    pub(crate) ports: Vec<EndpointPort>,
    pub(crate) endpoints: Vec<Endpoint>,
}

/// By [`group_key`].
pub(crate) type Groups = BTreeMap<String, Group>;

/// What all slices of one owner and address type have in common.
pub(crate) struct Template {
    pub(crate) namespace: String,
    /// The Service's name.
    pub(crate) name: String,
    pub(crate) address_type: &'static str,
    pub(crate) labels: BTreeMap<String, String>,
    /// Annotations that every slice carries; others on it are left alone.
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) owner: OwnerReference,
    pub(crate) max_per_slice: usize,
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Writes {
    pub(crate) create: Vec<EndpointSlice>,
    pub(crate) update: Vec<EndpointSlice>,
    pub(crate) delete: Vec<EndpointSlice>,
}

impl Writes {
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.create.is_empty() && self.update.is_empty() && self.delete.is_empty()
    }
}

/// Equal for port lists that are the same set.
pub(crate) fn group_key(ports: &[EndpointPort]) -> String {
    let mut keys: Vec<String> = ports
        .iter()
        .map(|port| {
            format!(
                "{}/{}/{}/{}",
                port.name.as_deref().unwrap_or(""),
                port.protocol.as_deref().unwrap_or("TCP"),
                port.port.map_or_else(String::new, |port| port.to_string()),
                port.app_protocol.as_deref().unwrap_or("")
            )
        })
        .collect();
    keys.sort();
    keys.join(",")
}

/// What to write so that the slices of `template` hold exactly the groups. `existing` are its slices of
/// this address type, with foreign ones of an earlier owner of the same name, which go.
///
/// With `placeholder`, one slice without endpoints stands where there would be none.
pub(crate) fn pack(
    template: &Template,
    existing: &[Arc<EndpointSlice>],
    mut groups: Groups,
    placeholder: bool,
) -> Writes {
    let mut writes = Writes::default();
    let mut by_ports: BTreeMap<String, Vec<&Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in existing {
        if crate::owner::is_controlled_by(&slice.metadata, &template.owner.uid) {
            by_ports
                .entry(group_key(slice.ports.as_deref().unwrap_or_default()))
                .or_default()
                .push(slice);
        } else {
            writes.delete.push(EndpointSlice::clone(slice));
        }
    }
    groups.retain(|_, group| !group.endpoints.is_empty());
    let wants_placeholder = placeholder && groups.is_empty();
    for (key, group) in groups {
        let slices = by_ports.remove(&key).unwrap_or_default();
        pack_group(template, slices, group, &mut writes);
    }
    let mut left_over: Vec<&Arc<EndpointSlice>> = by_ports.into_values().flatten().collect();
    if wants_placeholder {
        let empty = |slice: &&Arc<EndpointSlice>| {
            slice.ports.as_ref().is_none_or(Vec::is_empty)
                && slice.endpoints.as_ref().is_none_or(Vec::is_empty)
        };
        if let Some(place) = left_over.iter().position(empty) {
            let mut kept = EndpointSlice::clone(left_over.remove(place));
            if template.stamp(&mut kept.metadata) {
                writes.update.push(kept);
            }
        } else {
            writes.create.push(template.slice(Vec::new()));
        }
    }
    writes
        .delete
        .extend(left_over.into_iter().map(|slice| EndpointSlice::clone(slice)));
    writes.reuse(template);
    writes
}

struct Open {
    slice: EndpointSlice,
    changed: bool,
}

impl Open {
    fn len(&self) -> usize {
        self.slice.endpoints.as_ref().map_or(0, Vec::len)
    }

    fn fill(&mut self, from: &mut BTreeMap<String, Endpoint>, max: usize) {
        let endpoints = self.slice.endpoints.get_or_insert_default();
        while endpoints.len() < max
            && let Some((_, endpoint)) = from.pop_first()
        {
            endpoints.push(endpoint);
            self.changed = true;
        }
    }
}

fn pack_group(template: &Template, slices: Vec<&Arc<EndpointSlice>>, group: Group, writes: &mut Writes) {
    let max = template.max_per_slice;
    let mut wanted: BTreeMap<String, Endpoint> = group
        .endpoints
        .into_iter()
        .map(|endpoint| (identity(&endpoint), endpoint))
        .collect();
    let mut open = Vec::new();
    for slice in slices {
        let kept = keep(template, slice, &mut wanted);
        if kept.len() > 0 {
            open.push(kept);
        } else {
            writes.delete.push(EndpointSlice::clone(slice));
        }
    }
    open.sort_by_key(|kept| Reverse(kept.len()));
    for kept in open.iter_mut().filter(|kept| kept.changed) {
        kept.fill(&mut wanted, max);
    }
    while !wanted.is_empty() {
        let fits = |kept: &&mut Open| !kept.changed && kept.len() + wanted.len() <= max;
        match open.iter_mut().filter(fits).max_by_key(|kept| kept.len()) {
            Some(best) => best.fill(&mut wanted, max),
            None => {
                let mut new = Open {
                    slice: template.slice(group.ports.clone()),
                    changed: true,
                };
                new.fill(&mut wanted, max);
                writes.create.push(new.slice);
            }
        }
    }
    writes.update.extend(
        open.into_iter()
            .filter(|kept| kept.changed)
            .map(|kept| kept.slice),
    );
}

/// The slice without the endpoints that are not wanted any more, the others brought up to date and taken
/// out of `wanted`.
fn keep(template: &Template, slice: &EndpointSlice, wanted: &mut BTreeMap<String, Endpoint>) -> Open {
    let mut kept = Open {
        slice: slice.clone(),
        changed: false,
    };
    let mut endpoints = Vec::new();
    for old in kept.slice.endpoints.take().unwrap_or_default() {
        match wanted.remove(&identity(&old)) {
            Some(new) => {
                kept.changed |= !same(&old, &new);
                endpoints.push(if same(&old, &new) { old } else { new });
            }
            None => kept.changed = true,
        }
    }
    kept.slice.endpoints = Some(endpoints);
    kept.changed |= template.stamp(&mut kept.slice.metadata);
    kept
}

/// What makes two versions of an endpoint the same endpoint.
fn identity(endpoint: &Endpoint) -> String {
    let target = endpoint.target_ref.as_ref();
    let text = |field: Option<&String>| field.map_or("", String::as_str).to_owned();
    let mut addresses = endpoint.addresses.clone();
    addresses.sort();
    format!(
        "{} {} {} {}",
        addresses.join(","),
        text(target.and_then(|target| target.namespace.as_ref())),
        text(target.and_then(|target| target.name.as_ref())),
        text(target.and_then(|target| target.uid.as_ref())),
    )
}

/// Whether nothing of what these controllers set differs.
fn same(old: &Endpoint, new: &Endpoint) -> bool {
    old.conditions == new.conditions
        && old.hostname == new.hostname
        && old.node_name == new.node_name
        && old.zone == new.zone
        && old.hints == new.hints
}

impl Template {
    fn slice(&self, ports: Vec<EndpointPort>) -> EndpointSlice {
        let mut metadata = ObjectMeta {
            generate_name: Some(format!("{}-", self.name)),
            namespace: Some(self.namespace.clone()),
            owner_references: Some(vec![self.owner.clone()]),
            ..Default::default()
        };
        self.stamp(&mut metadata);
        EndpointSlice {
            metadata,
            address_type: self.address_type.to_owned(),
            endpoints: Some(Vec::new()),
            ports: Some(ports),
        }
    }

    /// Brings labels and annotations up to date; says whether that changed any.
    fn stamp(&self, metadata: &mut ObjectMeta) -> bool {
        let mut changed = metadata.labels.as_ref() != Some(&self.labels);
        if changed {
            metadata.labels = Some(self.labels.clone());
        }
        for (key, value) in &self.annotations {
            let annotations = metadata.annotations.get_or_insert_default();
            changed |= annotations.insert(key.clone(), value.clone()).as_ref() != Some(value);
        }
        changed
    }
}

impl Writes {
    /// Where one slice goes and another comes, one is rewritten: a reader sees no gap.
    fn reuse(&mut self, template: &Template) {
        while !self.create.is_empty()
            && let Some(place) = self
                .delete
                .iter()
                .position(|slice| crate::owner::is_controlled_by(&slice.metadata, &template.owner.uid))
        {
            let mut old = self.delete.remove(place);
            let new = self.create.remove(0);
            template.stamp(&mut old.metadata);
            self.update.push(EndpointSlice {
                metadata: old.metadata,
                ..new
            });
        }
    }
}

/// The Service that a slice of this manager belongs to.
pub(crate) fn service_of(slice: &EndpointSlice, manager: &str) -> Option<skep_api::ObjectKey> {
    let labels = slice.metadata.labels.as_ref()?;
    if labels.get(MANAGED_BY_LABEL).map(String::as_str) != Some(manager) {
        return None;
    }
    let service = labels.get(SERVICE_NAME_LABEL)?;
    Some(skep_api::ObjectKey::new(
        slice.metadata.namespace.clone()?,
        service,
    ))
}

/// For an index of a manager's slices by their Service's key.
pub(crate) fn index_value(slice: &EndpointSlice, manager: &str) -> Vec<String> {
    service_of(slice, manager)
        .map(|key| key.to_string())
        .into_iter()
        .collect()
}
