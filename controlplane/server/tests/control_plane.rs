//! The whole control plane in this process, over its own HTTPS port.

use ipnet::IpNet;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Endpoints, Namespace, Node, NodeStatus, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use serde_json::json;
use skep_api::{ObjectExt, ObjectKey};
use skep_client::{Client, DeleteOptions, ListOptions};
use skep_server::{ServerConfig, ServerError, run};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ServerError>>,
    admin: Client,
}

fn config(data_dir: &Path) -> ServerConfig {
    let range = |text: &str| text.parse::<IpNet>().expect("range");
    let bind = SocketAddr::from(([127, 0, 0, 1], 0));
    ServerConfig::new(
        data_dir.to_owned(),
        bind,
        range("10.64.0.0/16"),
        range("10.128.0.0/16"),
    )
}

impl Server {
    async fn start(data_dir: &Path) -> Self {
        let shutdown = CancellationToken::new();
        let mut task = tokio::spawn(run(config(data_dir), shutdown.clone()));
        let kubeconfig = data_dir.join("admin.kubeconfig");
        let ready = eventually("the server is ready", || async {
            let admin = Client::from_kubeconfig(&kubeconfig).ok()?;
            admin.get_raw("/readyz").await.ok().map(|_ok| admin)
        });
        let admin = tokio::select! {
            ended = &mut task => panic!("the server ended: {ended:?}"),
            admin = ready => admin,
        };
        Self {
            shutdown,
            task,
            admin,
        }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.task
            .await
            .expect("no panic")
            .expect("the server ends in order");
    }
}

async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut attempt: impl FnMut() -> F) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(value) = attempt().await {
            return value;
        }
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_cluster_has_what_every_cluster_has() {
    let dir = tempfile::tempdir().expect("tempdir");
    let server = Server::start(dir.path()).await;
    let admin = &server.admin;
    for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        admin
            .get::<Namespace>(&ObjectKey::cluster(name))
            .await
            .expect("namespace");
    }
    let kubernetes = ObjectKey::new("default", "kubernetes");
    let service = admin.get::<Service>(&kubernetes).await.expect("service");
    assert_eq!(
        service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()),
        Some("10.64.0.1")
    );
    let slice = admin.get::<EndpointSlice>(&kubernetes).await.expect("slice");
    assert_eq!(
        slice
            .endpoints
            .as_ref()
            .map(|endpoints| endpoints[0].addresses[0].as_str()),
        Some("127.0.0.1")
    );
    admin.get::<Endpoints>(&kubernetes).await.expect("endpoints");
    let dns = admin
        .get::<Service>(&ObjectKey::new("kube-system", "kube-dns"))
        .await
        .expect("service");
    assert_eq!(
        dns.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()),
        Some("10.64.0.10")
    );
    eventually("controllers give namespaces their account", || async {
        admin
            .find::<ServiceAccount>(&ObjectKey::new("default", "default"))
            .await
            .expect("find")
    })
    .await;
    let metrics = admin.get_raw("/metrics").await.expect("metrics");
    let metrics = String::from_utf8_lossy(&metrics);
    for name in ["apiserver_request_total", "workqueue_depth", "scheduler_"] {
        assert!(metrics.contains(name), "{name}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kubernetes_service_comes_back() {
    let dir = tempfile::tempdir().expect("tempdir");
    let server = Server::start(dir.path()).await;
    let admin = &server.admin;
    let key = ObjectKey::new("default", "kubernetes");
    let before = admin.get::<Service>(&key).await.expect("service");
    admin
        .delete::<Service>(&key, &DeleteOptions::default())
        .await
        .expect("delete");
    admin
        .delete::<EndpointSlice>(&key, &DeleteOptions::default())
        .await
        .expect("delete");
    let again = eventually("the Service is there again", || async {
        let service = admin.find::<Service>(&key).await.expect("find")?;
        (service.uid() != before.uid()).then_some(service)
    })
    .await;
    assert_eq!(
        again.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()),
        Some("10.64.0.1")
    );
    eventually("its slice, too", || async {
        admin.find::<EndpointSlice>(&key).await.expect("find")
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deployments_become_pods_on_nodes() {
    let dir = tempfile::tempdir().expect("tempdir");
    let server = Server::start(dir.path()).await;
    let admin = &server.admin;
    let node: Node = serde_json::from_value(json!({"metadata": {"name": "n1"}})).expect("node");
    admin.create(&node).await.expect("node");
    let status: NodeStatus = serde_json::from_value(json!({
        "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}, "capacity": {"cpu": "4", "memory": "8Gi", "pods": "110"},
        "conditions": [{"type": "Ready", "status": "True"}],
    }))
    .expect("status");
    eventually("the node's status is written", || async {
        // The controllers write to the node as well.
        let mut node = (*admin.get::<Node>(&ObjectKey::cluster("n1")).await.expect("node")).clone();
        node.status = Some(status.clone());
        admin.update_status(&node).await.ok()
    })
    .await;
    eventually("the node has its range", || async {
        let node = admin.get::<Node>(&ObjectKey::cluster("n1")).await.expect("node");
        node.spec
            .as_ref()?
            .pod_cidr
            .clone()
            .filter(|range| range == "10.128.0.0/24")
    })
    .await;
    let web: Deployment = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "main", "image": "skep.local/demo"}]},
        }},
    }))
    .expect("deployment");
    admin.create(&web).await.expect("deployment");
    eventually("three pods have a node", || async {
        let pods = admin
            .list::<Pod>(Some("default"), &ListOptions::labels("app=web"))
            .await
            .expect("pods");
        let placed = pods
            .items
            .iter()
            .filter(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()));
        (placed.count() == 3).then_some(())
    })
    .await;
    server.stop().await;

    // What was acknowledged is there after a restart, and work goes on.
    let server = Server::start(dir.path()).await;
    let sets = server
        .admin
        .list::<ReplicaSet>(Some("default"), &ListOptions::default())
        .await
        .expect("sets");
    assert_eq!(sets.items.len(), 1);
    server
        .admin
        .delete::<Deployment>(&ObjectKey::new("default", "web"), &DeleteOptions::default())
        .await
        .expect("delete");
    eventually("the set goes with its Deployment", || async {
        let sets = server
            .admin
            .list::<ReplicaSet>(Some("default"), &ListOptions::default())
            .await
            .expect("sets");
        sets.items.is_empty().then_some(())
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_lose_what_earlier_versions_gave_them() {
    let dir = tempfile::tempdir().expect("tempdir");
    let server = Server::start(dir.path()).await;
    let ours = json!({"rbac.authorization.kubernetes.io/autoupdate": "true"});
    let role = json!({"metadata": {"name": "system:node", "annotations": ours},
        "rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]}]});
    let role: ClusterRole = serde_json::from_value(role).expect("role");
    server.admin.create(&role).await.expect("role");
    let binding = json!({"metadata": {"name": "system:node", "annotations": ours},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}]});
    let binding: ClusterRoleBinding = serde_json::from_value(binding).expect("binding");
    server.admin.create(&binding).await.expect("binding");
    server.stop().await;

    let server = Server::start(dir.path()).await;
    let key = ObjectKey::cluster("system:node");
    let left = server.admin.find::<ClusterRoleBinding>(&key).await.expect("find");
    assert_eq!(left, None);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_leaves_everything_untouched() {
    let dir = tempfile::tempdir().expect("tempdir");
    let data_dir = dir.path().join("data");
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let mut config = config(&data_dir);
    config.bind = taken.local_addr().expect("address");
    let error = run(config, CancellationToken::new()).await.expect_err("in use");
    let source = std::error::Error::source(&error)
        .map(ToString::to_string)
        .unwrap_or_default();
    assert!(
        source.contains("is in use by another process"),
        "{error}: {source}"
    );
    assert!(!data_dir.exists());
}
