//! The table: objects in, operations out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::iter::repeat;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use skep_abi::{Address, PortBe, maps};

use crate::backends::Backends;
use crate::facts::{BackendKey, EndpointState, Family, Hint, LocalReady, ServiceFacts, SliceFacts};
use crate::frontends::Frontends;
use crate::node_ports::TakenPorts;
use crate::op::{IdState, MapOp};
use crate::port::{Change, Maps, NodePorts, Port, PortKey, PortSpec};
use crate::set::{NoRoom, SetSpace};
use crate::source_ranges::SourceRanges;

/// The label that ties an EndpointSlice to its Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Capacities of the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Entries of FRONTENDS.
    pub frontends: u32,
    /// Entries of SOURCE_RANGES.
    pub source_ranges: u32,
    /// Elements of SERVICES.
    pub services: u32,
    /// Elements of SLOTS.
    pub slots: u32,
    /// Elements of BACKENDS.
    pub backends: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            frontends: maps::FRONTENDS.default_entries,
            source_ranges: maps::SOURCE_RANGES.default_entries,
            services: maps::SERVICES.default_entries,
            slots: maps::SLOTS.default_entries,
            backends: maps::BACKENDS.default_entries,
        }
    }
}

/// The node whose table this is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// Its name, as `endpoint.nodeName` has it.
    pub name: String,
    /// Its addresses: node ports answer there, and on 127.0.0.1.
    pub addresses: Vec<IpAddr>,
    /// Its zone, the label `topology.kubernetes.io/zone`; empty = not known.
    pub zone: String,
    /// Whether loadBalancerSourceRanges bind the node ports of their Service, too.
    pub restrict_node_ports: bool,
    /// Services that the node answers itself.
    pub node_local: Vec<NodeLocal>,
}

/// A Service whose every port leads to the same port of `address`, whatever its EndpointSlices say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLocal {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
    /// An address of this node.
    pub address: IpAddr,
}

/// A Service that the maps have no room for, wholly or in part. What of it was there before is unharmed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub name: String,
    /// The map without room.
    pub map: &'static str,
}

/// The service table of one node. See the crate's documentation.
#[derive(Debug)]
pub struct ServiceTable {
    node: NodeView,
    node_ports: NodePorts,
    services: BTreeMap<Key, Entry>,
    /// (namespace, slice) to the Service's name.
    slice_owners: HashMap<Key, String>,
    /// Services to compile from scratch when operations are next taken.
    marked: BTreeSet<Key>,
    /// Services that found no room, and in which map.
    starved: BTreeMap<Key, &'static str>,
    /// Whether room was freed since they last tried.
    room_freed: bool,
    /// Over all Services.
    port_count: usize,
    pub(crate) maps: Maps,
}

/// (namespace, name)
type Key = (String, String);

#[derive(Debug)]
struct Entry {
    owner: Arc<str>,
    facts: Option<ServiceFacts>,
    slices: BTreeMap<String, SliceFacts>,
    ports: BTreeMap<PortKey, Port>,
}

impl ServiceTable {
    /// A table over maps of these capacities that hold `state`.
    ///
    /// Nothing of `state` is removed before the first [`ServiceTable::take_ops`], which must not be called
    /// before every object there is has been applied.
    pub fn new(node: NodeView, limits: Limits, state: &IdState) -> ServiceTable {
        let maps = Maps {
            backends: Backends::new(limits.backends),
            space: SetSpace::new(limits.services, limits.slots),
            source_ranges: SourceRanges::new(limits.source_ranges),
            taken_ports: TakenPorts::default(),
            frontends: Frontends::new(limits.frontends),
        };
        let mut table = ServiceTable {
            node: NodeView::default(),
            node_ports: NodePorts::default(),
            services: BTreeMap::new(),
            slice_owners: HashMap::new(),
            marked: BTreeSet::new(),
            starved: BTreeMap::new(),
            room_freed: false,
            port_count: 0,
            maps,
        };
        table.set_node(node);
        table.resync(state);
        table
    }

    /// The maps hold `state`, whatever was believed: the next operations lead from there to what shall be. For
    /// use after an operation failed.
    pub fn resync(&mut self, state: &IdState) {
        self.maps.backends.observe(&state.backends);
        let sets = self
            .services
            .values()
            .flat_map(|entry| entry.ports.values())
            .flat_map(Port::sets);
        self.maps.space.observe(state, sets);
        self.maps.source_ranges.observe(&state.source_ranges);
        self.maps.taken_ports.observe(&state.node_ports);
        self.maps.frontends.observe(&state.frontends);
        self.room_freed = true;
    }

    /// Something about the node changed other than its name, which is settled by [`ServiceTable::new`]: everything
    /// is compiled anew if so.
    pub fn set_node(&mut self, node: NodeView) {
        if node == self.node {
            return;
        }
        self.node_ports = NodePorts {
            addresses: PortSpec::node_port_addresses(&node.addresses),
            restricted: node.restrict_node_ports,
        };
        let own = node
            .addresses
            .iter()
            .chain(node.node_local.iter().map(|local| &local.address));
        self.maps
            .backends
            .set_node_addresses(own.map(|address| Address::from(*address)).collect());
        self.node = node;
        self.marked.extend(self.services.keys().cloned());
    }

    /// A Service was added or changed.
    pub fn apply_service(&mut self, service: &Service) {
        let (Some(namespace), Some(name)) = (&service.metadata.namespace, &service.metadata.name) else {
            return;
        };
        let facts = ServiceFacts::parse(service);
        let key = (namespace.clone(), name.clone());
        let entry = self
            .services
            .entry(key.clone())
            .or_insert_with(|| Entry::new(&key));
        if entry.facts != facts {
            entry.facts = facts;
            self.marked.insert(key);
        }
    }

    /// A Service was removed.
    pub fn remove_service(&mut self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(entry) = self.services.get_mut(&key) {
            entry.facts = None;
            self.marked.insert(key);
        }
    }

    /// An EndpointSlice was added or changed; also when it now belongs to another Service.
    pub fn apply_slice(&mut self, slice: &EndpointSlice) {
        let metadata = &slice.metadata;
        let (Some(namespace), Some(name)) = (&metadata.namespace, &metadata.name) else {
            return;
        };
        let owner = metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(SERVICE_NAME_LABEL));
        let slice_key = (namespace.clone(), name.clone());
        if self.slice_owners.get(&slice_key) != owner {
            self.remove_slice(namespace, name);
        }
        let facts = SliceFacts::parse(slice, &self.node.name);
        match (owner, facts) {
            (Some(owner), Some(facts)) => {
                self.slice_owners.insert(slice_key, owner.clone());
                self.replace_slice((namespace.clone(), owner.clone()), name, Some(facts));
            }
            _ => self.remove_slice(namespace, name),
        }
    }

    /// An EndpointSlice was removed.
    pub fn remove_slice(&mut self, namespace: &str, name: &str) {
        if let Some(owner) = self.slice_owners.remove(&(namespace.to_owned(), name.to_owned())) {
            self.replace_slice((namespace.to_owned(), owner), name, None);
        }
    }

    fn replace_slice(&mut self, key: Key, name: &str, new: Option<SliceFacts>) {
        let entry = self
            .services
            .entry(key.clone())
            .or_insert_with(|| Entry::new(&key));
        let old = match &new {
            Some(facts) => entry.slices.insert(name.to_owned(), facts.clone()),
            None => entry.slices.remove(name),
        };
        let local = self.node.node_local.iter().any(|local| local.is(&key));
        if old != new && !local && !self.marked.contains(&key) {
            let zone = &self.node.zone;
            let result = entry.update_ports(old.as_ref(), new.as_ref(), zone, &mut self.maps);
            note(&mut self.starved, &key, result);
        }
        if entry.is_empty() {
            self.marked.insert(key);
        }
    }

    /// What must be written since the last call, in safe order (see [`MapOp`]). It counts as written; should
    /// that fail, see [`ServiceTable::resync`].
    pub fn take_ops(&mut self) -> Vec<MapOp> {
        if std::mem::take(&mut self.room_freed) {
            self.marked.extend(self.starved.keys().cloned());
        }
        for key in std::mem::take(&mut self.marked) {
            self.compile(&key);
        }
        let mut ops = self.maps.space.name_puts();
        ops.extend(self.maps.backends.puts());
        ops.extend(self.maps.space.slot_puts());
        let (filled, emptied) = self.maps.space.service_puts();
        ops.extend(filled);
        let (range_puts, range_deletes) = self.maps.source_ranges.ops();
        ops.extend(range_puts);
        ops.extend(self.maps.taken_ports.puts());
        let (frontend_puts, frontend_deletes) = self.maps.frontends.ops();
        ops.extend(frontend_puts);
        ops.extend(emptied);
        ops.extend(frontend_deletes);
        ops.extend(self.maps.taken_ports.deletes());
        ops.extend(range_deletes);
        let (deletes, freed_sets) = self.maps.space.deletes();
        ops.extend(deletes);
        let (deletes, freed_backends) = self.maps.backends.deletes();
        ops.extend(deletes);
        ops.extend(self.maps.space.name_deletes());
        self.room_freed = freed_sets || freed_backends;
        ops
    }

    /// Whether another [`ServiceTable::take_ops`] has work without any further change: removals that wait until no
    /// lookup can be under way any more (some milliseconds), or Services that may now find room.
    pub fn has_deferred(&self) -> bool {
        self.maps.space.waits()
            || self.maps.backends.waits()
            || self.maps.frontends.waits()
            || self.maps.source_ranges.waits()
            || self.maps.taken_ports.waits()
            || self.room_freed && !self.starved.is_empty()
    }

    /// Services that the maps have no room for as of the last [`ServiceTable::take_ops`], sorted.
    pub fn problems(&self) -> Vec<Problem> {
        let starved = self
            .starved
            .iter()
            .map(|((namespace, name), map)| (namespace.as_str(), name.as_str(), *map));
        let frontends = self.maps.frontends.left_out().zip(repeat(maps::FRONTENDS.name));
        let ranges = self
            .maps
            .source_ranges
            .left_out()
            .zip(repeat(maps::SOURCE_RANGES.name));
        let left_out = frontends.chain(ranges).filter_map(|(owner, map)| {
            owner
                .split_once('/')
                .map(|(namespace, name)| (namespace, name, map))
        });
        let mut problems: Vec<Problem> = starved
            .chain(left_out)
            .map(|(namespace, name, map)| Problem {
                namespace: namespace.into(),
                name: name.into(),
                map,
            })
            .collect();
        problems.sort_unstable();
        problems
    }

    /// Ready endpoints of a Service on this node, as load balancers ask for them.
    pub fn local_ready(&self, namespace: &str, name: &str) -> LocalReady {
        let entry = self.services.get(&(namespace.to_owned(), name.to_owned()));
        LocalReady::count(entry.iter().flat_map(|entry| entry.slices.values()))
    }

    /// Service ports that have a frontend, over both families.
    pub fn port_count(&self) -> usize {
        self.port_count
    }

    fn compile(&mut self, key: &Key) {
        let Some(entry) = self.services.get_mut(key) else {
            return;
        };
        let local = self
            .node
            .node_local
            .iter()
            .find(|local| local.is(key))
            .map(|local| local.address);
        let specs = entry
            .facts
            .as_ref()
            .map(|facts| PortSpec::all(facts, &self.node_ports));
        let mut old_ports = std::mem::take(&mut entry.ports);
        self.port_count -= old_ports.len();
        let mut result = Ok(());
        for spec in specs.into_iter().flatten() {
            let mut port = old_ports.remove(&spec.key).unwrap_or_default();
            let listed: Vec<_> = match local {
                Some(address) => node_local_backend(address, &spec).into_iter().collect(),
                None => entry.listed(&spec.key, &self.node.zone).collect(),
            };
            result = result.and(port.build(&spec, listed.into_iter(), &entry.owner, &mut self.maps));
            entry.ports.insert(spec.key, port);
        }
        self.port_count += entry.ports.len();
        for port in old_ports.into_values() {
            port.retire(&mut self.maps);
        }
        self.starved.remove(key);
        note(&mut self.starved, key, result);
        if entry.is_empty() {
            self.services.remove(key);
        }
    }
}

impl NodeLocal {
    fn is(&self, key: &Key) -> bool {
        (&self.namespace, &self.name) == (&key.0, &key.1)
    }
}

impl Entry {
    fn new(key: &Key) -> Entry {
        let owner = format!("{}/{}", key.0, key.1).into();
        Entry {
            owner,
            facts: None,
            slices: BTreeMap::new(),
            ports: BTreeMap::new(),
        }
    }

    fn is_empty(&self) -> bool {
        self.facts.is_none() && self.slices.is_empty()
    }

    /// What all slices list for a port.
    fn listed<'a>(
        &'a self,
        key: &'a PortKey,
        zone: &'a str,
    ) -> impl Iterator<Item = (BackendKey, EndpointState)> + 'a {
        let slices = self
            .slices
            .values()
            .filter(move |slice| slice.family == key.family);
        slices.flat_map(move |slice| slice.backends(&key.name, key.protocol, zone))
    }

    /// One slice changed from `old` to `new`.
    fn update_ports(
        &mut self,
        old: Option<&SliceFacts>,
        new: Option<&SliceFacts>,
        zone: &str,
        maps: &mut Maps,
    ) -> Result<(), NoRoom> {
        let mut result = Ok(());
        for (key, port) in &mut self.ports {
            let changes = slice_changes(key, old, new, zone);
            if !changes.is_empty() {
                result = result.and(port.update(&changes, maps));
            }
        }
        result
    }
}

/// What differs between two states of a slice, for one port, by backend.
fn slice_changes(
    key: &PortKey,
    old: Option<&SliceFacts>,
    new: Option<&SliceFacts>,
    zone: &str,
) -> Vec<Change> {
    let listed = |slice: Option<&SliceFacts>| -> BTreeMap<BackendKey, EndpointState> {
        let slice = slice.filter(|slice| slice.family == key.family);
        slice
            .map(|slice| slice.backends(&key.name, key.protocol, zone).collect())
            .unwrap_or_default()
    };
    let (mut old, new) = (listed(old), listed(new));
    let mut changes: Vec<Change> = Vec::new();
    for (backend, state) in new {
        let before = old.remove(&backend);
        if before != Some(state) {
            changes.push((backend, before, Some(state)));
        }
    }
    changes.extend(
        old.into_iter()
            .map(|(backend, state)| (backend, Some(state), None)),
    );
    changes
}

fn node_local_backend(address: IpAddr, spec: &PortSpec) -> Option<(BackendKey, EndpointState)> {
    let state = EndpointState {
        ready: true,
        fallback: false,
        terminating: false,
        local: true,
        node_hint: Hint::None,
        zone_hint: Hint::None,
    };
    let (port, protocol) = (PortBe::from_host(spec.port), spec.key.protocol);
    let key = BackendKey {
        address: address.into(),
        port,
        protocol,
    };
    (Family::of(address) == spec.key.family).then_some((key, state))
}

fn note(starved: &mut BTreeMap<Key, &'static str>, key: &Key, result: Result<(), NoRoom>) {
    if let Err(NoRoom(map)) = result {
        starved.insert(key.clone(), map);
    }
}
