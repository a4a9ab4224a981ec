//! `EndpointSlice`.

use std::collections::HashSet;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use serde_json::Value;

use crate::ObjectExt;
use crate::error::{FieldError, FieldPath};
use crate::print;
use crate::resource::{Column, Kind, Row};
use crate::validation::{fields, meta, names};

const ENDPOINTS_LIMIT: usize = 1000;
const PORTS_LIMIT: usize = 20_000;
const ADDRESSES_LIMIT: usize = 100;
const HINTS_LIMIT: usize = 8;
/// Ports and endpoints printed before "more" are counted.
const SHOWN: usize = 3;

impl Kind for EndpointSlice {
    const ROW: Row = Row {
        singular: "endpointslice",
        columns: &[
            Column::NAME,
            Column::string(
                "AddressType",
                "addressType specifies the type of address carried by this EndpointSlice.",
            ),
            Column::string(
                "Ports",
                "ports specifies the list of network ports exposed by each endpoint in this slice.",
            ),
            Column::string(
                "Endpoints",
                "endpoints is a list of unique endpoints in this slice.",
            ),
            Column::AGE,
        ],
        ..Row::DEFAULT
    };

    fn set_defaults(&mut self) {
        for port in self.ports.iter_mut().flatten() {
            port.name.get_or_insert_default();
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }

    fn spec_changed(&self, old: &Self) -> Option<bool> {
        let same = self.endpoints == old.endpoints
            && self.ports == old.ports
            && self.metadata.labels == old.metadata.labels;
        Some(!same)
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let kinds = ["FQDN", "IPv4", "IPv6"];
        if self.address_type.is_empty() {
            errors.push(FieldError::required("addressType", ""));
        } else {
            fields::one_of(
                &mut errors,
                &FieldPath::new("addressType"),
                Some(&self.address_type),
                &kinds,
            );
        }
        let endpoints = self.endpoints.as_deref().unwrap_or_default();
        if endpoints.len() > ENDPOINTS_LIMIT {
            errors.push(FieldError::too_many(
                "endpoints",
                endpoints.len(),
                ENDPOINTS_LIMIT,
            ));
        }
        for (index, endpoint) in endpoints.iter().enumerate() {
            let path = FieldPath::new("endpoints").index(index);
            validate_endpoint(&mut errors, endpoint, &self.address_type, &path);
        }
        let ports = self.ports.as_deref().unwrap_or_default();
        if ports.len() > PORTS_LIMIT {
            errors.push(FieldError::too_many("ports", ports.len(), PORTS_LIMIT));
        }
        for (index, port) in ports.iter().enumerate() {
            let path = FieldPath::new("ports").index(index);
            fields::one_of(
                &mut errors,
                &path.child("protocol"),
                port.protocol.as_deref(),
                &["SCTP", "TCP", "UDP"],
            );
            if ports[..index].iter().any(|other| other.name == port.name) {
                errors.push(FieldError::duplicate(
                    path.child("name"),
                    port.name.as_deref().unwrap_or(""),
                ));
            }
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        meta::immutable(
            &mut errors,
            &FieldPath::new("addressType"),
            &self.address_type,
            &old.address_type,
        );
        errors
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let ports = self.ports.iter().flatten().map(|port| match port.port {
            Some(port) => port.to_string(),
            None => "*".to_owned(),
        });
        let addresses = self
            .endpoints
            .iter()
            .flatten()
            .flat_map(|endpoint| endpoint.addresses.iter().cloned());
        vec![
            self.name().into(),
            self.address_type.clone().into(),
            shown(ports.collect()).into(),
            shown(addresses.collect()).into(),
            print::age(&self.metadata, now),
        ]
    }
}

fn validate_endpoint(errors: &mut Vec<FieldError>, endpoint: &Endpoint, kind: &str, path: &FieldPath) {
    let hints = endpoint.hints.as_ref();
    let zones = hints.and_then(|hints| hints.for_zones.as_deref());
    let nodes = hints.and_then(|hints| hints.for_nodes.as_deref());
    for (field, names) in [
        ("forZones", names_of(zones, |zone| &zone.name)),
        ("forNodes", names_of(nodes, |node| &node.name)),
    ] {
        validate_hints(errors, &names, &path.child("hints").child(field));
    }
    let path = path.child("addresses");
    match endpoint.addresses.len() {
        0 => errors.push(FieldError::required(&path, "must contain at least 1 address")),
        count if count > ADDRESSES_LIMIT => errors.push(FieldError::too_many(&path, count, ADDRESSES_LIMIT)),
        _ => {}
    }
    for (index, address) in endpoint.addresses.iter().enumerate() {
        let path = path.index(index);
        match kind {
            "FQDN" => fields::faults(errors, &path, address, names::dns1123_subdomain(address)),
            "IPv4" | "IPv6" => {
                let right = address
                    .parse::<IpAddr>()
                    .is_ok_and(|ip| ip.is_ipv4() == (kind == "IPv4"));
                if !right {
                    let why = format!("must be an {kind} address");
                    errors.push(FieldError::invalid(path, address, why));
                }
            }
            _ => {}
        }
    }
}

fn names_of<T>(hints: Option<&[T]>, name: impl Fn(&T) -> &String) -> Vec<&str> {
    hints
        .unwrap_or_default()
        .iter()
        .map(|hint| name(hint).as_str())
        .collect()
}

fn validate_hints(errors: &mut Vec<FieldError>, names: &[&str], path: &FieldPath) {
    if names.len() > HINTS_LIMIT {
        errors.push(FieldError::too_many(path, names.len(), HINTS_LIMIT));
    }
    let mut seen = HashSet::new();
    for (index, name) in names.iter().enumerate() {
        let path = path.index(index).child("name");
        if name.is_empty() {
            errors.push(FieldError::required(path, ""));
        } else {
            fields::unique(errors, &path, name, &mut seen);
        }
    }
}

fn shown(all: Vec<String>) -> String {
    match all.len() {
        0 => "<unset>".to_owned(),
        count if count > SHOWN => format!("{} + {} more...", all[..SHOWN].join(","), count - SHOWN),
        _ => all.join(","),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hints_are_few_and_differ() {
        let zones: Vec<Value> = (0..9).map(|zone| json!({"name": format!("z{zone}")})).collect();
        let slice: EndpointSlice = serde_json::from_value(json!({
            "metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": [
                {"addresses": ["10.0.0.1"], "hints": {"forZones": [{"name": "a"}], "forNodes": [{"name": "n"}]}},
                {"addresses": ["10.0.0.2"], "hints": {"forZones": zones}},
                {"addresses": ["10.0.0.3"], "hints": {"forNodes": [{"name": "n"}, {"name": "n"}, {"name": ""}]}},
            ],
        }))
        .unwrap();
        let errors: Vec<String> = Kind::validate(&slice)
            .iter()
            .map(|error| error.path.clone())
            .collect();
        assert_eq!(
            errors,
            [
                "endpoints[1].hints.forZones",
                "endpoints[2].hints.forNodes[1].name",
                "endpoints[2].hints.forNodes[2].name"
            ]
        );
    }

    #[test]
    fn cells_and_errors_read_as_upstream() {
        let slice: EndpointSlice = serde_json::from_value(json!({
            "metadata": {"name": "a"}, "addressType": "IPv4", "ports": [{"port": 80}, {"port": 81}],
            "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["fd00::1"]}],
        }))
        .unwrap();
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(
            Value::Array(slice.cells(now)),
            json!(["a", "IPv4", "80,81", "10.0.0.1,fd00::1", "<unknown>"])
        );
        let errors: Vec<String> = Kind::validate(&slice)
            .iter()
            .map(|error| error.path.clone())
            .collect();
        assert_eq!(errors, ["endpoints[1].addresses[0]", "ports[1].name"]);
    }
}
