//! Sockets, and everything joined.

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

/// Serves until cancelled.
///
/// # Errors
/// When an address cannot be bound, the configuration is wrong, or a socket fails for good.
pub async fn run(
    client: Client,
    config: DnsConfig,
    metrics: DnsMetrics,
    shutdown: CancellationToken,
) -> Result<(), DnsError> {
    let domain = Name::from_ascii(&config.domain).map_err(|source| DnsError::Domain {
        domain: config.domain.clone(),
        source,
    })?;
    let mut zone = ZoneConfig::new(domain);
    zone.ttl_s = config.ttl_s;
    let current = Arc::new(ArcSwapOption::empty());
    let handler = Handler {
        current: Arc::clone(&current),
        forwarder: Forwarder::new(&config)?,
        metrics: metrics.clone(),
    };
    let mut server = Server::new(handler);
    for &address in &config.listen {
        let failed = |protocol| {
            move |source| DnsError::Listen {
                address,
                protocol,
                source,
            }
        };
        server.register_socket(UdpSocket::bind(address).await.map_err(failed("udp"))?);
        let listener = TcpListener::bind(address).await.map_err(failed("tcp"))?;
        server.register_listener(listener, TCP_IDLE, TCP_BUFFERED_ANSWERS);
        tracing::info!(%address, domain = config.domain, "the DNS server listens");
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
