//! A server on loopback, fed by an API in memory, and clients of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use k8s_openapi::api::core::v1::{Namespace, Service};
use prometheus_client::registry::Registry;
use serde_json::json;
use skep_client::testing::FakeTransport;
use skep_dns::{DnsConfig, DnsError, DnsMetrics, DnsServer, Upstreams};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    registry: Registry,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), DnsError>>,
}

impl Running {
    pub(crate) async fn start(api: &FakeTransport) -> Self {
        Self::forwarding(api, Vec::new()).await
    }

    pub(crate) async fn forwarding(api: &FakeTransport, upstreams: Vec<SocketAddr>) -> Self {
        let mut config = DnsConfig::new(vec!["127.0.0.1:0".parse().unwrap()], "cluster.local");
        config.upstreams = Upstreams::List(upstreams);
        let mut registry = Registry::default();
        let metrics = DnsMetrics::register(&mut registry);
        let shutdown = CancellationToken::new();
        let server = DnsServer::bind(config).await.unwrap();
        let address = server.addresses().unwrap()[0];
        let task = tokio::spawn(server.run(api.client(), metrics, shutdown.clone()));
        Self {
            address,
            registry,
            shutdown,
            task,
        }
    }

    /// The metrics as text.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.task)
            .await
            .expect("ends when told")
            .unwrap()
            .unwrap();
    }

    pub(crate) async fn udp(&self, name: &str, record_type: RecordType, payload: Option<u16>) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(self.address).await.unwrap();
        socket.send(&query(name, record_type, payload)).await.unwrap();
        let mut buffer = vec![0; 65_535];
        let length = timeout(PATIENCE, socket.recv(&mut buffer))
            .await
            .expect("an answer in time")
            .unwrap();
        let limit = payload.unwrap_or(512).clamp(512, 1232);
        assert!(
            length <= usize::from(limit),
            "{length} bytes for a limit of {limit}"
        );
        Message::from_vec(&buffer[..length]).unwrap()
    }

    pub(crate) async fn tcp(&self, name: &str, record_type: RecordType) -> Message {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let query = query(name, record_type, None);
        stream
            .write_u16(u16::try_from(query.len()).unwrap())
            .await
            .unwrap();
        stream.write_all(&query).await.unwrap();
        let length = stream.read_u16().await.unwrap();
        let mut buffer = vec![0; usize::from(length)];
        stream.read_exact(&mut buffer).await.unwrap();
        Message::from_vec(&buffer).unwrap()
    }

    /// Asks until the answer has that many records, as the zone follows the API.
    pub(crate) async fn settled(&self, name: &str, records: usize) -> Message {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.udp(name, RecordType::A, Some(1232)).await;
            if answer.answers.len() == records {
                return answer;
            }
            assert!(Instant::now() < deadline, "{name} has {:?}", answer.answers);
            sleep(Duration::from_millis(20)).await;
        }
    }
}

pub(crate) fn query(name: &str, record_type: RecordType, payload: Option<u16>) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), record_type));
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.edns = Some(edns);
    }
    message.to_vec().unwrap()
}

pub(crate) fn api() -> FakeTransport {
    let api = FakeTransport::new();
    api.put::<Namespace>(&serde_json::from_value(json!({ "metadata": { "name": "default" } })).unwrap());
    api.put::<Service>(&service("web", "10.64.0.7"));
    api
}

pub(crate) fn service(name: &str, address: &str) -> Service {
    serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "clusterIP": address, "clusterIPs": [address], "ports": [{ "name": "http", "port": 80 }] },
    }))
    .unwrap()
}

pub(crate) fn addresses(message: &Message) -> Vec<String> {
    let data = message.answers.iter().filter_map(|record| match &record.data {
        RData::A(address) => Some(address.to_string()),
        _ => None,
    });
    data.collect()
}
