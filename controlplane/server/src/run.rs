use crate::parts::{self, Parts};
use crate::{ServerConfig, ServerError, StoreConfig, bootstrap};
use prometheus_client::registry::Registry as Metrics;
use skep_apiserver::{ApiServer, ApiServerConfig, KubeletTls, TlsMaterial, TokenConfig};
use skep_pki::{Pki, PkiOptions, names};
use skep_registry::{Registry, RegistryConfig};
use skep_store::{EmbeddedConfig, EmbeddedStore, EtcdConfig, EtcdStore, EtcdTls, Store};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Runs the control plane until `shutdown` is cancelled, then ends its parts in reverse order. The
/// administrator's kubeconfig is `admin.kubeconfig` in the data folder.
///
/// # Errors
/// When a part cannot start, or ends by itself.
pub async fn run(mut config: ServerConfig, shutdown: CancellationToken) -> Result<(), ServerError> {
    // The socket first: a server that cannot have its address leaves everything untouched.
    let listener = ApiServer::bind(config.bind).await?;
    // Port 0 has become a real one.
    config.bind.set_port(
        listener
            .local_addr()
            .map_or(config.bind.port(), |address| address.port()),
    );
    let folder = &config.data_dir;
    skep_pki::create_private_folder(folder).map_err(ServerError::DataDir)?;
    let pki = Pki::open_or_create(folder.join("pki"), PkiOptions::new(&config.cluster_name))?;
    let api_config = api_config(&pki, &config)?;
    write_kubeconfig(&pki, &config)?;

    let stop_registry = CancellationToken::new();
    let stop_api = CancellationToken::new();
    let _ended_however = (stop_registry.clone().drop_guard(), stop_api.clone().drop_guard());
    let registry_config = RegistryConfig {
        node_port_range: config.node_ports.clone(),
        ..RegistryConfig::new(vec![config.service_cidr])
    };
    let store = open_store(&config.store, folder).await?;
    let registry = Registry::open(store, registry_config, stop_registry.clone()).await?;
    let mut metrics = Metrics::default();
    let api = Arc::new(ApiServer::new(
        registry.clone(),
        &api_config,
        &mut metrics,
        stop_api.clone(),
    )?);
    let parts = Parts::new(&api, &config, pki.ca_pem(), &mut metrics);
    api.expose_metrics(Arc::new(metrics));
    let mut serving = tokio::spawn({
        let api = api.clone();
        async move { api.run(listener).await }
    });
    let outcome = tokio::select! {
        outcome = run_parts(&api, parts, &config, &shutdown) => outcome,
        // Only a defect ends it before it is told to.
        ended = &mut serving => return ended.map_err(ServerError::from),
    };
    stop_api.cancel();
    serving.await?;
    stop_registry.cancel();
    // Whoever starts next finds the store free.
    registry.closed().await;
    outcome
}

/// Bootstraps, then runs what speaks to the API, until `shutdown` or the first failure.
async fn run_parts(
    api: &ApiServer,
    parts: Parts,
    config: &ServerConfig,
    shutdown: &CancellationToken,
) -> Result<(), ServerError> {
    let own = parts::own_client(api);
    let Some(bootstrapped) = shutdown.run_until_cancelled(bootstrap::run(&own, config)).await else {
        return Ok(());
    };
    bootstrapped?;
    api.mark_ready();
    tracing::info!(cluster = config.cluster_name, "the control plane is ready");
    parts.run(shutdown).await
}

async fn open_store(config: &StoreConfig, folder: &Path) -> Result<Arc<dyn Store>, ServerError> {
    Ok(match config {
        StoreConfig::Embedded => {
            Arc::new(EmbeddedStore::open(EmbeddedConfig::new(folder.join("store.redb"))).await?)
        }
        StoreConfig::Etcd {
            endpoints,
            prefix,
            ca,
            client,
        } => {
            let tls = ca.clone().map(|ca| EtcdTls {
                ca,
                identity: client.clone(),
            });
            let config = EtcdConfig {
                prefix: prefix.clone(),
                tls,
                ..EtcdConfig::new(endpoints.clone())
            };
            Arc::new(EtcdStore::connect(config).await?)
        }
    })
}

/// The server's certificates: one for everybody who comes, one to go to kubelets with.
fn api_config(pki: &Pki, config: &ServerConfig) -> Result<ApiServerConfig, ServerError> {
    let serving = pki.issue_serving(names::API_SERVER, &serving_names(config))?;
    let kubelet = pki.issue_client(names::KUBELET_CLIENT, &[])?;
    let ca = pki.ca_pem().to_owned();
    Ok(ApiServerConfig {
        advertise: SocketAddr::new(config.advertise, config.bind.port()).to_string(),
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
            key: pki.token_key()?,
            issuer: format!("https://kubernetes.default.svc.{}", config.cluster_domain),
        },
    })
}

/// Every name and address under which the server is spoken to.
fn serving_names(config: &ServerConfig) -> Vec<String> {
    let addresses = [config.advertise, config.kubernetes_service(), config.bind.ip()];
    let mut names: Vec<String> = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "localhost",
    ]
    .into_iter()
    .map(str::to_owned)
    .collect();
    names.push(format!("kubernetes.default.svc.{}", config.cluster_domain));
    names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
    names.extend(
        addresses
            .iter()
            .filter(|address| !address.is_unspecified())
            .map(ToString::to_string),
    );
    names.extend(config.serving_names.iter().cloned());
    names.sort_unstable();
    names.dedup();
    names
}

fn write_kubeconfig(pki: &Pki, config: &ServerConfig) -> Result<(), ServerError> {
    let admin = pki.issue_client(names::ADMIN, &[names::MASTERS])?;
    let url = format!(
        "https://{}",
        SocketAddr::new(config.advertise, config.bind.port())
    );
    let path = config.data_dir.join("admin.kubeconfig");
    skep_pki::write_private(&path, pki.kubeconfig(&url, &admin).as_bytes())?;
    tracing::info!(kubeconfig = %path.display(), authority = %pki.ca_path().display(), "certificates are ready");
    Ok(())
}
