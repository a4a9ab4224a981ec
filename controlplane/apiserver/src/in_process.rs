//! The client's transport within one process: the registry without HTTP, for a fixed user and with the
//! same authorization, handing out shared decoded objects.

use crate::auth::attributes::Attributes;
use crate::auth::gate::Gate;
use crate::auth::rbac::Authorizer;
use crate::auth::user::User;
use crate::http::query::Query;
use crate::http::request_info::{self, RequestInfo, ResourcePath};
use crate::ops::{Action, Operation, Outcome, watch_timeout};
use async_trait::async_trait;
use futures::StreamExt;
use skep_api::{ApiError, Status};
use skep_client::{
    ApiRequest, ApiResponse, PatchKind as ClientPatch, RawObject, RawWatchEvent, RawWatchStream, Transport,
    Verb,
};
use skep_registry::{PatchKind, Registry, SharedObject, WatchEvent};
use std::sync::Arc;

pub(crate) struct InProcess {
    pub(crate) registry: Registry,
    pub(crate) authorizer: Arc<Authorizer>,
    pub(crate) user: Arc<User>,
}

impl InProcess {
    /// The request's path, once it is authorized.
    async fn authorize(&self, request: &ApiRequest) -> Result<ResourcePath, ApiError> {
        let path = ResourcePath {
            resource: request.resource.clone(),
            namespace: request.namespace.clone().unwrap_or_default(),
            name: request.name.clone().unwrap_or_default(),
            subresource: request.subresource.clone().unwrap_or_default(),
            rest: Vec::new(),
        };
        let query = Query::from(request.query.clone());
        let verb = request.verb.as_str();
        let fields = request_info::fields(&query);
        let info = RequestInfo {
            verb,
            path: String::new(),
            resource: Some(path.clone().named_by_selector(verb, &fields)),
            fields,
        };
        self.authorizer
            .authorize(&Attributes::of(&self.user, &info))
            .await?;
        Ok(path)
    }
}

#[async_trait]
impl Transport for InProcess {
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        let path = self.authorize(&request).await?;
        let query = Query::from(request.query);
        let body = request.body.unwrap_or_default();
        let action = match request.verb {
            Verb::Get => Action::Get,
            Verb::List => Action::List,
            Verb::Create => Action::Create(body),
            Verb::Update => Action::Update(body),
            Verb::Patch(kind) => Action::Patch(patch_kind(kind)?, body),
            Verb::Delete => Action::Delete(body),
            Verb::DeleteCollection => Action::DeleteCollection(body),
            Verb::Watch => return Err(ApiError::bad_request("a watch is opened by Transport::watch")),
        };
        let outcome = Operation::new(&self.registry, &path, &query)?
            .admitted_by(Gate::new(&self.authorizer, &self.user, &path))
            .run(action)
            .await?;
        Ok(match outcome {
            Outcome::Object(object) => ApiResponse::Object(raw(&object)),
            Outcome::Written(written) => ApiResponse::Object(raw(&written.object)),
            Outcome::Deleted(deleted) if !deleted.gone => ApiResponse::Object(raw(&deleted.object)),
            Outcome::Deleted(_) | Outcome::Bound => ApiResponse::Status(Box::new(Status {
                status: Some("Success".into()),
                ..Status::default()
            })),
            Outcome::List(list) => ApiResponse::List {
                revision: list.revision,
                continue_token: list.continue_token,
                items: list.items.iter().map(raw).collect(),
            },
        })
    }

    async fn watch(&self, request: ApiRequest) -> Result<RawWatchStream, ApiError> {
        let path = self.authorize(&request).await?;
        let query = Query::from(request.query);
        let timeout = watch_timeout(&query)?;
        let events = Operation::new(&self.registry, &path, &query)?.watch().await?;
        let events = events.take_until(Box::pin(tokio::time::sleep(timeout)));
        Ok(events.map(|event| event.map(raw_event)).boxed())
    }
}

fn patch_kind(kind: ClientPatch) -> Result<PatchKind, ApiError> {
    match kind {
        ClientPatch::Json => Ok(PatchKind::Json),
        ClientPatch::Merge => Ok(PatchKind::Merge),
        ClientPatch::Strategic => Ok(PatchKind::Strategic),
        ClientPatch::Apply => Err(crate::http::body::apply_refused()),
    }
}

fn raw(object: &SharedObject) -> RawObject {
    RawObject {
        json: Some(object.json()),
        decoded: Some(object.any()),
    }
}

fn raw_event(event: WatchEvent) -> RawWatchEvent {
    match event {
        WatchEvent::Added(object) => RawWatchEvent::Added(raw(&object)),
        WatchEvent::Modified(object) => RawWatchEvent::Modified(raw(&object)),
        WatchEvent::Deleted(object) => RawWatchEvent::Deleted(raw(&object)),
        WatchEvent::Bookmark {
            revision,
            initial_events_end,
        } => RawWatchEvent::Bookmark {
            revision,
            initial_events_end,
        },
    }
}
