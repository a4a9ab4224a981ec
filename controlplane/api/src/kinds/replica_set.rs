//! `ReplicaSet`.

use std::borrow::Cow;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as MetaSelector;
use serde_json::Value;

use super::pod_spec;
use crate::error::{FieldError, FieldPath};
use crate::resource::{Column, Kind, Row, ScaleView, Subresource};
use crate::validation::{fields, meta};
use crate::{LabelSelector, ObjectExt, print};

impl Kind for ReplicaSet {
    const ROW: Row = Row {
        singular: "replicaset",
        short_names: &["rs"],
        categories: &["all"],
        subresources: &[Subresource::Status, Subresource::Scale],
        columns: &[
            Column::NAME,
            Column::integer("Desired", "Replicas is the number of desired pods."),
            Column::integer(
                "Current",
                "Replicas is the most recently observed number of non-terminating pods.",
            ),
            Column::integer(
                "Ready",
                "The number of non-terminating pods targeted by this ReplicaSet with a Ready Condition.",
            ),
            Column::AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        ..Row::DEFAULT
    };

    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        spec.replicas.get_or_insert(1);
        let template = spec.template.get_or_insert_default();
        pod_spec::set_template_defaults(template);
    }

    fn prepare_create(&mut self) {
        self.status = Some(Default::default());
    }

    fn prepare_update(&mut self, old: &Self) {
        self.status.clone_from(&old.status);
    }

    fn prepare_status_update(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
        self.metadata.labels.clone_from(&old.metadata.labels);
    }

    fn spec_changed(&self, old: &Self) -> Option<bool> {
        Some(self.spec != old.spec)
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let spec = &self.spec;
        let path = FieldPath::new("spec");
        fields::not_negative(&mut errors, &path.child("replicas"), spec.replicas.map(i64::from));
        fields::not_negative(
            &mut errors,
            &path.child("minReadySeconds"),
            spec.min_ready_seconds.map(i64::from),
        );
        pod_spec::check_selector(&mut errors, &spec.selector, spec.template.as_ref(), &path);
        if let Some(template) = &spec.template {
            pod_spec::validate_template(&mut errors, template, &path.child("template"));
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let path = FieldPath::new("spec.selector");
        meta::immutable(&mut errors, &path, &self.spec.selector, &old.spec.selector);
        errors
    }

    fn selectable_field(&self, field: &str) -> Option<Cow<'_, str>> {
        (field == "status.replicas").then(|| {
            Cow::Owned(
                self.status
                    .as_ref()
                    .map_or(0, |status| status.replicas)
                    .to_string(),
            )
        })
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = &self.spec;
        let status = self.status.clone().unwrap_or_default();
        let [containers, images, selector] = workload_cells(spec.template.as_ref(), &spec.selector);
        vec![
            self.name().into(),
            spec.replicas.unwrap_or(0).into(),
            status.replicas.into(),
            status.ready_replicas.unwrap_or(0).into(),
            print::age(&self.metadata, now),
            containers,
            images,
            selector,
        ]
    }

    fn scale(&self) -> Option<ScaleView> {
        let spec = &self.spec;
        Some(ScaleView {
            replicas: spec.replicas.unwrap_or(1),
            status_replicas: self.status.as_ref().map_or(0, |status| status.replicas),
            selector: LabelSelector::from_meta(Some(&spec.selector)).ok()?,
        })
    }

    fn set_scale(&mut self, replicas: i32) {
        self.spec.replicas = Some(replicas);
    }
}

pub(super) const CONTAINERS: Column =
    Column::string("Containers", "Names of each container in the template.").wide();
pub(super) const IMAGES: Column =
    Column::string("Images", "Images referenced by each container in the template.").wide();
pub(super) const SELECTOR: Column = Column::string("Selector", "Label selector for pods.").wide();

/// Containers, images and selector of a workload.
pub(super) fn workload_cells(template: Option<&PodTemplateSpec>, selector: &MetaSelector) -> [Value; 3] {
    let containers = template
        .and_then(|template| template.spec.as_ref())
        .map(|spec| spec.containers.as_slice());
    let containers = containers.unwrap_or_default();
    let names: Vec<&str> = containers
        .iter()
        .map(|container| container.name.as_str())
        .collect();
    let images: Vec<&str> = containers
        .iter()
        .map(|container| container.image.as_deref().unwrap_or(""))
        .collect();
    let selector = LabelSelector::from_meta(Some(selector)).map(|selector| selector.to_string());
    let selector = selector.unwrap_or_else(|error| format!("<invalid: {error}>"));
    [names.join(",").into(), images.join(",").into(), selector.into()]
}
