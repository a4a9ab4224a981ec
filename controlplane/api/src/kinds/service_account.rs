//! `ServiceAccount`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::Value;

use crate::ObjectExt;
use crate::print;
use crate::resource::{Column, Kind, Row};

impl Kind for ServiceAccount {
    const ROW: Row = Row {
        singular: "serviceaccount",
        short_names: &["sa"],
        columns: &[
            Column::NAME,
            Column::integer(
                "Secrets",
                "Secrets is a list of the secrets in the same namespace that pods running using this ServiceAccount are allowed to use.",
            ),
            Column::AGE,
        ],
        returns_deleted: true,
        ..Row::DEFAULT
    };

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let secrets = self.secrets.as_ref().map_or(0, Vec::len);
        vec![
            self.name().into(),
            secrets.into(),
            print::age(&self.metadata, now),
        ]
    }
}
