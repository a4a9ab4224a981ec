//! One request from its first line to its answer: who, may they, what.

use crate::auth::attributes::Attributes;
use crate::auth::certificate::Peer;
use crate::auth::gate::Gate;
use crate::auth::impersonation::acting_user;
use crate::auth::rbac::Authorizer;
use crate::auth::user::User;
use crate::discovery::Discovery;
use crate::health::{self, Check};
use crate::http::negotiate::{self, Form, View};
use crate::http::query::Query;
use crate::http::request_info::{RequestInfo, ResourcePath};
use crate::http::{Response, body, reply, stream};
use crate::listener::Serve;
use crate::metrics::{Metrics, RequestLabels};
use crate::node::{Connect, Nodes};
use crate::openapi::OpenApi;
use crate::ops::{Action, Operation, Outcome, watch_timeout};
use crate::tokens::Tokens;
use crate::view::{ListHead, Viewer};
use crate::{reviews, tokens, version, watching};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use hyper::Request;
use hyper::body::Incoming;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusDetails};
use skep_api::{ApiError, ResourceInfo};
use skep_registry::{Deleted, ObjectList, Registry, SharedObject};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};
use tokio_util::sync::CancellationToken;

/// Upstream's `--request-timeout`; long-running requests are exempt.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Upstream's `--etcd-readycheck-timeout`.
const STORE_CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// What every request needs.
pub(crate) struct Api {
    pub(crate) registry: Registry,
    pub(crate) authorizer: Arc<Authorizer>,
    pub(crate) discovery: Discovery,
    pub(crate) openapi: OpenApi,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) tokens: Tokens,
    pub(crate) metrics: Metrics,
    /// What `/metrics` shows.
    pub(crate) exposed: OnceLock<Arc<prometheus_client::registry::Registry>>,
    /// Whether the objects that every cluster has were written.
    pub(crate) ready: AtomicBool,
    /// Ends watches.
    pub(crate) shutdown: CancellationToken,
}

impl Serve for Api {
    async fn serve(self: Arc<Self>, request: Request<Incoming>, peer: Arc<Peer>) -> Response {
        let started = Instant::now();
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let info = RequestInfo::parse(request.method(), request.uri().path(), &query);
        let response = match self.answer(request, &peer, &info, &query).await {
            Ok(response) => response,
            Err(error) => reply::status_of(&error),
        };
        self.observe(&info, response.status(), started.elapsed());
        response
    }
}

/// A virtual object that was posted, and how its sender reads the answer.
struct Posted {
    form: Form,
    headers: HeaderMap,
    body: Bytes,
}

impl Posted {
    async fn read(request: Request<Incoming>) -> Result<Self, ApiError> {
        let form = negotiate::form(request.headers())?;
        let (head, incoming) = request.into_parts();
        let body = body::object_json(&head.headers, body::read(incoming).await?)?;
        Ok(Self {
            form,
            headers: head.headers,
            body,
        })
    }

    fn answered(self, answer: Vec<u8>) -> Response {
        reply::encoded(
            StatusCode::CREATED,
            self.form,
            &self.headers,
            false,
            answer.into(),
        )
    }
}

impl Api {
    fn observe(&self, info: &RequestInfo, status: StatusCode, took: Duration) {
        // Only names of the table become labels: clients cannot make up new ones.
        let known = info
            .resource
            .as_ref()
            .filter(|path| self.registry.table().get(&path.resource).is_some());
        let subresource = known
            .map(|path| path.subresource.clone())
            .filter(|_| status != StatusCode::NOT_FOUND);
        let labels = RequestLabels {
            verb: info.verb,
            group: known
                .map(|path| path.resource.group.to_string())
                .unwrap_or_default(),
            resource: known
                .map(|path| path.resource.resource.to_string())
                .unwrap_or_default(),
            subresource: subresource.unwrap_or_default(),
            code: status.as_u16(),
        };
        tracing::debug!(
            verb = info.verb,
            path = info.path,
            code = labels.code,
            took_us = took.as_micros(),
            "request"
        );
        self.metrics.observe(labels, took);
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: &Peer,
        info: &RequestInfo,
        query: &Query,
    ) -> Result<Response, ApiError> {
        if health::is_health(&info.path) {
            return Ok(health::answer(&info.path, query, &self.checks(&info.path).await));
        }
        if info.path == "/version" {
            return Ok(reply::json(StatusCode::OK, &version::document()));
        }
        let user = self.user(peer, request.headers()).await?;
        let user = acting_user(&self.authorizer, &user, request.headers())?;
        self.authorizer.authorize(&Attributes::of(&user, info)).await?;
        match &info.resource {
            Some(path) => self.resource(request, &user, info.verb, path, query).await,
            None => self.path(&request, info, query),
        }
    }

    /// Who asks: by certificate, else by token.
    async fn user(&self, peer: &Peer, headers: &HeaderMap) -> Result<Arc<User>, ApiError> {
        if let Some(user) = peer.user(SystemTime::now()) {
            return Ok(Arc::clone(user));
        }
        let user = match tokens::bearer(headers) {
            Some(token) => self.tokens.user(token, Timestamp::now()).await?,
            None => None,
        };
        user.ok_or_else(|| ApiError::unauthorized(""))
    }

    async fn checks(&self, path: &str) -> Vec<Check> {
        let mut checks = vec![Check {
            name: "ping",
            ok: true,
        }];
        // Not of liveness: a restart does not mend the store.
        if !path.starts_with("/livez") {
            let well = tokio::time::timeout(STORE_CHECK_TIMEOUT, self.registry.is_store_well()).await;
            checks.push(Check {
                // Upstream's name of the store, whichever it is.
                name: "etcd",
                ok: well.unwrap_or(false),
            });
        }
        if path.starts_with("/readyz") {
            checks.push(Check {
                name: "poststarthook/rbac/bootstrap-roles",
                ok: self.ready.load(Ordering::Relaxed),
            });
            checks.push(Check {
                name: "shutdown",
                ok: !self.shutdown.is_cancelled(),
            });
        }
        checks
    }

    /// Paths that are no resources.
    fn path(
        &self,
        request: &Request<Incoming>,
        info: &RequestInfo,
        query: &Query,
    ) -> Result<Response, ApiError> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Err(not_allowed());
        }
        if info.path == "/metrics" {
            return self.metrics_text();
        }
        let document = self
            .discovery
            .answer(&info.path, request.headers())
            .or_else(|| self.openapi.answer(&info.path, query, request.headers()));
        Ok(document.unwrap_or_else(|| reply::text(StatusCode::NOT_FOUND, "404 page not found\n")))
    }

    fn metrics_text(&self) -> Result<Response, ApiError> {
        let mut text = String::new();
        if let Some(registry) = self.exposed.get() {
            prometheus_client::encoding::text::encode(&mut text, registry).map_err(ApiError::internal)?;
        }
        let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        Ok(reply::answer(StatusCode::OK, content_type, text))
    }

    async fn resource(
        &self,
        request: Request<Incoming>,
        user: &Arc<User>,
        verb: &str,
        path: &ResourcePath,
        query: &Query,
    ) -> Result<Response, ApiError> {
        if reviews::is_review(path) {
            return self.review(request, user, verb, path).await;
        }
        if tokens::is_request(path) {
            return self.token(request, user, verb, path).await;
        }
        if let Some(what) = Connect::of(path) {
            let allowed = if what == Connect::Log {
                verb == "get"
            } else {
                matches!(verb, "get" | "create")
            };
            return match allowed {
                true => {
                    self.nodes
                        .connect(what, path, query, request, self.metrics.open())
                        .await
                }
                false => Err(not_allowed()),
            };
        }
        if verb == "watch" {
            return self.watch(&request, path, query).await;
        }
        let operation = Operation::new(&self.registry, path, query)?;
        let operation = operation.admitted_by(Gate::new(&self.authorizer, user, path));
        match tokio::time::timeout(REQUEST_TIMEOUT, self.operate(request, verb, operation, query)).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(ApiError::timeout(
                "request did not complete within the allotted timeout",
                1,
            )),
        }
    }

    async fn review(
        &self,
        request: Request<Incoming>,
        user: &User,
        verb: &str,
        path: &ResourcePath,
    ) -> Result<Response, ApiError> {
        if verb != "create" || !path.name.is_empty() {
            return Err(not_allowed());
        }
        let posted = Posted::read(request).await?;
        let answer = reviews::answer(&self.authorizer, user, path, &posted.body)?;
        Ok(posted.answered(answer))
    }

    async fn token(
        &self,
        request: Request<Incoming>,
        user: &User,
        verb: &str,
        path: &ResourcePath,
    ) -> Result<Response, ApiError> {
        if verb != "create" {
            return Err(not_allowed());
        }
        let posted = Posted::read(request).await?;
        let answer = self
            .tokens
            .issue(user, path, &posted.body, Timestamp::now())
            .await?;
        let answer = serde_json::to_vec(&answer).map_err(ApiError::internal)?;
        Ok(posted.answered(answer))
    }

    async fn watch(
        &self,
        request: &Request<Incoming>,
        path: &ResourcePath,
        query: &Query,
    ) -> Result<Response, ApiError> {
        let form = negotiate::form(request.headers())?;
        let timeout = watch_timeout(query)?;
        let operation = Operation::new(&self.registry, path, query)?;
        let viewer = Viewer::new(operation.row().clone(), form.view, query)?;
        let events = operation.watch().await?;
        Ok(watching::answer(
            viewer,
            events,
            timeout,
            self.shutdown.clone(),
            self.metrics.open(),
        ))
    }

    async fn operate(
        &self,
        request: Request<Incoming>,
        verb: &str,
        operation: Operation<'_>,
        query: &Query,
    ) -> Result<Response, ApiError> {
        let form = negotiate::form(request.headers())?;
        let (head, incoming) = request.into_parts();
        let headers = &head.headers;
        let action = action(verb, headers, incoming).await?;
        let viewer = Viewer::new(operation.row().clone(), form.view, query)?;
        let answer = Answer {
            row: operation.row(),
            form,
            headers,
            pretty: query.flag("pretty"),
            viewer,
        };
        Ok(match operation.run(action).await? {
            Outcome::Object(object) => answer.object(StatusCode::OK, &object),
            Outcome::List(list) => answer.list(list),
            Outcome::Written(written) => {
                let status = if written.created {
                    StatusCode::CREATED
                } else {
                    StatusCode::OK
                };
                let mut response = answer.object(status, &written.object);
                reply::warn(&mut response, &written.warnings);
                response
            }
            Outcome::Deleted(deleted) => answer.deleted(&deleted),
            Outcome::Bound => reply::json(
                StatusCode::CREATED,
                &Status {
                    status: Some("Success".into()),
                    code: Some(201),
                    ..Status::default()
                },
            ),
        })
    }
}

fn not_allowed() -> ApiError {
    let message = "the server does not allow this method on the requested resource";
    ApiError::new(405, skep_api::Reason::MethodNotAllowed, message)
}

/// What is to be done, with its body.
async fn action(verb: &str, headers: &HeaderMap, incoming: Incoming) -> Result<Action, ApiError> {
    let object = async |incoming| body::object_json(headers, body::read(incoming).await?);
    Ok(match verb {
        "get" => Action::Get,
        "list" => Action::List,
        "create" => Action::Create(object(incoming).await?),
        "update" => Action::Update(object(incoming).await?),
        "patch" => Action::Patch(body::patch_kind(headers)?, body::read(incoming).await?),
        "delete" => Action::Delete(delete_options(headers, incoming).await?),
        "deletecollection" => Action::DeleteCollection(delete_options(headers, incoming).await?),
        _ => return Err(not_allowed()),
    })
}

/// A deletion's body is often absent, whatever the media type says.
async fn delete_options(headers: &HeaderMap, incoming: Incoming) -> Result<Bytes, ApiError> {
    let bytes = body::read(incoming).await?;
    if bytes.is_empty() {
        Ok(bytes)
    } else {
        body::object_json(headers, bytes)
    }
}

/// Writes answers in the negotiated form.
struct Answer<'a> {
    row: &'a ResourceInfo,
    form: Form,
    headers: &'a HeaderMap,
    pretty: bool,
    viewer: Viewer,
}

impl Answer<'_> {
    fn object(&self, status: StatusCode, object: &SharedObject) -> Response {
        // A subresource of another kind (a Scale) has no columns of this one's.
        let bytes = if self.form.view == View::Object {
            object.json()
        } else {
            let mut out = Vec::new();
            self.viewer.object(object, true, &mut out);
            out.into()
        };
        reply::encoded(status, self.form, self.headers, self.pretty, bytes)
    }

    fn list(self, list: ObjectList) -> Response {
        let head = ListHead {
            revision: list.revision,
            continue_token: list.continue_token,
            remaining: list.remaining,
        };
        let head = self.viewer.list_head(&head);
        let viewer = self.viewer;
        let write = move |object: &SharedObject, out: &mut Vec<u8>| viewer.item(object, out);
        stream::list(
            self.form,
            self.headers,
            self.pretty,
            stream::Pieces::new(head, list.items, write),
        )
    }

    /// The object where it still exists, or its kind says so; else a `Status`.
    fn deleted(&self, deleted: &Deleted) -> Response {
        if !deleted.gone || self.row.returns_deleted {
            return self.object(StatusCode::OK, &deleted.object);
        }
        let group = self.row.gvr.group.to_string();
        let status = Status {
            status: Some("Success".into()),
            details: Some(StatusDetails {
                name: Some(deleted.object.key().name.clone()),
                group: (!group.is_empty()).then_some(group),
                kind: Some(self.row.gvr.resource.to_string()),
                uid: Some(deleted.object.uid().to_owned()),
                ..StatusDetails::default()
            }),
            ..Status::default()
        };
        reply::json(StatusCode::OK, &status)
    }
}
