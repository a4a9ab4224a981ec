//! [`DynObject`]: an object of any kind; [`Codec`]: from JSON to such an object.

use std::any::Any;
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::{Kind, ScaleView};
use crate::decode::{self, Unknown};
use crate::error::FieldError;
use crate::{FieldSelector, LabelSelector, ObjectExt};

/// An object of any kind, with its kind's behaviour (see [`Kind`] for what the methods mean).
///
/// Where a method takes another object, that object is of the same kind: the registry reads both from
/// the same resource. Given another kind, the method does nothing (or says unequal).
pub trait DynObject: Any + Send + Sync + fmt::Debug {
    fn object_meta(&self) -> &ObjectMeta;
    fn meta_mut(&mut self) -> &mut ObjectMeta;
    fn clone_box(&self) -> Box<dyn DynObject>;
    /// JSON with `apiVersion`, `kind` and `metadata` first.
    fn to_json(&self) -> Result<Vec<u8>, serde_json::Error>;
    fn to_value(&self) -> Result<Value, serde_json::Error>;
    fn equals(&self, other: &dyn DynObject) -> bool;

    fn set_defaults(&mut self);
    fn prepare_create(&mut self);
    fn refuse_create(&self) -> Option<String>;
    fn prepare_update(&mut self, old: &dyn DynObject);
    fn prepare_status_update(&mut self, old: &dyn DynObject);
    fn prepare_finalize(&mut self, old: &dyn DynObject);
    fn spec_changed(&self, old: &dyn DynObject) -> Option<bool>;
    fn validate(&self) -> Vec<FieldError>;
    fn validate_update(&self, old: &dyn DynObject) -> Vec<FieldError>;
    fn selectable_field(&self, field: &str) -> Option<Cow<'_, str>>;
    fn cells(&self, now: Timestamp) -> Vec<Value>;
    fn expires_at(&self) -> Option<Timestamp>;
    fn scale(&self) -> Option<ScaleView>;
    fn set_scale(&mut self, replicas: i32);
}

impl dyn DynObject {
    pub fn downcast_ref<K: Kind>(&self) -> Option<&K> {
        (self as &dyn Any).downcast_ref()
    }

    pub fn downcast_mut<K: Kind>(&mut self) -> Option<&mut K> {
        (self as &mut dyn Any).downcast_mut()
    }

    /// Whether the object's labels and fields match.
    pub fn matches(&self, labels: &LabelSelector, fields: &FieldSelector) -> bool {
        let object_labels = self.object_meta().labels.as_ref();
        let matches_labels = labels.is_empty()
            || match object_labels {
                Some(object_labels) => labels.matches(object_labels),
                None => labels.matches(&std::collections::BTreeMap::new()),
            };
        matches_labels && (fields.is_empty() || fields.matches(|field| self.field(field)))
    }

    fn field(&self, field: &str) -> Option<Cow<'_, str>> {
        let meta = self.object_meta();
        match field {
            "metadata.name" => meta.name.as_deref().map(Cow::Borrowed),
            "metadata.namespace" => meta.namespace.as_deref().map(Cow::Borrowed),
            field => self.selectable_field(field),
        }
    }
}

impl<K: Kind> DynObject for K {
    fn object_meta(&self) -> &ObjectMeta {
        self.metadata()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.metadata_mut()
    }

    fn clone_box(&self) -> Box<dyn DynObject> {
        Box::new(self.clone())
    }

    fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    fn to_value(&self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(self)
    }

    fn equals(&self, other: &dyn DynObject) -> bool {
        other.downcast_ref::<K>().is_some_and(|other| self == other)
    }

    fn set_defaults(&mut self) {
        Kind::set_defaults(self);
    }

    fn prepare_create(&mut self) {
        Kind::prepare_create(self);
    }

    fn refuse_create(&self) -> Option<String> {
        Kind::refuse_create(self)
    }

    fn prepare_update(&mut self, old: &dyn DynObject) {
        if let Some(old) = old.downcast_ref() {
            Kind::prepare_update(self, old);
        }
    }

    fn prepare_status_update(&mut self, old: &dyn DynObject) {
        if let Some(old) = old.downcast_ref() {
            Kind::prepare_status_update(self, old);
        }
    }

    fn prepare_finalize(&mut self, old: &dyn DynObject) {
        if let Some(old) = old.downcast_ref() {
            Kind::prepare_finalize(self, old);
        }
    }

    fn spec_changed(&self, old: &dyn DynObject) -> Option<bool> {
        Kind::spec_changed(self, old.downcast_ref()?)
    }

    fn validate(&self) -> Vec<FieldError> {
        Kind::validate(self)
    }

    fn validate_update(&self, old: &dyn DynObject) -> Vec<FieldError> {
        old.downcast_ref()
            .map(|old| Kind::validate_update(self, old))
            .unwrap_or_default()
    }

    fn selectable_field(&self, field: &str) -> Option<Cow<'_, str>> {
        Kind::selectable_field(self, field)
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        Kind::cells(self, now)
    }

    fn expires_at(&self) -> Option<Timestamp> {
        Kind::expires_at(self)
    }

    fn scale(&self) -> Option<ScaleView> {
        Kind::scale(self)
    }

    fn set_scale(&mut self, replicas: i32) {
        Kind::set_scale(self, replicas);
    }
}

/// JSON that is no object of the kind.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(pub String);

/// Reads objects of one kind.
pub trait Codec: Send + Sync {
    /// From bytes. With `unknown`, collects the paths of unknown and duplicate fields.
    fn decode(&self, json: &[u8], unknown: Option<&mut Unknown>) -> Result<Box<dyn DynObject>, DecodeError>;

    /// From a value. With `unknown`, collects the paths of unknown fields.
    fn decode_value(
        &self,
        value: Value,
        unknown: Option<&mut Unknown>,
    ) -> Result<Box<dyn DynObject>, DecodeError>;

    /// Whether field selectors may name `field`.
    fn knows_field(&self, field: &str) -> bool;
}

/// The [`Codec`] of a compiled-in kind.
pub(super) struct Typed<K>(PhantomData<fn() -> K>);

impl<K> Typed<K> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<K: Kind + Default> Codec for Typed<K> {
    fn decode(&self, json: &[u8], unknown: Option<&mut Unknown>) -> Result<Box<dyn DynObject>, DecodeError> {
        Ok(Box::new(decode::from_slice::<K>(json, unknown)?))
    }

    fn decode_value(
        &self,
        value: Value,
        unknown: Option<&mut Unknown>,
    ) -> Result<Box<dyn DynObject>, DecodeError> {
        Ok(Box::new(decode::from_value::<K>(value, unknown)?))
    }

    fn knows_field(&self, field: &str) -> bool {
        matches!(field, "metadata.name" | "metadata.namespace")
            || Kind::selectable_field(&K::default(), field).is_some()
    }
}

impl ObjectExt for dyn DynObject {
    fn meta(&self) -> &ObjectMeta {
        self.object_meta()
    }
}
