//! One agent per node.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use crate::LoadError;

/// A lock that lasts as long as the process, or until dropped.
#[derive(Debug)]
pub(crate) struct NodeLock {
    _file: File,
}

impl NodeLock {
    /// Takes the lock and leaves the process number in the file.
    ///
    /// # Errors
    /// [`LoadError::AlreadyRunning`].
    pub(crate) fn take(path: &Path) -> Result<Self, LoadError> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(LoadError::io("create folder", folder))?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(LoadError::io("open lock file", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let pid = match file.read_to_string(&mut holder) {
                    Ok(_) => holder.trim().parse().ok(),
                    Err(_) => None,
                };
                return Err(LoadError::AlreadyRunning {
                    path: path.to_owned(),
                    pid,
                });
            }
            Err(TryLockError::Error(source)) => return Err(LoadError::io("lock", path)(source)),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(LoadError::io("write lock file", path))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_taker_is_told_who_holds_it() {
        let path = std::env::temp_dir().join(format!("skep-lock-{}", std::process::id()));
        let held = NodeLock::take(&path).unwrap();
        let refused = NodeLock::take(&path).unwrap_err();
        let pid = std::process::id();
        assert!(matches!(&refused, LoadError::AlreadyRunning { pid: Some(p), .. } if *p == pid));
        assert!(
            refused.to_string().ends_with(&format!("(process {pid})")),
            "{refused}"
        );
        drop(held);
        NodeLock::take(&path).unwrap();
        fs::remove_file(&path).unwrap();
    }
}
