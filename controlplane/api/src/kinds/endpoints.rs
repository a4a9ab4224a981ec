//! `Endpoints`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointSubset, Endpoints};
use serde_json::Value;

use crate::ObjectExt;
use crate::error::{FieldError, FieldPath};
use crate::print;
use crate::resource::{Column, Kind, Row};
use crate::validation::{fields, names};

/// Addresses printed before "more" are counted.
const SHOWN: usize = 3;

impl Kind for Endpoints {
    const ROW: Row = Row {
        singular: "endpoints",
        short_names: &["ep"],
        columns: &[
            Column::NAME,
            Column::string(
                "Endpoints",
                "The set of all endpoints is the union of all subsets.",
            ),
            Column::AGE,
        ],
        create_on_update: true,
        ..Row::DEFAULT
    };

    fn set_defaults(&mut self) {
        for port in self
            .subsets
            .iter_mut()
            .flatten()
            .flat_map(|subset| subset.ports.iter_mut().flatten())
        {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for (index, subset) in self.subsets.iter().flatten().enumerate() {
            validate_subset(&mut errors, subset, &FieldPath::new("subsets").index(index));
        }
        errors
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![
            self.name().into(),
            shown(self.subsets.as_deref().unwrap_or_default()).into(),
            print::age(&self.metadata, now),
        ]
    }
}

fn validate_subset(errors: &mut Vec<FieldError>, subset: &EndpointSubset, path: &FieldPath) {
    let lists = [
        ("addresses", &subset.addresses),
        ("notReadyAddresses", &subset.not_ready_addresses),
    ];
    if lists
        .iter()
        .all(|(_, list)| list.as_ref().is_none_or(Vec::is_empty))
    {
        errors.push(FieldError::required(
            path,
            "must specify `addresses` or `notReadyAddresses`",
        ));
    }
    for (name, list) in lists {
        for (index, address) in list.iter().flatten().enumerate() {
            let path = path.child(name).index(index).child("ip");
            fields::faults(errors, &path, &address.ip, names::ip_address(&address.ip));
        }
    }
    for (index, port) in subset.ports.iter().flatten().enumerate() {
        let path = path.child("ports").index(index);
        let wrong = names::port_number(port.port);
        errors.extend(
            wrong
                .into_iter()
                .map(|why| FieldError::invalid(path.child("port"), port.port, why)),
        );
        fields::one_of(
            errors,
            &path.child("protocol"),
            port.protocol.as_deref(),
            &["SCTP", "TCP", "UDP"],
        );
    }
}

/// `10.0.0.1:80,10.0.0.2:80 + 3 more...`.
fn shown(subsets: &[EndpointSubset]) -> String {
    let mut all = Vec::new();
    for subset in subsets {
        for address in subset.addresses.iter().flatten() {
            match subset.ports.as_deref().unwrap_or_default() {
                [] => all.push(address.ip.clone()),
                ports => all.extend(ports.iter().map(|port| socket(&address.ip, port.port))),
            }
        }
    }
    match all.len() {
        0 => "<none>".to_owned(),
        count if count > SHOWN => format!("{} + {} more...", all[..SHOWN].join(","), count - SHOWN),
        _ => all.join(","),
    }
}

fn socket(ip: &str, port: i32) -> String {
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_are_cut_after_three() {
        let subsets = |count: usize| {
            let addresses: Vec<Value> = (1..=count)
                .map(|last| json!({"ip": format!("10.0.0.{last}")}))
                .collect();
            let subset = json!([{"addresses": addresses, "ports": [{"port": 80}]}]);
            shown(&serde_json::from_value::<Vec<EndpointSubset>>(subset).unwrap())
        };
        assert_eq!(subsets(0), "<none>");
        assert_eq!(subsets(2), "10.0.0.1:80,10.0.0.2:80");
        assert_eq!(subsets(5), "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more...");
    }
}
