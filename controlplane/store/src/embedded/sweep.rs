//! Removes what the floor has made useless, a bounded piece at a time.
//!
//! A change at or before the floor ended the version before it: that version's row and the note of its end go. A
//! deletion's own row goes too. What was current at the floor stays.

use redb::ReadableTable;

use super::record::Record;
use super::tables::{Position, Tables, reading, writing};
use crate::StoreError;

/// Rows of the log that one commit looks at.
const SWEEP_ROWS: u64 = 2000;

/// One piece of work; moves `position.swept` towards the floor.
pub(super) fn sweep(tables: &mut Tables<'_>, position: &mut Position) -> Result<(), StoreError> {
    let upto = position.floor.min(position.swept.saturating_add(SWEEP_ROWS));
    let mut ended = Vec::new();
    for row in tables.log.range(position.swept + 1..=upto).map_err(reading)? {
        let (revision, row) = row.map_err(reading)?;
        let revision = revision.value();
        let record = Record::decode(revision, row.value())?;
        if record.previous != 0 {
            ended.push((revision, record.previous, record.key.to_owned(), record.deleted));
        }
    }
    for (revision, previous, key, deleted) in ended {
        tables.log.remove(previous).map_err(writing)?;
        tables
            .superseded
            .remove((key.as_str(), revision))
            .map_err(writing)?;
        if deleted {
            tables.log.remove(revision).map_err(writing)?;
        }
    }
    position.swept = upto;
    Ok(())
}
