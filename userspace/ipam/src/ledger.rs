//! A pool whose assignments are on disk before anyone learns of them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::journal::{self, Change, Damaged};
use crate::{Exhausted, Owner, Pool};

/// A journal with fewer lines than this is not rewritten.
const COMPACT_LINES: usize = 256;
/// It is rewritten when it has so many times the lines that its assignments need.
const COMPACT_FACTOR: usize = 4;

/// Why an assignment could not be made, kept or dropped.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// No address is left.
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
    /// The journal cannot be trusted; it must be looked at, or removed once no pod runs.
    #[error("{} cannot be used", path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// Where it is damaged.
        source: Damaged,
    },
    /// The journal cannot be read or written.
    #[error("cannot {during} {}", path.display())]
    Io {
        /// What was tried.
        during: &'static str,
        /// The journal.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// A [`Pool`] with its journal. Its calls wait for the disk.
#[derive(Debug)]
pub struct Ledger {
    pool: Pool,
    path: PathBuf,
    file: File,
    lines: usize,
    /// A write failed: the file's end is unknown until it was rewritten.
    doubtful: bool,
}

impl Ledger {
    /// Opens or creates the journal at `path`, whose folder must exist. Assignments of a former subnet are kept until
    /// released. One process at a time: the file is locked.
    ///
    /// # Errors
    /// [`LedgerError::Io`], also when another process has the file; [`LedgerError::Damaged`].
    pub fn open(path: impl Into<PathBuf>, subnet: IpNet) -> Result<Self, LedgerError> {
        let path = path.into();
        let failed = |during| {
            let path = path.clone();
            move |source| LedgerError::Io { during, path, source }
        };
        let mut file = append(&path).map_err(failed("open"))?;
        file.try_lock().map_err(|error| failed("lock")(error.into()))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed("read"))?;
        let decoded = journal::decode(&bytes).map_err(|source| LedgerError::Damaged {
            path: path.clone(),
            source,
        })?;
        if decoded.whole_bytes < bytes.len() {
            file.set_len(decoded.whole_bytes as u64)
                .map_err(failed("repair"))?;
            file.sync_all().map_err(failed("repair"))?;
        }
        sync_folder(&path).map_err(failed("sync the folder of"))?;
        let mut pool = Pool::new(subnet);
        let lines = decoded.changes.len();
        for change in decoded.changes {
            change.apply(&mut pool);
        }
        Ok(Self {
            pool,
            path,
            file,
            lines,
            doubtful: false,
        })
    }

    /// What is assigned.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// The owner's address, assigned now if it has none, and durable.
    ///
    /// # Errors
    /// [`LedgerError::Exhausted`]; [`LedgerError::Io`], then nothing was assigned.
    pub fn assign(&mut self, owner: &Owner) -> Result<IpAddr, LedgerError> {
        if let Some(address) = self.pool.address(owner) {
            return Ok(address);
        }
        let address = self.pool.allocate(owner.clone())?;
        let change = Change::Assign {
            owner: owner.clone(),
            address,
        };
        if let Err(error) = self.write(&[change]) {
            self.pool.release(owner);
            return Err(error);
        }
        Ok(address)
    }

    /// Gives the owners' addresses back, durably; those without one are passed over.
    ///
    /// # Errors
    /// [`LedgerError::Io`], then all addresses stay assigned.
    pub fn release(&mut self, owners: &[Owner]) -> Result<(), LedgerError> {
        let released: Vec<_> = owners
            .iter()
            .filter_map(|owner| Some((owner, self.pool.release(owner)?)))
            .collect();
        let changes: Vec<_> = released
            .iter()
            .map(|(owner, _)| Change::Release {
                owner: (*owner).clone(),
            })
            .collect();
        if let Err(error) = self.write(&changes) {
            for (owner, address) in released {
                self.pool.claim(owner.clone(), address);
            }
            return Err(error);
        }
        Ok(())
    }

    fn write(&mut self, changes: &[Change]) -> Result<(), LedgerError> {
        if changes.is_empty() {
            return Ok(());
        }
        if self.doubtful || self.lines + changes.len() > COMPACT_LINES.max(self.pool.len() * COMPACT_FACTOR) {
            return self.rewrite();
        }
        let bytes: Vec<u8> = changes.iter().flat_map(journal::encode).collect();
        if let Err(source) = self.file.write_all(&bytes).and_then(|()| self.file.sync_data()) {
            self.doubtful = true;
            return Err(LedgerError::Io {
                during: "write",
                path: self.path.clone(),
                source,
            });
        }
        self.lines += changes.len();
        Ok(())
    }

    /// Writes the assignments as they are now to a new file, which takes the journal's place.
    fn rewrite(&mut self) -> Result<(), LedgerError> {
        let bytes: Vec<u8> = self
            .pool
            .assignments()
            .flat_map(|(owner, address)| {
                journal::encode(&Change::Assign {
                    owner: owner.clone(),
                    address,
                })
            })
            .collect();
        let replace = || {
            let beside = self.path.with_extension("new");
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .open(&beside)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            drop(file);
            let file = append(&beside)?;
            file.try_lock()?;
            std::fs::rename(&beside, &self.path)?;
            sync_folder(&self.path)?;
            Ok(file)
        };
        match replace() {
            Ok(file) => {
                self.file = file;
                self.lines = self.pool.len();
                self.doubtful = false;
                Ok(())
            }
            Err(source) => {
                self.doubtful = true;
                Err(LedgerError::Io {
                    during: "rewrite",
                    path: self.path.clone(),
                    source,
                })
            }
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).read(true).append(true).open(path)
}

/// Makes names in the file's folder durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn owner(number: usize) -> Owner {
        Owner {
            container: format!("{number:064x}"),
            interface: "eth0".to_owned(),
        }
    }

    fn open(folder: &tempfile::TempDir) -> Ledger {
        Ledger::open(folder.path().join("journal"), "10.1.0.0/24".parse().unwrap()).unwrap()
    }

    fn state(ledger: &Ledger) -> BTreeMap<Owner, IpAddr> {
        ledger
            .pool()
            .assignments()
            .map(|(owner, address)| (owner.clone(), address))
            .collect()
    }

    #[test]
    fn assignments_survive() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = open(&folder);
        let first = ledger.assign(&owner(1)).unwrap();
        let second = ledger.assign(&owner(2)).unwrap();
        assert_eq!(ledger.assign(&owner(1)).unwrap(), first);
        ledger.release(&[owner(1), owner(3)]).unwrap();
        drop(ledger);
        let mut ledger = open(&folder);
        assert_eq!(state(&ledger), BTreeMap::from([(owner(2), second)]));
        // It goes on where it was: the released address rests.
        assert_ne!(ledger.assign(&owner(4)).unwrap(), first);
    }

    #[test]
    fn the_journal_stays_short() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = open(&folder);
        for number in 0..2000 {
            ledger.assign(&owner(number)).unwrap();
            if number >= 10 {
                ledger.release(&[owner(number - 10)]).unwrap();
            }
        }
        let lines = std::fs::read_to_string(folder.path().join("journal"))
            .unwrap()
            .lines()
            .count();
        assert!(lines <= COMPACT_LINES, "{lines} lines for 10 assignments");
        let before = state(&ledger);
        assert_eq!(before.len(), 10);
        drop(ledger);
        assert_eq!(state(&open(&folder)), before);
    }

    #[test]
    fn a_second_process_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = open(&folder);
        let again = || Ledger::open(folder.path().join("journal"), "10.1.0.0/24".parse().unwrap());
        assert!(matches!(again(), Err(LedgerError::Io { during: "lock", .. })));
        for number in 0..COMPACT_LINES {
            ledger.assign(&owner(0)).unwrap();
            ledger.release(&[owner(0)]).unwrap();
            assert!(again().is_err(), "after {number} changes");
        }
    }

    #[test]
    fn addresses_of_a_former_subnet_are_kept_until_released() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = open(&folder);
        let old = ledger.assign(&owner(1)).unwrap();
        drop(ledger);
        let mut ledger = Ledger::open(folder.path().join("journal"), "10.2.0.0/24".parse().unwrap()).unwrap();
        assert_eq!(ledger.assign(&owner(1)).unwrap(), old);
        assert_eq!(ledger.assign(&owner(2)).unwrap().to_string(), "10.2.0.1");
        ledger.release(&[owner(1)]).unwrap();
        assert_eq!(ledger.pool().len(), 1);
    }

    #[test]
    fn a_full_subnet_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(folder.path().join("journal"), "10.1.0.0/30".parse().unwrap()).unwrap();
        ledger.assign(&owner(1)).unwrap();
        ledger.assign(&owner(2)).unwrap();
        assert!(matches!(ledger.assign(&owner(3)), Err(LedgerError::Exhausted(_))));
        ledger.release(&[owner(1)]).unwrap();
        ledger.assign(&owner(3)).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// Whatever is cut off at the end, what is read is the state after some whole number of changes.
        #[test]
        fn a_cut_journal_is_a_former_state(
            steps in proptest::collection::vec((0_usize..6, any::<bool>()), 1..30), cut: prop::sample::Index,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let mut ledger = open(&folder);
            let mut states = vec![state(&ledger)];
            for (number, assign) in steps {
                if assign {
                    ledger.assign(&owner(number)).unwrap();
                } else {
                    ledger.release(&[owner(number)]).unwrap();
                }
                states.push(state(&ledger));
            }
            drop(ledger);
            let path = folder.path().join("journal");
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..cut.index(bytes.len() + 1)]).unwrap();
            let mut ledger = open(&folder);
            prop_assert!(states.contains(&state(&ledger)));
            // And it can be appended to.
            let address = ledger.assign(&owner(99)).unwrap();
            let before = state(&ledger);
            drop(ledger);
            let ledger = open(&folder);
            prop_assert_eq!(ledger.pool().address(&owner(99)), Some(address));
            prop_assert_eq!(state(&ledger), before);
        }
    }
}
