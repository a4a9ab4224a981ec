//! The bytes of a row of the log.
//!
//! `kind (1) · create revision (8, LE) · previous mod revision (8, LE; 0 = none) · key length (4, LE) · key · value`

use crate::StoreError;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const HEADER_BYTES: usize = 21;

/// One change as it lies in the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// A deletion has no value.
    pub(super) deleted: bool,
    pub(super) create_revision: u64,
    /// Revision of the version that this change ended; 0 when there was none.
    pub(super) previous: u64,
    pub(super) key: &'a str,
    pub(super) value: &'a [u8],
}

impl<'a> Record<'a> {
    pub(super) fn encode(&self) -> Vec<u8> {
        let key_length = u32::try_from(self.key.len()).expect("keys are checked to be far below 4 GiB");
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.key.len() + self.value.len());
        bytes.push(if self.deleted { DELETE } else { PUT });
        bytes.extend_from_slice(&self.create_revision.to_le_bytes());
        bytes.extend_from_slice(&self.previous.to_le_bytes());
        bytes.extend_from_slice(&key_length.to_le_bytes());
        bytes.extend_from_slice(self.key.as_bytes());
        bytes.extend_from_slice(self.value);
        bytes
    }

    pub(super) fn decode(revision: u64, bytes: &'a [u8]) -> Result<Self, StoreError> {
        Self::parse(bytes).ok_or_else(|| StoreError::Corrupt {
            what: format!("the log's row of revision {revision}"),
        })
    }

    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        let (create_revision, rest) = rest.split_first_chunk()?;
        let (previous, rest) = rest.split_first_chunk()?;
        let (key_length, rest) = rest.split_first_chunk()?;
        let key_length = usize::try_from(u32::from_le_bytes(*key_length)).ok()?;
        let (key, value) = rest.split_at_checked(key_length)?;
        let deleted = match *kind {
            PUT => false,
            DELETE if value.is_empty() => true,
            _ => return None,
        };
        Some(Self {
            deleted,
            create_revision: u64::from_le_bytes(*create_revision),
            previous: u64::from_le_bytes(*previous),
            key: std::str::from_utf8(key).ok()?,
            value,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Record;

    proptest! {
        #[test]
        fn a_record_reads_back_as_written(
            deleted: bool, create_revision: u64, previous: u64, key in ".{1,40}",
            value in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let value = if deleted { Vec::new() } else { value };
            let record = Record { deleted, create_revision, previous, key: &key, value: &value };
            let bytes = record.encode();
            prop_assert_eq!(Record::decode(1, &bytes).unwrap(), record);
        }

        #[test]
        fn damaged_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            drop(Record::decode(1, &bytes));
        }
    }
}
