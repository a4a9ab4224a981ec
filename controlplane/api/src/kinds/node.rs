//! `Node`.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::Value;

use crate::ObjectExt;
use crate::error::{FieldError, FieldPath};
use crate::print;
use crate::resource::{Column, Kind, Row, Subresource};
use crate::validation::fields::{canonicalize, faults, one_of};
use crate::validation::names;

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

impl Kind for Node {
    const ROW: Row = Row {
        singular: "node",
        short_names: &["no"],
        subresources: &[Subresource::Status],
        columns: &[
            Column::NAME,
            Column::string("Status", "The status of the node"),
            Column::string("Roles", "The roles of the node"),
            Column::AGE,
            Column::string("Version", "Kubelet Version reported by the node."),
            Column::string("Internal-IP", "List of addresses reachable to the node.").wide(),
            Column::string("External-IP", "List of addresses reachable to the node.").wide(),
            Column::string("OS-Image", "OS Image reported by the node from /etc/os-release.").wide(),
            Column::string(
                "Kernel-Version",
                "Kernel Version reported by the node from 'uname -r'.",
            )
            .wide(),
            Column::string(
                "Container-Runtime",
                "ContainerRuntime Version reported by the node through runtime remote API.",
            )
            .wide(),
        ],
        ..Row::DEFAULT
    };

    fn set_defaults(&mut self) {
        self.spec.get_or_insert_default();
        let status = self.status.get_or_insert_default();
        canonicalize(status.capacity.as_mut());
        canonicalize(status.allocatable.as_mut());
        if status.allocatable.is_none() {
            status.allocatable.clone_from(&status.capacity);
        }
    }

    fn prepare_update(&mut self, old: &Self) {
        self.status.clone_from(&old.status);
    }

    fn prepare_status_update(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let path = FieldPath::new("spec").child("taints");
        let mut seen = HashSet::new();
        for (index, taint) in self
            .spec
            .iter()
            .flat_map(|spec| spec.taints.iter().flatten())
            .enumerate()
        {
            let path = path.index(index);
            faults(
                &mut errors,
                &path.child("key"),
                &taint.key,
                names::qualified_name(&taint.key),
            );
            let value = taint.value.as_deref().unwrap_or("");
            faults(
                &mut errors,
                &path.child("value"),
                value,
                names::label_value(value),
            );
            let effects = ["NoExecute", "NoSchedule", "PreferNoSchedule"];
            one_of(&mut errors, &path.child("effect"), Some(&taint.effect), &effects);
            if !seen.insert((&taint.key, &taint.effect)) {
                errors.push(FieldError::duplicate(path, taint));
            }
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let (Some(new), Some(old)) = (&self.spec, &old.spec) else {
            return errors;
        };
        let cidrs = old.pod_cidrs.as_deref().unwrap_or_default();
        if !cidrs.is_empty() && new.pod_cidrs != old.pod_cidrs {
            let why = "node updates may not change podCIDR except from \"\" to valid";
            errors.push(FieldError::forbidden("spec.podCIDRs", why));
        }
        errors
    }

    fn selectable_field(&self, field: &str) -> Option<Cow<'_, str>> {
        (field == "spec.unschedulable").then(|| {
            let off = self
                .spec
                .as_ref()
                .and_then(|spec| spec.unschedulable)
                .unwrap_or(false);
            Cow::Borrowed(if off { "true" } else { "false" })
        })
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let status = self.status.clone().unwrap_or_default();
        let info = status.node_info.unwrap_or_default();
        let address = |kind: &str| {
            let addresses = status.addresses.iter().flatten();
            let found = addresses
                .filter(|address| address.type_ == kind)
                .map(|address| &address.address)
                .next();
            found.map_or_else(|| "<none>".to_owned(), Clone::clone)
        };
        let known = |text: String| {
            if text.is_empty() {
                "<unknown>".to_owned()
            } else {
                text
            }
        };
        vec![
            self.name().into(),
            state(self).into(),
            roles(self).into(),
            print::age(&self.metadata, now),
            info.kubelet_version.into(),
            address("InternalIP").into(),
            address("ExternalIP").into(),
            known(info.os_image).into(),
            known(info.kernel_version).into(),
            known(info.container_runtime_version).into(),
        ]
    }
}

/// `Ready,SchedulingDisabled`.
fn state(node: &Node) -> String {
    let conditions = node
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions
        .filter(|condition| condition.type_ == "Ready")
        .map(|condition| condition.status == "True")
        .next();
    let mut state = match ready {
        Some(true) => "Ready",
        Some(false) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        state.push_str(",SchedulingDisabled");
    }
    state
}

fn roles(node: &Node) -> String {
    let roles: BTreeSet<&str> = node
        .labels()
        .iter()
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None => (key == ROLE_LABEL).then_some(value.as_str()),
        })
        .filter(|role| !role.is_empty())
        .collect();
    match roles.is_empty() {
        true => "<none>".to_owned(),
        false => roles.into_iter().collect::<Vec<_>>().join(","),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_read_as_upstream() {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n1", "labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "edge"}},
            "spec": {"unschedulable": true},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "10.0.0.1"}],
                "nodeInfo": {"kubeletVersion": "v1.37.0", "osImage": "Debian", "kernelVersion": "6.1", "containerRuntimeVersion": "containerd://1.6",
                    "architecture": "", "bootID": "", "kubeProxyVersion": "", "machineID": "", "operatingSystem": "", "systemUUID": ""},
            },
        }))
        .unwrap();
        assert_eq!(
            Value::Array(node.cells(Timestamp::UNIX_EPOCH)),
            json!([
                "n1",
                "Ready,SchedulingDisabled",
                "edge,worker",
                "<unknown>",
                "v1.37.0",
                "10.0.0.1",
                "<none>",
                "Debian",
                "6.1",
                "containerd://1.6"
            ])
        );
        assert_eq!(Node::default().cells(Timestamp::UNIX_EPOCH)[1], "Unknown");
    }
}
