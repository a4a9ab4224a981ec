//! Pure: how much of an answer one UDP datagram takes.
//!
//! hickory-server cuts an answer where the limit falls and marks it as truncated, whatever was left out. Glue that is
//! left out is no truncation (RFC 2181 section 9): the asker would come again over TCP for nothing.

use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, EmitAndCount, Metadata, emit_message_parts};
use hickory_proto::rr::Record;
use hickory_proto::serialize::binary::BinEncoder;

/// The most bytes of an answer over UDP, whatever the asker could take (DNS flag day 2020).
const MAX_UDP_BYTES: u16 = 1232;
const MIN_UDP_BYTES: u16 = 512;
/// An OPT record without options.
const OPT_BYTES: u16 = 11;

/// The OPT record of an answer to `asked`; its size is also the answer's limit.
pub(crate) fn own_edns(asked: &Edns) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(asked.max_payload().clamp(MIN_UDP_BYTES, MAX_UDP_BYTES));
    edns.set_version(0);
    edns
}

/// One question as it came. hickory-server repeats its bytes without compressing names against it, so an estimate that
/// did would be short.
struct Question<'a>(&'a [u8]);

impl EmitAndCount for Question<'_> {
    fn emit(&mut self, encoder: &mut BinEncoder<'_>) -> Result<usize, ProtoError> {
        encoder.emit_vec(self.0)?;
        Ok(1)
    }
}

/// How many leading records of each section fit beside the question and the OPT record. None when not even the
/// question does, which no question of legal length causes.
pub(crate) fn fitting(
    metadata: &Metadata,
    question: &[u8],
    [answers, authorities, additionals]: [&[Record]; 3],
    edns: Option<&Edns>,
) -> Option<[usize; 3]> {
    let limit = edns.map_or(MIN_UDP_BYTES, |edns| edns.max_payload() - OPT_BYTES);
    let mut bytes = Vec::with_capacity(usize::from(limit));
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(limit);
    let header = emit_message_parts(
        metadata,
        &mut Question(question),
        &mut answers.iter(),
        &mut authorities.iter(),
        &mut additionals.iter(),
        None,
        None,
        &mut encoder,
    );
    let counts = header.ok()?.counts;
    Some([counts.answers, counts.authorities, counts.additionals].map(usize::from))
}
