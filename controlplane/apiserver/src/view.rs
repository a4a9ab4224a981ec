//! How objects are shown: whole, as metadata alone, or as rows of a Table; alone, in lists and in watches.

use crate::http::negotiate::View;
use crate::http::query::Query;
use jiff::Timestamp;
use serde_json::{Value, json};
use skep_api::{ApiError, ResourceInfo, Revision};
use skep_registry::SharedObject;
use std::sync::Arc;

/// What of the object stands in a Table's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RowObject {
    Nothing,
    Metadata,
    Whole,
}

/// Writes objects of one kind in one view.
#[derive(Clone)]
pub(crate) struct Viewer {
    row: Arc<ResourceInfo>,
    view: View,
    row_object: RowObject,
    now: Timestamp,
}

/// What a list says besides its items.
pub(crate) struct ListHead {
    pub(crate) revision: Revision,
    pub(crate) continue_token: Option<String>,
    pub(crate) remaining: Option<usize>,
}

impl Viewer {
    /// # Errors
    /// 400 for an `includeObject` that is not known.
    pub(crate) fn new(row: Arc<ResourceInfo>, view: View, query: &Query) -> Result<Self, ApiError> {
        let row_object = match query.get("includeObject") {
            None | Some("Metadata") => RowObject::Metadata,
            Some("None") => RowObject::Nothing,
            Some("Object") => RowObject::Whole,
            Some(other) => {
                return Err(ApiError::bad_request(format!(
                    "unrecognized includeObject value: {other:?}"
                )));
            }
        };
        Ok(Self {
            row,
            view,
            row_object,
            now: Timestamp::now(),
        })
    }

    /// The same with ages as of now, for streams that last.
    pub(crate) fn refreshed(&self) -> Self {
        Self {
            now: Timestamp::now(),
            ..self.clone()
        }
    }

    /// One object by itself. In a Table `columns` says whether to describe them.
    pub(crate) fn object(&self, object: &SharedObject, columns: bool, out: &mut Vec<u8>) {
        match self.view {
            View::Object => out.extend_from_slice(&object.json()),
            View::Partial { .. } => self.item(object, out),
            View::Table { version } => {
                let head = ListHead {
                    revision: object.revision(),
                    continue_token: None,
                    remaining: None,
                };
                out.extend_from_slice(&self.table_head(version, &head, columns));
                self.item(object, out);
                out.extend_from_slice(b"]}");
            }
        }
    }

    /// What stands before the items of a list.
    pub(crate) fn list_head(&self, head: &ListHead) -> Vec<u8> {
        let (kind, api_version) = match self.view {
            View::Object => (self.row.list_kind.clone(), self.row.gvr.api_version()),
            View::Partial { version } => (
                "PartialObjectMetadataList".into(),
                format!("meta.k8s.io/{version}"),
            ),
            View::Table { version } => return self.table_head(version, head, true),
        };
        open(
            &json!({"kind": kind, "apiVersion": api_version, "metadata": list_meta(head)}),
            "items",
        )
    }

    fn table_head(&self, version: &str, head: &ListHead, columns: bool) -> Vec<u8> {
        let columns: Option<Vec<Value>> = columns.then(|| self.row.columns.iter().map(column).collect());
        let table = json!({
            "kind": "Table", "apiVersion": format!("meta.k8s.io/{version}"), "metadata": list_meta(head),
            "columnDefinitions": columns,
        });
        open(&table, "rows")
    }

    /// One item of a list.
    pub(crate) fn item(&self, object: &SharedObject, out: &mut Vec<u8>) {
        match self.view {
            View::Object => out.extend_from_slice(&object.json()),
            View::Partial { version } => partial(version, object, out),
            View::Table { version } => {
                let cells = Value::Array(object.object().cells(self.now));
                out.extend_from_slice(b"{\"cells\":");
                put(&cells, out);
                match self.row_object {
                    RowObject::Nothing => {}
                    RowObject::Metadata => {
                        out.extend_from_slice(b",\"object\":");
                        partial(version, object, out);
                    }
                    RowObject::Whole => {
                        out.extend_from_slice(b",\"object\":");
                        out.extend_from_slice(&object.json());
                    }
                }
                out.push(b'}');
            }
        }
    }

    /// The object of a bookmark: nothing but a revision.
    pub(crate) fn bookmark(&self, revision: Revision, initial_events_end: bool, out: &mut Vec<u8>) {
        let (kind, api_version) = match self.view {
            View::Object => (self.row.kind.clone(), self.row.gvr.api_version()),
            View::Partial { version } => ("PartialObjectMetadata".into(), format!("meta.k8s.io/{version}")),
            View::Table { version } => ("Table".into(), format!("meta.k8s.io/{version}")),
        };
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if initial_events_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let mut object = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
        if matches!(self.view, View::Table { .. }) {
            object["metadata"] = json!({"resourceVersion": revision.to_string()});
            object["rows"] = match initial_events_end {
                true => json!([{"cells": [], "object": {
                    "kind": "PartialObjectMetadata", "apiVersion": api_version, "metadata": metadata,
                }}]),
                false => json!([]),
            };
        }
        put(&object, out);
    }
}

/// `value` as JSON up to the begin of one more field, an array.
fn open(value: &Value, array: &str) -> Vec<u8> {
    let mut out = value.to_string().into_bytes();
    out.pop();
    out.extend_from_slice(format!(",\"{array}\":[").as_bytes());
    out
}

fn list_meta(head: &ListHead) -> Value {
    let mut meta = json!({"resourceVersion": head.revision.to_string()});
    if let Some(token) = &head.continue_token {
        meta["continue"] = token.as_str().into();
        if let Some(remaining) = head.remaining {
            meta["remainingItemCount"] = remaining.into();
        }
    }
    meta
}

fn column(column: &skep_api::Column) -> Value {
    json!({
        "name": column.name, "type": column.kind, "format": column.format, "description": column.description,
        "priority": column.priority,
    })
}

fn partial(version: &str, object: &SharedObject, out: &mut Vec<u8>) {
    let head = format!(
        "{{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/{version}\",\"metadata\":"
    );
    out.extend_from_slice(head.as_bytes());
    put(object.object().object_meta(), out);
    out.push(b'}');
}

/// Appends JSON. Only maps with keys that are no strings cannot be written, and no API type has one.
fn put<T: serde::Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) {
    let start = out.len();
    if let Err(error) = serde_json::to_writer(&mut *out, value) {
        tracing::error!(%error, "a value has no JSON form");
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}
