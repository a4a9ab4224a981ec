//! HTTPS connections to kubelets, one per request: requests are few and long.

use super::target::Target;
use super::{KubeletTls, Nodes};
use crate::ServeError;
use crate::http::{Body, reply};
use crate::tls;
use hyper::body::Incoming;
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use skep_api::ApiError;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// To the answer's head; its body may take as long as it likes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Opens connections to kubelets.
pub(super) struct Kubelets {
    connector: TlsConnector,
}

impl Kubelets {
    pub(super) fn new(material: &KubeletTls) -> Result<Self, ServeError> {
        let key =
            PrivateKeyDer::from_pem_slice(material.key.as_bytes()).map_err(|error| ServeError::Tls {
                what: "the key for kubelets",
                source: error.into(),
            })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| ServeError::Tls {
                what: "the protocol versions",
                source: error.into(),
            })?
            .with_root_certificates(tls::roots(&material.ca)?)
            .with_client_auth_cert(tls::certificates(&material.certificate)?, key)
            .map_err(|error| ServeError::Tls {
                what: "the certificate for kubelets",
                source: error.into(),
            })?;
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
        })
    }
}

impl Nodes {
    /// Sends a request without a body; `request`'s URI is a path.
    pub(super) async fn send(
        &self,
        target: &Target,
        mut request: Request<()>,
    ) -> Result<http::Response<Incoming>, ApiError> {
        let unreachable = |what: &str| {
            ApiError::service_unavailable(format!(
                "the kubelet of node {} at {}:{} {what}",
                target.node, target.address, target.port
            ))
        };
        let failed = |error: io::Error| unreachable(&format!("cannot be reached: {error}"));
        let connect = async {
            let stream = TcpStream::connect((target.address, target.port)).await?;
            stream.set_nodelay(true)?;
            self.kubelets
                .connector
                .connect(ServerName::from(target.address), stream)
                .await
        };
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connect)
            .await
            .map_err(|_elapsed| unreachable("does not answer"))?
            .map_err(failed)?;
        let (mut sender, connection) = http1::handshake::<_, Body>(TokioIo::new(stream))
            .await
            .map_err(|error| failed(io::Error::other(error)))?;
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            if let Some(Err(error)) = shutdown.run_until_cancelled(connection.with_upgrades()).await {
                tracing::debug!(%error, "connection to a kubelet ended");
            }
        });
        let host = http::HeaderValue::from_str(&format!("{}:{}", target.address, target.port));
        request
            .headers_mut()
            .insert(http::header::HOST, host.map_err(ApiError::internal)?);
        tokio::time::timeout(
            ANSWER_TIMEOUT,
            sender.send_request(request.map(|()| reply::body(""))),
        )
        .await
        .map_err(|_elapsed| unreachable("does not answer"))?
        .map_err(|error| failed(io::Error::other(error)))
    }
}
