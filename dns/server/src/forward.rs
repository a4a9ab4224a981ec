//! Names outside the cluster: asked of the upstream servers, cached, given up on quickly when nobody answers.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, Record, RecordType};
use hickory_resolver::Resolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError as Refusal, NetError};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::breaker::Breaker;
use crate::{DnsConfig, DnsError, Upstreams};

/// Of one attempt at one server; all attempts together are bounded by the breaker's patience.
const TIMEOUT: Duration = Duration::from_secs(1);
const ATTEMPTS: usize = 2;
const CACHE_ENTRIES: u64 = 10_000;
/// The most queries on their way at a time; further ones are SERVFAIL.
const MAX_CONCURRENT: usize = 1_000;
const DNS_PORT: u16 = 53;

/// Asks upstream servers.
pub(crate) struct Forwarder {
    /// Absent: there is no upstream server.
    resolver: Option<Resolver<TokioRuntimeProvider>>,
    breaker: Mutex<Breaker>,
    slots: Arc<Semaphore>,
}

/// What upstream said.
pub(crate) struct Forwarded {
    pub(crate) code: ResponseCode,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
}

impl Forwarded {
    fn failure() -> Self {
        Self {
            code: ResponseCode::ServFail,
            answers: Vec::new(),
            authorities: Vec::new(),
        }
    }
}

impl Forwarder {
    /// A forwarder as configured.
    pub(crate) fn new(config: &DnsConfig) -> Result<Self, DnsError> {
        let upstreams = upstreams(config)?;
        let resolver = if upstreams.is_empty() {
            None
        } else {
            Some(resolver(&upstreams)?)
        };
        tracing::info!(?upstreams, "names outside the cluster are forwarded");
        let slots = Arc::new(Semaphore::new(MAX_CONCURRENT));
        Ok(Self {
            resolver,
            breaker: Mutex::new(Breaker::default()),
            slots,
        })
    }

    /// Asks for a name's records of a type.
    pub(crate) async fn ask(&self, name: &Name, record_type: RecordType) -> Forwarded {
        let Some(resolver) = &self.resolver else {
            return Forwarded::failure();
        };
        let Ok(_slot) = self.slots.try_acquire() else {
            return Forwarded::failure();
        };
        let Some(patience) = self.breaker.lock().permit(Instant::now()) else {
            return Forwarded::failure();
        };
        let mut name = name.clone();
        name.set_fqdn(true);
        let Ok(result) = timeout(patience, resolver.lookup(name, record_type)).await else {
            self.breaker.lock().failed();
            return Forwarded::failure();
        };
        match result {
            Ok(lookup) => {
                self.breaker.lock().answered();
                Forwarded {
                    code: ResponseCode::NoError,
                    answers: lookup.answers().to_vec(),
                    authorities: lookup.authorities().to_vec(),
                }
            }
            Err(NetError::Dns(refusal)) => {
                self.breaker.lock().answered();
                refused(refusal)
            }
            Err(error) => {
                tracing::debug!(%error, "upstream does not answer");
                self.breaker.lock().failed();
                Forwarded::failure()
            }
        }
    }
}

fn refused(refusal: Refusal) -> Forwarded {
    match refusal {
        Refusal::NoRecordsFound(none) => {
            let soa = none.soa.map(|soa| (*soa).into_record_of_rdata());
            Forwarded {
                code: none.response_code,
                answers: Vec::new(),
                authorities: soa.into_iter().collect(),
            }
        }
        Refusal::ResponseCode(code) => Forwarded {
            code,
            ..Forwarded::failure()
        },
        _ => Forwarded::failure(),
    }
}

fn resolver(upstreams: &[SocketAddr]) -> Result<Resolver<TokioRuntimeProvider>, DnsError> {
    let servers = upstreams.iter().map(|upstream| {
        let connections = [ProtocolConfig::Udp, ProtocolConfig::Tcp].map(|protocol| {
            let mut connection = ConnectionConfig::new(protocol);
            connection.port = upstream.port();
            connection
        });
        NameServerConfig::new(upstream.ip(), false, connections.into())
    });
    let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
    let mut options = ResolverOpts::default();
    options.timeout = TIMEOUT;
    options.attempts = ATTEMPTS;
    options.cache_size = CACHE_ENTRIES;
    options.use_hosts_file = ResolveHosts::Never;
    options.ndots = 0;
    Resolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
        .map_err(DnsError::Forwarder)
}

/// The configured servers, without this server itself: a query must not go round in a loop.
fn upstreams(config: &DnsConfig) -> Result<Vec<SocketAddr>, DnsError> {
    let servers = match &config.upstreams {
        Upstreams::List(servers) => servers.clone(),
        Upstreams::FromResolvConf(path) => {
            let text = fs::read_to_string(path).map_err(|source| DnsError::ResolvConf {
                path: path.clone(),
                source,
            })?;
            name_servers(&text)
        }
    };
    Ok(servers
        .into_iter()
        .filter(|server| !config.listen.contains(server))
        .collect())
}

/// The `nameserver` lines of resolv.conf(5); others, and addresses with a scope, are left out.
fn name_servers(text: &str) -> Vec<SocketAddr> {
    let lines = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = lines.filter_map(|rest| rest.split_whitespace().next()?.parse::<IpAddr>().ok());
    addresses
        .map(|address| SocketAddr::new(address, DNS_PORT))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_and_the_rest_left_out() {
        let text = "# nameserver 9.9.9.9\nsearch a b\nnameserver 10.0.0.1\n nameserver ::1 # c\nnameserver fe80::1%eth0\n";
        let found = name_servers(text);
        assert_eq!(
            found,
            ["10.0.0.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]
        );
    }

    #[test]
    fn this_server_is_not_its_own_upstream() {
        let own = "127.0.0.1:5353".parse().unwrap();
        let mut config = DnsConfig::new(vec![own], "cluster.local");
        config.upstreams = Upstreams::List(vec![own, "127.0.0.2:53".parse().unwrap()]);
        assert_eq!(upstreams(&config).unwrap(), ["127.0.0.2:53".parse().unwrap()]);
    }
}
