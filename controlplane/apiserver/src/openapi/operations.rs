//! Which operations a resource has, independent of the dialect.

use super::schemas::{DELETE_OPTIONS, PATCH, STATUS, definition_of};
use crate::catalog::{Entry, Gvk, SubEntry};

/// A query parameter: name, type, description.
pub(super) type Parameter = (&'static str, &'static str, &'static str);

/// An operation on a path.
pub(super) struct Operation {
    pub(super) path: String,
    pub(super) method: &'static str,
    /// Upstream's word for it: `list`, `post`, `patch`, ….
    pub(super) action: &'static str,
    pub(super) id: String,
    pub(super) tag: String,
    pub(super) description: String,
    pub(super) kind: Gvk,
    pub(super) parameters: Vec<Parameter>,
    /// The definition of the request's body.
    pub(super) body: Option<String>,
    /// The definition of the answer; `None` for streams.
    pub(super) answer: Option<String>,
}

const DRY_RUN: Parameter = (
    "dryRun",
    "string",
    "When present, indicates that modifications should not be persisted. An invalid or unrecognized dryRun directive will result in an error response and no further processing of the request. Valid values are: - All: all dry run stages will be processed",
);
const FIELD_MANAGER: Parameter = (
    "fieldManager",
    "string",
    "fieldManager is a name associated with the actor or entity that is making these changes. The value must be less than or 128 characters long, and only contain printable characters, as defined by https://golang.org/pkg/unicode/#IsPrint.",
);
const FIELD_VALIDATION: Parameter = (
    "fieldValidation",
    "string",
    "fieldValidation instructs the server on how to handle objects in the request (POST/PUT/PATCH) containing unknown or duplicate fields. Valid values are: Ignore, Warn, Strict.",
);
const FORCE: Parameter = (
    "force",
    "boolean",
    "Force is going to \"force\" Apply requests. It means user will re-acquire conflicting fields owned by other people. Force flag must be unset for non-apply patch requests.",
);
const LIST: &[Parameter] = &[
    (
        "allowWatchBookmarks",
        "boolean",
        "allowWatchBookmarks requests watch events with type \"BOOKMARK\".",
    ),
    (
        "continue",
        "string",
        "The continue option should be set when retrieving more results from the server.",
    ),
    (
        "fieldSelector",
        "string",
        "A selector to restrict the list of returned objects by their fields. Defaults to everything.",
    ),
    (
        "labelSelector",
        "string",
        "A selector to restrict the list of returned objects by their labels. Defaults to everything.",
    ),
    (
        "limit",
        "integer",
        "limit is a maximum number of responses to return for a list call.",
    ),
    (
        "resourceVersion",
        "string",
        "resourceVersion sets a constraint on what resource versions a request may be served from.",
    ),
    (
        "resourceVersionMatch",
        "string",
        "resourceVersionMatch determines how resourceVersion is applied to list calls.",
    ),
    (
        "sendInitialEvents",
        "boolean",
        "`sendInitialEvents=true` may be set together with `watch=true`: the watch begins with the current state.",
    ),
    (
        "timeoutSeconds",
        "integer",
        "Timeout for the list/watch call. This limits the duration of the call, regardless of any activity or inactivity.",
    ),
    (
        "watch",
        "boolean",
        "Watch for changes to the described resources and return them as a stream of add, update, and remove notifications.",
    ),
];
const DELETE: &[Parameter] = &[
    DRY_RUN,
    (
        "gracePeriodSeconds",
        "integer",
        "The duration in seconds before the object should be deleted. Value must be non-negative integer.",
    ),
    (
        "orphanDependents",
        "boolean",
        "Deprecated: please use the PropagationPolicy.",
    ),
    (
        "propagationPolicy",
        "string",
        "Whether and how garbage collection will be performed.",
    ),
];
const WRITE: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];

/// What an authorization verb is in HTTP and in upstream's names.
struct Shape {
    verb: &'static str,
    method: &'static str,
    action: &'static str,
    id: &'static str,
    parameters: &'static [&'static [Parameter]],
}

const SHAPES: &[Shape] = &[
    Shape {
        verb: "get",
        method: "get",
        action: "get",
        id: "read",
        parameters: &[],
    },
    Shape {
        verb: "list",
        method: "get",
        action: "list",
        id: "list",
        parameters: &[LIST],
    },
    Shape {
        verb: "create",
        method: "post",
        action: "post",
        id: "create",
        parameters: &[WRITE],
    },
    Shape {
        verb: "update",
        method: "put",
        action: "put",
        id: "replace",
        parameters: &[WRITE],
    },
    Shape {
        verb: "patch",
        method: "patch",
        action: "patch",
        id: "patch",
        parameters: &[WRITE, &[FORCE]],
    },
    Shape {
        verb: "delete",
        method: "delete",
        action: "delete",
        id: "delete",
        parameters: &[DELETE],
    },
    Shape {
        verb: "deletecollection",
        method: "delete",
        action: "deletecollection",
        id: "deleteCollection",
        parameters: &[LIST, DELETE],
    },
];

/// Every operation of a resource.
pub(super) fn of(entry: &Entry) -> Vec<Operation> {
    let group = &entry.kind.group;
    let root = if group.is_empty() {
        "/api".to_owned()
    } else {
        format!("/apis/{group}")
    };
    let base = format!("{root}/{}", entry.kind.version);
    let plural = &entry.resource.resource;
    let scope = if entry.namespaced {
        "/namespaces/{namespace}"
    } else {
        ""
    };
    let collection = format!("{base}{scope}/{plural}");
    let item = format!("{collection}/{{name}}");
    let mut operations = Vec::new();
    for verb in &entry.verbs {
        let on_collection = matches!(*verb, "create" | "list" | "deletecollection");
        let path = if on_collection { &collection } else { &item };
        operations.extend(operation(entry, None, verb, path));
        if *verb == "list" && entry.namespaced {
            let everywhere = operation(entry, None, verb, &format!("{base}/{plural}"));
            operations.extend(everywhere.map(|operation| Operation {
                id: format!("list{}{}ForAllNamespaces", stem(&entry.kind), entry.kind.kind),
                ..operation
            }));
        }
    }
    for subresource in &entry.subresources {
        let path = format!("{item}/{}", subresource.name);
        let verbs = subresource.verbs.iter();
        operations.extend(verbs.filter_map(|verb| operation(entry, Some(subresource), verb, &path)));
    }
    operations
}

fn operation(entry: &Entry, subresource: Option<&SubEntry>, verb: &str, path: &str) -> Option<Operation> {
    let shape = SHAPES.iter().find(|shape| shape.verb == verb)?;
    let kind = subresource.map_or(&entry.kind, |subresource| &subresource.kind);
    let streams = subresource.is_some_and(|s| matches!(s.name, "log" | "exec" | "attach" | "portforward"));
    let (body, answer) = if streams {
        (None, None)
    } else {
        bodies(entry, kind, verb)
    };
    let scope = if entry.namespaced { "Namespaced" } else { "" };
    let suffix = subresource
        .map(|subresource| capital(subresource.name))
        .unwrap_or_default();
    let what = subresource
        .map(|subresource| format!("{} of ", subresource.name))
        .unwrap_or_default();
    Some(Operation {
        path: path.to_owned(),
        method: shape.method,
        action: if streams { "connect" } else { shape.action },
        id: format!(
            "{}{}{scope}{}{suffix}",
            shape.id,
            stem(&entry.kind),
            entry.kind.kind
        ),
        tag: tag(&entry.kind),
        description: format!("{} {what}the specified {}", shape.id, entry.kind.kind),
        kind: kind.clone(),
        parameters: if streams {
            Vec::new()
        } else {
            shape.parameters.concat()
        },
        body,
        answer,
    })
}

/// The definitions of the request's and the answer's bodies.
fn bodies(entry: &Entry, kind: &Gvk, verb: &str) -> (Option<String>, Option<String>) {
    let own = definition_of(kind);
    match verb {
        "list" => {
            let list_kind = entry.list_kind.clone().unwrap_or_default();
            (
                None,
                Some(definition_of(&Gvk {
                    kind: list_kind,
                    ..entry.kind.clone()
                })),
            )
        }
        "create" | "update" => (Some(own.clone()), Some(own)),
        "patch" => (Some(PATCH.into()), Some(own)),
        "delete" | "deletecollection" => (Some(DELETE_OPTIONS.into()), Some(STATUS.into())),
        _ => (None, Some(own)),
    }
}

/// `CoreV1`, `RbacAuthorizationV1`: the middle of upstream's operation ids.
fn stem(kind: &Gvk) -> String {
    let group: String = group_words(kind).map(capital).collect();
    format!("{group}{}", capital(&kind.version))
}

/// `core_v1`, `rbacAuthorization_v1`.
fn tag(kind: &Gvk) -> String {
    let mut words = group_words(kind);
    let first = words.next().unwrap_or_default().to_owned();
    format!(
        "{}_{}",
        first + &words.map(capital).collect::<String>(),
        kind.version
    )
}

fn group_words(kind: &Gvk) -> impl Iterator<Item = &str> {
    let group = if kind.group.is_empty() {
        "core"
    } else {
        kind.group.trim_end_matches(".k8s.io")
    };
    group.split('.')
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect())
        .unwrap_or_default()
}
