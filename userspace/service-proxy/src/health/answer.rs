//! What is answered, in upstream's words.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use http_body_util::Full;
use jiff::Timestamp;
use serde_json::json;

use super::state::{Health, Subject};
use crate::ProxyMetrics;

/// Tells a load balancer how many endpoints share what it sends here.
const ENDPOINT_WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

pub(super) type Answer = Response<Full<Bytes>>;

/// Answers a request that came in at `local`.
pub(super) fn answer(
    health: &Health,
    metrics: &ProxyMetrics,
    subject: &Subject,
    local: IpAddr,
    path: &str,
) -> Answer {
    match (subject, path) {
        (Subject::Service(key), _) => {
            let ready = health.local_ready(key).of_family(local);
            let healthy = health.is_healthy();
            let body = json!({
                "service": {"namespace": key.namespace, "name": key.name},
                "localEndpoints": ready,
                "serviceProxyHealthy": healthy,
            });
            let mut answer = json_answer(ready > 0 && healthy, &body);
            answer
                .headers_mut()
                .insert(ENDPOINT_WEIGHT, HeaderValue::from(ready));
            answer
        }
        (Subject::Node, "/healthz") => {
            let answer = node(health, health.is_healthy() && health.is_eligible());
            metrics.answered_healthz(answer.status());
            answer
        }
        (Subject::Node, "/livez") => {
            let answer = node(health, health.is_healthy());
            metrics.answered_livez(answer.status());
            answer
        }
        (Subject::Node, _) => status(StatusCode::NOT_FOUND),
    }
}

/// As upstream, `lastUpdated` is recent whenever the proxy is healthy, even if nothing had to be updated.
fn node(health: &Health, good: bool) -> Answer {
    let now = Timestamp::now().to_string();
    let body = json!({
        "lastUpdated": now,
        "currentTime": now,
        "nodeEligible": health.is_eligible(),
    });
    json_answer(good, &body)
}

fn json_answer(good: bool, body: &serde_json::Value) -> Answer {
    let mut answer = Response::new(Full::from(body.to_string()));
    if !good {
        *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

pub(super) fn status(status: StatusCode) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}
