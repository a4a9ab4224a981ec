//! What programs count of each service port, as metrics: read from the maps when somebody asks.
//!
//! The number of series is bounded: of more service ports than [`MAX_PORTS`] those that are there longest are told,
//! and how many are not.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use skep_abi::{ServiceName, ServiceSerial, ServiceStats};
use skep_bpf_maps::{MapError, ServiceMaps};

/// Service ports told at most: with eight series each, as many as a scrape carries without ado.
const MAX_PORTS: usize = 1_000;

/// A name, what it counts, its one label beside those of the service port, and the count.
type Series = (
    &'static str,
    &'static str,
    (&'static str, &'static str),
    fn(&ServiceStats) -> u64,
);

/// Those of one name together, as the format wants them.
const SERIES: [Series; 8] = [
    (CONNECTIONS, CONNECTIONS_HELP, ("path", "socket"), |stats| {
        stats.socket_connections
    }),
    (CONNECTIONS, CONNECTIONS_HELP, ("path", "packet"), |stats| {
        stats.flows
    }),
    (REFUSALS, REFUSALS_HELP, ("path", "socket"), |stats| {
        stats.socket_refusals
    }),
    (REFUSALS, REFUSALS_HELP, ("path", "packet"), |stats| {
        stats.flow_refusals
    }),
    (PACKETS, PACKETS_HELP, ("direction", "in"), |stats| {
        stats.packets_in
    }),
    (PACKETS, PACKETS_HELP, ("direction", "out"), |stats| {
        stats.packets_out
    }),
    (BYTES, BYTES_HELP, ("direction", "in"), |stats| stats.bytes_in),
    (BYTES, BYTES_HELP, ("direction", "out"), |stats| stats.bytes_out),
];
const CONNECTIONS: &str = "skep_service_connections";
const CONNECTIONS_HELP: &str =
    "New connections to a service port, by sockets of this node and by packets that came to it";
const REFUSALS: &str = "skep_service_refusals";
const REFUSALS_HELP: &str = "Connections refused because the service port had no backend";
const PACKETS: &str = "skep_service_packets";
const PACKETS_HELP: &str = "Packets translated for a service port; connections by sockets have none";
const BYTES: &str = "skep_service_bytes";
const BYTES_HELP: &str = "Bytes of those packets, from the IP header on";

/// Registers the metrics of service ports. They are read from `maps` at every scrape.
pub fn register_service_metrics(registry: &mut Registry, maps: Arc<dyn ServiceMaps>) {
    registry.register_collector(Box::new(ServiceCollector(maps)));
}

struct ServiceCollector(Arc<dyn ServiceMaps>);

impl fmt::Debug for ServiceCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceCollector")
    }
}

/// What is told of: namespace, Service, port, protocol.
type Labels = [(&'static str, String); 4];

impl ServiceCollector {
    /// The counts, by labels, of as many service ports as are told; and how many are not.
    fn read(&self) -> Result<(BTreeMap<Labels, ServiceStats>, usize), MapError> {
        let names: BTreeMap<ServiceSerial, ServiceName> =
            self.0.service_names().entries()?.into_iter().collect();
        let counts: BTreeMap<ServiceSerial, ServiceStats> =
            self.0.service_counts().entries()?.into_iter().collect();
        let services = self.0.services().entries()?.into_iter();
        let live: HashSet<ServiceSerial> = services.map(|(_, value)| value.serial).collect();
        let mut told: BTreeMap<Labels, ServiceStats> = BTreeMap::new();
        let mut left_out = 0;
        for (serial, stats) in counts {
            let Some(name) = names.get(&serial).filter(|_| live.contains(&serial)) else {
                continue;
            };
            let labels = labels(name);
            if told.len() >= MAX_PORTS && !told.contains_key(&labels) {
                left_out += 1;
            } else {
                *told.entry(labels).or_default() += stats;
            }
        }
        Ok((told, left_out))
    }
}

fn labels(name: &ServiceName) -> Labels {
    [
        ("namespace", name.namespace.to_string()),
        ("service", name.name.to_string()),
        ("port", name.port.to_string()),
        ("protocol", name.protocol.to_string()),
    ]
}

impl Collector for ServiceCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (told, left_out) = match self.read() {
            Ok(read) => read,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "what is counted of services could not be read");
                return Ok(());
            }
        };
        for series in SERIES.chunk_by(|a, b| a.0 == b.0) {
            let Some((name, help, ..)) = series.first() else {
                continue;
            };
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, stats) in &told {
                for (_, _, own, count) in series {
                    let metric = ConstCounter::new(count(stats));
                    metric.encode(family.encode_family(&(labels.as_slice(), [*own]))?)?;
                }
            }
        }
        let left_out = ConstGauge::new(i64::try_from(left_out).unwrap_or(i64::MAX));
        let help = "Service ports without metrics of their own: there are too many";
        let family = encoder.encode_descriptor(
            "skep_service_ports_without_metrics",
            help,
            None,
            MetricType::Gauge,
        )?;
        left_out.encode(family)
    }
}
