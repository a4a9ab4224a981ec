//! HTTP as clients other than kubectl use it.

use crate::support::Cluster;
use crate::support::raw::Connection;
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use std::io::Read;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const JSON: (&str, &str) = ("content-type", "application/json");

fn map(name: &str) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}})
        .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_there_is_health_and_nothing_else() {
    let cluster = Cluster::start().await;
    let mut anonymous = Connection::open(&cluster, None).await;
    for path in ["/healthz", "/livez", "/readyz", "/version"] {
        assert_eq!(anonymous.get(path).await.status, 200, "{path}");
    }
    let checks = anonymous.get("/readyz?verbose").await.body;
    let listed = "[+]ping ok\n[+]etcd ok\n[+]poststarthook/rbac/bootstrap-roles ok\n[+]shutdown ok\nreadyz check passed\n";
    assert_eq!(checks, listed);
    assert_eq!(anonymous.get("/readyz/etcd").await.status, 200);
    assert_eq!(anonymous.get("/livez/etcd").await.status, 404);
    for path in ["/api", "/apis", "/metrics", "/openapi/v2", MAPS, "/"] {
        let answer = anonymous.get(path).await;
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(answer.json()["reason"], "Unauthorized");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_are_bounded_and_typed() {
    let cluster = Cluster::start().await;
    let mut admin = Connection::open(&cluster, Some(&cluster.admin_identity())).await;
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: of-yaml}\ndata: {a: b}\n";
    let answer = admin
        .send("POST", MAPS, &[("content-type", "application/yaml")], yaml)
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["data"]["a"].as_str()),
        (201, Some("b"))
    );
    let answer = admin
        .send("POST", MAPS, &[("content-type", "text/plain")], map("t"))
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["reason"].as_str()),
        (415, Some("UnsupportedMediaType"))
    );
    let apply = [("content-type", "application/apply-patch+yaml")];
    let answer = admin
        .send("PATCH", &format!("{MAPS}/of-yaml?fieldManager=me"), &apply, yaml)
        .await;
    assert_eq!(answer.status, 415);
    assert!(
        answer.json()["message"]
            .as_str()
            .is_some_and(|text| text.contains("server-side apply is not supported"))
    );
    let answer = admin.send("POST", MAPS, &[JSON], "{").await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["reason"].as_str()),
        (400, Some("BadRequest"))
    );
    let answer = admin
        .send("POST", &format!("{MAPS}?dryRun=Some"), &[JSON], map("d"))
        .await;
    assert_eq!(answer.status, 422);
    // The connection may end with a body that is too long: the last request on it.
    let long = vec![b' '; 3 * 1024 * 1024 + 1];
    let answer = admin.send("POST", MAPS, &[JSON], long).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()["reason"].as_str()),
        (413, Some("RequestEntityTooLarge"))
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_come_in_the_form_that_is_asked_for() {
    let cluster = Cluster::start().await;
    let mut admin = Connection::open(&cluster, Some(&cluster.admin_identity())).await;
    for index in 0..400 {
        let body = map(&format!("m{index}")).replace("\"v\"", &format!("\"{}\"", "x".repeat(400)));
        assert_eq!(admin.send("POST", MAPS, &[JSON], body).await.status, 201);
    }
    let plain = admin.get(MAPS).await;
    let list = plain.json();
    assert_eq!(
        (list["kind"].as_str(), list["items"].as_array().map(Vec::len)),
        (Some("ConfigMapList"), Some(400))
    );
    let packed = admin.send("GET", MAPS, &[("accept-encoding", "gzip")], "").await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    assert!(packed.body.len() < plain.body.len() / 5);
    let mut unpacked = Vec::new();
    GzDecoder::new(&packed.body[..])
        .read_to_end(&mut unpacked)
        .expect("gzip");
    assert_eq!(serde_json::from_slice::<Value>(&unpacked).expect("JSON"), list);

    let accept = |text: &'static str| [("accept", text)];
    let yaml = admin
        .send("GET", &format!("{MAPS}/m1"), &accept("application/yaml"), "")
        .await;
    assert!(yaml.headers["content-type"] == "application/yaml" && yaml.body.starts_with(b"apiVersion: v1"));
    let partial = accept("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let partial = admin
        .send("GET", &format!("{MAPS}?limit=2"), &partial, "")
        .await
        .json();
    assert_eq!(partial["kind"], "PartialObjectMetadataList");
    assert_eq!(partial["metadata"]["remainingItemCount"], 398);
    assert_eq!(partial["items"][0]["kind"], "PartialObjectMetadata");
    assert_eq!(partial["items"][0].get("data"), None);
    let table = accept("application/json;as=Table;g=meta.k8s.io;v=v1");
    let table = admin
        .send("GET", &format!("{MAPS}/m1?includeObject=None"), &table, "")
        .await
        .json();
    assert_eq!(
        (table["kind"].as_str(), table["rows"][0]["cells"][0].as_str()),
        (Some("Table"), Some("m1"))
    );
    assert_eq!(table["rows"][0].get("object"), None);
    let refused = admin.send("GET", MAPS, &accept("application/xml"), "").await;
    assert_eq!(refused.status, 406);
    assert_eq!(admin.get("/api/v1/nothings").await.status, 404);
    assert_eq!(admin.send("PUT", MAPS, &[JSON], map("m1")).await.status, 405);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_begin_end_and_mark_as_asked() {
    let cluster = Cluster::start().await;
    let mut admin = Connection::open(&cluster, Some(&cluster.admin_identity())).await;
    for name in ["a", "b"] {
        assert_eq!(admin.send("POST", MAPS, &[JSON], map(name)).await.status, 201);
    }
    let query = "watch=1&timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let answer = admin.get(&format!("{MAPS}?{query}")).await;
    let events: Vec<Value> = answer
        .body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("JSON"))
        .collect();
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds, ["ADDED", "ADDED", "BOOKMARK"]);
    assert_eq!(
        events[2]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    let answer = admin.get(&format!("{MAPS}?watch=1&resourceVersion=999999")).await;
    assert_eq!(answer.status, 504);
    assert_eq!(
        answer.json()["details"]["causes"][0]["reason"],
        "ResourceVersionTooLarge"
    );
    let answer = admin.get(&format!("{MAPS}?watch=1&sendInitialEvents=true")).await;
    assert_eq!(answer.status, 400);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_answer_with_what_is_left() {
    let cluster = Cluster::start().await;
    let mut admin = Connection::open(&cluster, Some(&cluster.admin_identity())).await;
    admin.send("POST", MAPS, &[JSON], map("a")).await;
    let answer = admin.send("DELETE", &format!("{MAPS}/a"), &[], "").await.json();
    assert_eq!(
        (answer["status"].as_str(), answer["details"]["kind"].as_str()),
        (Some("Success"), Some("configmaps"))
    );
    let held = map("b").replace(
        "\"name\":\"b\"",
        "\"name\":\"b\",\"finalizers\":[\"example.com/held\"]",
    );
    assert_eq!(admin.send("POST", MAPS, &[JSON], held).await.status, 201);
    let answer = admin.send("DELETE", &format!("{MAPS}/b"), &[], "").await.json();
    assert!(answer["metadata"]["deletionTimestamp"].is_string(), "{answer}");
    let patch = r#"{"metadata":{"finalizers":null}}"#;
    let merge = [("content-type", "application/merge-patch+json")];
    assert_eq!(
        admin
            .send("PATCH", &format!("{MAPS}/b"), &merge, patch)
            .await
            .status,
        200
    );
    assert_eq!(admin.get(&format!("{MAPS}/b")).await.status, 404);
    for name in ["c", "d"] {
        admin.send("POST", MAPS, &[JSON], map(name)).await;
    }
    let answer = admin.send("DELETE", MAPS, &[], "").await.json();
    assert_eq!(
        (answer["kind"].as_str(), answer["items"].as_array().map(Vec::len)),
        (Some("ConfigMapList"), Some(2))
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named() {
    let cluster = Cluster::start().await;
    let error = skep_apiserver::ApiServer::bind(cluster.address)
        .await
        .expect_err("in use")
        .to_string();
    assert!(
        error.contains(&cluster.address.to_string()) && error.contains("is in use"),
        "{error}"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn open_watches_end_with_the_server() {
    let cluster = Cluster::start().await;
    let mut admin = Connection::open(&cluster, Some(&cluster.admin_identity())).await;
    let request = http::Request::get(format!("{MAPS}?watch=1"))
        .header("host", "api")
        .body(Default::default());
    let watch = admin.stream(request.expect("request")).await;
    assert_eq!(watch.status(), 200);
    let begun = std::time::Instant::now();
    let (body, ()) = tokio::join!(
        http_body_util::BodyExt::collect(watch.into_body()),
        cluster.stop()
    );
    assert!(body.is_ok(), "the watch ends in order");
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
}
