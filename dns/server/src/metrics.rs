//! Metrics under the names that CoreDNS dashboards expect.

use std::sync::atomic::AtomicI64;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use hickory_server::net::xfer::Protocol;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// From 20 µs (a name of the cluster) to seconds (an upstream that does not answer).
const BUCKETS: [f64; 12] = [
    0.000_02, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 5.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Question {
    proto: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Response {
    rcode: &'static str,
}

/// The server's metrics; register them once per process.
#[derive(Clone, Debug)]
pub struct DnsMetrics {
    requests: Family<Question, Counter>,
    responses: Family<Response, Counter>,
    duration: Histogram,
    forwards: Counter,
    services: Gauge<i64, AtomicI64>,
}

impl DnsMetrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            responses: Family::default(),
            duration: Histogram::new(BUCKETS),
            forwards: Counter::default(),
            services: Gauge::default(),
        };
        registry.register(
            "coredns_dns_requests",
            "Queries received",
            metrics.requests.clone(),
        );
        registry.register(
            "coredns_dns_responses",
            "Answers given, by response code",
            metrics.responses.clone(),
        );
        registry.register(
            "coredns_dns_request_duration_seconds",
            "Time from a query to its answer",
            metrics.duration.clone(),
        );
        registry.register(
            "coredns_forward_requests",
            "Queries asked upstream",
            metrics.forwards.clone(),
        );
        registry.register(
            "skep_dns_services",
            "Services that have records",
            metrics.services.clone(),
        );
        metrics
    }

    pub(crate) fn answered(&self, protocol: Protocol, asked: RecordType, code: ResponseCode, took: Duration) {
        self.requests
            .get_or_create(&Question {
                proto: name_of(protocol),
                r#type: type_label(asked),
            })
            .inc();
        self.responses
            .get_or_create(&Response {
                rcode: code_label(code),
            })
            .inc();
        self.duration.observe(took.as_secs_f64());
    }

    pub(crate) fn forwarded(&self) {
        self.forwards.inc();
    }

    pub(crate) fn set_services(&self, count: usize) {
        self.services.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

fn name_of(protocol: Protocol) -> &'static str {
    if protocol == Protocol::Udp { "udp" } else { "tcp" }
}

/// Types as CoreDNS labels them: the common ones by name, so that an asker cannot make labels without end.
fn type_label(record_type: RecordType) -> &'static str {
    match record_type {
        RecordType::A => "A",
        RecordType::AAAA => "AAAA",
        RecordType::CNAME => "CNAME",
        RecordType::MX => "MX",
        RecordType::NS => "NS",
        RecordType::PTR => "PTR",
        RecordType::SOA => "SOA",
        RecordType::SRV => "SRV",
        RecordType::TXT => "TXT",
        _ => "other",
    }
}

fn code_label(code: ResponseCode) -> &'static str {
    match code {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::Refused => "REFUSED",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::NotImp => "NOTIMP",
        _ => "other",
    }
}
