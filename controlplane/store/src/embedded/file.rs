//! The database file: its owner's alone, for it holds every Secret.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use redb::Database;

use crate::StoreError;

const PRIVATE: u32 = 0o600;

/// Opens or creates the database; a file that others may read is tightened.
pub(super) fn open(path: &Path, cache_bytes: usize) -> Result<Database, StoreError> {
    let file =
        private(path).map_err(|error| StoreError::unavailable("opening the database's file", error))?;
    let database = Database::builder()
        .set_cache_size(cache_bytes)
        .create_file(file)
        .map_err(|error| StoreError::unavailable("opening the database", error))?;
    sync_folder(path).map_err(|error| StoreError::unavailable("syncing the database's folder", error))?;
    Ok(database)
}

fn private(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(PRIVATE)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(PRIVATE))?;
    Ok(file)
}

/// Makes the file's name as durable as its content.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}
