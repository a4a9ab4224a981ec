//! The compiled records of one Service: everything under `<service>.<namespace>.svc.<zone>`.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use hickory_proto::rr::Name;

use crate::facts::{EndpointFacts, ServiceFacts, ServiceKind, SliceFacts, dashed, parse_dashed};

/// Immutable and compact: addresses, not records; labels only where they are not the dashed address.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ServiceRecords {
    /// `<service>.<namespace>.svc.<zone>`.
    pub(crate) base: Name,
    pub(crate) target: Target,
    /// Endpoints with a hostname, by hostname; a hostname may hold several addresses.
    named: Box<[NamedEndpoint]>,
    /// (address, index in `named`), sorted.
    named_by_address: Box<[(IpAddr, u32)]>,
    /// Endpoints without hostname, sorted.
    unnamed: Box<[IpAddr]>,
    /// SRV record sets, sorted by (port name, protocol).
    ports: Box<[PortRecords]>,
}

/// What the Service's own name gives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The cluster addresses, sorted.
    Cluster(Box<[IpAddr]>),
    /// The addresses of a headless Service's endpoints, sorted.
    Headless(Box<[IpAddr]>),
    /// A CNAME.
    External(Name),
}

#[derive(Debug, PartialEq, Eq)]
struct NamedEndpoint {
    hostname: Box<str>,
    addresses: Box<[IpAddr]>,
}

/// One SRV record set.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PortRecords {
    port_name: Box<str>,
    protocol: Box<str>,
    pub(crate) targets: Box<[SrvTarget]>,
}

/// A port and where it is.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SrvTarget {
    pub(crate) port: u16,
    pub(crate) host: SrvHost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SrvHost {
    /// The Service's own name.
    Service,
    /// The endpoint with a hostname, by its index.
    Named(u32),
    /// An endpoint without hostname.
    Unnamed(IpAddr),
}

impl Target {
    /// The addresses of the Service's own name; none for an ExternalName.
    pub(crate) fn addresses(&self) -> &[IpAddr] {
        match self {
            Target::Cluster(addresses) | Target::Headless(addresses) => addresses,
            Target::External(_) => &[],
        }
    }
}

impl ServiceRecords {
    /// Compiles the records; None if the Service has none (a headless one without usable endpoints).
    pub(crate) fn compile<'a>(
        base: Name,
        facts: &ServiceFacts,
        slices: impl Iterator<Item = &'a SliceFacts> + Clone,
    ) -> Option<ServiceRecords> {
        let usable = |endpoint: &&EndpointFacts| endpoint.ready || facts.publish_not_ready;
        let (mut unnamed, mut by_name) = (Vec::new(), BTreeMap::<&str, Vec<IpAddr>>::new());
        if !matches!(facts.kind, ServiceKind::External(_)) {
            for endpoint in slices.clone().flat_map(|slice| &slice.endpoints).filter(usable) {
                match &endpoint.hostname {
                    Some(hostname) => by_name.entry(hostname).or_default().push(endpoint.address),
                    None => unnamed.push(endpoint.address),
                }
            }
        }
        let named: Box<[NamedEndpoint]> = by_name
            .into_iter()
            .map(|(hostname, addresses)| NamedEndpoint {
                hostname: hostname.into(),
                addresses: sorted(addresses),
            })
            .collect();
        let mut named_by_address = Vec::new();
        for (index, endpoint) in (0_u32..).zip(&named) {
            named_by_address.extend(endpoint.addresses.iter().map(|address| (*address, index)));
        }
        let mut records = ServiceRecords {
            base,
            target: Target::Headless(Box::default()),
            named,
            named_by_address: sorted(named_by_address),
            unnamed: sorted(unnamed),
            ports: Box::default(),
        };
        match &facts.kind {
            ServiceKind::External(target) => records.target = Target::External(target.clone()),
            ServiceKind::Cluster(addresses) => {
                records.target = Target::Cluster(sorted(addresses.clone()));
                records.ports = cluster_ports(facts);
            }
            ServiceKind::Headless => {
                let addresses = sorted(records.endpoint_addresses().collect());
                if addresses.is_empty() {
                    return None;
                }
                records.target = Target::Headless(addresses);
                records.ports = records.headless_ports(slices, usable);
            }
        }
        Some(records)
    }

    fn headless_ports<'a>(
        &self,
        slices: impl Iterator<Item = &'a SliceFacts>,
        usable: impl Fn(&&EndpointFacts) -> bool,
    ) -> Box<[PortRecords]> {
        let mut sets = BTreeMap::<(&str, &str), Vec<SrvTarget>>::new();
        for slice in slices {
            for port in &slice.ports {
                for endpoint in slice.endpoints.iter().filter(&usable) {
                    let host = match &endpoint.hostname {
                        Some(hostname) => self.named_index(hostname.as_bytes()).map(SrvHost::Named),
                        None => Some(SrvHost::Unnamed(endpoint.address)),
                    };
                    let targets = sets.entry((&port.name, &port.protocol)).or_default();
                    targets.extend(host.map(|host| SrvTarget {
                        port: port.port,
                        host,
                    }));
                }
            }
        }
        port_records(sets)
    }

    /// Every address whose reverse name leads here, and whether it is a cluster address.
    pub(crate) fn reverse(&self) -> HashMap<IpAddr, bool> {
        let mut reverse: HashMap<IpAddr, bool> = self.endpoint_addresses().map(|a| (a, false)).collect();
        if let Target::Cluster(addresses) = &self.target {
            reverse.extend(addresses.iter().map(|address| (*address, true)));
        }
        reverse
    }

    /// Addresses of every published endpoint; duplicates possible.
    fn endpoint_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.unnamed
            .iter()
            .copied()
            .chain(self.named_by_address.iter().map(|(address, _)| *address))
    }

    /// Addresses of the endpoint that `label` names; empty if none.
    pub(crate) fn endpoint(&self, label: &[u8]) -> &[IpAddr] {
        if let Some(index) = self.named_index(label) {
            return &self.named[index as usize].addresses;
        }
        let found = parse_dashed(label, true).and_then(|address| self.unnamed.binary_search(&address).ok());
        found.map_or(&[], |at| std::slice::from_ref(&self.unnamed[at]))
    }

    /// Addresses of an SRV target.
    pub(crate) fn host_addresses<'a>(&'a self, host: &'a SrvHost) -> &'a [IpAddr] {
        match (host, &self.target) {
            (SrvHost::Service, target) => target.addresses(),
            (SrvHost::Named(index), _) => &self.named[*index as usize].addresses,
            (SrvHost::Unnamed(address), _) => std::slice::from_ref(address),
        }
    }

    /// The full name of an SRV target; None if it would be no legal name (overlong).
    pub(crate) fn host_name(&self, host: SrvHost) -> Option<Name> {
        match host {
            SrvHost::Service => Some(self.base.clone()),
            SrvHost::Named(index) => self
                .base
                .prepend_label(&*self.named[index as usize].hostname)
                .ok(),
            SrvHost::Unnamed(address) => self.base.prepend_label(dashed(address).as_bytes()).ok(),
        }
    }

    /// The endpoint that has `address`, preferring one with a hostname.
    pub(crate) fn host_of(&self, address: IpAddr) -> Option<SrvHost> {
        let at = self
            .named_by_address
            .partition_point(|(named, _)| *named < address);
        match self.named_by_address.get(at) {
            Some((named, index)) if *named == address => Some(SrvHost::Named(*index)),
            _ => self
                .unnamed
                .binary_search(&address)
                .ok()
                .map(|_| SrvHost::Unnamed(address)),
        }
    }

    /// The SRV record set of `_port._protocol`; labels with their underscore.
    pub(crate) fn port(&self, port: &[u8], protocol: &[u8]) -> Option<&PortRecords> {
        let (port, protocol) = (port.strip_prefix(b"_")?, protocol.strip_prefix(b"_")?);
        self.ports.iter().find(|set| {
            set.port_name.as_bytes().eq_ignore_ascii_case(port)
                && set.protocol.as_bytes().eq_ignore_ascii_case(protocol)
        })
    }

    /// Whether `_protocol` is an inner node of the tree (RFC 8020: it exists, without records).
    pub(crate) fn has_protocol(&self, label: &[u8]) -> bool {
        let Some(protocol) = label.strip_prefix(b"_") else {
            return false;
        };
        self.ports
            .iter()
            .any(|set| set.protocol.as_bytes().eq_ignore_ascii_case(protocol))
    }

    fn named_index(&self, label: &[u8]) -> Option<u32> {
        let label = label.to_ascii_lowercase();
        let found = self
            .named
            .binary_search_by(|endpoint| endpoint.hostname.as_bytes().cmp(&label))
            .ok()?;
        u32::try_from(found).ok()
    }
}

fn cluster_ports(facts: &ServiceFacts) -> Box<[PortRecords]> {
    let mut sets = BTreeMap::<(&str, &str), Vec<SrvTarget>>::new();
    for port in &facts.ports {
        let targets = sets.entry((&port.name, &port.protocol)).or_default();
        targets.push(SrvTarget {
            port: port.port,
            host: SrvHost::Service,
        });
    }
    port_records(sets)
}

fn port_records(sets: BTreeMap<(&str, &str), Vec<SrvTarget>>) -> Box<[PortRecords]> {
    let filled = sets.into_iter().filter(|(_, targets)| !targets.is_empty());
    filled
        .map(|((port_name, protocol), targets)| PortRecords {
            port_name: port_name.into(),
            protocol: protocol.into(),
            targets: sorted(targets),
        })
        .collect()
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Box<[T]> {
    items.sort_unstable();
    items.dedup();
    items.into_boxed_slice()
}
