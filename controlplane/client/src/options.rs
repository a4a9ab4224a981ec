//! Options of the verbs, and their query parameters.

use serde::Serialize;
use skep_api::Revision;

type Query = Vec<(String, String)>;

fn push(query: &mut Query, name: &str, value: Option<impl Into<String>>) {
    if let Some(value) = value {
        query.push((name.to_owned(), value.into()));
    }
}

/// How `resource_version` of a list is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionMatch {
    Exact,
    NotOlderThan,
}

/// Options of a list. The default is one answer with everything written before the request.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    /// The longest page; the rest is behind the answer's continue token.
    pub limit: Option<u32>,
    pub continue_token: Option<String>,
    pub resource_version: Option<Revision>,
    pub version_match: Option<VersionMatch>,
}

impl ListOptions {
    /// Everything that the label selector matches.
    #[must_use]
    pub fn labels(selector: impl Into<String>) -> Self {
        Self {
            label_selector: Some(selector.into()),
            ..Self::default()
        }
    }

    /// Everything that the field selector matches.
    #[must_use]
    pub fn fields(selector: impl Into<String>) -> Self {
        Self {
            field_selector: Some(selector.into()),
            ..Self::default()
        }
    }

    pub(crate) fn to_query(&self) -> Query {
        let mut query = Query::new();
        push(&mut query, "labelSelector", self.label_selector.as_deref());
        push(&mut query, "fieldSelector", self.field_selector.as_deref());
        push(&mut query, "limit", self.limit.map(|limit| limit.to_string()));
        push(&mut query, "continue", self.continue_token.as_deref());
        push(
            &mut query,
            "resourceVersion",
            self.resource_version.map(|revision| revision.to_string()),
        );
        push(
            &mut query,
            "resourceVersionMatch",
            self.version_match.map(|version_match| match version_match {
                VersionMatch::Exact => "Exact",
                VersionMatch::NotOlderThan => "NotOlderThan",
            }),
        );
        query
    }
}

/// Options of a watch.
#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    pub label_selector: Option<String>,
    pub field_selector: Option<String>,
    /// Events after this revision. None: from now, with synthetic `Added` events for what exists.
    pub resource_version: Option<Revision>,
    pub bookmarks: bool,
    /// The server ends the watch after so long.
    pub timeout_seconds: Option<u32>,
    /// Ask for the initial state as `Added` events, closed by a bookmark with `initial_events_end`.
    pub send_initial_events: bool,
}

impl WatchOptions {
    pub(crate) fn to_query(&self) -> Query {
        let mut query = Query::new();
        push(&mut query, "labelSelector", self.label_selector.as_deref());
        push(&mut query, "fieldSelector", self.field_selector.as_deref());
        push(
            &mut query,
            "resourceVersion",
            self.resource_version.map(|revision| revision.to_string()),
        );
        push(
            &mut query,
            "allowWatchBookmarks",
            self.bookmarks.then_some("true"),
        );
        push(
            &mut query,
            "timeoutSeconds",
            self.timeout_seconds.map(|seconds| seconds.to_string()),
        );
        if self.send_initial_events {
            push(&mut query, "sendInitialEvents", Some("true"));
            push(&mut query, "resourceVersionMatch", Some("NotOlderThan"));
        }
        query
    }
}

/// What becomes of the dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// What must hold for a deletion to happen, else it conflicts.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preconditions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

/// Options of a deletion; the wire form is meta/v1 DeleteOptions.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation_policy: Option<Propagation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preconditions: Option<Preconditions>,
}

impl DeleteOptions {
    /// Gone at once, without waiting for the kubelet.
    #[must_use]
    pub fn now() -> Self {
        Self {
            grace_period_seconds: Some(0),
            ..Self::default()
        }
    }

    /// Only the object with this uid, not a successor of the same name.
    #[must_use]
    pub fn with_uid(mut self, uid: impl Into<String>) -> Self {
        self.preconditions.get_or_insert_default().uid = Some(uid.into());
        self
    }
}
