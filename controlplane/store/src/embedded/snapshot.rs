//! Reads at one point of time.

use std::ops::Bound;

use redb::{ReadOnlyTable, ReadTransaction};

use super::record::Record;
use super::tables::{FLOOR, KEYS, LOG, META, REVISION, SUPERSEDED, read_number, reading, value_at};
use crate::hub::JOIN_DISTANCE;
use crate::{Entry, Event, Listing, StoreError, WatchBatch};

/// A piece of history is closed when its values reach this size.
const PIECE_BYTES: usize = 4 << 20;

/// The revisions of one version of a key.
#[derive(Clone)]
struct Version {
    key: String,
    create_revision: u64,
    mod_revision: u64,
}

/// The tables as one read transaction sees them.
pub(super) struct Snapshot {
    keys: ReadOnlyTable<&'static str, (u64, u64)>,
    log: ReadOnlyTable<u64, &'static [u8]>,
    superseded: ReadOnlyTable<(&'static str, u64), (u64, u64)>,
    revision: u64,
    floor: u64,
}

impl Snapshot {
    pub(super) fn open(transaction: &ReadTransaction) -> Result<Self, StoreError> {
        let failed = |error| StoreError::unavailable("opening a table", error);
        let meta = transaction.open_table(META).map_err(failed)?;
        let number = |name| {
            read_number(&meta, name)?.ok_or_else(|| StoreError::Corrupt {
                what: format!("no {name} in the meta table"),
            })
        };
        Ok(Self {
            keys: transaction.open_table(KEYS).map_err(failed)?,
            log: transaction.open_table(LOG).map_err(failed)?,
            superseded: transaction.open_table(SUPERSEDED).map_err(failed)?,
            revision: number(REVISION)?,
            floor: number(FLOOR)?,
        })
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// The revision to read at: `at` if history reaches there, else the current one.
    pub(super) fn check_revision(&self, at: Option<u64>) -> Result<u64, StoreError> {
        let at = at.unwrap_or(self.revision);
        if at > self.revision {
            return Err(StoreError::FutureRevision {
                requested: at,
                current: self.revision,
            });
        }
        if at < self.floor {
            return Err(StoreError::Compacted { floor: self.floor });
        }
        Ok(at)
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let row = self.keys.get(key).map_err(reading)?;
        row.map(|row| {
            let (create_revision, mod_revision) = row.value();
            self.entry(Version {
                key: key.to_owned(),
                create_revision,
                mod_revision,
            })
        })
        .transpose()
    }

    pub(super) fn list(
        &self,
        prefix: &str,
        at: u64,
        start_after: Option<&str>,
        limit: Option<usize>,
    ) -> Result<Listing, StoreError> {
        let mut versions = if at == self.revision {
            Box::new(self.current(prefix, start_after, at)?) as Box<dyn Iterator<Item = _>>
        } else {
            Box::new(merge(
                self.current(prefix, start_after, at)?,
                self.former(prefix, start_after, at)?,
            ))
        };
        let limit = limit.unwrap_or(usize::MAX);
        let mut entries = Vec::new();
        while entries.len() < limit {
            let Some(version) = versions.next() else { break };
            entries.push(self.entry(version?)?);
        }
        let more = entries.len() == limit && versions.next().transpose()?.is_some();
        Ok(Listing {
            entries,
            revision: at,
            more,
        })
    }

    /// Changes under `prefix` after `after`, at most [`JOIN_DISTANCE`] revisions and about [`PIECE_BYTES`].
    pub(super) fn changes(&self, prefix: &str, after: u64, upto: u64) -> Result<WatchBatch, StoreError> {
        self.check_revision(Some(after))?;
        let upto = upto.min(self.revision).min(after.saturating_add(JOIN_DISTANCE));
        let (mut events, mut bytes) = (Vec::new(), 0);
        for row in self.log.range(after + 1..=upto).map_err(reading)? {
            let (revision, row) = row.map_err(reading)?;
            let revision = revision.value();
            let record = Record::decode(revision, row.value())?;
            if !record.key.starts_with(prefix) {
                continue;
            }
            bytes += record.value.len();
            events.push(self.event(revision, &record)?);
            if bytes >= PIECE_BYTES {
                return Ok(WatchBatch { events, revision });
            }
        }
        Ok(WatchBatch {
            events,
            revision: upto,
        })
    }

    fn event(&self, revision: u64, record: &Record<'_>) -> Result<Event, StoreError> {
        let previous = match record.previous {
            0 => None,
            previous => Some(value_at(&self.log, previous)?),
        };
        let key = record.key.to_owned();
        if !record.deleted {
            let value = bytes::Bytes::copy_from_slice(record.value);
            let entry = Entry {
                key,
                value,
                create_revision: record.create_revision,
                mod_revision: revision,
            };
            return Ok(Event::Put {
                entry,
                created: previous.is_none(),
                previous,
            });
        }
        let value = previous.ok_or_else(|| StoreError::Corrupt {
            what: format!("revision {revision} deletes nothing"),
        })?;
        let previous = Entry {
            key: key.clone(),
            value,
            create_revision: record.create_revision,
            mod_revision: record.previous,
        };
        Ok(Event::Delete {
            key,
            revision,
            previous,
        })
    }

    fn entry(&self, version: Version) -> Result<Entry, StoreError> {
        let Version {
            key,
            create_revision,
            mod_revision,
        } = version;
        Ok(Entry {
            value: value_at(&self.log, mod_revision)?,
            key,
            create_revision,
            mod_revision,
        })
    }

    /// Current versions under `prefix` that existed at revision `at` already.
    fn current(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        at: u64,
    ) -> Result<impl Iterator<Item = Result<Version, StoreError>> + use<>, StoreError> {
        let start = match start_after {
            Some(key) if key >= prefix => Bound::Excluded(key),
            _ => Bound::Included(prefix),
        };
        let rows = self
            .keys
            .range::<&str>((start, Bound::Unbounded))
            .map_err(reading)?;
        let versions = rows.map(|row| {
            let (key, version) = row.map_err(reading)?;
            let (create_revision, mod_revision) = version.value();
            Ok(Version {
                key: key.value().to_owned(),
                create_revision,
                mod_revision,
            })
        });
        Ok(within(versions, prefix.to_owned()).filter(move |version| {
            version
                .as_ref()
                .map_or(true, |version: &Version| version.mod_revision <= at)
        }))
    }

    /// Versions under `prefix` that were current at revision `at` and ended later.
    fn former(
        &self,
        prefix: &str,
        start_after: Option<&str>,
        at: u64,
    ) -> Result<impl Iterator<Item = Result<Version, StoreError>> + use<>, StoreError> {
        let start = match start_after {
            Some(key) if key >= prefix => Bound::Excluded((key, u64::MAX)),
            _ => Bound::Included((prefix, 0)),
        };
        let rows = self
            .superseded
            .range::<(&str, u64)>((start, Bound::Unbounded))
            .map_err(reading)?;
        let prefix = prefix.to_owned();
        let versions = rows
            .map(|row| {
                let (key, version) = row.map_err(reading)?;
                let ((key, ended), (create_revision, mod_revision)) = (key.value(), version.value());
                Ok((
                    Version {
                        key: key.to_owned(),
                        create_revision,
                        mod_revision,
                    },
                    ended,
                ))
            })
            .take_while(move |row: &Result<(Version, u64), StoreError>| {
                row.as_ref()
                    .map_or(true, |(version, _)| version.key.starts_with(&prefix))
            });
        Ok(versions.filter_map(move |row| match row {
            Ok((version, ended)) => (version.mod_revision <= at && at < ended).then_some(Ok(version)),
            Err(error) => Some(Err(error)),
        }))
    }
}

fn within(
    versions: impl Iterator<Item = Result<Version, StoreError>>,
    prefix: String,
) -> impl Iterator<Item = Result<Version, StoreError>> {
    versions.take_while(move |version| {
        version
            .as_ref()
            .map_or(true, |version| version.key.starts_with(&prefix))
    })
}

/// Two sorted sequences without common keys as one.
fn merge(
    left: impl Iterator<Item = Result<Version, StoreError>>,
    right: impl Iterator<Item = Result<Version, StoreError>>,
) -> impl Iterator<Item = Result<Version, StoreError>> {
    let (mut left, mut right) = (left.peekable(), right.peekable());
    std::iter::from_fn(move || match (left.peek(), right.peek()) {
        (Some(Ok(from_left)), Some(Ok(from_right))) if from_left.key > from_right.key => right.next(),
        (None, _) | (_, Some(Err(_))) => right.next(),
        _ => left.next(),
    })
}
