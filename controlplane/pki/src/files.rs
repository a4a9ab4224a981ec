//! Reading, locking and atomically replacing the files of the folder.

use crate::PkiError;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

const PRIVATE: u32 = 0o600;
const PUBLIC: u32 = 0o644;
const FOLDER: u32 = 0o755;
const PRIVATE_FOLDER: u32 = 0o700;

fn file_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PkiError {
    let path = path.to_owned();
    move |source| PkiError::File { action, path, source }
}

/// The file's text, or `None` where there is no such file.
pub(crate) fn read_optional(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error("read", path)(error)),
    }
}

pub(crate) fn create_folder(dir: &Path) -> Result<(), PkiError> {
    create(dir, FOLDER)
}

/// Makes a folder, and those above it, that only their owner may enter (mode 0700); tightens one that is there.
///
/// # Errors
/// [`PkiError::File`] when the folder cannot be made, or is not ours.
pub fn create_private_folder(dir: &Path) -> Result<(), PkiError> {
    create(dir, PRIVATE_FOLDER)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(PRIVATE_FOLDER))
        .map_err(file_error("protect the folder", dir))
}

fn create(dir: &Path, mode: u32) -> Result<(), PkiError> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(dir)
        .map_err(file_error("create the folder", dir))
}

/// Replaces a file that only its owner may read (mode 0600): a key, a kubeconfig.
///
/// # Errors
/// [`PkiError::File`] when the file or its folder cannot be written.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), PkiError> {
    replace(path, content, PRIVATE)
}

pub(crate) fn write_public(path: &Path, content: &[u8]) -> Result<(), PkiError> {
    replace(path, content, PUBLIC)
}

/// Writes beside the target, syncs, renames: a reader sees the old content or the new, never a part,
/// and the content never stands in a file with wider permissions.
fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), PkiError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let beside = path.with_file_name(name);
    let written = write_new(&beside, content, mode).and_then(|()| fs::rename(&beside, path));
    written.map_err(|error| {
        // The error that matters is the first one; what is left of a failed write is only swept up.
        drop(fs::remove_file(&beside));
        file_error("write", path)(error)
    })
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()
}

/// Held while files are compared and replaced; released on drop.
pub(crate) struct FolderLock {
    _file: File,
}

impl FolderLock {
    pub(crate) fn take(dir: &Path) -> Result<Self, PkiError> {
        let path = dir.join(".lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(PRIVATE)
            .open(&path)
            .map_err(file_error("open", &path))?;
        file.lock().map_err(file_error("lock", &path))?;
        Ok(Self { _file: file })
    }
}
