//! What the table needs to know of an object: parsed once, at the edge.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use skep_abi::{Address, PortBe, PrefixKey, Protocol};

/// `service.spec.sessionAffinityConfig.clientIP.timeoutSeconds` unless given.
const DEFAULT_AFFINITY_TIMEOUT_S: u32 = 10_800;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// A Service that the dataplane serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceFacts {
    pub(crate) ports: Vec<ServicePort>,
    pub(crate) cluster_ips: Vec<IpAddr>,
    pub(crate) external_ips: Vec<IpAddr>,
    pub(crate) load_balancer_ips: Vec<IpAddr>,
    /// The clients that may use the load balancer's addresses; None = all.
    pub(crate) source_ranges: Option<Vec<PrefixKey>>,
    pub(crate) internal_local: bool,
    pub(crate) external_local: bool,
    /// 0 = no affinity.
    pub(crate) affinity_timeout_s: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServicePort {
    /// Empty for the only, unnamed port.
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    /// 0 = none.
    pub(crate) node_port: u16,
}

/// An endpoint's address, port and protocol: what a backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct BackendKey {
    pub(crate) address: Address,
    pub(crate) port: PortBe,
    pub(crate) protocol: Protocol,
}

/// What one slice says of one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndpointState {
    pub(crate) ready: bool,
    /// Serving and terminating: used when nothing is ready (KEP-1669).
    pub(crate) fallback: bool,
    pub(crate) terminating: bool,
    pub(crate) local: bool,
    pub(crate) node_hint: Hint,
    pub(crate) zone_hint: Hint,
}

/// Whether the endpoint's hints of one kind (`hints.forNodes`, `hints.forZones`) name this node or its zone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Hint {
    /// There are none.
    #[default]
    None,
    ForUs,
    ForOthers,
}

/// How many ready endpoints a Service has on this node; an address counts once, whatever its ports and slices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalReady {
    ipv4: usize,
    ipv6: usize,
}

impl LocalReady {
    /// Those of the family of `address`.
    pub fn of_family(&self, address: IpAddr) -> usize {
        match Family::of(address) {
            Family::V4 => self.ipv4,
            Family::V6 => self.ipv6,
        }
    }

    pub(crate) fn count<'a>(slices: impl Iterator<Item = &'a SliceFacts>) -> LocalReady {
        let endpoints = slices.flat_map(|slice| &slice.endpoints);
        let ready = endpoints.filter(|endpoint| endpoint.state.local && endpoint.state.ready);
        let addresses: BTreeSet<Address> = ready.map(|endpoint| endpoint.address).collect();
        let ipv4 = addresses.iter().filter(|address| address.is_ipv4()).count();
        LocalReady {
            ipv4,
            ipv6: addresses.len() - ipv4,
        }
    }
}

/// An EndpointSlice of addresses. No port and no endpoint stands in it twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SliceFacts {
    pub(crate) family: Family,
    ports: Vec<SlicePort>,
    endpoints: Vec<SliceEndpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct SliceEndpoint {
    address: Address,
    /// Its zone hint is not filled in: this node's zone may change.
    state: EndpointState,
    /// Zones that it is hinted for.
    zones: Box<[String]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct SlicePort {
    name: String,
    protocol: Protocol,
    port: u16,
}

impl ServiceFacts {
    /// Those of `source_ranges` that hold clients of this family.
    pub(crate) fn source_ranges(&self, family: Family) -> Vec<PrefixKey> {
        let ranges = self.source_ranges.iter().flatten();
        let of_family = ranges.filter(|range| range.address.is_ipv4() == (family == Family::V4));
        of_family.copied().collect()
    }

    /// None for a Service that needs no dataplane: headless, ExternalName, or without an address yet.
    pub(crate) fn parse(service: &Service) -> Option<ServiceFacts> {
        let spec = service.spec.as_ref()?;
        if spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let mut cluster_ips = addresses(spec.cluster_ips.iter().flatten());
        if cluster_ips.is_empty() {
            cluster_ips = addresses(spec.cluster_ip.iter());
        }
        if cluster_ips.is_empty() {
            return None;
        }
        let ports = spec.ports.iter().flatten().filter_map(|port| {
            Some(ServicePort {
                name: port.name.clone().unwrap_or_default(),
                protocol: protocol(port.protocol.as_deref())?,
                port: u16::try_from(port.port).ok().filter(|port| *port > 0)?,
                node_port: port
                    .node_port
                    .and_then(|port| u16::try_from(port).ok())
                    .unwrap_or(0),
            })
        });
        let affinity = (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
            let config = spec
                .session_affinity_config
                .as_ref()
                .and_then(|config| config.client_ip.as_ref());
            let timeout = config.and_then(|config| config.timeout_seconds);
            timeout
                .and_then(|timeout| u32::try_from(timeout).ok())
                .unwrap_or(DEFAULT_AFFINITY_TIMEOUT_S)
        });
        Some(ServiceFacts {
            ports: ports.collect(),
            cluster_ips,
            external_ips: addresses(spec.external_ips.iter().flatten()),
            load_balancer_ips: load_balancer_ips(service),
            source_ranges: source_ranges(service),
            internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
            external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
            affinity_timeout_s: affinity.unwrap_or(0),
        })
    }
}

fn is_load_balancer(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    spec.is_some_and(|spec| spec.type_.as_deref() == Some("LoadBalancer"))
}

/// loadBalancerSourceRanges. A list that names something admits that and nothing else, also when it names clients
/// of one family only or something that is no range. (kube-proxy takes the families apart, and leaves one open that
/// the list does not mention.) Blanks around a range are allowed, as upstream.
fn source_ranges(service: &Service) -> Option<Vec<PrefixKey>> {
    let spec = service.spec.as_ref().filter(|_| is_load_balancer(service))?;
    let texts = spec.load_balancer_source_ranges.as_ref()?;
    let networks = texts.iter().filter_map(|text| text.trim().parse::<IpNet>().ok());
    let mut ranges: Vec<PrefixKey> = networks
        .map(|range| PrefixKey::new(range.network(), range.prefix_len()))
        .collect();
    ranges.sort_unstable();
    ranges.dedup();
    (!texts.is_empty()).then_some(ranges)
}

/// Ingress addresses that the node answers itself: not those with ipMode Proxy (KEP-1860).
fn load_balancer_ips(service: &Service) -> Vec<IpAddr> {
    if !is_load_balancer(service) {
        return Vec::new();
    }
    let status = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    let ingress = status.iter().flat_map(|status| status.ingress.iter().flatten());
    addresses(
        ingress
            .filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"))
            .filter_map(|i| i.ip.as_ref()),
    )
}

impl SliceFacts {
    /// None for slices of names (addressType FQDN).
    pub(crate) fn parse(slice: &EndpointSlice, node: &str) -> Option<SliceFacts> {
        let family = match slice.address_type.as_str() {
            "IPv4" => Family::V4,
            "IPv6" => Family::V6,
            _ => return None,
        };
        let ports = slice.ports.iter().flatten().filter_map(|port| {
            Some(SlicePort {
                name: port.name.clone().unwrap_or_default(),
                protocol: protocol(port.protocol.as_deref())?,
                // A port without number means all ports, which no frontend can express.
                port: u16::try_from(port.port?).ok().filter(|port| *port > 0)?,
            })
        });
        let endpoints = slice.endpoints.iter().flatten().filter_map(|endpoint| {
            // Further addresses of an endpoint are fungible; upstream's proxies use the first.
            let address = endpoint.addresses.first()?.parse::<IpAddr>().ok()?;
            (Family::of(address) == family).then(|| SliceEndpoint {
                address: address.into(),
                state: EndpointState::of(endpoint, node),
                zones: zone_hints(endpoint),
            })
        });
        let (mut ports, mut endpoints): (Vec<_>, Vec<_>) = (ports.collect(), endpoints.collect());
        ports.sort_by(|a, b| (&a.name, a.protocol).cmp(&(&b.name, b.protocol)));
        ports.dedup_by(|a, b| (&a.name, a.protocol) == (&b.name, b.protocol));
        endpoints.sort_by_key(|endpoint| endpoint.address);
        endpoints.dedup_by_key(|endpoint| endpoint.address);
        Some(SliceFacts {
            family,
            ports,
            endpoints,
        })
    }

    /// The slice's backends for the Service port of this name and protocol, as a node of this zone sees them
    /// (empty: the node's zone is not known).
    pub(crate) fn backends<'a>(
        &'a self,
        name: &'a str,
        protocol: Protocol,
        zone: &'a str,
    ) -> impl Iterator<Item = (BackendKey, EndpointState)> + 'a {
        let ports = self
            .ports
            .iter()
            .filter(move |port| port.name == name && port.protocol == protocol);
        ports.flat_map(move |port| {
            self.endpoints.iter().map(move |endpoint| {
                let key = BackendKey {
                    address: endpoint.address,
                    port: PortBe::from_host(port.port),
                    protocol,
                };
                let state = EndpointState {
                    zone_hint: Hint::of(endpoint.zones.iter().map(String::as_str), zone),
                    ..endpoint.state
                };
                (key, state)
            })
        })
    }
}

impl EndpointState {
    fn of(endpoint: &Endpoint, node: &str) -> EndpointState {
        let conditions = endpoint.conditions.as_ref();
        let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
        let serving = conditions.and_then(|c| c.serving).unwrap_or(ready);
        let terminating = conditions.and_then(|c| c.terminating).unwrap_or(false);
        let hints = endpoint.hints.as_ref();
        let nodes = hints.iter().flat_map(|hints| hints.for_nodes.iter().flatten());
        EndpointState {
            ready,
            fallback: serving && terminating,
            terminating,
            local: endpoint.node_name.as_deref() == Some(node),
            node_hint: Hint::of(nodes.map(|node| node.name.as_str()), node),
            zone_hint: Hint::None,
        }
    }
}

impl Hint {
    fn of<'a>(mut names: impl Iterator<Item = &'a str>, own: &str) -> Hint {
        match names.next() {
            None => Hint::None,
            Some(first) if first == own || names.any(|name| name == own) => Hint::ForUs,
            Some(_) => Hint::ForOthers,
        }
    }
}

fn zone_hints(endpoint: &Endpoint) -> Box<[String]> {
    let hints = endpoint.hints.as_ref();
    let zones = hints.iter().flat_map(|hints| hints.for_zones.iter().flatten());
    zones.map(|zone| zone.name.clone()).collect()
}

fn addresses<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<IpAddr> {
    texts
        .filter_map(|text| text.parse::<IpAddr>().ok())
        .map(|address| address.to_canonical())
        .collect()
}

fn protocol(name: Option<&str>) -> Option<Protocol> {
    match name.unwrap_or("TCP") {
        "TCP" => Some(Protocol::TCP),
        "UDP" => Some(Protocol::UDP),
        "SCTP" => Some(Protocol::SCTP),
        _ => None,
    }
}
