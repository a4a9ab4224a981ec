//! Health checks over real sockets.

use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};
use skep_api::ObjectKey;
use skep_client::testing::FakeTransport;
use skep_service_proxy::ProxyConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Running, config, maps, start_with};

/// Ports that nothing listens on, all different.
fn free_ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|listener| listener.local_addr().unwrap().port())
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::new("127.0.0.1".parse().unwrap(), port)
}

fn start(api: &FakeTransport, healthz: u16) -> Running {
    let config = ProxyConfig {
        health: local(healthz),
        ..config()
    };
    start_with(config, api, &maps())
}

fn put_service(api: &FakeTransport, name: &str, kind: &str, port: u16) {
    let object = json!({
        "metadata": {"namespace": "default", "name": name, "uid": name},
        "spec": {
            "type": kind, "clusterIPs": ["10.64.0.7"], "externalTrafficPolicy": "Local",
            "healthCheckNodePort": port, "ports": [{"port": 80}],
        },
    });
    api.put::<Service>(&serde_json::from_value(object).unwrap());
}

/// Endpoints as (address, node, ready).
fn put_slice(api: &FakeTransport, service: &str, endpoints: &[(&str, &str, bool)]) {
    let endpoint = |(address, node, ready): &(&str, &str, bool)| json!({"addresses": [address], "nodeName": node, "conditions": {"ready": ready}});
    let object = json!({
        "metadata": {
            "namespace": "default", "name": format!("{service}-a"),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4", "ports": [{"port": 8080}],
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    });
    api.put::<EndpointSlice>(&serde_json::from_value(object).unwrap());
}

fn put_node(api: &FakeTransport, taints: &Value) {
    let node = json!({"metadata": {"name": "node1"}, "spec": {"taints": taints}});
    api.put::<Node>(&serde_json::from_value(node).unwrap());
}

struct Reply {
    status: u16,
    head: String,
    body: Value,
}

async fn get(port: u16, path: &str) -> Option<Reply> {
    let mut stream = TcpStream::connect(local(port)).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some(Reply {
        status: head.get(9..12)?.parse().ok()?,
        head: head.to_ascii_lowercase(),
        body: serde_json::from_str(body).unwrap_or(Value::Null),
    })
}

/// Asks until the status is this one.
async fn becomes(port: u16, path: &str, status: u16) -> Reply {
    let asking = async {
        loop {
            match get(port, path).await {
                Some(reply) if reply.status == status => return reply,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let what = format!("{status} from port {port}");
    tokio::time::timeout(Duration::from_secs(20), asking)
        .await
        .expect(&what)
}

#[tokio::test]
async fn the_health_check_port_counts_ready_endpoints_of_this_node() {
    let api = FakeTransport::new();
    let [healthz, check, moved] = free_ports();
    put_service(&api, "web", "LoadBalancer", check);
    let endpoints = [
        ("10.128.0.2", "node1", true),
        ("10.128.0.3", "node1", true),
        ("10.128.0.4", "node1", false),
    ];
    put_slice(
        &api,
        "web",
        &[endpoints.as_slice(), &[("10.129.0.2", "node2", true)]].concat(),
    );
    let proxy = start(&api, healthz);
    let reply = becomes(check, "/", 200).await;
    let expected = json!({
        "service": {"namespace": "default", "name": "web"}, "localEndpoints": 2, "serviceProxyHealthy": true,
    });
    assert_eq!(reply.body, expected);
    for header in [
        "x-load-balancing-endpoint-weight: 2",
        "content-type: application/json",
        "x-content-type-options: nosniff",
    ] {
        assert!(reply.head.contains(header), "{header} in {}", reply.head);
    }
    put_slice(
        &api,
        "web",
        &[("10.128.0.2", "node1", false), ("10.129.0.2", "node2", true)],
    );
    let reply = becomes(check, "/", 503).await;
    assert_eq!(reply.body["localEndpoints"], 0);
    assert!(reply.head.contains("x-load-balancing-endpoint-weight: 0"));
    put_slice(&api, "web", &endpoints);
    becomes(check, "/", 200).await;

    put_service(&api, "web", "LoadBalancer", moved);
    becomes(moved, "/", 200).await;
    assert!(get(check, "/").await.is_none(), "the old port is closed");
    api.remove::<Service>(&ObjectKey::new("default", "web"));
    tokio::time::timeout(Duration::from_secs(20), async {
        while get(moved, "/").await.is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the port is closed with its Service");
    proxy.stop().await;
}

#[tokio::test]
async fn a_health_check_port_in_use_is_told_and_tried_again() {
    let api = FakeTransport::new();
    let [healthz, check] = free_ports();
    let holder = std::net::TcpListener::bind(local(check)).unwrap();
    put_service(&api, "web", "LoadBalancer", check);
    put_slice(&api, "web", &[("10.128.0.2", "node1", true)]);
    let proxy = start(&api, healthz);
    tokio::time::timeout(Duration::from_secs(20), async {
        while api.all::<Event>().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("an Event");
    let events = api.all::<Event>();
    assert_eq!(
        events[0].reason.as_deref(),
        Some("FailedToStartServiceHealthcheck")
    );
    assert_eq!(events[0].involved_object.name.as_deref(), Some("web"));
    becomes(healthz, "/healthz", 200).await;
    assert_eq!(proxy.metric("skep_proxy_health_listeners_failed"), 1.0);
    drop(holder);
    becomes(check, "/", 200).await;
    assert_eq!(api.all::<Event>().len(), 1);
    proxy.stop().await;
}

#[tokio::test]
async fn a_node_about_to_be_deleted_fails_healthz_but_lives() {
    let api = FakeTransport::new();
    let [healthz] = free_ports();
    put_node(&api, &json!([]));
    let proxy = start(&api, healthz);
    let reply = becomes(healthz, "/healthz", 200).await;
    assert_eq!(reply.body["nodeEligible"], true);
    for field in ["lastUpdated", "currentTime"] {
        let time = reply.body[field].as_str().unwrap();
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{field}: {time}");
    }
    put_node(
        &api,
        &json!([{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]),
    );
    let reply = becomes(healthz, "/healthz", 503).await;
    assert_eq!(reply.body["nodeEligible"], false);
    becomes(healthz, "/livez", 200).await;
    becomes(healthz, "/other", 404).await;
    assert!(proxy.metric("kubeproxy_proxy_healthz_total{code=\"503\"}") >= 1.0);
    proxy.stop().await;
}
