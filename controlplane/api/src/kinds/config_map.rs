//! `ConfigMap`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::Value;

use crate::ObjectExt;
use crate::error::{FieldError, FieldPath};
use crate::print;
use crate::resource::{Column, Kind, Row};
use crate::validation::{fields, names};

/// Upstream's `MaxSecretSize`, for ConfigMaps too.
pub(super) const DATA_LIMIT_BYTES: usize = 1024 * 1024;

impl Kind for ConfigMap {
    const ROW: Row = Row {
        singular: "configmap",
        short_names: &["cm"],
        columns: &[
            Column::NAME,
            Column::integer("Data", "Data contains the configuration data."),
            Column::AGE,
        ],
        ..Row::DEFAULT
    };

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut size = check_keys(
            &mut errors,
            self.binary_data.as_ref(),
            &FieldPath::new("binaryData"),
        );
        let path = FieldPath::new("data");
        for (key, value) in self.data.iter().flatten() {
            fields::faults(&mut errors, &path.key(key), key, names::config_map_key(key));
            size += value.len();
            if self
                .binary_data
                .as_ref()
                .is_some_and(|data| data.contains_key(key))
            {
                let why = "duplicate of key present in binaryData";
                errors.push(FieldError::invalid(path.key(key), key, why));
            }
        }
        if size > DATA_LIMIT_BYTES {
            errors.push(FieldError::too_long("", DATA_LIMIT_BYTES));
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if old.immutable == Some(true) {
            let why = "field is immutable when `immutable` is set";
            if self.immutable != Some(true) {
                errors.push(FieldError::forbidden("immutable", why));
            }
            if self.data != old.data {
                errors.push(FieldError::forbidden("data", why));
            }
            if self.binary_data != old.binary_data {
                errors.push(FieldError::forbidden("binaryData", why));
            }
        }
        errors
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let count =
            self.data.as_ref().map_or(0, BTreeMap::len) + self.binary_data.as_ref().map_or(0, BTreeMap::len);
        vec![self.name().into(), count.into(), print::age(&self.metadata, now)]
    }
}

/// Checks the keys of binary data; the size of all values.
pub(super) fn check_keys(
    errors: &mut Vec<FieldError>,
    data: Option<&BTreeMap<String, ByteString>>,
    path: &FieldPath,
) -> usize {
    let mut size = 0;
    for (key, value) in data.into_iter().flatten() {
        fields::faults(errors, &path.key(key), key, names::config_map_key(key));
        size += value.0.len();
    }
    size
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn config_map(value: Value) -> ConfigMap {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn keys_and_immutability_are_checked() {
        let wrong = config_map(json!({"data": {"a/b": "x", "c": "y"}, "binaryData": {"c": "eA=="}}));
        let paths: Vec<String> = Kind::validate(&wrong)
            .into_iter()
            .map(|error| error.path)
            .collect();
        assert_eq!(paths, ["data[a/b]", "data[c]"]);
        let old = config_map(json!({"immutable": true, "data": {"a": "1"}}));
        let new = config_map(json!({"data": {"a": "2"}}));
        let paths: Vec<String> = Kind::validate_update(&new, &old)
            .into_iter()
            .map(|error| error.path)
            .collect();
        assert_eq!(paths, ["immutable", "data"]);
    }
}
