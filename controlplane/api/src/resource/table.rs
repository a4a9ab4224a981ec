//! [`ResourceTable`]: every resource that is served, by group, version and plural name.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::schemars::{JsonSchema, SchemaGenerator};

use super::dynamic::{Codec, Typed};
use super::{Column, Kind, Row, Subresource, Verb};
use crate::{GroupVersionResource, gvr_of, is_namespaced, kinds};

/// One row: the names and facts of a resource, and its codec.
#[derive(Clone)]
pub struct ResourceInfo {
    pub gvr: GroupVersionResource,
    pub kind: String,
    pub list_kind: String,
    pub singular: String,
    pub short_names: Vec<String>,
    pub categories: Vec<String>,
    pub namespaced: bool,
    pub verbs: Vec<Verb>,
    pub subresources: Vec<Subresource>,
    pub columns: Vec<Column>,
    /// Whether DELETE answers with the deleted object instead of a `Status`.
    pub returns_deleted: bool,
    /// Whether PUT creates what does not exist.
    pub create_on_update: bool,
    pub name_check: crate::validation::meta::NameCheck,
    pub codec: Arc<dyn Codec>,
    /// Registers the kind's schema, and those it refers to, for OpenAPI.
    pub schema: fn(&mut SchemaGenerator),
}

impl ResourceInfo {
    /// The row of a compiled-in kind.
    pub fn of<K: Kind + Default + JsonSchema>() -> Self {
        let Row {
            singular,
            short_names,
            categories,
            subresources,
            columns,
            returns_deleted,
            create_on_update,
            name_check,
        } = K::ROW;
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            gvr: gvr_of::<K>(),
            kind: K::KIND.to_owned(),
            list_kind: format!("{}List", K::KIND),
            singular: singular.to_owned(),
            short_names: owned(short_names),
            categories: owned(categories),
            namespaced: is_namespaced::<K>(),
            verbs: Verb::ALL.to_vec(),
            subresources: subresources.to_vec(),
            columns: columns.to_vec(),
            returns_deleted,
            create_on_update,
            name_check,
            codec: Arc::new(Typed::<K>::new()),
            schema: |generator| drop(generator.subschema_for::<K>()),
        }
    }

    pub fn has(&self, subresource: Subresource) -> bool {
        self.subresources.contains(&subresource)
    }
}

impl fmt::Debug for ResourceInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResourceInfo({})", self.gvr)
    }
}

/// Every resource that is served.
#[derive(Clone, Debug, Default)]
pub struct ResourceTable {
    rows: Vec<Arc<ResourceInfo>>,
    by_gvr: HashMap<GroupVersionResource, usize>,
}

impl ResourceTable {
    /// All compiled-in kinds.
    pub fn builtin() -> Self {
        let mut table = Self::default();
        for row in kinds::all() {
            table.insert(row);
        }
        table
    }

    /// Adds a row, or replaces the one of the same name.
    pub fn insert(&mut self, row: ResourceInfo) {
        let row = Arc::new(row);
        match self.by_gvr.get(&row.gvr) {
            Some(index) => self.rows[*index] = row,
            None => {
                self.by_gvr.insert(row.gvr.clone(), self.rows.len());
                self.rows.push(row);
            }
        }
    }

    pub fn get(&self, resource: &GroupVersionResource) -> Option<&Arc<ResourceInfo>> {
        self.by_gvr.get(resource).map(|index| &self.rows[*index])
    }

    /// The row that serves a kind.
    pub fn by_kind(&self, group: &str, version: &str, kind: &str) -> Option<&Arc<ResourceInfo>> {
        self.rows
            .iter()
            .find(|row| row.gvr.group == group && row.gvr.version == version && row.kind == kind)
    }

    /// All rows in the order they were added: core first, then by group.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<ResourceInfo>> {
        self.rows.iter()
    }
}
