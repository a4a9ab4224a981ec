//! A kubelet under test.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ContainerStatus, Event, Pod, PodStatus};
use serde_json::{Value, json};
use skep_api::ObjectKey;
use skep_client::testing::FakeTransport;
use skep_client::{Client, Patch};
use skep_cri::Runtime;
use skep_kubelet::{KubeletConfig, KubeletError, ServerTls, run};
use skep_pki::{Pki, PkiOptions};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const NODE: &str = "node1";
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const STEP: Duration = Duration::from_millis(10);

/// A kubelet with its API.
pub(crate) struct Kubelet {
    pub(crate) api: FakeTransport,
    pub(crate) config: KubeletConfig,
    running: Option<(CancellationToken, JoinHandle<Result<(), KubeletError>>)>,
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

impl Kubelet {
    /// A kubelet below the directory; not started.
    pub(crate) fn new(directory: &Path) -> Self {
        let pki = Pki::open_or_create(directory.join("pki"), PkiOptions::new("test")).unwrap();
        let serving = pki.issue_serving(NODE, &["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(
            directory.join("resolv.conf"),
            "nameserver 192.0.2.1\nsearch example.org\n",
        )
        .unwrap();
        std::fs::write(directory.join("no-mounts"), "").unwrap();
        let config = KubeletConfig {
            node_name: NODE.to_owned(),
            node_ip: "127.0.0.1".parse().unwrap(),
            labels: BTreeMap::new(),
            cluster_dns: vec!["10.96.0.10".parse().unwrap()],
            cluster_domain: "cluster.local".to_owned(),
            cgroup_parent: "/skep-test/kubepods".to_owned(),
            // With a runtime in memory there is nothing to group.
            cgroup_mounts: directory.join("no-mounts"),
            root_dir: directory.join("kubelet"),
            log_dir: directory.join("logs"),
            cni_conf_dir: directory.join("cni"),
            listen: ([127, 0, 0, 1], free_port()).into(),
            tls: ServerTls {
                certificate: serving.certificate_path,
                key: serving.key_path,
                client_ca: pki.ca_path().to_owned(),
                allowed_clients: vec!["kube-apiserver-kubelet-client".to_owned()],
            },
            resolv_conf: directory.join("resolv.conf"),
            max_pods: KubeletConfig::MAX_PODS,
            log_max_bytes: KubeletConfig::LOG_MAX_BYTES,
            log_max_files: KubeletConfig::LOG_MAX_FILES,
            poll_interval: Duration::from_millis(100),
        };
        Self {
            api: FakeTransport::new(),
            config,

            running: None,
        }
    }

    pub(crate) fn start(&mut self, runtime: Arc<dyn Runtime>) {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run(
            self.client(),
            runtime,
            self.config.clone(),
            prometheus_client::registry::Registry::default(),
            shutdown.clone(),
        ));
        self.running = Some((shutdown, task));
    }

    pub(crate) async fn stop(&mut self) {
        if let Some((shutdown, task)) = self.running.take() {
            shutdown.cancel();
            task.await.unwrap().unwrap();
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.api.client()
    }

    pub(crate) async fn create(&self, pod: Value) -> Pod {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        Pod::clone(&*self.client().create(&pod).await.unwrap())
    }

    pub(crate) fn pod(&self, name: &str) -> Option<Pod> {
        self.api.get(&key(name))
    }

    pub(crate) fn status(&self, name: &str) -> PodStatus {
        self.pod(name).and_then(|pod| pod.status).unwrap_or_default()
    }

    pub(crate) fn container(&self, pod: &str, name: &str) -> ContainerStatus {
        let status = self.status(pod);
        let main = status.container_statuses.into_iter().flatten();
        let mut all = main.chain(status.init_container_statuses.into_iter().flatten());
        all.find(|container| container.name == name).unwrap_or_default()
    }

    pub(crate) async fn patch(&self, name: &str, patch: Value) {
        self.client()
            .patch::<Pod>(&key(name), &Patch::merge(&patch).unwrap())
            .await
            .unwrap();
    }

    pub(crate) async fn delete(&self, name: &str) {
        self.client()
            .delete::<Pod>(&key(name), &Default::default())
            .await
            .unwrap();
    }

    /// Waits until the pod's phase is this one.
    pub(crate) async fn phase(&self, name: &str, phase: &str) {
        eventually(&format!("{name} is {phase}"), || {
            let status = self.status(name);
            (status.phase.as_deref() == Some(phase))
                .then_some(())
                .ok_or_else(|| (self.warnings(), status))
        })
        .await;
    }

    pub(crate) async fn ready(&self, name: &str, wanted: bool) {
        eventually(&format!("{name} is ready: {wanted}"), || {
            let status = self.status(name);
            (is_ready(&status) == wanted)
                .then_some(())
                .ok_or_else(|| (self.warnings(), status))
        })
        .await;
    }

    pub(crate) async fn gone(&self, name: &str) {
        eventually(&format!("{name} is gone"), || match self.pod(name) {
            None => Ok(()),
            Some(pod) => Err(pod.status),
        })
        .await;
    }

    pub(crate) async fn waiting(&self, pod: &str, container: &str, reason: &str) {
        eventually(&format!("{pod}/{container} waits: {reason}"), || {
            let status = self.container(pod, container);
            let waiting = status.state.clone().and_then(|state| state.waiting);
            let found = waiting.and_then(|waiting| waiting.reason);
            (found.as_deref() == Some(reason))
                .then_some(())
                .ok_or_else(|| (self.warnings(), status))
        })
        .await;
    }

    /// What went wrong so far.
    fn warnings(&self) -> Vec<String> {
        let events = self.api.all::<Event>();
        let warnings = events
            .into_iter()
            .filter(|event| event.type_.as_deref() == Some("Warning"));
        warnings.filter_map(|event| event.message).collect()
    }

    pub(crate) async fn event(&self, reason: &str) {
        eventually(&format!("an event {reason}"), || {
            let events = self.api.all::<Event>();
            let found = events.iter().any(|event| event.reason.as_deref() == Some(reason));
            found
                .then_some(())
                .ok_or_else(|| events.into_iter().map(|event| event.reason).collect::<Vec<_>>())
        })
        .await;
    }
}

pub(crate) fn is_ready(status: &PodStatus) -> bool {
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

pub(crate) fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

/// Waits until it is so.
pub(crate) async fn eventually<T, E: Debug>(what: &str, mut check: impl FnMut() -> Result<T, E>) -> T {
    let began = Instant::now();
    loop {
        match check() {
            Ok(value) => return value,
            Err(seen) if began.elapsed() > PATIENCE => panic!("never: {what}; last seen: {seen:#?}"),
            Err(_) => tokio::time::sleep(STEP).await,
        }
    }
}

/// A pod of the busybox image in the node's network, bound to the node.
pub(crate) fn pod(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "default", "labels": { "app": name } },
        "spec": {
            "nodeName": NODE, "hostNetwork": true, "restartPolicy": "Always", "terminationGracePeriodSeconds": 5,
            "containers": [{
                "name": "main", "image": skep_cri::testing::BUSYBOX, "command": ["sh", "-c", script],
            }],
        },
    })
}
