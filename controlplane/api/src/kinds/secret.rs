//! `Secret`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use super::config_map::{DATA_LIMIT_BYTES, check_keys};
use crate::ObjectExt;
use crate::error::{FieldError, FieldPath};
use crate::print;
use crate::resource::{Column, Kind, Row};
use crate::validation::meta;

/// The keys that data of a type must have.
const REQUIRED_KEYS: &[(&str, &[&str])] = &[
    ("kubernetes.io/tls", &["tls.crt", "tls.key"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
];

impl Kind for Secret {
    const ROW: Row = Row {
        singular: "secret",
        columns: &[
            Column::NAME,
            Column::string("Type", "Used to facilitate programmatic handling of secret data."),
            Column::integer("Data", "Data contains the secret data."),
            Column::AGE,
        ],
        ..Row::DEFAULT
    };

    fn set_defaults(&mut self) {
        if self.type_.as_deref().unwrap_or("").is_empty() {
            self.type_ = Some("Opaque".to_owned());
        }
        // Written as text, kept as bytes.
        for (key, value) in self.string_data.take().into_iter().flatten() {
            self.data
                .get_or_insert_default()
                .insert(key, ByteString(value.into_bytes()));
        }
    }

    fn validate(&self) -> Vec<FieldError> {
        let path = FieldPath::new("data");
        let mut errors = Vec::new();
        if check_keys(&mut errors, self.data.as_ref(), &path) > DATA_LIMIT_BYTES {
            errors.push(FieldError::too_long(&path, DATA_LIMIT_BYTES));
        }
        let kind = self.type_.as_deref().unwrap_or("");
        let required = REQUIRED_KEYS
            .iter()
            .filter(|(name, _)| *name == kind)
            .flat_map(|(_, keys)| *keys);
        for key in required {
            if !self.data.as_ref().is_some_and(|data| data.contains_key(*key)) {
                errors.push(FieldError::required(path.key(key), ""));
            }
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        meta::immutable(&mut errors, &FieldPath::new("type"), &self.type_, &old.type_);
        if old.immutable == Some(true) {
            let why = "field is immutable when `immutable` is set";
            if self.immutable != Some(true) {
                errors.push(FieldError::forbidden("immutable", why));
            }
            if self.data != old.data {
                errors.push(FieldError::forbidden("data", why));
            }
        }
        errors
    }

    fn selectable_field(&self, field: &str) -> Option<Cow<'_, str>> {
        (field == "type").then(|| Cow::Borrowed(self.type_.as_deref().unwrap_or("")))
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let count = self.data.as_ref().map_or(0, BTreeMap::len);
        let kind = self.type_.as_deref().unwrap_or("");
        vec![
            self.name().into(),
            kind.into(),
            count.into(),
            print::age(&self.metadata, now),
        ]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn text_becomes_data_and_types_have_their_keys() {
        let mut secret: Secret =
            serde_json::from_value(json!({"type": "kubernetes.io/tls", "stringData": {"tls.crt": "x"}}))
                .unwrap();
        secret.set_defaults();
        let value = serde_json::to_value(&secret).unwrap();
        assert_eq!(value["data"], json!({"tls.crt": "eA=="}));
        assert!(value.get("stringData").is_none());
        let errors = Kind::validate(&secret);
        assert_eq!(
            errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["data[tls.key]: Required value"]
        );
    }
}
