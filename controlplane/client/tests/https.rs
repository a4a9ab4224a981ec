//! The HTTPS transport against a real TLS server on loopback.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, too")]

mod https {
    pub(crate) mod server;
}

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode};
use https::server::{Authority, Body, TestServer, empty, full, stream};
use k8s_openapi::api::core::v1::Pod;
use skep_api::{ObjectExt, ObjectKey, Reason, Revision};
use skep_client::{
    Client, ClientConfig, DeleteOptions, ListOptions, Patch, WatchEvent, WatchOptions, is_unreachable,
};

fn key() -> ObjectKey {
    ObjectKey::new("default", "web-0")
}

fn config(authority: &Authority, server: &TestServer) -> ClientConfig {
    let (certificate, key) = authority.client("admin");
    ClientConfig::new(server.url(), authority.pem()).client_certificate(certificate, key)
}

async fn connected(alpn: &[&str], answer: fn(Request<Bytes>) -> Response<Body>) -> (TestServer, Client) {
    let authority = Authority::new();
    let server = TestServer::start(&authority, alpn, answer).await;
    let client = Client::https(config(&authority, &server)).unwrap();
    (server, client)
}

const POD: &str = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web-0","namespace":"default","resourceVersion":"7"}}"#;

/// Answers with what was asked, as the pod's annotations.
fn echo(request: Request<Bytes>) -> Response<Body> {
    let content_type = request
        .headers()
        .get("content-type")
        .map_or("", |value| value.to_str().unwrap());
    let body = String::from_utf8(request.body().to_vec()).unwrap();
    full(
        StatusCode::OK,
        &serde_json::json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": "web-0", "annotations": {
                "request": format!("{} {}", request.method(), request.uri().path_and_query().unwrap()),
                "type": content_type, "body": body,
                "version": format!("{:?}", request.version()),
            } },
        })
        .to_string(),
    )
}

#[tokio::test]
async fn verbs_are_the_api_s_requests_over_both_versions_of_http() {
    for (alpn, version) in [("h2", "HTTP/2.0"), ("http/1.1", "HTTP/1.1")] {
        let (server, client) = connected(&[alpn], echo).await;
        let got = client.get::<Pod>(&key()).await.unwrap();
        assert_eq!(
            got.annotations()["request"],
            "GET /api/v1/namespaces/default/pods/web-0"
        );
        assert_eq!(got.annotations()["version"], version);

        let patch = Patch::merge(&serde_json::json!({ "a": 1 })).unwrap();
        let got = client.patch_status::<Pod>(&key(), &patch).await.unwrap();
        assert_eq!(
            got.annotations()["request"],
            "PATCH /api/v1/namespaces/default/pods/web-0/status"
        );
        assert_eq!(got.annotations()["type"], "application/merge-patch+json");
        assert_eq!(got.annotations()["body"], r#"{"a":1}"#);

        let got = client
            .delete::<Pod>(&key(), &DeleteOptions::now())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            got.annotations()["request"],
            "DELETE /api/v1/namespaces/default/pods/web-0"
        );
        assert_eq!(got.annotations()["body"], r#"{"gracePeriodSeconds":0}"#);

        let (list, ok) = (
            client.list::<Pod>(None, &ListOptions::labels("a=b")).await,
            client.get_raw("/healthz").await,
        );
        assert!(list.is_err(), "a pod is no list");
        assert!(ok.unwrap().starts_with(b"{"));
        assert_eq!(server.connections(), 1, "connections are kept");
    }
}

#[tokio::test]
async fn lists_keep_revision_and_token() {
    let (_server, client) = connected(&["h2"], |request| {
        assert_eq!(request.uri().query(), Some("limit=1&continue=abc"));
        full(
            StatusCode::OK,
            &format!(r#"{{"kind":"PodList","metadata":{{"resourceVersion":"9","continue":"def"}},"items":[{POD}]}}"#),
        )
    })
    .await;
    let options = ListOptions {
        limit: Some(1),
        continue_token: Some("abc".to_owned()),
        ..ListOptions::default()
    };
    let list = client.list::<Pod>(None, &options).await.unwrap();
    assert_eq!(
        (list.revision, list.continue_token.as_deref()),
        (Revision(9), Some("def"))
    );
    assert_eq!(list.items[0].key(), key());
}

#[tokio::test]
async fn refusals_carry_the_server_s_status() {
    let (_server, client) = connected(&["h2"], |request| match *request.method() {
        Method::GET => full(
            StatusCode::NOT_FOUND,
            r#"{"kind":"Status","status":"Failure","message":"pods \"web-0\" not found","reason":"NotFound","code":404}"#,
        ),
        Method::PUT => full(StatusCode::BAD_GATEWAY, "upstream is away"),
        _ => {
            let mut response = full(StatusCode::TOO_MANY_REQUESTS, "slow down");
            response.headers_mut().insert("retry-after", "3".parse().unwrap());
            response
        }
    })
    .await;
    let error = client.get::<Pod>(&key()).await.unwrap_err();
    assert!(error.is_not_found());
    assert_eq!(error.message, "pods \"web-0\" not found");
    assert!(client.find::<Pod>(&key()).await.unwrap().is_none());
    let error = client.update(&Pod::default()).await.unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (502, "the server answered 502 Bad Gateway: upstream is away")
    );
    let error = client.create(&Pod::default()).await.unwrap_err();
    assert_eq!(
        (error.reason, error.retry_after),
        (Reason::TooManyRequests, Some(3))
    );
}

#[tokio::test]
async fn a_deletion_may_be_answered_with_a_status() {
    let (_server, client) = connected(&["h2"], |_| {
        full(
            StatusCode::OK,
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success"}"#,
        )
    })
    .await;
    assert!(
        client
            .delete::<Pod>(&key(), &DeleteOptions::default())
            .await
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn many_watches_share_a_connection_that_requests_do_not_need() {
    let (server, client) = connected(&["h2"], |request| {
        if request
            .uri()
            .query()
            .is_some_and(|query| query.contains("watch=true"))
        {
            stream([
                format!("{{\"type\":\"ADDED\",\"object\":{POD}}}\n"),
                "{\"type\":\"BOOKMARK\"".to_owned(),
            ])
        } else {
            full(StatusCode::OK, POD)
        }
    })
    .await;
    let mut watches = Vec::new();
    for _ in 0..20 {
        let mut events = client.watch::<Pod>(None, &WatchOptions::default()).await.unwrap();
        let Some(Ok(WatchEvent::Added(pod))) = events.next().await else {
            panic!("no event")
        };
        assert_eq!(pod.key(), key());
        watches.push(events);
    }
    client.get::<Pod>(&key()).await.unwrap();
    assert_eq!(server.connections(), 2);
    server.stop().await;
    for mut events in watches {
        let error = events.next().await.unwrap().unwrap_err();
        assert!(is_unreachable(&error), "{error:?}");
        assert!(error.message.contains(": watch pods: "), "{error}");
        assert!(events.next().await.is_none());
    }
}

#[tokio::test]
async fn no_answer_names_server_verb_and_resource() {
    let authority = Authority::new();
    let server = TestServer::start(&authority, &["h2"], echo).await;
    let config = config(&authority, &server);
    let url = server.url();
    server.stop().await;
    let error = Client::https(config)
        .unwrap()
        .get::<Pod>(&key())
        .await
        .unwrap_err();
    assert!(is_unreachable(&error));
    assert_eq!(error.reason, Reason::ServiceUnavailable);
    assert!(
        error
            .message
            .starts_with(&format!("{url}: get pods default/web-0: ")),
        "{error}"
    );
    assert!(error.message.contains("refused"), "{error}");
}

#[tokio::test]
async fn requests_end_in_time_and_watches_may_last() {
    let authority = Authority::new();
    let server = TestServer::start(&authority, &["h2"], |request| {
        let watch = request
            .uri()
            .query()
            .is_some_and(|query| query.contains("watch=true"));
        if watch { stream([]) } else { empty() }
    })
    .await;
    let mut config = config(&authority, &server);
    config.request_timeout = Duration::from_millis(100);
    let client = Client::https(config).unwrap();
    let error = client.get::<Pod>(&key()).await.unwrap_err();
    assert!(is_unreachable(&error));
    assert!(
        error
            .message
            .ends_with("get pods default/web-0: no answer within 0.1 s"),
        "{error}"
    );
    let mut events = client.watch::<Pod>(None, &WatchOptions::default()).await.unwrap();
    tokio::time::timeout(Duration::from_millis(300), events.next())
        .await
        .unwrap_err();
}

#[tokio::test]
async fn only_the_pinned_authority_is_believed() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = TestServer::start(&theirs, &["h2"], echo).await;
    let (certificate, client_key) = theirs.client("admin");
    let config = ClientConfig::new(server.url(), ours.pem()).client_certificate(certificate, client_key);
    let error = Client::https(config)
        .unwrap()
        .get::<Pod>(&key())
        .await
        .unwrap_err();
    assert!(is_unreachable(&error));
    assert!(error.message.contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_client_without_certificate_is_turned_away() {
    let authority = Authority::new();
    let server = TestServer::start(&authority, &["h2"], echo).await;
    let config = ClientConfig::new(server.url(), authority.pem());
    let error = Client::https(config)
        .unwrap()
        .get::<Pod>(&key())
        .await
        .unwrap_err();
    assert!(is_unreachable(&error), "{error}");
}

#[tokio::test]
async fn the_server_s_name_can_be_given() {
    let authority = Authority::new();
    let server = TestServer::start(&authority, &["h2"], echo).await;
    let mut config = config(&authority, &server);
    config.tls_server_name = Some("kubernetes".to_owned());
    Client::https(config.clone())
        .unwrap()
        .get::<Pod>(&key())
        .await
        .unwrap();
    config.tls_server_name = Some("elsewhere".to_owned());
    assert!(Client::https(config).unwrap().get::<Pod>(&key()).await.is_err());
}

#[tokio::test]
async fn a_restarted_server_is_found_again() {
    let authority = Authority::new();
    let server = TestServer::start(&authority, &["h2"], echo).await;
    let client = Client::https(config(&authority, &server)).unwrap();
    client.get::<Pod>(&key()).await.unwrap();
    let address = server.address();
    server.stop().await;
    client.get::<Pod>(&key()).await.unwrap_err();
    let _server = TestServer::start_at(address, &authority, &["http/1.1"], echo).await;
    client.get::<Pod>(&key()).await.unwrap();
}

#[test]
fn useless_configurations_are_refused_before_anything_is_sent() {
    let authority = Authority::new();
    for (server, ca, problem) in [
        ("http://127.0.0.1", authority.pem(), "only https:// is spoken"),
        ("https://127.0.0.1", String::new(), "it holds no PEM certificate"),
    ] {
        let error = Client::https(ClientConfig::new(server, ca))
            .unwrap_err()
            .to_string();
        assert!(error.ends_with(problem), "{error}");
    }
}
