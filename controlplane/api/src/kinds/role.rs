//! `Role`.

use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::Role;
use serde_json::Value;

use super::rbac_rules as rbac;
use crate::ObjectExt;
use crate::error::FieldError;
use crate::resource::{Kind, Row};
use crate::validation::names;

impl Kind for Role {
    const ROW: Row = Row {
        singular: "role",
        columns: rbac::ROLE_COLUMNS,
        create_on_update: true,
        name_check: names::path_segment,
        ..Row::DEFAULT
    };

    fn validate(&self) -> Vec<FieldError> {
        rbac::validate_rules(self.rules.as_deref(), true)
    }

    fn cells(&self, _now: Timestamp) -> Vec<Value> {
        vec![self.name().into(), rbac::created_at(&self.metadata)]
    }
}
