//! Services: cluster addresses and node ports.

mod families;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use skep_api::k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use skep_api::resource::DynObject;
use skep_api::{FieldError, FieldPath};

use self::families::{Family, resolve};
use super::Strategy;
use crate::RegistryConfig;
use crate::SharedObject;
use crate::alloc::{Allocators, Claims, Refusal, Resources};
use crate::cache::{Change, Objects};

type Faults = Vec<FieldError>;

pub(super) struct ServiceStrategy {
    allocators: Arc<Allocators>,
    families: Vec<Family>,
}

impl ServiceStrategy {
    pub(super) fn new(config: &RegistryConfig) -> Self {
        Self {
            allocators: Allocators::new(&config.service_cidrs, &config.node_port_range),
            families: families::configured(&config.service_cidrs),
        }
    }
}

fn held(object: &SharedObject) -> Resources {
    object
        .object()
        .downcast_ref::<Service>()
        .and_then(|service| service.spec.as_ref())
        .map(resources)
        .unwrap_or_default()
}

/// The addresses and ports that a Service has.
fn resources(spec: &ServiceSpec) -> Resources {
    let addresses = spec
        .cluster_ips
        .iter()
        .flatten()
        .filter_map(|address| address.parse().ok())
        .collect();
    let ports = spec.ports.iter().flatten().filter_map(|port| port.node_port);
    let numbers = ports.chain(spec.health_check_node_port);
    let mut ports: Vec<u16> = numbers
        .filter_map(|port| u16::try_from(port).ok())
        .filter(|port| *port > 0)
        .collect();
    ports.sort_unstable();
    ports.dedup();
    Resources { addresses, ports }
}

impl Strategy for ServiceStrategy {
    fn claim(&self, new: &mut dyn DynObject, old: Option<&dyn DynObject>) -> Result<Option<Claims>, Faults> {
        let Some(service) = new.downcast_mut::<Service>() else {
            return Ok(None);
        };
        let old = old
            .and_then(|old| old.downcast_ref::<Service>())
            .and_then(|old| old.spec.as_ref());
        let held = old.map(resources).unwrap_or_default();
        let spec = service.spec.get_or_insert_default();
        let mut claims = self.allocators.claims();
        claim_addresses(spec, &held, &self.families, &mut claims)?;
        claim_ports(spec, &held, &mut claims)?;
        Ok(Some(claims))
    }

    fn changed(&self, change: &Change) {
        let before = change.previous.as_ref().map(held).unwrap_or_default();
        let after = if change.deleted {
            Resources::default()
        } else {
            held(&change.object)
        };
        self.allocators.release(&before.without(&after));
        self.allocators.mark(&after);
    }

    fn replaced(&self, services: &Objects) {
        self.allocators.clear();
        services
            .values()
            .for_each(|service| self.allocators.mark(&held(service)));
    }

    fn holds(&self, object: &SharedObject, resources: &Resources) -> bool {
        resources.meets(&held(object))
    }
}

fn claim_addresses(
    spec: &mut ServiceSpec,
    held: &Resources,
    configured: &[Family],
    claims: &mut Claims,
) -> Result<(), Faults> {
    if spec.type_.as_deref() == Some("ExternalName") {
        return Ok(());
    }
    let families = resolve(spec, configured)?;
    spec.ip_families = Some(families.iter().map(|family| family.as_str().to_owned()).collect());
    if spec.cluster_ip.as_deref() == Some("None") {
        spec.cluster_ips = Some(vec!["None".to_owned()]);
        return Ok(());
    }
    let given = spec.cluster_ips.clone().unwrap_or_default();
    let path = FieldPath::new("spec").child("clusterIPs");
    let mut addresses = Vec::new();
    for (index, family) in families.iter().enumerate() {
        let address = match given.get(index).filter(|text| !text.is_empty()) {
            None => claims.any_address(*family == Family::V6).map_err(|refusal| {
                vec![FieldError::internal(
                    &path,
                    format!("failed to allocate a serviceIP: {}", words(&refusal, "")),
                )]
            })?,
            Some(text) => {
                let wrong = |why: String| vec![FieldError::invalid(&path, &given, why)];
                let address: IpAddr = match text.parse() {
                    Ok(address) => address,
                    Err(_) => return Err(wrong(format!("{text:?} is not a valid IP address"))),
                };
                if !held.addresses.contains(&address) {
                    claims.address(address).map_err(|refusal| {
                        wrong(format!("failed to allocate IP {text}: {}", words(&refusal, text)))
                    })?;
                }
                address
            }
        };
        addresses.push(address.to_string());
    }
    spec.cluster_ip = addresses.first().cloned();
    spec.cluster_ips = Some(addresses);
    Ok(())
}

fn words(refusal: &Refusal, what: &str) -> String {
    match refusal {
        Refusal::InUse => "provided IP is already allocated".to_owned(),
        Refusal::OutOfRange { ranges } => {
            format!("the provided IP ({what}) is not in the valid range. The range of valid IPs is {ranges}")
        }
        Refusal::Full => "range is full".to_owned(),
    }
}

fn claim_ports(spec: &mut ServiceSpec, held: &Resources, claims: &mut Claims) -> Result<(), Faults> {
    let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
    let load_balancer = kind == "LoadBalancer";
    if kind != "NodePort" && !load_balancer {
        return Ok(());
    }
    let automatic = !load_balancer || spec.allocate_load_balancer_node_ports != Some(false);
    // One number serves all protocols of one port, so claimed numbers are remembered by port.
    let mut of_port: HashMap<i32, i32> = HashMap::new();
    let mut mine: Vec<u16> = held.ports.clone();
    let ports = spec.ports.as_deref_mut().unwrap_or_default();
    for (index, port) in ports.iter_mut().enumerate() {
        if let Some(number) = port.node_port.filter(|number| *number != 0) {
            claim_port(
                number,
                &FieldPath::new("spec")
                    .child("ports")
                    .index(index)
                    .child("nodePort"),
                &mut mine,
                claims,
            )?;
            of_port.insert(port.port, number);
        }
    }
    for index in 0..ports.len() {
        if ports[index].node_port.is_some_and(|number| number != 0) || !automatic {
            continue;
        }
        let number = match of_port.get(&ports[index].port) {
            Some(number) if !taken(ports, *number, &ports[index]) => *number,
            _ => any_port(
                &FieldPath::new("spec")
                    .child("ports")
                    .index(index)
                    .child("nodePort"),
                claims,
            )?,
        };
        of_port.insert(ports[index].port, number);
        ports[index].node_port = Some(number);
    }
    claim_health_check_port(spec, &mut mine, claims)
}

/// Whether another port of the Service with the same protocol has this node port.
fn taken(ports: &[ServicePort], number: i32, of: &ServicePort) -> bool {
    ports
        .iter()
        .any(|port| port.node_port == Some(number) && port.protocol == of.protocol)
}

fn claim_health_check_port(
    spec: &mut ServiceSpec,
    mine: &mut Vec<u16>,
    claims: &mut Claims,
) -> Result<(), Faults> {
    let needed = spec.type_.as_deref() == Some("LoadBalancer")
        && spec.external_traffic_policy.as_deref() == Some("Local");
    if !needed {
        return Ok(());
    }
    let path = FieldPath::new("spec").child("healthCheckNodePort");
    match spec.health_check_node_port.filter(|number| *number != 0) {
        Some(number) => claim_port(number, &path, mine, claims),
        None => {
            spec.health_check_node_port = Some(any_port(&path, claims)?);
            Ok(())
        }
    }
}

fn claim_port(number: i32, path: &FieldPath, mine: &mut Vec<u16>, claims: &mut Claims) -> Result<(), Faults> {
    let Ok(port) = u16::try_from(number) else {
        return Err(vec![FieldError::invalid(
            path,
            number,
            "must be between 0 and 65535, inclusive",
        )]);
    };
    if mine.contains(&port) {
        return Ok(());
    }
    claims.port(port).map_err(|refusal| {
        let why = match refusal {
            Refusal::OutOfRange { ranges } => {
                format!("provided port is not in the valid range. The range of valid ports is {ranges}")
            }
            Refusal::InUse | Refusal::Full => "provided port is already allocated".to_owned(),
        };
        vec![FieldError::invalid(path, number, why)]
    })?;
    mine.push(port);
    Ok(())
}

fn any_port(path: &FieldPath, claims: &mut Claims) -> Result<i32, Faults> {
    let refuse = |_| {
        vec![FieldError::internal(
            path,
            "failed to allocate a nodePort: range is full",
        )]
    };
    claims.any_port().map(i32::from).map_err(refuse)
}
