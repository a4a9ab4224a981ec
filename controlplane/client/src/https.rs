//! The transport over HTTPS: HTTP/2 where the server offers it, else HTTP/1.1 with keep-alive.
//!
//! Under HTTP/2 all watches share one connection and all other requests another, so that neither streams nor windows
//! that watches hold can keep a lease from being renewed. The watches' window is wide enough that one which nobody reads
//! cannot hold up the others. Connections are pinged so that a server which vanished is noticed.

mod answer;
mod connector;
mod tls;
mod url;
mod watch_lines;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use skep_api::ApiError;

use crate::transport::{RawWatchStream, Transport};
use crate::{ApiRequest, ApiResponse, ClientConfig, ConfigError, Credentials, Verb};
use connector::TlsConnector;
use url::BaseUrl;

/// The longest answer that is read, watches aside.
const MAX_ANSWER_BYTES: usize = 512 << 20;
/// How long an idle connection is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// HTTP/2: how much of one answer, and of all together, the server may send ahead of the reader.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 256 << 20;
/// HTTP/2: after so much silence the server is pinged; without an answer for so long it is gone.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

type HttpClient = legacy::Client<TlsConnector, Full<Bytes>>;

/// Carries requests over HTTPS to one server.
pub struct HttpsTransport {
    requests: HttpClient,
    watches: HttpClient,
    base: BaseUrl,
    authorization: Option<HeaderValue>,
    user_agent: HeaderValue,
    request_timeout: Duration,
}

impl HttpsTransport {
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn new(config: ClientConfig) -> Result<Self, ConfigError> {
        let base = BaseUrl::parse(&config.server)?;
        let connector = TlsConnector::new(&config, &base)?;
        let authorization = match &config.credentials {
            Credentials::Token(token) => Some(header("the token", &format!("Bearer {token}"), true)?),
            Credentials::Anonymous | Credentials::Certificate { .. } => None,
        };
        Ok(Self {
            requests: http_client(connector.clone()),
            watches: http_client(connector),
            base,
            authorization,
            user_agent: header("the user agent", &config.user_agent, false)?,
            request_timeout: config.request_timeout,
        })
    }

    fn request(&self, request: &ApiRequest) -> Result<Request<Full<Bytes>>, ApiError> {
        let (method, content_type) = match request.verb {
            Verb::Get | Verb::List | Verb::Watch => (Method::GET, None),
            Verb::Create => (Method::POST, Some("application/json")),
            Verb::Update => (Method::PUT, Some("application/json")),
            Verb::Patch(kind) => (Method::PATCH, Some(kind.content_type())),
            Verb::Delete | Verb::DeleteCollection => (Method::DELETE, Some("application/json")),
        };
        let body = request.body.clone();
        let content_type = content_type.filter(|_| body.is_some());
        self.http_request(
            method,
            &self.base.resource(request),
            content_type,
            body.unwrap_or_default(),
        )
        .map_err(|error| ApiError::bad_request(format!("{request}: {error}")))
    }

    fn http_request(
        &self,
        method: Method,
        uri: &str,
        content_type: Option<&'static str>,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut builder = Request::builder()
            .method(method)
            .uri(uri)
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .header(USER_AGENT, &self.user_agent);
        if let Some(content_type) = content_type {
            builder = builder.header(CONTENT_TYPE, content_type);
        }
        if let Some(authorization) = &self.authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        builder.body(Full::new(body))
    }

    async fn head(
        &self,
        http: &HttpClient,
        what: &str,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, ApiError> {
        http.request(request)
            .await
            .map_err(|error| self.no_answer(what, &error))
    }

    async fn body(&self, what: &str, body: Incoming) -> Result<Bytes, ApiError> {
        match Limited::new(body, MAX_ANSWER_BYTES).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(self.no_answer(what, error.as_ref())),
        }
    }

    /// The whole answer, if it is a success; else the server's refusal.
    async fn answer(&self, what: &str, request: Request<Full<Bytes>>) -> Result<Bytes, ApiError> {
        let whole = async {
            let (head, body) = self.head(&self.requests, what, request).await?.into_parts();
            let body = self.body(what, body).await?;
            if head.status.is_success() {
                Ok(body)
            } else {
                Err(answer::refusal(&head, &body))
            }
        };
        self.in_time(what, whole).await
    }

    async fn in_time<T>(
        &self,
        what: &str,
        work: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        match tokio::time::timeout(self.request_timeout, work).await {
            Ok(result) => result,
            Err(_elapsed) => Err(ApiError::connection(format!(
                "{}: {what}: no answer within {} s",
                self.base,
                self.request_timeout.as_secs_f32()
            ))),
        }
    }

    fn no_answer(&self, what: &str, error: &(dyn std::error::Error + 'static)) -> ApiError {
        ApiError::connection(format!("{}: {what}: {}", self.base, chain(error)))
    }
}

#[async_trait]
impl Transport for HttpsTransport {
    async fn send(&self, request: ApiRequest) -> Result<ApiResponse, ApiError> {
        let what = request.to_string();
        let body = self.answer(&what, self.request(&request)?).await?;
        match request.verb {
            Verb::List => answer::list(&body),
            _ => answer::object_or_status(body),
        }
        .map_err(|error| ApiError::internal(format!("{}: {what}: {error}", self.base)))
    }

    async fn watch(&self, request: ApiRequest) -> Result<RawWatchStream, ApiError> {
        let what = request.to_string();
        let opening = async {
            let (head, body) = self
                .head(&self.watches, &what, self.request(&request)?)
                .await?
                .into_parts();
            if head.status.is_success() {
                return Ok(body);
            }
            let body = self.body(&what, body).await?;
            Err(answer::refusal(&head, &body))
        };
        let body = self.in_time(&what, opening).await?;
        Ok(watch_lines::events(body, format!("{}: {what}", self.base)).boxed())
    }

    async fn get_raw(&self, path: &str) -> Result<Bytes, ApiError> {
        let what = format!("get {path}");
        let request = self
            .http_request(Method::GET, &self.base.path(path), None, Bytes::new())
            .map_err(|error| ApiError::bad_request(format!("{what}: {error}")))?;
        self.answer(&what, request).await
    }
}

fn http_client(connector: TlsConnector) -> HttpClient {
    legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .http2_initial_stream_window_size(STREAM_WINDOW_BYTES)
        .http2_initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(PING_TIMEOUT)
        .http2_keep_alive_while_idle(true)
        .build(connector)
}

fn header(what: &'static str, value: &str, secret: bool) -> Result<HeaderValue, ConfigError> {
    let mut value = HeaderValue::from_str(value).map_err(|error| ConfigError::Tls {
        what,
        problem: error.to_string(),
    })?;
    value.set_sensitive(secret);
    Ok(value)
}

/// The error with its causes, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
