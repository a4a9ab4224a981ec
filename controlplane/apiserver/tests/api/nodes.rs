//! The way to kubelets: a kubelet of the test's own stands on loopback, and a Node says so.

use crate::support::Cluster;
use crate::support::kubectl::Kubectl;
use crate::support::raw::Connection;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Node, Pod};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use serde_json::json;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Speaks TLS with client certificates; answers logs with what was asked, and upgraded connections with
/// an echo. Notes the requests.
struct FakeKubelet {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

impl FakeKubelet {
    async fn start(cluster: &Cluster) -> Self {
        let serving = cluster
            .pki
            .issue_serving("kubelet-n1", &["127.0.0.1".to_owned()])
            .expect("certificate");
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_slice(cluster.pki.ca_pem().as_bytes()).expect("CA"))
            .expect("CA");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .expect("verifier");
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("protocols")
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(serving.certificate_pem.as_bytes()).expect("PEM")],
                PrivateKeyDer::from_pem_slice(serving.key_pem.as_bytes()).expect("PEM"),
            )
            .expect("serving certificate");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = listener.local_addr().expect("address").port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, noted) = (acceptor.clone(), noted.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(move |request| answer(request, noted.clone()));
                    drop(
                        http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .with_upgrades()
                            .await,
                    );
                });
            }
        });
        Self { port, seen }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no panic").clone()
    }
}

async fn answer(
    mut request: Request<Incoming>,
    seen: Arc<Mutex<Vec<String>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let upgrade = request
        .headers()
        .get("upgrade")
        .and_then(|value| value.to_str().ok())
        .unwrap_or("-")
        .to_owned();
    let line = format!("{} {} {upgrade}", request.method(), request.uri());
    seen.lock().expect("no panic").push(line);
    if upgrade != "-" {
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let Ok(upgraded) = upgraded.await else { return };
            let mut stream = TokioIo::new(upgraded);
            let mut buffer = [0; 64];
            while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                stream.write_all(&buffer[..length]).await.ok();
            }
        });
        let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        return Ok(response
            .header("connection", "Upgrade")
            .header("upgrade", upgrade)
            .body(Full::default())
            .expect("response"));
    }
    let path = request.uri().path();
    Ok(match path.ends_with("/absent") {
        true => Response::builder()
            .status(400)
            .body(Full::from(
                "container \"absent\" in pod \"p\" is waiting to start: ContainerCreating",
            ))
            .expect("response"),
        false => Response::new(Full::from(format!("a line of {}\n", request.uri()))),
    })
}

async fn pod_on_node(cluster: &Cluster, port: u16) {
    let node: Node = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        },
    }))
    .expect("node");
    let created = cluster.admin.create(&node).await.expect("node");
    let mut with_status = (*created).clone();
    with_status.status = node.status;
    cluster
        .admin
        .update_status(&with_status)
        .await
        .expect("node status");
    let pod: Pod = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"},
        "spec": {"nodeName": "n1", "containers": [{"name": "main", "image": "x"}, {"name": "absent", "image": "x"}]},
    }))
    .expect("pod");
    let created = cluster.admin.create(&pod).await.expect("pod");
    let mut running = (*created).clone();
    running.status.get_or_insert_default().phase = Some("Running".to_owned());
    cluster.admin.update_status(&running).await.expect("pod status");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_come_from_the_kubelet() {
    let cluster = Cluster::start().await;
    let kubelet = FakeKubelet::start(&cluster).await;
    pod_on_node(&cluster, kubelet.port).await;
    for kubectl in Kubectl::all(&cluster) {
        tokio::task::spawn_blocking(move || {
            let log = kubectl.ok(&["logs", "p", "-c", "main", "--tail=3", "--timestamps"]);
            assert_eq!(
                log,
                "a line of /containerLogs/default/p/main?timestamps=true&tailLines=3\n"
            );
            let waiting = kubectl.fails(&["logs", "p", "-c", "absent"], "");
            assert!(
                waiting.contains("is waiting to start: ContainerCreating"),
                "{waiting}"
            );
            let no_such = kubectl.fails(&["logs", "p", "-c", "nothing"], "");
            assert!(
                no_such.contains("container nothing is not valid for pod p"),
                "{no_such}"
            );
        })
        .await
        .expect("no panic");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upgraded_connections_are_joined_byte_for_byte() {
    let cluster = Cluster::start().await;
    let kubelet = FakeKubelet::start(&cluster).await;
    pod_on_node(&cluster, kubelet.port).await;
    let mut admin = Connection::open(&cluster, Some(&cluster.admin_identity())).await;
    let request = Request::post("/api/v1/namespaces/default/pods/p/exec?command=cat&container=main&stdin=true&stdout=true&stderr=false")
        .header("host", "api")
        .header("connection", "Upgrade")
        .header("upgrade", "SPDY/3.1")
        .body(Full::default())
        .expect("request");
    let mut answer = admin.stream(request).await;
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(answer.headers()["upgrade"], "SPDY/3.1");
    let mut tunnel = TokioIo::new(hyper::upgrade::on(&mut answer).await.expect("upgrade"));
    tunnel.write_all(b"\x80\x03 bytes").await.expect("write");
    let mut echo = [0; 8];
    tunnel.read_exact(&mut echo).await.expect("read");
    assert_eq!(&echo, b"\x80\x03 bytes");
    assert_eq!(
        kubelet.seen(),
        ["POST /exec/default/p/main?command=cat&input=1&output=1 SPDY/3.1"]
    );
    // The tunnel is still open: shutting down must end it.
    cluster.stop().await;
    assert_eq!(tunnel.read(&mut echo).await.unwrap_or(0), 0);
}

/// kubectl from 1.30 or 1.31 on begins with a WebSocket whose protocol the runtime does not speak; it must
/// come back with SPDY by itself.
#[tokio::test(flavor = "multi_thread")]
async fn every_kubectl_ends_up_with_spdy() {
    let cluster = Cluster::start().await;
    let kubelet = FakeKubelet::start(&cluster).await;
    pod_on_node(&cluster, kubelet.port).await;
    for kubectl in Kubectl::all(&cluster) {
        let before = kubelet.seen().len();
        let mut exec = kubectl.command(&["exec", "p", "-c", "main", "--", "echo", "hi"]);
        let mut exec = exec
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("kubectl starts");
        let mut forward = kubectl.command(&["port-forward", "pod/p", ":80"]);
        let mut forward = forward
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("kubectl starts");
        let expected = [
            "POST /exec/default/p/main?command=echo&command=hi&output=1&error=1 SPDY/3.1",
            "POST /portForward/default/p SPDY/3.1",
        ];
        let mut seen = Vec::new();
        for _attempt in 0..200 {
            seen = kubelet.seen().split_off(before);
            if expected.iter().all(|line| seen.iter().any(|seen| seen == line)) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        for child in [&mut exec, &mut forward] {
            child.kill().ok();
            child.wait().expect("wait");
        }
        for line in expected {
            assert!(
                seen.iter().any(|seen| seen == line),
                "kubectl {}: {line} not in {seen:?}",
                kubectl.version
            );
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_kubelet_is_named() {
    let cluster = Cluster::start().await;
    // A port that nobody listens on: bound, then given back.
    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("bind")
        .local_addr()
        .expect("address")
        .port();
    pod_on_node(&cluster, port).await;
    let mut admin = Connection::open(&cluster, Some(&cluster.admin_identity())).await;
    let answer = admin
        .get("/api/v1/namespaces/default/pods/p/log?container=main")
        .await;
    assert_eq!(answer.status, 503);
    let message = answer.json()["message"].as_str().unwrap_or_default().to_owned();
    assert!(
        message.contains("the kubelet of node n1") && message.contains("cannot be reached"),
        "{message}"
    );
    cluster.stop().await;
}
