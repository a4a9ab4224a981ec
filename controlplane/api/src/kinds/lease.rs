//! `Lease`.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::Value;

use crate::ObjectExt;
use crate::error::{FieldError, FieldPath};
use crate::print;
use crate::resource::{Column, Kind, Row};
use crate::validation::fields;

impl Kind for Lease {
    const ROW: Row = Row {
        singular: "lease",
        columns: &[
            Column::NAME,
            Column::string(
                "Holder",
                "holderIdentity contains the identity of the holder of a current lease.",
            ),
            Column::AGE,
        ],
        create_on_update: true,
        ..Row::DEFAULT
    };

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let Some(spec) = &self.spec else { return errors };
        let path = FieldPath::new("spec");
        if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
            let why = "must be greater than 0";
            errors.push(FieldError::invalid(
                path.child("leaseDurationSeconds"),
                seconds,
                why,
            ));
        }
        let transitions = spec.lease_transitions.map(i64::from);
        fields::not_negative(&mut errors, &path.child("leaseTransitions"), transitions);
        errors
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let holder = self
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.as_deref())
            .unwrap_or("");
        vec![self.name().into(), holder.into(), print::age(&self.metadata, now)]
    }
}
