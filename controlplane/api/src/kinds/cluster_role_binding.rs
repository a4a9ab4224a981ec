//! `ClusterRoleBinding`.

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use serde_json::Value;

use super::rbac_rules as rbac;
use crate::error::FieldError;
use crate::resource::{Kind, Row};
use crate::validation::names;
use crate::{ObjectExt, print};

impl Kind for ClusterRoleBinding {
    const ROW: Row = Row {
        singular: "clusterrolebinding",
        columns: rbac::BINDING_COLUMNS,
        create_on_update: true,
        name_check: names::path_segment,
        ..Row::DEFAULT
    };

    fn set_defaults(&mut self) {
        rbac::set_binding_defaults(&mut self.role_ref, self.subjects.as_mut());
    }

    fn validate(&self) -> Vec<FieldError> {
        rbac::validate_binding(&self.role_ref, self.subjects.as_deref(), false)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        rbac::validate_binding_update(&self.role_ref, &old.role_ref)
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let (role, [users, groups, accounts]) = rbac::binding_cells(&self.role_ref, self.subjects.as_deref());
        vec![
            self.name().into(),
            role,
            print::age(&self.metadata, now),
            users,
            groups,
            accounts,
        ]
    }
}
