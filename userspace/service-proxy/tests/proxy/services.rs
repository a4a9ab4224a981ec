//! Services and endpoints on their way into the maps.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};
use skep_api::{ApiError, ObjectKey};
use skep_bpf_maps::{MemoryMaps, ServiceMaps};
use skep_client::testing::FakeTransport;

use crate::support::{backends, eventually, is, maps, put_service, put_slice, start};

#[tokio::test(start_paused = true)]
async fn services_reach_the_maps_and_follow_their_endpoints() {
    let (api, maps) = (FakeTransport::new(), maps());
    put_service(&api, "web", "10.64.0.7", 30080);
    put_slice(&api, "web", &["10.128.0.2"], None);
    let proxy = start(&api, &maps);
    eventually("the first sync", || {
        is(&maps, "10.64.0.7", 80, &["10.128.0.2:8080"])
    })
    .await;
    for address in ["172.29.0.11", "127.0.0.1"] {
        assert!(is(&maps, address, 30080, &["10.128.0.2:8080"]), "{address}");
    }
    put_slice(
        &api,
        "web",
        &["10.128.0.2", "10.128.0.3"],
        Some(&jiff::Timestamp::now().to_string()),
    );
    eventually("two endpoints", || {
        is(&maps, "10.64.0.7", 80, &["10.128.0.2:8080", "10.128.0.3:8080"])
    })
    .await;
    put_slice(&api, "web", &["10.128.0.3"], None);
    eventually("one endpoint", || {
        is(&maps, "10.64.0.7", 80, &["10.128.0.3:8080"])
    })
    .await;
    eventually("the old backend gone", || {
        maps.backends().entries().unwrap().len() == 1
    })
    .await;
    let node = json!({
        "metadata": {"name": "node1"},
        "status": {"addresses": [{"type": "InternalIP", "address": "172.29.0.99"}, {"type": "Hostname", "address": "n"}]},
    });
    api.put::<Node>(&serde_json::from_value(node).unwrap());
    eventually("the node's address", || {
        is(&maps, "172.29.0.99", 30080, &["10.128.0.3:8080"])
    })
    .await;
    api.remove::<Service>(&ObjectKey {
        namespace: "default".to_owned(),
        name: "web".to_owned(),
    });
    eventually("no frontend", || maps.frontends().entries().unwrap().is_empty()).await;
    eventually("nothing at all", || {
        maps.backends().entries().unwrap().is_empty() && maps.services().entries().unwrap().is_empty()
    })
    .await;

    assert!(proxy.metric("skep_proxy_sync_latency_seconds_count{since=\"receipt\"}") >= 3.0);
    assert!(proxy.metric("kubeproxy_network_programming_duration_seconds_count") >= 1.0);
    assert!(proxy.metric("kubeproxy_sync_proxy_rules_endpoint_changes_total") >= 3.0);
    assert!(proxy.metric("kubeproxy_sync_proxy_rules_last_timestamp_seconds") > 1e9);
    assert_eq!(
        proxy.metric("kubeproxy_sync_proxy_rules_endpoint_changes_pending"),
        0.0
    );
    assert_eq!(
        proxy.metric("kubeproxy_sync_full_proxy_rules_duration_seconds_count"),
        1.0
    );
    assert!(proxy.metric("kubeproxy_sync_partial_proxy_rules_duration_seconds_count") >= 3.0);
    proxy.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_zone_of_the_node_decides_among_hinted_endpoints() {
    let (api, maps) = (FakeTransport::new(), maps());
    put_service(&api, "web", "10.64.0.7", 0);
    let proxy = start(&api, &maps);
    let hinted =
        |address: &str, zone: &str| json!({"addresses": [address], "hints": {"forZones": [{"name": zone}]}});
    let slice = json!({
        "metadata": {"namespace": "default", "name": "web-a", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"port": 8080, "protocol": "TCP"}],
        "endpoints": [hinted("10.128.0.3", "b"), hinted("10.128.0.4", "a")],
    });
    api.put::<EndpointSlice>(&serde_json::from_value(slice).unwrap());
    eventually("the endpoints of all zones", || {
        is(&maps, "10.64.0.7", 80, &["10.128.0.3:8080", "10.128.0.4:8080"])
    })
    .await;
    let node = json!({"metadata": {"name": "node1", "labels": {"topology.kubernetes.io/zone": "b"}}});
    api.put::<Node>(&serde_json::from_value(node).unwrap());
    eventually("those of the node's zone", || {
        is(&maps, "10.64.0.7", 80, &["10.128.0.3:8080"])
    })
    .await;
    proxy.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_writes_nothing_that_is_right_and_removes_what_is_stale() {
    let (api, maps) = (FakeTransport::new(), maps());
    for (at, name) in ["a", "b", "c"].into_iter().enumerate() {
        put_service(&api, name, &format!("10.64.0.{}", at + 1), 0);
        put_slice(&api, name, &["10.128.0.2", "10.128.0.3"], None);
    }
    let proxy = start(&api, &maps);
    eventually("the first sync", || {
        maps.frontends().entries().unwrap().len() == 3
    })
    .await;
    proxy.stop().await;

    let writes = maps.writes();
    let proxy = start(&api, &maps);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(
        proxy.metric("kubeproxy_sync_proxy_rules_duration_seconds_count"),
        1.0
    );
    assert_eq!(maps.writes(), writes);
    proxy.stop().await;

    api.remove::<Service>(&ObjectKey {
        namespace: "default".to_owned(),
        name: "b".to_owned(),
    });
    let proxy = start(&api, &maps);
    eventually("b is gone", || backends(&maps, "10.64.0.2", 80).is_none()).await;
    assert!(is(
        &maps,
        "10.64.0.1",
        80,
        &["10.128.0.2:8080", "10.128.0.3:8080"]
    ));
    // One frontend, one service, its name and two slots; the backends are still others'.
    eventually("five removals", || maps.writes() == writes + 5).await;
    proxy.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_write_is_tried_again() {
    let (api, maps) = (FakeTransport::new(), maps());
    put_service(&api, "web", "10.64.0.7", 30080);
    put_slice(&api, "web", &["10.128.0.2"], None);
    maps.fail_write(2);
    let proxy = start(&api, &maps);
    eventually("written at last", || {
        is(&maps, "127.0.0.1", 30080, &["10.128.0.2:8080"])
    })
    .await;
    maps.fail_all_writes(true);
    put_slice(&api, "web", &["10.128.0.2", "10.128.0.3"], None);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(is(&maps, "10.64.0.7", 80, &["10.128.0.2:8080"]));
    maps.fail_all_writes(false);
    eventually("both endpoints", || {
        is(&maps, "10.64.0.7", 80, &["10.128.0.2:8080", "10.128.0.3:8080"])
    })
    .await;
    assert!(proxy.metric("skep_proxy_map_failures_total") >= 2.0);
    proxy.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_without_room_is_told_and_harms_no_other() {
    let api = FakeTransport::new();
    let maps = Arc::new(MemoryMaps::with_capacities(|spec| {
        if spec.name == "SERVICES" { 3 } else { 64 }
    }));
    for (at, name) in ["a", "b"].into_iter().enumerate() {
        put_service(&api, name, &format!("10.64.0.{}", at + 1), 0);
        put_slice(&api, name, &["10.128.0.2"], None);
    }
    let proxy = start(&api, &maps);
    eventually("the first sync", || {
        maps.frontends().entries().unwrap().len() == 2
    })
    .await;
    put_service(&api, "c", "10.64.0.3", 0);
    put_slice(&api, "c", &["10.128.0.3"], None);
    eventually("an Event", || !api.all::<Event>().is_empty()).await;
    let events = api.all::<Event>();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].reason.as_deref(), Some("ServiceMapFull"));
    assert_eq!(events[0].involved_object.name.as_deref(), Some("c"));
    assert_eq!(proxy.metric("skep_proxy_services_without_room"), 1.0);
    // The others live on.
    put_slice(&api, "a", &["10.128.0.2", "10.128.0.4"], None);
    eventually("a changes", || {
        is(&maps, "10.64.0.1", 80, &["10.128.0.2:8080", "10.128.0.4:8080"])
    })
    .await;
    assert!(backends(&maps, "10.64.0.3", 80).is_none());

    api.remove::<Service>(&ObjectKey {
        namespace: "default".to_owned(),
        name: "b".to_owned(),
    });
    eventually("c finds room", || {
        is(&maps, "10.64.0.3", 80, &["10.128.0.3:8080"])
    })
    .await;
    eventually("no complaint", || {
        proxy.metric("skep_proxy_services_without_room") == 0.0
    })
    .await;
    proxy.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_load_balancers_addresses_follow_its_status() {
    let (api, maps) = (FakeTransport::new(), maps());
    let put = |ingress: Value, ranges: Value| {
        let object = json!({
            "metadata": {"namespace": "default", "name": "web", "uid": "web"},
            "spec": {"type": "LoadBalancer", "clusterIP": "10.64.0.7", "clusterIPs": ["10.64.0.7"],
                "allocateLoadBalancerNodePorts": false, "loadBalancerSourceRanges": ranges,
                "ports": [{"port": 80, "protocol": "TCP"}]},
            "status": {"loadBalancer": {"ingress": ingress}},
        });
        api.put::<Service>(&serde_json::from_value(object).unwrap());
    };
    put(
        json!([{"ip": "198.51.100.1", "ipMode": "VIP"}]),
        json!(["192.0.2.0/24"]),
    );
    put_slice(&api, "web", &["10.128.0.2"], None);
    let proxy = start(&api, &maps);
    let serves = |address: &str| is(&maps, address, 80, &["10.128.0.2:8080"]);
    eventually("the first address", || serves("198.51.100.1")).await;
    assert_eq!(maps.frontends().entries().unwrap().len(), 2, "no node port");
    assert_eq!(maps.source_ranges().entries().unwrap().len(), 1);
    put(
        json!([{"ip": "198.51.100.2"}, {"ip": "198.51.100.3", "ipMode": "Proxy"}, {"hostname": "lb.example.com"}]),
        json!(["203.0.113.0/24", "198.51.100.0/24"]),
    );
    eventually("another address", || {
        serves("198.51.100.2") && backends(&maps, "198.51.100.1", 80).is_none()
    })
    .await;
    assert!(
        backends(&maps, "198.51.100.3", 80).is_none(),
        "the balancer's own"
    );
    eventually("other clients", || {
        maps.source_ranges().entries().unwrap().len() == 2
    })
    .await;
    put(json!([]), json!([]));
    eventually("the ClusterIP alone", || {
        maps.frontends().entries().unwrap().len() == 1 && maps.source_ranges().entries().unwrap().is_empty()
    })
    .await;
    proxy.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_port_that_a_program_has_is_told() {
    let (api, maps) = (FakeTransport::new(), maps());
    let program = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = program.local_addr().unwrap().port();
    put_service(&api, "web", "10.64.0.7", port);
    let proxy = start(&api, &maps);
    eventually("an Event", || !api.all::<Event>().is_empty()).await;
    let event = api.all::<Event>().remove(0);
    assert_eq!(event.reason.as_deref(), Some("NodePortInUse"));
    assert_eq!(event.involved_object.name.as_deref(), Some("web"));
    assert!(event.message.unwrap().contains(&format!("port {port}/TCP")));
    eventually("the frontend all the same", || {
        backends(&maps, "172.29.0.11", port).is_some()
    })
    .await;
    proxy.stop().await;
    // Told once: a proxy that starts anew takes nothing.
    let proxy = start(&api, &maps);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(api.all::<Event>().len(), 1);
    proxy.stop().await;
}

#[tokio::test(start_paused = true)]
async fn without_the_api_the_maps_stay_as_they_are() {
    let (api, maps) = (FakeTransport::new(), maps());
    put_service(&api, "web", "10.64.0.7", 0);
    put_slice(&api, "web", &["10.128.0.2"], None);
    let proxy = start(&api, &maps);
    eventually("the first sync", || {
        is(&maps, "10.64.0.7", 80, &["10.128.0.2:8080"])
    })
    .await;
    let away = || ApiError::internal("away");
    api.fail_next(1_000_000, away());
    api.break_watches(away());
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(is(&maps, "10.64.0.7", 80, &["10.128.0.2:8080"]));
    proxy.stop().await;

    // A proxy that starts meanwhile touches nothing.
    let writes = maps.writes();
    let proxy = start(&api, &maps);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(maps.writes(), writes);
    put_slice(&api, "web", &["10.128.0.3"], None);
    api.fail_next(0, away());
    eventually("caught up", || is(&maps, "10.64.0.7", 80, &["10.128.0.3:8080"])).await;
    proxy.stop().await;
}

#[tokio::test(start_paused = true)]
async fn cluster_dns_is_answered_on_the_node() {
    let (api, maps) = (FakeTransport::new(), maps());
    let object = json!({
        "metadata": {"namespace": "kube-system", "name": "kube-dns"},
        "spec": {"clusterIPs": ["10.64.0.10"], "ports": [{"name": "dns-tcp", "port": 53, "protocol": "TCP"}]},
    });
    api.put::<Service>(&serde_json::from_value(object).unwrap());
    let proxy = start(&api, &maps);
    eventually("local DNS", || is(&maps, "10.64.0.10", 53, &["169.254.20.10:53"])).await;
    proxy.stop().await;
}
