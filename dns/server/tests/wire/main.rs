//! The server over real sockets on loopback, fed by an API in memory.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails by panicking")]

mod support;
mod upstream;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::json;
use support::{Running, addresses, api, service};

#[tokio::test]
async fn a_service_answers_over_udp_and_tcp_in_the_questions_letters() {
    let server = Running::start(&api()).await;
    let answer = server.settled("WeB.default.svc.cluster.local.", 1).await;
    assert_eq!(addresses(&answer), ["10.64.0.7"]);
    assert_eq!(
        answer.answers[0].name.to_ascii(),
        "WeB.default.svc.cluster.local."
    );
    assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
    let answer = server.tcp("web.default.svc.cluster.local.", RecordType::A).await;
    assert_eq!(addresses(&answer), ["10.64.0.7"]);
    let reverse = server.udp("7.0.64.10.in-addr.arpa.", RecordType::PTR, None).await;
    assert_eq!(reverse.answers.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn absent_types_are_no_data_and_absent_names_do_not_exist() {
    let server = Running::start(&api()).await;
    server.settled("web.default.svc.cluster.local.", 1).await;
    let no_data = server
        .udp("web.default.svc.cluster.local.", RecordType::AAAA, None)
        .await;
    assert_eq!(
        (no_data.metadata.response_code, no_data.answers.len()),
        (ResponseCode::NoError, 0)
    );
    assert_eq!(no_data.authorities.len(), 1, "the SOA");
    let absent = server
        .udp("no.default.svc.cluster.local.", RecordType::A, None)
        .await;
    assert_eq!(absent.metadata.response_code, ResponseCode::NXDomain);
    server.stop().await;
}

#[tokio::test]
async fn before_the_first_sync_names_fail_and_then_they_answer() {
    let api = api();
    api.fail_next(1_000_000, skep_api_error());
    let server = Running::start(&api).await;
    let early = server
        .udp("web.default.svc.cluster.local.", RecordType::A, None)
        .await;
    assert_eq!(early.metadata.response_code, ResponseCode::ServFail);
    api.fail_next(0, skep_api_error());
    server.settled("web.default.svc.cluster.local.", 1).await;
    server.stop().await;
}

fn skep_api_error() -> skep_api::ApiError {
    skep_api::ApiError::connection("no API server")
}

#[tokio::test]
async fn names_outside_fail_at_once_without_upstream() {
    let server = Running::start(&api()).await;
    server.settled("web.default.svc.cluster.local.", 1).await;
    let asked = Instant::now();
    let answer = server.udp("example.com.", RecordType::A, None).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert!(
        asked.elapsed() < Duration::from_secs(1),
        "took {:?}",
        asked.elapsed()
    );
    server.stop().await;
}

#[tokio::test]
async fn an_answer_too_long_is_cut_over_udp_and_whole_over_tcp() {
    let api = api();
    let mut heads = service("heads", "None");
    if let Some(spec) = &mut heads.spec {
        spec.cluster_ips = Some(vec!["None".to_owned()]);
    }
    api.put(&heads);
    let endpoints: Vec<_> = (1..=90)
        .map(|n| json!({ "addresses": [format!("10.128.0.{n}")], "conditions": { "ready": true } }))
        .collect();
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": { "name": "heads-1", "namespace": "default", "labels": { "kubernetes.io/service-name": "heads" } },
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }],
    }))
    .unwrap();
    api.put(&slice);
    let server = Running::start(&api).await;
    server.settled("web.default.svc.cluster.local.", 1).await;
    for payload in [None, Some(600), Some(1232), Some(4096)] {
        let cut = server
            .udp("heads.default.svc.cluster.local.", RecordType::A, payload)
            .await;
        assert!(cut.metadata.truncation, "not marked as cut for {payload:?}");
        // RFC 6891 section 7: who asks with an OPT gets one, also in an answer that was cut.
        assert_eq!(cut.edns.is_some(), payload.is_some(), "OPT for {payload:?}");
    }
    let whole = server
        .tcp("heads.default.svc.cluster.local.", RecordType::A)
        .await;
    assert_eq!(addresses(&whole).len(), 90);
    server.stop().await;
}

#[tokio::test]
async fn changes_show_and_are_counted() {
    let api = api();
    let server = Running::start(&api).await;
    server.settled("web.default.svc.cluster.local.", 1).await;
    api.put(&service("late", "10.64.0.9"));
    assert_eq!(
        addresses(&server.settled("late.default.svc.cluster.local.", 1).await),
        ["10.64.0.9"]
    );
    api.remove::<Service>(&skep_api::ObjectKey {
        namespace: "default".to_owned(),
        name: "late".to_owned(),
    });
    server.settled("late.default.svc.cluster.local.", 0).await;
    let text = server.metrics();
    assert!(
        text.contains("coredns_dns_responses_total{rcode=\"NOERROR\"}"),
        "{text}"
    );
    server.stop().await;
}

#[tokio::test]
async fn left_out_addresses_of_targets_are_no_truncation() {
    let api = api();
    let mut many = service("many", "10.64.0.8");
    if let Some(spec) = &mut many.spec {
        spec.cluster_ip = Some("None".to_owned());
        spec.cluster_ips = None;
    }
    api.put(&many);
    let endpoints: Vec<_> = (1..=10)
        .map(|n| json!({ "addresses": [format!("10.128.0.{n}")], "hostname": format!("h{n}") }))
        .collect();
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": { "name": "many-1", "namespace": "default", "labels": { "kubernetes.io/service-name": "many" } },
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }],
    }))
    .unwrap();
    api.put(&slice);
    let server = Running::start(&api).await;
    server.settled("many.default.svc.cluster.local.", 10).await;
    let name = "_http._tcp.many.default.svc.cluster.local.";
    // The targets' names are not compressed (RFC 2782): ten records fit 1232 bytes, their addresses do not all.
    let answer = server.udp(name, RecordType::SRV, Some(800)).await;
    assert_eq!(answer.answers.len(), 10);
    assert!(answer.additionals.len() < 10 && answer.edns.is_some());
    assert!(!answer.metadata.truncation, "RFC 2181 section 9");
    server.stop().await;
}

#[tokio::test]
async fn other_classes_are_refused() {
    let server = Running::start(&api()).await;
    server.settled("web.default.svc.cluster.local.", 1).await;
    let chaos = dig(
        server.address,
        &["web.default.svc.cluster.local", "A", "-c", "CH"],
    )
    .await;
    assert!(chaos.contains("status: REFUSED"), "{chaos}");
    server.stop().await;
}

#[tokio::test]
async fn dig_finds_nothing_to_complain_of() {
    let server = Running::start(&api()).await;
    server.settled("web.default.svc.cluster.local.", 1).await;
    let rows: [(&[&str], &[&str]); 6] = [
        (
            &["web.default.svc.cluster.local", "A"],
            &["status: NOERROR", "A 10.64.0.7", "udp: 1232", "qr aa rd ra"],
        ),
        (
            &["+tcp", "web.default.svc.cluster.local", "A"],
            &["status: NOERROR", "A 10.64.0.7"],
        ),
        (
            &["+noedns", "web.default.svc.cluster.local", "A"],
            &["status: NOERROR", "A 10.64.0.7"],
        ),
        (
            &["_http._tcp.web.default.svc.cluster.local", "SRV"],
            &[
                "SRV 0 100 80 web.default.svc.cluster.local.",
                "ADDITIONAL: 2",
                "A 10.64.0.7",
            ],
        ),
        (&["-x", "10.64.0.7"], &["PTR web.default.svc.cluster.local."]),
        (&["dns-version.cluster.local", "TXT"], &["TXT \"1.1.0\""]),
    ];
    for (asked, expected) in rows {
        let answer = dig(server.address, asked).await;
        for part in expected {
            assert!(answer.contains(part), "{asked:?} without {part:?}: {answer}");
        }
        // (";; WARNING: .local is reserved for Multicast DNS" is about the name, not the answer.)
        assert!(!answer.contains(";; Warning:"), "{asked:?}: {answer}");
    }
    server.stop().await;
}

/// What dig prints. It is of Debian's bind9-dnsutils, which `cargo xtask setup` installs.
async fn dig(server: SocketAddr, arguments: &[&str]) -> String {
    let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
    let fixed = [at.as_str(), "-p", &port, "+tries=1", "+time=3"];
    let output = tokio::process::Command::new("dig")
        .args(fixed)
        .args(arguments)
        .output()
        .await;
    let output = output.expect("dig is installed: run cargo xtask setup");
    assert!(output.status.success(), "{output:?}");
    // Columns are set apart by tabs or blanks, as the widths fall.
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_inclusive('\n')
        .flat_map(|line| line.split_whitespace().chain(["\n"]))
        .collect::<Vec<_>>()
        .join(" ")
}
