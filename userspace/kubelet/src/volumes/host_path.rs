//! Paths of the host: checked, never owned.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::HostPathVolumeSource;

use super::VolumeError;

/// Checks that the path is what its type says, and makes it where the type says so.
pub(super) fn check(volume: &str, source: &HostPathVolumeSource) -> Result<PathBuf, VolumeError> {
    let path = PathBuf::from(&source.path);
    let wanted = match source.type_.as_deref().unwrap_or_default() {
        "" => return Ok(path),
        "DirectoryOrCreate" => {
            make(&path, |path| fs::create_dir_all(path), 0o755)
                .map_err(|source| io_error(volume, &path, source))?;
            "a directory"
        }
        "FileOrCreate" => {
            make(&path, |path| fs::File::create(path).map(drop), 0o644)
                .map_err(|source| io_error(volume, &path, source))?;
            "a file"
        }
        "Directory" => "a directory",
        "File" => "a file",
        "Socket" => "a socket file",
        "CharDevice" => "a character device",
        "BlockDevice" => "a block device",
        _ => "of a known type",
    };
    let kind = match fs::metadata(&path) {
        Ok(metadata) => Some(metadata.file_type()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(io_error(volume, &path, error)),
    };
    let fits = kind.is_some_and(|kind| match wanted {
        "a directory" => kind.is_dir(),
        "a file" => kind.is_file(),
        "a socket file" => kind.is_socket(),
        "a character device" => kind.is_char_device(),
        "a block device" => kind.is_block_device(),
        _ => false,
    });
    if fits {
        Ok(path)
    } else {
        Err(VolumeError::HostPathType {
            volume: volume.to_owned(),
            path,
            wanted,
        })
    }
}

fn make(path: &Path, create: impl Fn(&Path) -> io::Result<()>, mode: u32) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn io_error(volume: &str, path: &Path, source: io::Error) -> VolumeError {
    VolumeError::Io {
        volume: volume.to_owned(),
        path: path.to_owned(),
        source,
    }
}
