//! Sockets, and everything joined.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use hickory_proto::rr::Name;
use hickory_server::Server;
use skep_client::Client;
use skep_dns_records::{Zone, ZoneConfig};
use skep_runtime::InformerSet;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

pub use crate::metrics::DnsMetrics;

use crate::forward::Forwarder;
use crate::handler::Handler;
use crate::{DnsConfig, DnsError, feed};

/// A TCP connection on which nothing is asked for so long is closed.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Answers of one TCP connection that wait to be sent.
const TCP_BUFFERED_ANSWERS: usize = 32;

/// Ports that are tried when the system chooses one that only one of the two protocols can have.
const PORT_ATTEMPTS: usize = 16;

/// A server whose addresses are bound; nothing is answered yet.
pub struct DnsServer {
    config: DnsConfig,
    domain: Name,
    sockets: Vec<(UdpSocket, TcpListener)>,
}

impl DnsServer {
    /// Binds every address of the configuration, UDP and TCP each. Port 0 is one that the system chooses, the same for
    /// both.
    ///
    /// # Errors
    /// When an address cannot be bound or the domain is no domain name.
    pub async fn bind(config: DnsConfig) -> Result<Self, DnsError> {
        let domain = Name::from_ascii(&config.domain).map_err(|source| DnsError::Domain {
            domain: config.domain.clone(),
            source,
        })?;
        let mut sockets = Vec::with_capacity(config.listen.len());
        for &address in &config.listen {
            sockets.push(bind(address).await?);
        }
        Ok(Self {
            config,
            domain,
            sockets,
        })
    }

    /// The addresses that are bound, in the configuration's order.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn addresses(&self) -> std::io::Result<Vec<SocketAddr>> {
        self.sockets.iter().map(|(udp, _)| udp.local_addr()).collect()
    }

    /// Serves until cancelled.
    ///
    /// # Errors
    /// When the upstream servers cannot be read, or a socket fails for good.
    pub async fn run(
        self,
        client: Client,
        metrics: DnsMetrics,
        shutdown: CancellationToken,
    ) -> Result<(), DnsError> {
        let mut zone = ZoneConfig::new(self.domain);
        zone.ttl_s = self.config.ttl_s;
        let current = Arc::new(ArcSwapOption::empty());
        let handler = Handler {
            current: Arc::clone(&current),
            forwarder: Forwarder::new(&self.config)?,
            metrics: metrics.clone(),
        };
        let mut server = Server::new(handler);
        for (udp, tcp) in self.sockets {
            server.register_socket(udp);
            server.register_listener(tcp, TCP_IDLE, TCP_BUFFERED_ANSWERS);
        }
        let informers = InformerSet::new(client);
        let feeding = feed::run(&informers, Zone::new(zone), current, metrics, shutdown.clone());
        let serving = async {
            let result = tokio::select! {
                () = shutdown.cancelled() => server.shutdown_gracefully().await,
                result = server.block_until_done() => result,
            };
            // A socket that failed takes the other parts with it.
            shutdown.cancel();
            result.map_err(DnsError::Socket)
        };
        let ((), (), served) = tokio::join!(feeding, informers.run(shutdown.clone()), serving);
        served
    }
}

/// Binds one address for both protocols.
async fn bind(address: SocketAddr) -> Result<(UdpSocket, TcpListener), DnsError> {
    let failed = |protocol, source| DnsError::Listen {
        address,
        protocol,
        source,
    };
    for _ in 0..PORT_ATTEMPTS {
        let tcp = TcpListener::bind(address)
            .await
            .map_err(|source| failed("tcp", source))?;
        let bound = tcp.local_addr().map_err(|source| failed("tcp", source))?;
        match UdpSocket::bind(bound).await {
            Ok(udp) => {
                tracing::info!(address = %bound, "the DNS server listens");
                return Ok((udp, tcp));
            }
            Err(source) if address.port() == 0 && source.kind() == ErrorKind::AddrInUse => {}
            Err(source) => return Err(failed("udp", source)),
        }
    }
    Err(failed("udp", ErrorKind::AddrInUse.into()))
}
