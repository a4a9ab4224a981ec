//! `Namespace`.

use std::borrow::Cow;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use serde_json::Value;

use crate::ObjectExt;
use crate::error::{FieldError, FieldPath};
use crate::print;
use crate::resource::{Column, Kind, Row, Subresource};
use crate::validation::names;

/// The label with which selectors name a namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Held until the namespace is empty.
const FINALIZER: &str = "kubernetes";

impl Kind for Namespace {
    const ROW: Row = Row {
        singular: "namespace",
        short_names: &["ns"],
        subresources: &[Subresource::Status, Subresource::Finalize],
        columns: &[
            Column::NAME,
            Column::string("Status", "The status of the namespace"),
            Column::AGE,
        ],
        name_check: names::dns1123_label,
        ..Row::DEFAULT
    };

    fn set_defaults(&mut self) {
        if let Some(name) = self.metadata.name.clone().filter(|name| !name.is_empty()) {
            self.metadata
                .labels
                .get_or_insert_default()
                .insert(NAME_LABEL.to_owned(), name);
        }
        self.status
            .get_or_insert_default()
            .phase
            .get_or_insert_with(|| "Active".to_owned());
    }

    fn prepare_create(&mut self) {
        let finalizers = self
            .spec
            .get_or_insert_default()
            .finalizers
            .get_or_insert_default();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
        let status = self.status.insert(Default::default());
        status.phase = Some("Active".to_owned());
    }

    fn prepare_update(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
        self.status.clone_from(&old.status);
    }

    fn prepare_status_update(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
    }

    fn prepare_finalize(&mut self, old: &Self) {
        self.status.clone_from(&old.status);
    }

    fn validate(&self) -> Vec<FieldError> {
        let path = FieldPath::new("spec").child("finalizers");
        let finalizers = self.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten());
        let mut errors = Vec::new();
        for (index, finalizer) in finalizers.enumerate() {
            if finalizer != FINALIZER && !finalizer.contains('/') {
                let why = "name is neither a standard finalizer name nor is it fully qualified";
                errors.push(FieldError::invalid(path.index(index), finalizer, why));
            }
        }
        errors
    }

    fn selectable_field(&self, field: &str) -> Option<Cow<'_, str>> {
        match field {
            "name" => Some(Cow::Borrowed(self.name())),
            "status.phase" => Some(Cow::Borrowed(
                self.status
                    .as_ref()
                    .and_then(|status| status.phase.as_deref())
                    .unwrap_or(""),
            )),
            _ => None,
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let phase = self
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref())
            .unwrap_or("");
        vec![self.name().into(), phase.into(), print::age(&self.metadata, now)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn created_namespaces_are_active_labelled_and_finalized() {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some("a".to_owned());
        namespace.set_defaults();
        namespace.prepare_create();
        assert_eq!(namespace.labels()[NAME_LABEL], "a");
        assert_eq!(
            namespace.spec.as_ref().unwrap().finalizers.as_ref().unwrap(),
            &[FINALIZER]
        );
        assert_eq!(namespace.cells(Timestamp::UNIX_EPOCH)[1], "Active");
        assert!(Kind::validate(&namespace).is_empty());
    }
}
