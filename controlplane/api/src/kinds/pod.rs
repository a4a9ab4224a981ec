//! `Pod`.

mod admission;
mod columns;
mod qos;
mod update;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::Value;

use super::pod_spec;
use crate::error::{FieldError, FieldPath};
use crate::resource::{Kind, Row, Subresource};

impl Kind for Pod {
    const ROW: Row = Row {
        singular: "pod",
        short_names: &["po"],
        categories: &["all"],
        subresources: &[Subresource::Status, Subresource::Binding],
        columns: columns::COLUMNS,
        returns_deleted: true,
        ..Row::DEFAULT
    };

    fn set_defaults(&mut self) {
        let spec = self.spec.get_or_insert_default();
        pod_spec::set_defaults(spec);
        pod_spec::set_resource_requests(spec);
        spec.enable_service_links.get_or_insert(true);
    }

    fn prepare_create(&mut self) {
        let spec = self.spec.get_or_insert_default();
        admission::complete(spec);
        self.status = Some(PodStatus {
            phase: Some("Pending".to_owned()),
            qos_class: Some(qos::class(spec).to_owned()),
            ..PodStatus::default()
        });
    }

    fn refuse_create(&self) -> Option<String> {
        admission::refuse(self.spec.as_ref()?)
    }

    fn prepare_update(&mut self, old: &Self) {
        self.status.clone_from(&old.status);
    }

    fn prepare_status_update(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
        let status = self.status.get_or_insert_default();
        if status.qos_class.is_none() {
            status.qos_class = old.status.as_ref().and_then(|status| status.qos_class.clone());
        }
    }

    fn spec_changed(&self, old: &Self) -> Option<bool> {
        Some(self.spec != old.spec)
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if let Some(spec) = &self.spec {
            pod_spec::validate(&mut errors, spec, &FieldPath::new("spec"));
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        update::validate(self, old)
    }

    fn selectable_field(&self, field: &str) -> Option<Cow<'_, str>> {
        let spec = self.spec.as_ref();
        let status = self.status.as_ref();
        let text = match field {
            "spec.nodeName" => spec.and_then(|spec| spec.node_name.as_deref()),
            "spec.restartPolicy" => spec.and_then(|spec| spec.restart_policy.as_deref()),
            "spec.schedulerName" => spec.and_then(|spec| spec.scheduler_name.as_deref()),
            "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.as_deref()),
            "status.phase" => status.and_then(|status| status.phase.as_deref()),
            "status.podIP" => status.and_then(|status| status.pod_ip.as_deref()),
            "status.nominatedNodeName" => status.and_then(|status| status.nominated_node_name.as_deref()),
            "spec.hostNetwork" => {
                let host = spec.and_then(|spec| spec.host_network).unwrap_or(false);
                return Some(Cow::Borrowed(if host { "true" } else { "false" }));
            }
            _ => return None,
        };
        Some(Cow::Borrowed(text.unwrap_or("")))
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        columns::cells(self, now)
    }
}
