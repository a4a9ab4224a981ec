//! One query, one answer.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use hickory_proto::op::{Edns, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Record, RecordType};
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::{MessageResponseBuilder, Queries};
use skep_dns_records::{Answer, Outcome, Snapshot};

use crate::forward::Forwarder;
use crate::limit;
use crate::metrics::DnsMetrics;

/// The zone as it stands; none before the first sync.
pub(crate) type Current = Arc<ArcSwapOption<Snapshot>>;

/// Answers queries.
pub(crate) struct Handler {
    pub(crate) current: Current,
    pub(crate) forwarder: Forwarder,
    pub(crate) metrics: DnsMetrics,
}

/// What goes back.
struct Reply {
    code: ResponseCode,
    authoritative: bool,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
}

impl Reply {
    /// Leaves out what does not fit a datagram. Whether something was left out that was asked for.
    fn fit(&mut self, metadata: &Metadata, queries: &Queries, edns: Option<&Edns>) -> bool {
        let [_] = queries.queries() else { return false };
        let sections = [&self.answers, &self.authorities, &self.additionals];
        let Some(fits) = limit::fitting(metadata, queries.as_bytes(), sections.map(Vec::as_slice), edns)
        else {
            return false;
        };
        let cut = fits[0] < self.answers.len() || fits[1] < self.authorities.len();
        self.answers.truncate(fits[0]);
        self.authorities.truncate(fits[1]);
        self.additionals.truncate(fits[2]);
        cut
    }

    fn code(code: ResponseCode) -> Self {
        Self {
            code,
            authoritative: false,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
        }
    }
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut out: R,
    ) -> ResponseInfo {
        let started = Instant::now();
        let asked = match request.queries.queries() {
            [query] => query.query_type(),
            _ => RecordType::ZERO,
        };
        let mut reply = self.reply(request).await;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.response_code = reply.code;
        metadata.authoritative = reply.authoritative;
        metadata.recursion_available = true;
        let edns = request.edns.as_ref().map(limit::own_edns);
        if request.protocol() == Protocol::Udp {
            metadata.truncation = reply.fit(&metadata, &request.queries, edns.as_ref());
        }
        let builder = MessageResponseBuilder::new(&request.queries, edns.as_ref());
        let response = builder.build(
            metadata,
            &reply.answers,
            &reply.authorities,
            std::iter::empty(),
            &reply.additionals,
        );
        self.metrics
            .answered(request.protocol(), asked, reply.code, started.elapsed());
        match out.send_response(response).await {
            Ok(info) => info,
            Err(error) => {
                tracing::debug!(%error, "an answer could not be sent");
                failed(&request.metadata)
            }
        }
    }
}

impl Handler {
    async fn reply(&self, request: &Request) -> Reply {
        if request.metadata.op_code != OpCode::Query {
            return Reply::code(ResponseCode::NotImp);
        }
        if request.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
            return Reply::code(ResponseCode::BADVERS);
        }
        let [query] = request.queries.queries() else {
            return Reply::code(ResponseCode::FormErr);
        };
        if !matches!(query.query_class(), DNSClass::IN | DNSClass::ANY) {
            return Reply::code(ResponseCode::Refused);
        }
        let (query, record_type) = (query.original(), query.query_type());
        // A snapshot is cheap to clone, and must not be held across the wait for upstream.
        let snapshot = self.current.load_full();
        let Some(snapshot) = snapshot else {
            return Reply::code(ResponseCode::ServFail);
        };
        let answer = snapshot.answer(query.name(), record_type);
        match answer.outcome.clone() {
            Outcome::Found | Outcome::NoData => own(answer, ResponseCode::NoError),
            Outcome::NxDomain => own(answer, ResponseCode::NXDomain),
            Outcome::Refused => Reply::code(ResponseCode::Refused),
            Outcome::NotInZone => {
                self.metrics.forwarded();
                let forwarded = self.forwarder.ask(query.name(), record_type).await;
                Reply {
                    answers: forwarded.answers,
                    authorities: forwarded.authorities,
                    ..Reply::code(forwarded.code)
                }
            }
            Outcome::Chase(target) => {
                self.metrics.forwarded();
                let forwarded = self.forwarder.ask(&target, record_type).await;
                let mut reply = own(answer, ResponseCode::NoError);
                // The alias itself is an answer, also when its target cannot be resolved now.
                reply.answers.extend(forwarded.answers);
                reply
            }
        }
    }
}

fn own(answer: Answer, code: ResponseCode) -> Reply {
    Reply {
        code,
        authoritative: true,
        answers: answer.answers,
        authorities: answer.authorities,
        additionals: answer.additionals,
    }
}

fn failed(request: &Metadata) -> ResponseInfo {
    let mut metadata = Metadata::response_from_request(request);
    metadata.response_code = ResponseCode::ServFail;
    hickory_proto::op::Header {
        metadata,
        counts: hickory_proto::op::HeaderCounts::default(),
    }
    .into()
}
