//! What is counted of Services, as metrics.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use skep_abi::{ServiceSerial, ServiceStats};
use skep_api::ObjectKey;
use skep_bpf_maps::{MemoryMaps, ServiceCounts as _, ServiceMaps};
use skep_client::testing::FakeTransport;
use skep_service_proxy::register_service_metrics;

use crate::support::{backends, eventually, put_service, put_slice, start};

fn scrape(maps: &Arc<MemoryMaps>) -> String {
    let mut registry = Registry::default();
    let maps: Arc<dyn ServiceMaps> = Arc::<MemoryMaps>::clone(maps);
    register_service_metrics(&mut registry, maps);
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    text
}

fn serials(maps: &MemoryMaps) -> Vec<ServiceSerial> {
    maps.counts()
        .entries()
        .unwrap()
        .into_iter()
        .map(|(serial, _)| serial)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_service_is_counted_from_its_start_and_its_successor_anew() {
    let (api, maps) = (FakeTransport::new(), Arc::new(MemoryMaps::new()));
    put_service(&api, "web", "10.64.0.7", 0);
    put_slice(&api, "web", &["10.128.0.2"], None);
    let proxy = start(&api, &maps);
    eventually("the Service", || backends(&maps, "10.64.0.7", 80).is_some()).await;
    let first = serials(&maps);
    assert_eq!(first.len(), 1);
    let counted = ServiceStats {
        socket_connections: 3,
        bytes_out: 700,
        ..ServiceStats::default()
    };
    maps.counts().add(first[0], counted);
    let labels = r#"namespace="default",service="web",port="",protocol="TCP""#;
    let text = scrape(&maps);
    for (series, count) in [
        (
            format!(r#"skep_service_connections_total{{{labels},path="socket"}}"#),
            3,
        ),
        (
            format!(r#"skep_service_connections_total{{{labels},path="packet"}}"#),
            0,
        ),
        (
            format!(r#"skep_service_bytes_total{{{labels},direction="out"}}"#),
            700,
        ),
        ("skep_service_ports_without_metrics".to_owned(), 0),
    ] {
        assert!(
            text.contains(&format!("{series} {count}\n")),
            "{series} {count} is not in\n{text}"
        );
    }

    api.remove::<Service>(&ObjectKey::new("default", "web"));
    eventually("the Service is gone", || {
        backends(&maps, "10.64.0.7", 80).is_none()
    })
    .await;
    eventually("its series are gone", || !scrape(&maps).contains("web")).await;
    put_service(&api, "web", "10.64.0.7", 0);
    eventually("it is back", || backends(&maps, "10.64.0.7", 80).is_some()).await;
    let second = serials(&maps);
    assert!(second.last() > first.last(), "{first:?} {second:?}");
    let series = format!(r#"skep_service_connections_total{{{labels},path="socket"}} 0"#);
    assert!(scrape(&maps).contains(&series), "{}", scrape(&maps));
    eventually("the old count is forgotten", || serials(&maps).len() == 1).await;
    proxy.stop().await;
}

#[test]
fn series_are_bounded_and_the_oldest_stay() {
    let maps = MemoryMaps::new();
    for number in 1..=1_003_u32 {
        let serial = ServiceSerial(number);
        let name = skep_abi::ServiceName {
            name: skep_abi::Label::new(&format!("s{number}")),
            ..skep_abi::ServiceName::default()
        };
        let value = skep_abi::ServiceValue {
            serial,
            ..skep_abi::ServiceValue::default()
        };
        maps.counts().start(serial).unwrap();
        maps.service_names().put(&serial, &name).unwrap();
        maps.services().put(&skep_abi::ServiceId(number), &value).unwrap();
    }
    let text = scrape(&Arc::new(maps));
    assert!(
        text.contains("skep_service_ports_without_metrics 3\n"),
        "{}",
        &text[text.len() - 400..]
    );
    assert!(text.contains(r#"service="s1000""#) && !text.contains(r#"service="s1001""#));
}
