//! The table of resources: one row per kind, and the behaviour behind each row.
//!
//! A compiled-in kind implements [`Kind`]; the registry and the API server handle all kinds alike through
//! [`ResourceInfo`] and [`DynObject`].

mod dynamic;
mod table;

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::Value;

pub use dynamic::{Codec, DecodeError, DynObject};
pub use table::{ResourceInfo, ResourceTable};

use crate::error::FieldError;
use crate::validation::{meta::NameCheck, names};
use crate::{LabelSelector, Object, ObjectExt};

/// What clients may do with a resource, in discovery's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    Create,
    Delete,
    DeleteCollection,
    Get,
    List,
    Patch,
    Update,
    Watch,
}

impl Verb {
    /// In discovery's order.
    pub const ALL: &'static [Self] = &[
        Self::Create,
        Self::Delete,
        Self::DeleteCollection,
        Self::Get,
        Self::List,
        Self::Patch,
        Self::Update,
        Self::Watch,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
            Self::Get => "get",
            Self::List => "list",
            Self::Patch => "patch",
            Self::Update => "update",
            Self::Watch => "watch",
        }
    }
}

/// A part of an object with its own URL that the registry serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subresource {
    Status,
    /// `autoscaling/v1 Scale`.
    Scale,
    /// `v1 Binding`, create only.
    Binding,
    /// A namespace's `spec.finalizers`, update only.
    Finalize,
}

impl Subresource {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Binding => "binding",
            Self::Finalize => "finalize",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Status, Self::Scale, Self::Binding, Self::Finalize]
            .into_iter()
            .find(|subresource| subresource.as_str() == text)
    }

    pub fn verbs(self) -> &'static [Verb] {
        match self {
            Self::Status | Self::Scale => &[Verb::Get, Verb::Patch, Verb::Update],
            Self::Binding => &[Verb::Create],
            Self::Finalize => &[Verb::Update],
        }
    }
}

/// One column of a Table, as `kubectl get` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: &'static str,
    /// `name` for the first column, else empty.
    pub format: &'static str,
    pub description: &'static str,
    /// 0 is always printed, 1 with `-o wide` only.
    pub priority: i32,
}

impl Column {
    pub const fn string(name: &'static str, description: &'static str) -> Self {
        Self {
            name,
            kind: "string",
            format: "",
            description,
            priority: 0,
        }
    }

    pub const fn integer(name: &'static str, description: &'static str) -> Self {
        Self {
            kind: "integer",
            ..Self::string(name, description)
        }
    }

    /// Printed with `-o wide` only.
    #[must_use]
    pub const fn wide(self) -> Self {
        Self { priority: 1, ..self }
    }

    pub const NAME: Self = Self {
        name: "Name",
        kind: "string",
        format: "name",
        description: "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically.",
        priority: 0,
    };

    pub const AGE: Self = Self::string(
        "Age",
        "CreationTimestamp is a timestamp representing the server time when this object was created.",
    );
}

/// The names and facts of a kind that its type does not carry.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub subresources: &'static [Subresource],
    pub columns: &'static [Column],
    /// Whether DELETE answers with the deleted object instead of a `Status`.
    pub returns_deleted: bool,
    /// Whether PUT creates what does not exist.
    pub create_on_update: bool,
    pub name_check: NameCheck,
}

impl Row {
    pub const DEFAULT: Self = Self {
        singular: "",
        short_names: &[],
        categories: &[],
        subresources: &[],
        columns: &[Column::NAME, Column::AGE],
        returns_deleted: false,
        create_on_update: false,
        name_check: names::dns1123_subdomain,
    };
}

/// A compiled-in kind: its row of the table and its pure behaviour. One small file each, under `kinds`.
///
/// The order of calls at creation: `set_defaults`, `prepare_create`, `refuse_create`, `validate`; at update:
/// `set_defaults`, `prepare_update` (or `prepare_status_update`), `validate`, `validate_update`.
pub trait Kind: Object + PartialEq {
    const ROW: Row;

    /// Fills in what the user may leave out, as upstream does for every object read or written.
    fn set_defaults(&mut self) {}

    /// Clears what users may not set at creation, such as the status.
    fn prepare_create(&mut self) {}

    /// Why the new object, complete as it is, is not admitted: what upstream's admission plugins refuse.
    fn refuse_create(&self) -> Option<String> {
        None
    }

    /// Restores from `old` what an update of the main resource may not touch, such as the status.
    fn prepare_update(&mut self, _old: &Self) {}

    /// Restores from `old` what an update of the status may not touch. Kinds without a status
    /// subresource never see it.
    fn prepare_status_update(&mut self, _old: &Self) {}

    /// Restores from `old` what an update of the `finalize` subresource may not touch.
    fn prepare_finalize(&mut self, _old: &Self) {}

    /// Whether the desired state differs, so that `metadata.generation` rises. Kinds that have no
    /// generation say `None`.
    fn spec_changed(&self, _old: &Self) -> Option<bool> {
        None
    }

    fn validate(&self) -> Vec<FieldError> {
        Vec::new()
    }

    fn validate_update(&self, _old: &Self) -> Vec<FieldError> {
        Vec::new()
    }

    /// The value of a field that field selectors of this kind may name, besides `metadata.name` and
    /// `metadata.namespace`; `None` when they may not.
    fn selectable_field(&self, _field: &str) -> Option<Cow<'_, str>> {
        None
    }

    /// One cell per column of the row.
    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![self.name().into(), crate::print::age(self.meta(), now)]
    }

    /// When the object, having been of no use for long, is to be deleted by itself.
    fn expires_at(&self) -> Option<Timestamp> {
        None
    }

    /// Replicas wanted, replicas seen and the selector, for kinds with the scale subresource.
    fn scale(&self) -> Option<ScaleView> {
        None
    }

    /// Sets the replicas wanted, for kinds with the scale subresource.
    fn set_scale(&mut self, _replicas: i32) {}
}

/// What `autoscaling/v1 Scale` shows of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleView {
    pub replicas: i32,
    pub status_replicas: i32,
    pub selector: LabelSelector,
}
