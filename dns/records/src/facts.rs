//! What the zone needs to know of an object, and nothing more: parsed once, at the edge.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::Name;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

/// A Service as the zone sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceFacts {
    pub(crate) kind: ServiceKind,
    /// Named ports only; order of the object.
    pub(crate) ports: Vec<PortFacts>,
    pub(crate) publish_not_ready: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServiceKind {
    /// With cluster addresses.
    Cluster(Vec<IpAddr>),
    /// `clusterIP: None`.
    Headless,
    /// `type: ExternalName` with a target that is a name.
    External(Name),
}

/// A named port. `protocol` is lower case ("tcp"), as it stands in names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PortFacts {
    pub(crate) name: String,
    pub(crate) protocol: String,
    pub(crate) port: u16,
}

/// An EndpointSlice as the zone sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SliceFacts {
    pub(crate) ports: Vec<PortFacts>,
    pub(crate) endpoints: Vec<EndpointFacts>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndpointFacts {
    pub(crate) address: IpAddr,
    pub(crate) hostname: Option<Box<str>>,
    pub(crate) ready: bool,
}

impl ServiceFacts {
    /// None for a Service that has no names (no cluster address yet, an ExternalName that is an address).
    pub(crate) fn parse(service: &Service) -> Option<ServiceFacts> {
        let spec = service.spec.as_ref()?;
        let kind = if spec.type_.as_deref() == Some("ExternalName") {
            ServiceKind::External(external_target(spec.external_name.as_deref()?)?)
        } else if spec.cluster_ip.as_deref() == Some("None") {
            ServiceKind::Headless
        } else {
            let mut addresses: Vec<IpAddr> = spec
                .cluster_ips
                .iter()
                .flatten()
                .filter_map(|ip| parse_address(ip))
                .collect();
            if addresses.is_empty() {
                addresses.extend(spec.cluster_ip.as_deref().and_then(parse_address));
            }
            if addresses.is_empty() {
                return None;
            }
            ServiceKind::Cluster(addresses)
        };
        let ports = spec.ports.iter().flatten();
        let ports =
            ports.filter_map(|p| PortFacts::parse(p.name.as_deref(), p.protocol.as_deref(), Some(p.port)));
        Some(ServiceFacts {
            kind,
            ports: ports.collect(),
            publish_not_ready: spec.publish_not_ready_addresses == Some(true),
        })
    }
}

impl SliceFacts {
    /// Endpoints hold one address each: the API's meaning of further ones is undefined ("fungible").
    pub(crate) fn parse(slice: &EndpointSlice) -> SliceFacts {
        let ports = slice.ports.iter().flatten();
        let endpoints = slice.endpoints.iter().flatten();
        SliceFacts {
            ports: ports
                .filter_map(|p| PortFacts::parse(p.name.as_deref(), p.protocol.as_deref(), p.port))
                .collect(),
            endpoints: endpoints
                .filter_map(|endpoint| {
                    Some(EndpointFacts {
                        address: parse_address(endpoint.addresses.first()?)?,
                        hostname: endpoint
                            .hostname
                            .as_deref()
                            .filter(|h| !h.is_empty())
                            .map(Into::into),
                        // Unset means ready (EndpointConditions, discovery/v1).
                        ready: endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true),
                    })
                })
                .collect(),
        }
    }
}

impl PortFacts {
    fn parse(name: Option<&str>, protocol: Option<&str>, port: Option<i32>) -> Option<PortFacts> {
        let name = name.filter(|name| !name.is_empty())?;
        Some(PortFacts {
            name: name.to_ascii_lowercase(),
            protocol: protocol.unwrap_or("TCP").to_ascii_lowercase(),
            port: port.and_then(|port| u16::try_from(port).ok())?,
        })
    }
}

fn external_target(text: &str) -> Option<Name> {
    if text.is_empty() || text.parse::<IpAddr>().is_ok() {
        return None;
    }
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// An IPv4-mapped IPv6 address is the IPv4 address.
fn parse_address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// The label of an endpoint without hostname: its address with dashes, as CoreDNS writes it.
pub(crate) fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

/// The address that a dashed label stands for; only what [`dashed`] writes when `canonical`.
pub(crate) fn parse_dashed(label: &[u8], canonical: bool) -> Option<IpAddr> {
    let label = std::str::from_utf8(label).ok()?.to_ascii_lowercase();
    let address = match label.replace('-', ".").parse::<Ipv4Addr>() {
        Ok(address) => IpAddr::V4(address),
        Err(_) => IpAddr::V6(label.replace('-', ":").parse::<Ipv6Addr>().ok()?),
    };
    (!canonical || dashed(address) == label).then_some(address)
}
