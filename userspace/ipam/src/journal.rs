//! The form of a journal: lines, each a change with a checksum.
//!
//! `<16 hex digits of FNV-1a over the JSON> <JSON>\n`. Only ever appended to; a crash can tear the last line, which
//! then counts as not written. A damaged line before others is damage of the medium and is reported.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::{Owner, Pool};

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Change {
    /// The owner has the address from now on.
    Assign {
        /// Who.
        #[serde(flatten)]
        owner: Owner,
        /// Which.
        address: IpAddr,
    },
    /// The owner has no address any more.
    Release {
        /// Who.
        #[serde(flatten)]
        owner: Owner,
    },
}

impl Change {
    /// Makes the change.
    pub fn apply(self, pool: &mut Pool) {
        match self {
            Self::Assign { owner, address } => pool.claim(owner, address),
            Self::Release { owner } => {
                pool.release(&owner);
            }
        }
    }
}

/// What a journal's bytes say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The changes, oldest first.
    pub changes: Vec<Change>,
    /// Length of the whole lines; what follows was torn and must be cut off before anything is appended.
    pub whole_bytes: usize,
}

/// A line in the middle is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the address journal is damaged")]
pub struct Damaged {
    /// Its number, from 1.
    pub line: usize,
}

/// The line for a change.
pub fn encode(change: &Change) -> Vec<u8> {
    let json = serde_json::to_string(change).expect("a change has only strings and addresses");
    format!("{:016x} {json}\n", fnv1a(json.as_bytes())).into_bytes()
}

/// Reads a journal.
///
/// # Errors
/// [`Damaged`] when a line is damaged that is not the last.
pub fn decode(bytes: &[u8]) -> Result<Decoded, Damaged> {
    let mut decoded = Decoded {
        changes: Vec::new(),
        whole_bytes: 0,
    };
    let mut lines = bytes
        .split_inclusive(|byte| *byte == b'\n')
        .enumerate()
        .peekable();
    while let Some((index, line)) = lines.next() {
        match parse(line) {
            Some(change) => {
                decoded.changes.push(change);
                decoded.whole_bytes += line.len();
            }
            None if lines.peek().is_none() => break,
            None => return Err(Damaged { line: index + 1 }),
        }
    }
    Ok(decoded)
}

fn parse(line: &[u8]) -> Option<Change> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (checksum, json) = line.split_once(' ')?;
    let checksum = (checksum.len() == 16)
        .then(|| u64::from_str_radix(checksum, 16).ok())
        .flatten()?;
    if checksum != fnv1a(json.as_bytes()) {
        return None;
    }
    serde_json::from_str(json).ok()
}

/// FNV-1a, 64 bits: finds torn and zeroed bytes; not meant against intent.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn change() -> impl Strategy<Value = Change> {
        let owner = ("[a-f0-9]{1,8}|.{1,4}", "eth[01]")
            .prop_map(|(container, interface)| Owner { container, interface });
        (owner, any::<Option<IpAddr>>()).prop_map(|(owner, address)| match address {
            Some(address) => Change::Assign { owner, address },
            None => Change::Release { owner },
        })
    }

    proptest! {
        #[test]
        fn what_was_appended_reads_back(changes in proptest::collection::vec(change(), 0..20)) {
            let bytes = changes.iter().flat_map(encode).collect::<Vec<_>>();
            let decoded = decode(&bytes).unwrap();
            prop_assert_eq!(decoded, Decoded { changes, whole_bytes: bytes.len() });
        }

        #[test]
        fn a_torn_tail_costs_only_the_torn_line(
            changes in proptest::collection::vec(change(), 1..20), cut: prop::sample::Index, zeros: bool,
        ) {
            let lines: Vec<_> = changes.iter().map(encode).collect();
            let mut bytes = lines.concat();
            let cut = cut.index(bytes.len());
            if zeros {
                // A file that was made longer before its bytes arrived.
                bytes[cut..].fill(0);
            } else {
                bytes.truncate(cut);
            }
            let decoded = decode(&bytes).unwrap();
            let mut end = 0;
            let whole = lines.iter().take_while(|line| { end += line.len(); end <= cut }).count();
            prop_assert_eq!(&decoded.changes[..], &changes[..whole]);
            prop_assert_eq!(decoded.whole_bytes, lines[..whole].concat().len());
        }

        #[test]
        fn any_bytes_decode_or_are_damaged(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(decoded) = decode(&bytes) {
                prop_assert!(decoded.whole_bytes <= bytes.len());
            }
        }

        #[test]
        fn a_flipped_bit_is_never_taken_for_a_change(
            changes in proptest::collection::vec(change(), 1..6), at: prop::sample::Index, bit in 0..8,
        ) {
            let mut bytes = changes.iter().flat_map(encode).collect::<Vec<_>>();
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            if let Ok(decoded) = decode(&bytes) {
                // Only damage that reaches to the end can look like a torn line: in the last line, or in the break before it.
                let whole = decoded.changes.len();
                prop_assert!(whole + 2 >= changes.len());
                prop_assert_eq!(&decoded.changes[..], &changes[..whole]);
            }
        }
    }

    #[test]
    fn damage_in_the_middle_is_reported() {
        let line = encode(&Change::Release {
            owner: Owner {
                container: "a".into(),
                interface: "b".into(),
            },
        });
        let mut bytes = line.repeat(3);
        bytes[line.len() + 20] ^= 1;
        assert_eq!(decode(&bytes), Err(Damaged { line: 2 }));
    }
}
