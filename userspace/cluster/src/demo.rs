//! The demo: a Deployment and a Service, and whether they answer.

use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use serde::de::DeserializeOwned;
use skep_api::{ApiError, Object, ObjectKey};
use skep_client::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::ClusterError;

const MANIFEST: &str = include_str!("../manifests/hello.yaml");
const NAMESPACE: &str = "default";
const NAME: &str = "hello";
const HTTP_PORT_NAME: &str = "http";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
const MAX_ANSWER_BYTES: u64 = 4096;

/// Creates the demo's objects.
pub(crate) async fn deploy(client: &Client) -> Result<(), ClusterError> {
    let (deployment, service) = MANIFEST
        .split_once("\n---\n")
        .expect("the manifest has two documents");
    create::<Deployment>(client, deployment).await?;
    create::<Service>(client, service).await
}

fn key() -> ObjectKey {
    ObjectKey {
        namespace: NAMESPACE.to_owned(),
        name: NAME.to_owned(),
    }
}

async fn create<K: Object + DeserializeOwned>(client: &Client, text: &str) -> Result<(), ClusterError> {
    let object: K =
        serde_saphyr::from_str(text).map_err(|error| ClusterError::Manifest(error.to_string()))?;
    match client.create(&object).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_already_exists() => Ok(()),
        Err(error) => Err(api(format!("cannot create the demo's {}", K::KIND))(error)),
    }
}

/// How many of the demo's replicas are available, of how many.
pub(crate) async fn progress(client: &Client) -> Result<(i32, i32), ClusterError> {
    let deployment = client
        .get::<Deployment>(&key())
        .await
        .map_err(api("cannot read the demo's Deployment".to_owned()))?;
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let available = deployment
        .status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or(0);
    Ok((available, wanted))
}

/// The NodePort that the demo's HTTP answers on.
///
/// # Errors
/// When the API server does not answer, or the demo was not deployed.
pub async fn demo_port(client: &Client) -> Result<u16, ClusterError> {
    let service = client
        .get::<Service>(&key())
        .await
        .map_err(api("cannot read the demo's Service".to_owned()))?;
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    let port = ports.and_then(|ports| {
        ports
            .iter()
            .find(|port| port.name.as_deref() == Some(HTTP_PORT_NAME))
    });
    port.and_then(|port| port.node_port)
        .and_then(|port| u16::try_from(port).ok())
        .ok_or_else(|| ClusterError::Machine {
            what: "the demo's Service has no NodePort".to_owned(),
            remedy: "see `kubectl describe service hello`".to_owned(),
        })
}

/// One request to the demo: its line, or why there was none.
pub(crate) async fn ask(address: SocketAddr) -> Result<String, String> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
        let mut answer = String::new();
        stream.take(MAX_ANSWER_BYTES).read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = timeout(REQUEST_TIMEOUT, exchange)
        .await
        .map_err(|_elapsed| format!("no answer from {address}"))?
        .map_err(|error| format!("{address}: {error}"))?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.trim().to_owned()),
        _ => Err(format!("{address} answered: {answer}")),
    }
}

/// Says what was asked of the API server when it refused.
pub(crate) fn api(what: String) -> impl FnOnce(ApiError) -> ClusterError {
    move |source| ClusterError::Api { what, source }
}
