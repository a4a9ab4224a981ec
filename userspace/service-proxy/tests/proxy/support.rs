//! What the tests share: a proxy that runs, objects to give it, readers of what it wrote.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use prometheus_client::registry::Registry;
use serde_json::json;
use skep_abi::{FrontendKey, PortBe, Protocol, Scope};
use skep_bpf_maps::{MemoryMaps, ServiceMaps};
use skep_client::testing::FakeTransport;
use skep_service_proxy::{ProxyConfig, ProxyMetrics, run};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) struct Running {
    task: JoinHandle<()>,
    shutdown: CancellationToken,
    registry: Registry,
}

impl Running {
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.unwrap();
    }

    pub(crate) fn metric(&self, line: &str) -> f64 {
        let found = self.try_metric(line);
        found.unwrap_or_else(|| panic!("no metric {line}"))
    }

    pub(crate) fn try_metric(&self, line: &str) -> Option<f64> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let value = text
            .lines()
            .find_map(|l| l.strip_prefix(line)?.strip_prefix(' '))?;
        Some(value.parse().unwrap())
    }
}

/// Maps with room for what the tests do.
pub(crate) fn maps() -> Arc<MemoryMaps> {
    Arc::new(MemoryMaps::with_capacities(|_| 4_096))
}

pub(crate) fn config() -> ProxyConfig {
    ProxyConfig {
        node_name: "node1".to_owned(),
        node_addresses: vec!["172.29.0.11".parse().unwrap()],
        restrict_node_ports: false,
        node_local: vec![(
            "kube-system".to_owned(),
            "kube-dns".to_owned(),
            "169.254.20.10".parse().unwrap(),
        )],
        health: "127.0.0.1:0".parse().unwrap(),
    }
}

pub(crate) fn start(api: &FakeTransport, maps: &Arc<MemoryMaps>) -> Running {
    start_with(config(), api, maps)
}

pub(crate) fn start_with(config: ProxyConfig, api: &FakeTransport, maps: &Arc<MemoryMaps>) -> Running {
    let mut registry = Registry::default();
    let metrics = ProxyMetrics::register(&mut registry);
    let shutdown = CancellationToken::new();
    let maps: Arc<dyn ServiceMaps> = Arc::<MemoryMaps>::clone(maps);
    let running = run(api.client(), maps, config, metrics, shutdown.clone());
    let task = tokio::spawn(async move { running.await.unwrap() });
    Running {
        task,
        shutdown,
        registry,
    }
}

pub(crate) fn put_service(api: &FakeTransport, name: &str, ip: &str, node_port: u16) {
    let port = json!({"port": 80, "protocol": "TCP", "nodePort": node_port});
    let object = json!({
        "metadata": {"namespace": "default", "name": name, "uid": name},
        "spec": {"type": "NodePort", "clusterIP": ip, "clusterIPs": [ip], "ports": [port]},
    });
    api.put::<Service>(&serde_json::from_value(object).unwrap());
}

pub(crate) fn put_slice(api: &FakeTransport, service: &str, hosts: &[&str], trigger: Option<&str>) {
    let endpoints: Vec<_> = hosts.iter().map(|host| json!({"addresses": [host]})).collect();
    let object = json!({
        "metadata": {
            "namespace": "default", "name": format!("{service}-a"),
            "labels": {"kubernetes.io/service-name": service},
            "annotations": trigger.map(|at| json!({"endpoints.kubernetes.io/last-change-trigger-time": at})),
        },
        "addressType": "IPv4", "ports": [{"port": 8080, "protocol": "TCP"}], "endpoints": endpoints,
    });
    api.put::<EndpointSlice>(&serde_json::from_value(object).unwrap());
}

/// The addresses a reader of this frontend can get, sorted; None if there is no such frontend.
pub(crate) fn backends(maps: &MemoryMaps, address: &str, port: u16) -> Option<Vec<String>> {
    let address: std::net::IpAddr = address.parse().unwrap();
    let key = FrontendKey {
        address: address.into(),
        port: PortBe::from_host(port),
        protocol: Protocol::TCP,
        scope: Scope::ANY,
    };
    let frontend = maps.frontends().get(&key).unwrap()?;
    let service = maps.services().get(&frontend.service).unwrap().unwrap();
    let slots = service.slot_offset..service.slot_offset + service.slot_count;
    let mut found: Vec<_> = slots
        .map(|slot| {
            let backend = maps.slots().get(&slot).unwrap().unwrap();
            let value = maps.backends().get(&backend).unwrap().unwrap();
            format!("{}:{}", value.address, value.port)
        })
        .collect();
    found.sort();
    Some(found)
}

pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..20_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never: {what}");
}

pub(crate) fn is(maps: &MemoryMaps, address: &str, port: u16, expected: &[&str]) -> bool {
    backends(maps, address, port).is_some_and(|found| found == expected)
}
