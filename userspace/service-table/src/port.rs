//! One port of one Service in one family: its endpoints, the choice among them, its frontends.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use skep_abi::{
    BackendId, FrontendFlags, FrontendKey, FrontendValue, Label, PortBe, PrefixKey, Protocol, Scope,
    ServiceName,
};

use crate::backends::Backends;
use crate::facts::{BackendKey, EndpointState, Family, ServiceFacts, ServicePort};
use crate::frontends::{Claimant, Frontends, rank};
use crate::listing::{Listing, Mode, REACHES, Reach, Tally};
use crate::node_ports::{NodePort, TakenPorts};
use crate::set::{NoRoom, Set, SetSpace};
use crate::source_ranges::SourceRanges;

/// Everything that is written.
#[derive(Debug)]
pub(crate) struct Maps {
    pub(crate) backends: Backends,
    pub(crate) space: SetSpace,
    pub(crate) source_ranges: SourceRanges,
    pub(crate) taken_ports: TakenPorts,
    pub(crate) frontends: Frontends,
}

/// Which port of its Service this is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PortKey {
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) family: Family,
}

/// What the Service object says of the port.
#[derive(Debug)]
pub(crate) struct PortSpec {
    pub(crate) key: PortKey,
    pub(crate) port: u16,
    node_port: Option<NodePort>,
    frontends: Vec<Frontend>,
    /// Clients of the family that may use the restricted frontends.
    source_ranges: Vec<PrefixKey>,
    affinity_timeout_s: u32,
}

/// How the node answers node ports.
#[derive(Debug, Default)]
pub(crate) struct NodePorts {
    pub(crate) addresses: Vec<IpAddr>,
    /// Whether they are restricted as the load balancer's addresses are.
    pub(crate) restricted: bool,
}

#[derive(Debug)]
struct Frontend {
    key: FrontendKey,
    rank: u8,
    flags: FrontendFlags,
    reach: Reach,
}

/// The compiled port.
#[derive(Debug, Default)]
pub(crate) struct Port {
    endpoints: BTreeMap<BackendKey, Listing>,
    /// By the order of [`REACHES`].
    tallies: [Tally; REACHES.len()],
    sets: HashMap<Reach, Set>,
    claims: Vec<(FrontendKey, Claimant)>,
    node_port: Option<NodePort>,
}

/// A change of what one slice says of one endpoint.
pub(crate) type Change = (BackendKey, Option<EndpointState>, Option<EndpointState>);

impl PortSpec {
    /// Every port of the Service in every family that it has an address of.
    pub(crate) fn all(service: &ServiceFacts, node_ports: &NodePorts) -> Vec<PortSpec> {
        let mut families: Vec<Family> = service.cluster_ips.iter().map(|ip| Family::of(*ip)).collect();
        families.sort_unstable();
        families.dedup();
        let mut specs = Vec::new();
        for port in &service.ports {
            for family in &families {
                let key = PortKey {
                    name: port.name.clone(),
                    protocol: port.protocol,
                    family: *family,
                };
                let mut spec = PortSpec {
                    key,
                    port: port.port,
                    node_port: (port.node_port > 0).then_some((port.protocol, port.node_port)),
                    frontends: Vec::new(),
                    source_ranges: service.source_ranges(*family),
                    affinity_timeout_s: service.affinity_timeout_s,
                };
                spec.add_cluster(service);
                spec.add_all_external(service, port, node_ports);
                specs.push(spec);
            }
        }
        specs
    }

    fn add_cluster(&mut self, service: &ServiceFacts) {
        let reach = if service.internal_local {
            Reach::Local
        } else {
            Reach::Cluster
        };
        for ip in &service.cluster_ips {
            self.add(*ip, self.port, Scope::ANY, FrontendFlags::CLUSTER_IP, reach);
        }
    }

    fn add_all_external(&mut self, service: &ServiceFacts, port: &ServicePort, node_ports: &NodePorts) {
        let local = service.external_local;
        let restriction = match service.source_ranges {
            Some(_) => FrontendFlags::RESTRICTED,
            None => FrontendFlags::NONE,
        };
        if port.node_port > 0 {
            let restricted = node_ports.restricted.then_some(restriction);
            let kind = FrontendFlags::NODE_PORT.with(restricted.unwrap_or_default());
            self.add_external(&node_ports.addresses, port.node_port, kind, local);
        }
        let kind = FrontendFlags::LOAD_BALANCER.with(restriction);
        self.add_external(&service.load_balancer_ips, port.port, kind, local);
        let kind = FrontendFlags::EXTERNAL_IP;
        self.add_external(&service.external_ips, port.port, kind, local);
    }

    /// Under externalTrafficPolicy Local the policy binds what comes from outside; this node's own sockets go
    /// anywhere (as kube-proxy does).
    fn add_external(&mut self, ips: &[IpAddr], port: u16, kind: FrontendFlags, local: bool) {
        for ip in ips {
            // Nothing from outside is addressed to the loopback.
            if local && !ip.is_loopback() {
                let (any, external) = (
                    kind.with(FrontendFlags::SPLIT),
                    kind.with(FrontendFlags::LOCAL_ONLY),
                );
                self.add(*ip, port, Scope::ANY, any, Reach::Cluster);
                self.add(*ip, port, Scope::EXTERNAL, external, Reach::Local);
            } else {
                self.add(*ip, port, Scope::ANY, kind, Reach::Cluster);
            }
        }
    }

    fn add(&mut self, ip: IpAddr, port: u16, scope: Scope, flags: FrontendFlags, reach: Reach) {
        if Family::of(ip) == self.key.family {
            let key = FrontendKey {
                address: ip.into(),
                port: PortBe::from_host(port),
                protocol: self.key.protocol,
                scope,
            };
            self.frontends.push(Frontend {
                key,
                rank: rank(flags),
                flags,
                reach,
            });
        }
    }

    /// What people call the backends of that reach.
    fn name(&self, owner: &str, reach: Reach) -> ServiceName {
        let (namespace, name) = owner.split_once('/').unwrap_or_default();
        ServiceName {
            namespace: Label::new(namespace),
            name: Label::new(name),
            port: Label::new(&self.key.name),
            protocol: self.key.protocol,
            local: u8::from(reach == Reach::Local),
            reserved: 0,
        }
    }

    /// The addresses on which node ports answer: the node's and the IPv4 loopback.
    pub(crate) fn node_port_addresses(addresses: &[IpAddr]) -> Vec<IpAddr> {
        let mut all: Vec<IpAddr> = addresses.iter().map(IpAddr::to_canonical).collect();
        all.push(Ipv4Addr::LOCALHOST.into());
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl Port {
    /// Compiles the port anew. What `self` holds already stays where it is.
    pub(crate) fn build(
        &mut self,
        spec: &PortSpec,
        listed: impl Iterator<Item = (BackendKey, EndpointState)>,
        owner: &Arc<str>,
        maps: &mut Maps,
    ) -> Result<(), NoRoom> {
        let mut result = Ok(());
        let old_endpoints = std::mem::take(&mut self.endpoints);
        for (key, state) in listed {
            self.endpoints.entry(key).or_default().count(&state, 1);
        }
        self.tallies = Default::default();
        for (key, listing) in &mut self.endpoints {
            listing.backend = maps.backends.acquire(*key, listing.traits());
            if listing.backend.is_none() {
                result = Err(NoRoom(skep_abi::maps::BACKENDS.name));
            }
            count(&mut self.tallies, listing, 1);
        }
        if spec.node_port != self.node_port {
            spec.node_port.inspect(|port| maps.taken_ports.take(*port));
            let old = std::mem::replace(&mut self.node_port, spec.node_port);
            old.inspect(|port| maps.taken_ports.give_back(*port));
        }
        let built = self.build_sets(spec, owner, maps);
        self.build_claims(spec, owner, maps);
        release(old_endpoints, maps);
        result.and(built)
    }

    fn build_sets(&mut self, spec: &PortSpec, owner: &Arc<str>, maps: &mut Maps) -> Result<(), NoRoom> {
        let mut result = Ok(());
        for reach in REACHES {
            let frontends = spec.frontends.iter().filter(|frontend| frontend.reach == reach);
            let old = self.sets.remove(&reach);
            if frontends.clone().next().is_none() {
                if let Some(set) = old {
                    retire(set, maps);
                }
                continue;
            }
            let restricted = |frontend: &Frontend| frontend.flags.contains(FrontendFlags::RESTRICTED);
            let ranges = if frontends.clone().any(restricted) {
                spec.source_ranges.as_slice()
            } else {
                &[]
            };
            let mut own: Vec<_> = frontends.map(|frontend| (frontend.key, frontend.rank)).collect();
            own.sort_unstable();
            let adopt = maps.frontends.adoptable(&own).into_iter();
            let name = spec.name(owner, reach);
            let mut set = match old.map_or_else(|| Set::new(&mut maps.space, name, adopt), Ok) {
                Ok(set) => set,
                Err(no_room) => {
                    result = Err(no_room);
                    continue;
                }
            };
            set.set_affinity(spec.affinity_timeout_s, &mut maps.space);
            maps.source_ranges.assign(set.id(), owner, ranges);
            result = result.and(set.assign(&self.chosen(reach, self.mode(reach)), &mut maps.space));
            self.sets.insert(reach, set);
        }
        result
    }

    fn build_claims(&mut self, spec: &PortSpec, owner: &Arc<str>, maps: &mut Maps) {
        let old = std::mem::take(&mut self.claims);
        for frontend in &spec.frontends {
            let Some(set) = self.sets.get(&frontend.reach) else {
                continue;
            };
            let claimant = Claimant {
                rank: frontend.rank,
                owner: owner.clone(),
            };
            let value = FrontendValue {
                service: set.id(),
                flags: frontend.flags,
            };
            maps.frontends.claim(frontend.key, claimant.clone(), value);
            self.claims.push((frontend.key, claimant));
        }
        self.claims.sort_unstable();
        for (key, claimant) in old {
            let claim = (key, claimant);
            if self.claims.binary_search(&claim).is_err() {
                maps.frontends.release(claim.0, &claim.1);
            }
        }
    }

    /// Takes a slice's changes: the work of those endpoints, unless the rule of the choice changes with them.
    pub(crate) fn update(&mut self, changes: &[Change], maps: &mut Maps) -> Result<(), NoRoom> {
        let mut result = Ok(());
        let modes = REACHES.map(|reach| self.mode(reach));
        let mut touched = Vec::with_capacity(changes.len());
        for (key, old, new) in changes {
            let listing = self.endpoints.entry(*key).or_default();
            let (before, known) = (*listing, listing.listed > 0);
            for (state, by) in [(old, -1), (new, 1)] {
                if let Some(state) = state {
                    listing.count(state, by);
                }
            }
            if !known {
                listing.backend = maps.backends.acquire(*key, listing.traits());
                if listing.backend.is_none() {
                    result = Err(NoRoom(skep_abi::maps::BACKENDS.name));
                }
            } else if listing.backend.is_some() && listing.listed > 0 {
                maps.backends.change(*key, before.traits(), listing.traits());
            }
            let after = *listing;
            count(&mut self.tallies, &before, -1);
            count(&mut self.tallies, &after, 1);
            touched.push((*key, before, after));
        }
        for (reach, old_mode) in REACHES.into_iter().zip(modes) {
            let flipped = self.mode(reach) != old_mode;
            result = result.and(self.update_set(reach, flipped, &touched, &mut maps.space));
        }
        for (key, before, after) in touched {
            if after.listed == 0 {
                self.endpoints.remove(&key);
                if before.backend.is_some() {
                    maps.backends.release(key, before.traits());
                }
            }
        }
        result
    }

    fn update_set(
        &mut self,
        reach: Reach,
        flipped: bool,
        touched: &[(BackendKey, Listing, Listing)],
        space: &mut SetSpace,
    ) -> Result<(), NoRoom> {
        let mode = self.mode(reach);
        let wanted = flipped.then(|| self.chosen(reach, mode));
        let Some(set) = self.sets.get_mut(&reach) else {
            return Ok(());
        };
        if let Some(wanted) = wanted {
            return set.assign(&wanted, space);
        }
        let (mut removed, mut added) = (Vec::new(), Vec::new());
        for (_, _, after) in touched {
            let Some(backend) = after.backend else { continue };
            match (set.contains(backend), after.is_chosen(reach, mode)) {
                (true, false) => removed.push(backend),
                (false, true) => added.push(backend),
                _ => {}
            }
        }
        set.change(&removed, &added, space)
    }

    /// The port is no more.
    pub(crate) fn retire(self, maps: &mut Maps) {
        for (key, claimant) in &self.claims {
            maps.frontends.release(*key, claimant);
        }
        self.node_port.inspect(|port| maps.taken_ports.give_back(*port));
        for (_, set) in self.sets {
            retire(set, maps);
        }
        release(self.endpoints, maps);
    }

    pub(crate) fn sets(&self) -> impl Iterator<Item = &Set> {
        self.sets.values()
    }

    fn mode(&self, reach: Reach) -> Mode {
        self.tallies[reach as usize].mode(reach)
    }

    fn chosen(&self, reach: Reach, mode: Mode) -> Vec<BackendId> {
        let chosen = self
            .endpoints
            .values()
            .filter(|listing| listing.is_chosen(reach, mode));
        chosen.filter_map(|listing| listing.backend).collect()
    }
}

fn retire(set: Set, maps: &mut Maps) {
    maps.source_ranges.release(set.id());
    set.retire(&mut maps.space);
}

fn count(tallies: &mut [Tally; REACHES.len()], listing: &Listing, by: isize) {
    for (reach, tally) in REACHES.into_iter().zip(tallies) {
        tally.count(reach, listing, by);
    }
}

fn release(endpoints: BTreeMap<BackendKey, Listing>, maps: &mut Maps) {
    for (key, listing) in endpoints {
        if listing.backend.is_some() {
            maps.backends.release(key, listing.traits());
        }
    }
}
