//! The same contract over a real etcd, started here on loopback. Needs Debian's package etcd-server.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use skep_api::k8s_openapi::api::core::v1::Service;
use skep_registry::{ListOptions, WatchOptions};
use skep_store::{EtcdConfig, EtcdStore, Store};

use crate::contract::{Step, check};
use crate::harness::{Harness, config, config_map, take_shown};
use crate::services::{allocate_at_once, crowded};

/// A running etcd; ended and removed when dropped.
struct Etcd {
    process: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Etcd {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = || {
            format!(
                "http://{}",
                TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
            )
        };
        let (client, peer) = (url(), url());
        let process = Command::new("etcd")
            .arg(format!("--data-dir={}", folder.path().join("data").display()))
            .args([
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
            ])
            .args([
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
            ])
            .arg(format!("--initial-cluster=default={peer}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start etcd (Debian: etcd-server): {error}"));
        Self {
            process,
            url: client,
            _folder: folder,
        }
    }

    async fn connect(&self, prefix: &str) -> Arc<dyn Store> {
        let config = EtcdConfig {
            prefix: prefix.to_owned(),
            history: None,
            ..EtcdConfig::new(vec![self.url.clone()])
        };
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            match EtcdStore::connect(config.clone()).await {
                Ok(store) => return Arc::new(store),
                Err(error) if Instant::now() > until => panic!("etcd does not come up: {error:?}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_and_its_watch_give_every_later_list() {
    let etcd = Etcd::start();
    for (case, selector) in ["", "on=yes"].into_iter().enumerate() {
        let harness = Harness::over(etcd.connect(&format!("/case{case}")).await, config()).await;
        // Every name goes through creation, both labels, deletion and creation again.
        let steps: Vec<Step> = (0..40)
            .map(|step| match step % 7 {
                3 => Step::Delete { name: step % 5 },
                _ => Step::Put {
                    name: step % 5,
                    on: step % 3 != 0,
                },
            })
            .collect();
        check(&harness, &steps, 9, selector).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_over_one_etcd_see_each_other_at_once() {
    let etcd = Etcd::start();
    let one = Harness::over(etcd.connect("/shared").await, config()).await;
    let two = Harness::over(etcd.connect("/shared").await, config()).await;
    let mut watch = two.watch(WatchOptions::default()).await.unwrap();
    one.create("default", config_map("a", "1")).await.unwrap();
    assert_eq!(two.list(ListOptions::default()).await.unwrap().items.len(), 1);
    two.update("default", "a", config_map("a", "2")).await.unwrap();
    assert_eq!(take_shown(&mut watch, 2).await, ["+a=1", "~a=2"]);
    let service = |name: &str| json!({"metadata": {"name": name}, "spec": {"clusterIP": "10.64.0.7", "ports": [{"port": 80}]}});
    one.create_as::<Service>("default", service("a")).await.unwrap();
    two.create_as::<Service>("default", service("b"))
        .await
        .unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_over_one_etcd_never_give_the_same_address() {
    let etcd = Etcd::start();
    let store = etcd.connect("/shared").await;
    let servers = [
        Harness::over(Arc::clone(&store), crowded()).await,
        Harness::over(etcd.connect("/shared").await, crowded()).await,
    ];
    allocate_at_once(&servers, &store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_of_others_in_the_same_etcd_do_not_hold_up_reads() {
    let etcd = Etcd::start();
    let harness = Harness::over(etcd.connect("/mine").await, config()).await;
    let other = etcd.connect("/other").await;
    for write in 0..20 {
        other.create(&format!("/k{write}"), "v".into()).await.unwrap();
        let begun = Instant::now();
        harness.list(ListOptions::default()).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
}
