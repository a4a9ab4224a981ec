//! `Service`.

mod columns;
mod external;
mod update;
mod validate;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ClientIPConfig, LoadBalancerStatus, Service, ServiceSpec, SessionAffinityConfig,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use crate::error::FieldError;
use crate::resource::{Kind, Row, Subresource};
use crate::validation::names;

/// How long a client stays with its backend: three hours.
const AFFINITY_SECONDS: i32 = 10_800;

impl Kind for Service {
    const ROW: Row = Row {
        singular: "service",
        short_names: &["svc"],
        categories: &["all"],
        subresources: &[Subresource::Status],
        columns: columns::COLUMNS,
        returns_deleted: true,
        create_on_update: true,
        name_check: names::dns1035_label,
    };

    fn set_defaults(&mut self) {
        set_spec_defaults(self.spec.get_or_insert_default());
        self.status
            .get_or_insert_default()
            .load_balancer
            .get_or_insert_default();
        external::set_status_defaults(self);
    }

    fn prepare_create(&mut self) {
        self.status = None;
        self.status
            .get_or_insert_default()
            .load_balancer
            .get_or_insert_default();
    }

    fn prepare_update(&mut self, old: &Self) {
        self.status.clone_from(&old.status);
        if !self.spec.as_ref().is_some_and(external::is_load_balancer)
            && let Some(status) = &mut self.status
        {
            status.load_balancer = Some(LoadBalancerStatus::default());
        }
        if let (Some(new), Some(old)) = (&mut self.spec, &old.spec) {
            update::carry(new, old);
        }
    }

    fn prepare_status_update(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = self.spec.as_ref().map(validate::validate).unwrap_or_default();
        errors.extend(external::validate_status(self));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        match (&self.spec, &old.spec) {
            (Some(new), Some(old)) => update::validate(new, old),
            _ => Vec::new(),
        }
    }

    fn selectable_field(&self, field: &str) -> Option<Cow<'_, str>> {
        let spec = self.spec.as_ref();
        let text = match field {
            "spec.clusterIP" => spec.and_then(|spec| spec.cluster_ip.as_deref()),
            "spec.type" => spec.and_then(|spec| spec.type_.as_deref()),
            _ => return None,
        };
        Some(Cow::Borrowed(text.unwrap_or("")))
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        columns::cells(self, now)
    }
}

fn set_spec_defaults(spec: &mut ServiceSpec) {
    let kind = spec.type_.get_or_insert_with(|| "ClusterIP".to_owned()).clone();
    let affinity = spec.session_affinity.get_or_insert_with(|| "None".to_owned());
    if affinity == "None" {
        spec.session_affinity_config = None;
    } else {
        let config = spec
            .session_affinity_config
            .get_or_insert_with(SessionAffinityConfig::default);
        let client_ip = config.client_ip.get_or_insert_with(ClientIPConfig::default);
        client_ip.timeout_seconds.get_or_insert(AFFINITY_SECONDS);
    }
    for port in spec.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| "TCP".to_owned());
        let target = port.target_port.get_or_insert(IntOrString::Int(0));
        if matches!(target, IntOrString::Int(0))
            || matches!(target, IntOrString::String(text) if text.is_empty())
        {
            *target = IntOrString::Int(port.port);
        }
    }
    if external::is_external(spec) {
        spec.external_traffic_policy
            .get_or_insert_with(|| "Cluster".to_owned());
    }
    if kind != "ExternalName" {
        spec.internal_traffic_policy
            .get_or_insert_with(|| "Cluster".to_owned());
    }
    if kind == "LoadBalancer" {
        spec.allocate_load_balancer_node_ports.get_or_insert(true);
    }
    // The singular and the plural say the same.
    let given = spec.cluster_ip.clone().filter(|ip| !ip.is_empty());
    if let (Some(ip), None) = (given, &spec.cluster_ips) {
        spec.cluster_ips = Some(vec![ip]);
    }
}
