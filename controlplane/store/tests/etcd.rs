//! The etcd engine on a real etcd, started here on loopback. Needs Debian's package etcd-server.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail by panicking")]

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use skep_store::{EtcdConfig, EtcdStore, EtcdTls, Event, Store, StoreError, contract};

/// A running etcd; ended and removed when dropped.
struct Etcd {
    process: Child,
    folder: tempfile::TempDir,
    client_url: String,
    arguments: Vec<String>,
}

impl Etcd {
    fn start() -> Self {
        Self::start_with("http", |_| Vec::new())
    }

    fn start_with(scheme: &str, extra: impl Fn(&tempfile::TempDir) -> Vec<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let client_url = format!("{scheme}://127.0.0.1:{}", free_port());
        let peer_url = format!("http://127.0.0.1:{}", free_port());
        let mut arguments: Vec<String> = vec![
            format!("--data-dir={}", folder.path().join("data").display()),
            format!("--listen-client-urls={client_url}"),
            format!("--advertise-client-urls={client_url}"),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
            format!("--initial-cluster=default={peer_url}"),
        ];
        arguments.extend(extra(&folder));
        let process = spawn(&arguments, &folder);
        Self {
            process,
            folder,
            client_url,
            arguments,
        }
    }

    fn config(&self, prefix: &str) -> EtcdConfig {
        EtcdConfig {
            prefix: prefix.to_owned(),
            history: None,
            ..EtcdConfig::new(vec![self.client_url.clone()])
        }
    }

    /// Connects once etcd is up.
    async fn connect(&self, config: EtcdConfig) -> EtcdStore {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            match EtcdStore::connect(config.clone()).await {
                Ok(store) => return store,
                Err(error) if Instant::now() > until => {
                    panic!("etcd does not come up: {error:?}\n{}", self.log())
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn restart(&mut self) {
        self.process = spawn(&self.arguments, &self.folder);
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn spawn(arguments: &[String], folder: &tempfile::TempDir) -> Child {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(folder.path().join("log"))
        .unwrap();
    Command::new("etcd")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| {
            panic!("cannot start etcd ({error}): these tests need it; on Debian: apt-get install etcd-server")
        })
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    let etcd = Etcd::start();
    for (index, case) in contract::cases().into_iter().enumerate() {
        println!("case {}", case.name);
        let store = etcd.connect(etcd.config(&format!("/case{index}/"))).await;
        (case.check)(Arc::new(store)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_survive_a_restart_of_etcd() {
    let mut etcd = Etcd::start();
    let store = etcd.connect(etcd.config("/skep/")).await;
    let from = store.create("w/0", Bytes::from("x")).await.unwrap();
    let mut watch = store.watch("w/", from).await.unwrap();
    watch.next().await.unwrap().unwrap();
    etcd.kill();
    let down = store.create("w/1", Bytes::from("x")).await;
    assert!(matches!(down, Err(StoreError::Unavailable { .. })), "{down:?}");
    etcd.restart();
    let until = Instant::now() + Duration::from_secs(20);
    let mut written = Vec::new();
    while written.len() < 3 {
        match store
            .create(&format!("w/again/{}", written.len()), Bytes::from("x"))
            .await
        {
            Ok(revision) => written.push(revision),
            Err(error) => assert!(Instant::now() < until, "etcd is not reached again: {error:?}"),
        }
    }
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let batch = tokio::time::timeout(Duration::from_secs(20), watch.next())
            .await
            .unwrap();
        seen.extend(batch.unwrap().unwrap().events.iter().map(Event::revision));
    }
    assert_eq!(seen, written);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_see_each_other_and_others_do_not_hold_them_up() {
    let etcd = Etcd::start();
    let left = etcd.connect(etcd.config("/skep/")).await;
    let right = etcd.connect(etcd.config("/skep/")).await;
    let other = etcd.connect(etcd.config("/other/")).await;
    let from = left.revision().await.unwrap();
    let mut watch = right.watch("", from).await.unwrap();
    let written = left.create("a", Bytes::from("x")).await.unwrap();
    for index in 0..10 {
        other
            .create(&format!("k{index}"), Bytes::from("x"))
            .await
            .unwrap();
    }
    let last = right.revision().await.unwrap();
    let (mut seen, mut reached) = (Vec::new(), 0);
    while reached < last {
        let batch = tokio::time::timeout(Duration::from_secs(5), watch.next())
            .await
            .expect("progress is told");
        let batch = batch.unwrap().unwrap();
        reached = batch.revision;
        seen.extend(batch.events.iter().map(Event::revision));
    }
    assert_eq!(seen, [written]);
    let keys: Vec<_> = left.list("", None, None, None).await.unwrap().entries;
    assert_eq!(keys.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_compacted_by_age() {
    let etcd = Etcd::start();
    let config = EtcdConfig {
        history: Some(Duration::from_millis(300)),
        ..etcd.config("/skep/")
    };
    let store = etcd.connect(config).await;
    let first = store.create("a", Bytes::from("1")).await.unwrap();
    store
        .compare_and_swap("a", first, Bytes::from("2"))
        .await
        .unwrap();
    store.list("", Some(first), None, None).await.unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    while store.list("", Some(first), None, None).await.is_ok() {
        assert!(Instant::now() < until, "the history does not end");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.get("a").await.unwrap().0.unwrap().value, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_comes_whole() {
    let etcd = Etcd::start();
    let store = etcd.connect(etcd.config("/skep/")).await;
    let writes = (0..1100).map(|index| {
        let store = &store;
        async move {
            store
                .create(&format!("k/{index:05}"), Bytes::from("x"))
                .await
                .unwrap()
        }
    });
    futures::stream::iter(writes)
        .buffer_unordered(64)
        .collect::<Vec<_>>()
        .await;
    for (limit, wanted, more) in [
        (None, 1100, false),
        (Some(1100), 1100, false),
        (Some(1099), 1099, true),
        (Some(0), 0, true),
    ] {
        let listing = store.list("k/", None, None, limit).await.unwrap();
        assert_eq!(
            (listing.entries.len(), listing.more),
            (wanted, more),
            "limit {limit:?}"
        );
        assert!(listing.entries.is_sorted_by(|a, b| a.key < b.key));
    }
}

/// A CA with a server's and a client's certificate, as PEM files in the folder.
fn certificates(folder: &tempfile::TempDir) -> (PathBuf, (PathBuf, PathBuf)) {
    let write = |name: &str, pem: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path
    };
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    for name in ["server", "client"] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap();
        write(&format!("{name}.crt"), certificate.pem());
        write(&format!("{name}.key"), key.serialize_pem());
    }
    let identity = (folder.path().join("client.crt"), folder.path().join("client.key"));
    (write("ca.crt", ca.pem()), identity)
}

#[tokio::test(flavor = "multi_thread")]
async fn client_certificates_open_a_secured_etcd() {
    let etcd = Etcd::start_with("https", |folder| {
        certificates(folder);
        let path = |name: &str| folder.path().join(name).display().to_string();
        vec![
            format!("--cert-file={}", path("server.crt")),
            format!("--key-file={}", path("server.key")),
            format!("--trusted-ca-file={}", path("ca.crt")),
            "--client-cert-auth".to_owned(),
        ]
    });
    let path = |name: &str| etcd.folder.path().join(name);
    let identity = Some((path("client.crt"), path("client.key")));
    let with = |identity| EtcdConfig {
        tls: Some(EtcdTls {
            ca: path("ca.crt"),
            identity,
        }),
        timeout: Duration::from_secs(2),
        ..etcd.config("/skep/")
    };
    let store = etcd.connect(with(identity)).await;
    store.create("a", Bytes::from("x")).await.unwrap();
    assert!(matches!(
        EtcdStore::connect(with(None)).await,
        Err(StoreError::Unavailable { .. })
    ));
    let without = EtcdConfig {
        tls: None,
        ..etcd.config("/skep/")
    };
    assert!(matches!(
        EtcdStore::connect(without).await,
        Err(StoreError::Config { .. })
    ));
}
