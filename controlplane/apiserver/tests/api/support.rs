//! A server on loopback over an in-memory store, and the kubectl binaries of this machine.

pub(crate) mod kubectl;
pub(crate) mod raw;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use prometheus_client::registry::Registry as Metrics;
use skep_apiserver::{ApiServer, ApiServerConfig, KubeletTls, TlsMaterial, TokenConfig, User};
use skep_client::Client;
use skep_pki::{Identity, Pki, PkiOptions, names};
use skep_registry::{Registry, RegistryConfig};
use skep_store::EmbeddedStore;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

pub(crate) struct Cluster {
    pub(crate) dir: TempDir,
    pub(crate) pki: Pki,
    pub(crate) api: Arc<ApiServer>,
    pub(crate) address: SocketAddr,
    pub(crate) admin: Client,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let pki = Pki::open_or_create(dir.path().join("pki"), PkiOptions::new("test")).expect("PKI");
        let serving = pki
            .issue_serving(names::API_SERVER, &["127.0.0.1".to_owned()])
            .expect("serving");
        let kubelet = pki
            .issue_client(names::KUBELET_CLIENT, &[])
            .expect("kubelet client");
        let listener = ApiServer::bind(([127, 0, 0, 1], 0).into()).await.expect("bind");
        let address = listener.local_addr().expect("address");
        let ca = pki.ca_pem().to_owned();
        let config = ApiServerConfig {
            advertise: address.to_string(),
            tls: TlsMaterial {
                certificate: serving.certificate_pem,
                key: serving.key_pem,
                client_ca: ca.clone(),
            },
            kubelet: KubeletTls {
                certificate: kubelet.certificate_pem,
                key: kubelet.key_pem,
                ca,
            },
            tokens: TokenConfig {
                key: pki.token_key().expect("token key"),
                issuer: ISSUER.to_owned(),
            },
        };
        let shutdown = CancellationToken::new();
        let store = Arc::new(EmbeddedStore::in_memory().await.expect("store"));
        let registry_config = RegistryConfig::new(vec!["10.64.0.0/16".parse().expect("range")]);
        let registry = Registry::open(store, registry_config, shutdown.clone())
            .await
            .expect("registry");
        let mut metrics = Metrics::default();
        let api = ApiServer::new(registry, &config, &mut metrics, shutdown.clone()).expect("API server");
        let api = Arc::new(api);
        api.expose_metrics(Arc::new(metrics));
        let serving = tokio::spawn({
            let api = api.clone();
            async move { api.run(listener).await }
        });
        api.ready().await;
        let admin = api.in_process_client(User::new("test", [names::MASTERS]));
        let cluster = Self {
            dir,
            pki,
            api,
            address,
            admin,
            shutdown,
            serving,
        };
        for name in ["default", "kube-system"] {
            cluster.namespace(name).await;
        }
        cluster.api.mark_ready();
        cluster
    }

    pub(crate) async fn namespace(&self, name: &str) {
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        };
        let namespace = Namespace {
            metadata,
            ..Namespace::default()
        };
        self.admin.create(&namespace).await.expect("namespace");
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(crate) fn admin_identity(&self) -> Identity {
        self.identity(names::ADMIN, &[names::MASTERS])
    }

    pub(crate) fn identity(&self, name: &str, groups: &[&str]) -> Identity {
        self.pki.issue_client(name, groups).expect("client certificate")
    }

    pub(crate) fn kubeconfig(&self, identity: &Identity) -> PathBuf {
        let path = self
            .dir
            .path()
            .join(format!("{}.kubeconfig", identity.common_name.replace(':', "-")));
        skep_pki::write_private(&path, self.pki.kubeconfig(&self.url(), identity).as_bytes())
            .expect("kubeconfig");
        path
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.serving.await.expect("the server ends in order");
    }
}
