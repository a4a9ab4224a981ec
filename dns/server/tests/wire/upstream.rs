//! Names outside the cluster: asked of an upstream server that these tests play themselves.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Running, addresses, api};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::SOA;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use k8s_openapi::api::core::v1::Service;
use serde_json::json;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// A server that knows one address, of `known.example.`, and counts what it is asked.
struct Upstream {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Upstream {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            loop {
                let (length, asker) = socket.recv_from(&mut buffer).await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let answer = answer(&Message::from_vec(&buffer[..length]).unwrap());
                socket.send_to(&answer.to_vec().unwrap(), asker).await.unwrap();
            }
        });
        Self { address, asked, task }
    }
}

fn answer(query: &Message) -> Message {
    let question = query.queries[0].clone();
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    answer.metadata.recursion_available = true;
    answer.add_query(question.clone());
    let known = question.name().to_string().eq_ignore_ascii_case("known.example.");
    if known && question.query_type() == RecordType::A {
        let data = RData::A(Ipv4Addr::new(192, 0, 2, 7).into());
        answer.add_answer(Record::from_rdata(question.name().clone(), 60, data));
    } else {
        let name = Name::from_ascii("example.").unwrap();
        let soa = SOA::new(name.clone(), name.clone(), 1, 60, 60, 60, 60);
        answer.add_authority(Record::from_rdata(name, 60, RData::SOA(soa)));
        if !known {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
    }
    answer
}

#[tokio::test]
async fn names_outside_are_answered_by_upstream_and_remembered() {
    let upstream = Upstream::start().await;
    let server = Running::forwarding(&api(), vec![upstream.address]).await;
    server.settled("web.default.svc.cluster.local.", 1).await;
    // As glibc and musl ask: both families at once, both answered.
    let (v4, v6) = tokio::join!(
        server.udp("known.example.", RecordType::A, None),
        server.udp("known.example.", RecordType::AAAA, None),
    );
    assert_eq!(addresses(&v4), ["192.0.2.7"]);
    assert!(!v4.metadata.authoritative && v4.metadata.recursion_available);
    assert_eq!(
        (v6.metadata.response_code, v6.answers.len()),
        (ResponseCode::NoError, 0)
    );
    let absent = server.udp("absent.example.", RecordType::A, None).await;
    assert_eq!(absent.metadata.response_code, ResponseCode::NXDomain);
    let asked = upstream.asked.load(Ordering::SeqCst);
    let again = server.udp("known.example.", RecordType::A, None).await;
    assert_eq!(addresses(&again), ["192.0.2.7"]);
    assert_eq!(
        upstream.asked.load(Ordering::SeqCst),
        asked,
        "the second time from memory"
    );
    server.stop().await;
}

#[tokio::test]
async fn names_of_the_cluster_never_reach_upstream() {
    let upstream = Upstream::start().await;
    let server = Running::forwarding(&api(), vec![upstream.address]).await;
    server.settled("web.default.svc.cluster.local.", 1).await;
    let absent = server
        .udp("known.example.default.svc.cluster.local.", RecordType::A, None)
        .await;
    assert_eq!(absent.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(upstream.asked.load(Ordering::SeqCst), 0);
    server.stop().await;
}

#[tokio::test]
async fn an_external_name_is_followed_to_its_addresses() {
    let (upstream, api) = (Upstream::start().await, api());
    let alias = json!({
        "metadata": { "name": "out", "namespace": "default" },
        "spec": { "type": "ExternalName", "externalName": "known.example" },
    });
    api.put::<Service>(&serde_json::from_value(alias).unwrap());
    let server = Running::forwarding(&api, vec![upstream.address]).await;
    let found = server.settled("out.default.svc.cluster.local.", 2).await;
    assert_eq!(found.answers[0].record_type(), RecordType::CNAME);
    assert_eq!(addresses(&found), ["192.0.2.7"]);
    server.stop().await;
}

#[tokio::test]
async fn an_upstream_that_is_silent_keeps_nobody_waiting_long() {
    // Bound and never read: nothing answers, nothing refuses.
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = Running::forwarding(&api(), vec![silent.local_addr().unwrap()]).await;
    server.settled("web.default.svc.cluster.local.", 1).await;
    for n in 0..6 {
        let started = Instant::now();
        let answer = server.udp(&format!("n{n}.example."), RecordType::A, None).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
        let (took, most) = (
            started.elapsed(),
            Duration::from_millis(if n < 3 { 3_500 } else { 1_000 }),
        );
        assert!(took < most, "query {n} took {took:?}");
    }
    // The probe that looks whether it is back does not make its asker wait either.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let started = Instant::now();
    server.udp("probe.example.", RecordType::A, None).await;
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "the probe took {:?}",
        started.elapsed()
    );
    // Names of the cluster have not noticed.
    let own = server
        .udp("web.default.svc.cluster.local.", RecordType::A, None)
        .await;
    assert_eq!(addresses(&own), ["10.64.0.7"]);
    server.stop().await;
}
