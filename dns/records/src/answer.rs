//! What a question gets: an outcome and the records of the three sections.

use hickory_proto::rr::{Name, Record};

/// How a question ended within the zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The name has records of the type: NOERROR, `answers` is not empty.
    Found,
    /// The name exists, but not with this type: NOERROR, the SOA is in `authorities`.
    NoData,
    /// The name does not exist: NXDOMAIN, the SOA is in `authorities`. A CNAME that led here is in `answers`.
    NxDomain,
    /// `answers` ends with a CNAME to a name outside the zone: the asker resolves it elsewhere and appends.
    Chase(Name),
    /// The question is refused (zone transfers).
    Refused,
    /// The name is not of this zone: to be forwarded.
    NotInZone,
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How the question ended.
    pub outcome: Outcome,
    /// Answer section. The first owner name has the letter case of the question (0x20).
    pub answers: Vec<Record>,
    /// Authority section: the SOA of negative answers.
    pub authorities: Vec<Record>,
    /// Additional section: addresses of the SRV and NS targets.
    pub additionals: Vec<Record>,
}

impl Answer {
    pub(crate) fn empty(outcome: Outcome) -> Answer {
        Answer {
            outcome,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
        }
    }

    pub(crate) fn negative(outcome: Outcome, soa: Record) -> Answer {
        Answer {
            authorities: vec![soa],
            ..Answer::empty(outcome)
        }
    }
}
