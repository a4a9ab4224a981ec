//! HTTP probes: one GET on a connection of its own; any status from 200 to 399 passes.
//!
//! Redirections are not followed: an answer that redirects is an answer. Certificates are not verified, as upstream: a
//! probe asks whether the container answers, not who it is.

use std::fmt;
use std::sync::Arc;

use ::http::{Request, header};
use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::check::Verdict;

const USER_AGENT: &str = "kube-probe/1.37";

/// Whom to ask for what.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HttpTarget {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    /// With its query, starting with a slash.
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
}

impl HttpTarget {
    fn authority(&self) -> String {
        // An IPv6 address stands in brackets.
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for HttpTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(formatter, "{scheme}://{}{}", self.authority(), self.path)
    }
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
enum GetError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Request(#[from] ::http::Error),
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    #[error("{0}")]
    Name(#[from] rustls::pki_types::InvalidDnsNameError),
}

/// Asks once. The caller bounds the time.
pub(super) async fn get(target: &HttpTarget) -> Verdict {
    match status(target).await {
        Ok(status) if (200..400).contains(&status) => Verdict::Passed,
        Ok(status) => Verdict::Failed(format!("HTTP probe failed with statuscode: {status}")),
        Err(error) => Verdict::Failed(format!("Get \"{target}\": {error}")),
    }
}

async fn status(target: &HttpTarget) -> Result<u16, GetError> {
    let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
    if !target.tls {
        return exchange(target, stream).await;
    }
    let name = ServerName::try_from(target.host.clone())?;
    let stream = TlsConnector::from(Arc::new(trusting()?))
        .connect(name, stream)
        .await?;
    exchange(target, stream).await
}

async fn exchange(
    target: &HttpTarget,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
) -> Result<u16, GetError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::get(&target.path).header(header::CONNECTION, "close");
    let given = |name: &str| {
        target
            .headers
            .iter()
            .any(|(header, _)| header.eq_ignore_ascii_case(name))
    };
    for (name, value) in [
        ("Host", target.authority()),
        ("User-Agent", USER_AGENT.to_owned()),
        ("Accept", "*/*".to_owned()),
    ] {
        if !given(name) {
            request = request.header(name, value);
        }
    }
    for (name, value) in &target.headers {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let answering = sender.send_request(request);
    // The connection does the work; it outlives the answer's head only by what is dropped here.
    tokio::pin!(connection, answering);
    tokio::select! {
        answer = &mut answering => Ok(answer?.status().as_u16()),
        ended = &mut connection => {
            ended?;
            Ok(answering.await?.status().as_u16())
        }
    }
}

fn trusting() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(config)
}

/// Takes any certificate; only that the peer holds its key is checked.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn answered_with(head: &'static str) -> Verdict {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let headers = vec![("X-A".to_owned(), "1".to_owned())];
        let target = HttpTarget {
            tls: false,
            host: "127.0.0.1".to_owned(),
            port,
            path: "/p?q=1".to_owned(),
            headers,
        };
        let verdict = get(&target).await;
        let request = server.await.unwrap().to_lowercase();
        assert!(
            request.starts_with("get /p?q=1 ")
                && request.contains("x-a: 1")
                && request.contains("kube-probe")
        );
        verdict
    }

    #[tokio::test]
    async fn statuses_from_200_to_399_pass() {
        for (head, passes) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true),
            (
                "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n",
                true,
            ),
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", false),
            (
                "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
                false,
            ),
        ] {
            assert_eq!(answered_with(head).await.passed(), passes, "{head}");
        }
    }

    #[tokio::test]
    async fn nobody_there_fails_and_says_so() {
        let target = HttpTarget {
            tls: false,
            host: "127.0.0.1".to_owned(),
            port: 1,
            path: "/".to_owned(),
            headers: vec![],
        };
        let Verdict::Failed(message) = get(&target).await else {
            panic!("passed")
        };
        assert!(
            message.contains("http://127.0.0.1:1/") && message.contains("refused"),
            "{message}"
        );
    }
}
