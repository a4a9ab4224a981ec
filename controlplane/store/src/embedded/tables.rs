//! The tables, and what one write does to them.

use bytes::Bytes;
use redb::{Database, ReadableTable, Table, TableDefinition, WriteTransaction};

use super::record::Record;
use crate::{Entry, Event, StoreError};

/// Key → (create revision, mod revision) of its current version.
pub(super) const KEYS: TableDefinition<&str, (u64, u64)> = TableDefinition::new("keys");
/// Revision → [`Record`]. Rows of versions that were current at the floor or later, and of deletions after it.
pub(super) const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
/// (Key, revision at which the version ended) → (create revision, mod revision) of the version.
pub(super) const SUPERSEDED: TableDefinition<(&str, u64), (u64, u64)> = TableDefinition::new("superseded");
/// Single numbers, see the names below.
pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");

const FORMAT: &str = "format";
const FORMAT_VERSION: u64 = 1;
/// The last revision that was given to a write.
pub(super) const REVISION: &str = "revision";
/// The oldest revision that can be listed and watched from.
pub(super) const FLOOR: &str = "floor";
/// How far the rows that the floor made useless have been removed.
pub(super) const SWEPT: &str = "swept";

/// Where the store stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) revision: u64,
    pub(super) floor: u64,
    pub(super) swept: u64,
}

/// Creates the tables of a new database; refuses one of another format. Writes to no other: the disk may be full.
pub(super) fn prepare(database: &Database) -> Result<Position, StoreError> {
    let unavailable = |error: redb::Error| StoreError::unavailable("preparing the database", error);
    let transaction = database
        .begin_write()
        .map_err(|error| unavailable(error.into()))?;
    let (position, new) = {
        let mut tables = Tables::open(&transaction)?;
        match tables.number(FORMAT)? {
            Some(FORMAT_VERSION) => (tables.position()?, false),
            Some(other) => {
                return Err(StoreError::Corrupt {
                    what: format!("format {other}, this program reads {FORMAT_VERSION}"),
                });
            }
            None => {
                // Revision 1 is the empty store, as with etcd: no write ever has revision 0 or 1.
                let position = Position {
                    revision: 1,
                    floor: 0,
                    swept: 0,
                };
                tables.set_number(FORMAT, FORMAT_VERSION)?;
                tables.set_position(position)?;
                (position, true)
            }
        }
    };
    if new {
        transaction.commit().map_err(|error| unavailable(error.into()))?;
    } else {
        transaction.abort().map_err(writing)?;
    }
    Ok(position)
}

/// Reads one number in a read transaction.
pub(super) fn read_number(
    table: &impl ReadableTable<&'static str, u64>,
    name: &str,
) -> Result<Option<u64>, StoreError> {
    Ok(table.get(name).map_err(reading)?.map(|number| number.value()))
}

pub(super) fn reading(error: redb::StorageError) -> StoreError {
    StoreError::unavailable("reading a table", error)
}

pub(super) fn writing(error: redb::StorageError) -> StoreError {
    StoreError::unavailable("writing a table", error)
}

/// All tables, open in one write transaction.
pub(super) struct Tables<'t> {
    pub(super) keys: Table<'t, &'static str, (u64, u64)>,
    pub(super) log: Table<'t, u64, &'static [u8]>,
    pub(super) superseded: Table<'t, (&'static str, u64), (u64, u64)>,
    meta: Table<'t, &'static str, u64>,
}

impl<'t> Tables<'t> {
    pub(super) fn open(transaction: &'t WriteTransaction) -> Result<Self, StoreError> {
        let failed = |error| StoreError::unavailable("opening a table", error);
        Ok(Self {
            keys: transaction.open_table(KEYS).map_err(failed)?,
            log: transaction.open_table(LOG).map_err(failed)?,
            superseded: transaction.open_table(SUPERSEDED).map_err(failed)?,
            meta: transaction.open_table(META).map_err(failed)?,
        })
    }

    fn number(&self, name: &str) -> Result<Option<u64>, StoreError> {
        read_number(&self.meta, name)
    }

    fn set_number(&mut self, name: &str, number: u64) -> Result<(), StoreError> {
        self.meta.insert(name, number).map_err(writing)?;
        Ok(())
    }

    fn position(&self) -> Result<Position, StoreError> {
        let number = |name| {
            self.number(name)?.ok_or_else(|| StoreError::Corrupt {
                what: format!("no {name} in the meta table"),
            })
        };
        Ok(Position {
            revision: number(REVISION)?,
            floor: number(FLOOR)?,
            swept: number(SWEPT)?,
        })
    }

    pub(super) fn set_position(&mut self, position: Position) -> Result<(), StoreError> {
        self.set_number(REVISION, position.revision)?;
        self.set_number(FLOOR, position.floor)?;
        self.set_number(SWEPT, position.swept)
    }

    /// The key's current version.
    pub(super) fn current(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let Some((create_revision, mod_revision)) =
            self.keys.get(key).map_err(reading)?.map(|row| row.value())
        else {
            return Ok(None);
        };
        let value = value_at(&self.log, mod_revision)?;
        Ok(Some(Entry {
            key: key.to_owned(),
            value,
            create_revision,
            mod_revision,
        }))
    }

    /// Writes a version of the key at `revision`, ending the `current` one.
    pub(super) fn put(
        &mut self,
        key: &str,
        value: Bytes,
        revision: u64,
        current: Option<Entry>,
    ) -> Result<Event, StoreError> {
        let create_revision = current
            .as_ref()
            .map_or(revision, |current| current.create_revision);
        self.append(revision, key, &value, false, create_revision, current.as_ref())?;
        self.keys
            .insert(key, (create_revision, revision))
            .map_err(writing)?;
        Ok(Event::Put {
            entry: Entry {
                key: key.to_owned(),
                value,
                create_revision,
                mod_revision: revision,
            },
            created: current.is_none(),
            previous: current.map(|current| current.value),
        })
    }

    /// Deletes the key at `revision`, ending the `current` version.
    pub(super) fn delete(&mut self, revision: u64, current: Entry) -> Result<Event, StoreError> {
        self.append(
            revision,
            &current.key,
            &[],
            true,
            current.create_revision,
            Some(&current),
        )?;
        self.keys.remove(current.key.as_str()).map_err(writing)?;
        Ok(Event::Delete {
            key: current.key.clone(),
            revision,
            previous: current,
        })
    }

    fn append(
        &mut self,
        revision: u64,
        key: &str,
        value: &[u8],
        deleted: bool,
        create_revision: u64,
        ended: Option<&Entry>,
    ) -> Result<(), StoreError> {
        let previous = ended.map_or(0, |ended| ended.mod_revision);
        let record = Record {
            deleted,
            create_revision,
            previous,
            key,
            value,
        };
        self.log
            .insert(revision, record.encode().as_slice())
            .map_err(writing)?;
        if let Some(ended) = ended {
            self.superseded
                .insert((key, revision), (ended.create_revision, ended.mod_revision))
                .map_err(writing)?;
        }
        Ok(())
    }
}

/// The value that was written at `revision`.
pub(super) fn value_at(
    log: &impl ReadableTable<u64, &'static [u8]>,
    revision: u64,
) -> Result<Bytes, StoreError> {
    let row = log
        .get(revision)
        .map_err(reading)?
        .ok_or_else(|| StoreError::Corrupt {
            what: format!("the log misses revision {revision}"),
        })?;
    Ok(Bytes::copy_from_slice(
        Record::decode(revision, row.value())?.value,
    ))
}
