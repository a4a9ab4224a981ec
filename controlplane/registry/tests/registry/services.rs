//! Services get addresses and ports that nobody else has.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};
use skep_api::k8s_openapi::api::core::v1::{Service, ServiceSpec};
use skep_api::{ApiError, ObjectKey, gvr_of};
use skep_registry::{ListOptions, RegistryConfig, Scope, WriteOptions};
use skep_store::Store;

use crate::harness::{Harness, config};

fn service(name: &str, mut spec: Value) -> Value {
    if spec.get("ports").is_none() {
        spec["ports"] = json!([{"port": 80}]);
    }
    json!({"metadata": {"name": name}, "spec": spec})
}

async fn create(harness: &Harness, name: &str, spec: Value) -> Result<ServiceSpec, ApiError> {
    let written = harness
        .create_as::<Service>("default", service(name, spec))
        .await?;
    Ok(written.object.typed::<Service>().unwrap().spec.clone().unwrap())
}

fn node_port(spec: &ServiceSpec) -> i32 {
    spec.ports.as_ref().unwrap()[0].node_port.unwrap_or(0)
}

#[tokio::test]
async fn addresses_are_given_checked_and_freed() {
    let harness = Harness::new().await;
    let spec = create(&harness, "a", json!({})).await.unwrap();
    let ip = spec.cluster_ip.clone().unwrap();
    assert!(ip.starts_with("10.64.0."), "{ip}");
    assert_eq!(spec.cluster_ips.unwrap(), std::slice::from_ref(&ip));
    assert_eq!(
        (spec.ip_families.unwrap(), spec.ip_family_policy.as_deref()),
        (vec!["IPv4".to_owned()], Some("SingleStack"))
    );
    let error = create(&harness, "b", json!({"clusterIP": ip.clone()}))
        .await
        .unwrap_err();
    assert_eq!(
        error.message,
        format!(
            r#"Service "b" is invalid: spec.clusterIPs: Invalid value: ["{ip}"]: failed to allocate IP {ip}: provided IP is already allocated"#
        )
    );
    let error = create(&harness, "b", json!({"clusterIP": "10.9.0.1"}))
        .await
        .unwrap_err();
    assert!(
        error
            .message
            .contains("is not in the valid range. The range of valid IPs is 10.64.0.0/24"),
        "{error}"
    );
    harness.delete::<Service>("default", "a").await.unwrap();
    let spec = create(&harness, "b", json!({"clusterIP": ip.clone()}))
        .await
        .unwrap();
    assert_eq!(spec.cluster_ip, Some(ip));
}

#[tokio::test]
async fn racing_services_never_share_an_address() {
    let harness = Harness::new().await;
    let names: Vec<String> = (0..40).map(|index| format!("s{index}")).collect();
    let all = names
        .iter()
        .map(|name| create(&harness, name, json!({"type": "NodePort"})));
    let specs: Vec<ServiceSpec> = futures::future::join_all(all)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let addresses: HashSet<String> = specs.iter().filter_map(|spec| spec.cluster_ip.clone()).collect();
    let ports: HashSet<i32> = specs.iter().map(node_port).collect();
    assert_eq!((addresses.len(), ports.len()), (40, 40));
    let same = (0..8).map(|index| {
        let spec = json!({"clusterIP": "10.64.0.3"});
        let name = format!("t{index}");
        let harness = &harness;
        async move { create(harness, &name, spec).await }
    });
    let outcomes = futures::future::join_all(same).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
}

#[tokio::test]
async fn full_ranges_refuse_and_failed_writes_give_back() {
    let range = RegistryConfig {
        node_port_range: 30000..=30001,
        ..config()
    };
    let harness = Harness::with(range).await;
    let dry = WriteOptions {
        dry_run: true,
        ..WriteOptions::default()
    };
    for _ in 0..5 {
        let object = service("dry", json!({"type": "NodePort"}));
        harness
            .registry
            .create(&gvr_of::<Service>(), "default", object.into(), &dry)
            .await
            .unwrap();
    }
    let spec = json!({"type": "NodePort"});
    create(&harness, "a", spec.clone()).await.unwrap();
    create(&harness, "a", spec.clone()).await.unwrap_err();
    create(&harness, "b", spec.clone()).await.unwrap();
    let error = create(&harness, "c", spec.clone()).await.unwrap_err();
    assert!(error.message.contains("range is full"), "{error}");
    harness.delete::<Service>("default", "a").await.unwrap();
    create(&harness, "c", spec).await.unwrap();
}

#[tokio::test]
async fn types_change_and_ports_follow() {
    let harness = Harness::new().await;
    let before = create(&harness, "a", json!({})).await.unwrap();
    let update = async |spec: Value| {
        let written = harness
            .update_as::<Service>("default", "a", service("a", spec))
            .await?;
        Ok::<_, ApiError>(written.object.typed::<Service>().unwrap().spec.clone().unwrap())
    };
    let spec = update(json!({"type": "NodePort", "ports": [{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 80, "protocol": "UDP"}]})).await.unwrap();
    assert_eq!(
        (node_port(&spec), spec.cluster_ip.clone()),
        (30080, before.cluster_ip.clone())
    );
    assert_eq!(
        spec.ports.as_ref().unwrap()[1].node_port,
        Some(30080),
        "one number for both protocols"
    );
    let error = create(
        &harness,
        "b",
        json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}),
    )
    .await
    .unwrap_err();
    assert_eq!(
        error.message,
        r#"Service "b" is invalid: spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated"#
    );
    let spec = update(json!({"type": "ClusterIP"})).await.unwrap();
    assert_eq!(
        (node_port(&spec), spec.cluster_ip),
        (0, before.cluster_ip.clone())
    );
    create(
        &harness,
        "b",
        json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30080}]}),
    )
    .await
    .unwrap();
    let spec = update(json!({"type": "ExternalName", "externalName": "x.y"}))
        .await
        .unwrap();
    assert_eq!(spec.cluster_ip, None);
    create(&harness, "c", json!({"clusterIP": before.cluster_ip}))
        .await
        .unwrap();
}

#[tokio::test]
async fn load_balancers_have_node_ports_unless_told_otherwise() {
    let harness = Harness::new().await;
    let balancer = |more: Value| {
        let mut spec = json!({"type": "LoadBalancer"});
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        spec
    };
    let spec = create(&harness, "a", balancer(json!({}))).await.unwrap();
    assert!(node_port(&spec) > 0);
    assert_eq!(spec.health_check_node_port, None);
    let without = balancer(json!({"allocateLoadBalancerNodePorts": false}));
    let spec = create(&harness, "b", without).await.unwrap();
    assert_eq!(node_port(&spec), 0);
    let local = balancer(json!({"allocateLoadBalancerNodePorts": false, "externalTrafficPolicy": "Local"}));
    let spec = create(&harness, "c", local).await.unwrap();
    assert_eq!(node_port(&spec), 0);
    assert!(
        spec.health_check_node_port.unwrap() > 0,
        "which is another matter"
    );
    // One that is asked for is given all the same.
    let asked = balancer(json!({
        "allocateLoadBalancerNodePorts": false, "ports": [{"port": 80, "nodePort": 30080}],
    }));
    assert_eq!(node_port(&create(&harness, "d", asked).await.unwrap()), 30080);
}

#[tokio::test]
async fn headless_and_dual_stack() {
    let harness = Harness::new().await;
    let spec = create(&harness, "headless", json!({"clusterIP": "None"}))
        .await
        .unwrap();
    assert_eq!(
        (spec.cluster_ip.as_deref(), spec.cluster_ips.unwrap()),
        (Some("None"), vec!["None".to_owned()])
    );
    let spec = create(&harness, "dual", json!({"ipFamilyPolicy": "PreferDualStack"}))
        .await
        .unwrap();
    assert_eq!(spec.ip_families.unwrap(), ["IPv4", "IPv6"]);
    assert!(spec.cluster_ips.as_ref().unwrap()[1].starts_with("fd00:64::"));
    let spec = create(&harness, "six", json!({"ipFamilies": ["IPv6"]}))
        .await
        .unwrap();
    assert!(spec.cluster_ip.unwrap().starts_with("fd00:64::"));
    let key = ObjectKey::new("default", "dual");
    let patch = skep_registry::Patch {
        kind: skep_registry::PatchKind::Merge,
        body: bytes::Bytes::from_static(br#"{"spec":{"ipFamilyPolicy":"SingleStack"}}"#),
    };
    let written = harness
        .registry
        .patch(&gvr_of::<Service>(), &key, None, patch, &WriteOptions::default())
        .await
        .unwrap();
    assert_eq!(
        written
            .object
            .typed::<Service>()
            .unwrap()
            .spec
            .as_ref()
            .unwrap()
            .cluster_ips
            .as_ref()
            .unwrap()
            .len(),
        1
    );
}

/// Just as many node ports as [`allocate_at_once`] needs.
pub(crate) fn crowded() -> RegistryConfig {
    RegistryConfig {
        node_port_range: 30000..=30023,
        ..config()
    }
}

/// Two servers over one store create Services at the same instant; all get what nobody else has.
pub(crate) async fn allocate_at_once(servers: &[Harness; 2], store: &Arc<dyn Store>) {
    for round in 0..6 {
        let two = servers.iter().enumerate().flat_map(|(index, server)| {
            [0, 1].map(|twin| async move {
                let name = format!("s{round}-{index}-{twin}");
                create(server, &name, json!({"type": "NodePort"})).await.unwrap()
            })
        });
        futures::future::join_all(two).await;
        let same = servers.iter().enumerate().map(|(index, server)| async move {
            let spec = json!({"clusterIP": format!("10.64.0.{}", round + 3)});
            create(server, &format!("t{round}-{index}"), spec).await
        });
        let outcomes = futures::future::join_all(same).await;
        let given = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(given, 1, "{outcomes:?}");
        let refused = outcomes.into_iter().find_map(Result::err).unwrap();
        assert!(refused.message.contains("already allocated"), "{refused}");
    }
    let scope = Scope::Namespace("default".to_owned());
    let listed = servers[0]
        .registry
        .list(&gvr_of::<Service>(), &scope, &ListOptions::default())
        .await
        .unwrap();
    let specs: Vec<ServiceSpec> = listed
        .items
        .iter()
        .filter_map(|object| object.typed::<Service>()?.spec.clone())
        .collect();
    let addresses: HashSet<String> = specs.iter().filter_map(|spec| spec.cluster_ip.clone()).collect();
    let ports: HashSet<i32> = specs.iter().map(node_port).filter(|port| *port != 0).collect();
    assert_eq!((specs.len(), addresses.len(), ports.len()), (30, 30, 24));
    // No reservation outlives its write.
    let others = store.list("/reservations/", None, None, None).await.unwrap();
    assert!(others.entries.is_empty(), "{others:?}");
}
