//! Files that change together: a reader sees all of the old ones or all of the new ones.
//!
//! Layout as upstream's (`pkg/volume/util/atomic_writer.go`): the files are in a folder with a time for its name,
//! `..data` is a link to it that is replaced by one rename, and every file has a link through `..data`.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::Path;

use jiff::Timestamp;

use super::payload::{File, Files};

const DATA: &str = "..data";
const DATA_NEXT: &str = "..data_tmp";

/// Makes the volume, a directory, hold exactly these files. Does nothing if it does already.
pub(super) fn write(volume: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    fs::set_permissions(
        volume,
        Permissions::from_mode(if group.is_some() { 0o2775 } else { 0o755 }),
    )?;
    chown(volume, None, group)?;
    let old = fs::read_link(volume.join(DATA)).ok();
    if let Some(old) = &old
        && same(&volume.join(old), files)?
    {
        return link(volume, files);
    }
    let name = Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S.%N").to_string();
    let folder = volume.join(&name);
    fs::create_dir(&folder)?;
    fs::set_permissions(&folder, Permissions::from_mode(0o755))?;
    for (path, file) in files {
        write_file(&folder, path, file, group)?;
    }
    let next = volume.join(DATA_NEXT);
    match fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    symlink(&name, &next)?;
    fs::rename(&next, volume.join(DATA))?;
    link(volume, files)?;
    if let Some(old) = old.filter(|old| *old != Path::new(&name)) {
        fs::remove_dir_all(volume.join(old))?;
    }
    Ok(())
}

fn write_file(folder: &Path, path: &str, file: &File, group: Option<u32>) -> io::Result<()> {
    let full = folder.join(path);
    if let Some(parent) = full.parent() {
        fs::create_dir_all(parent)?;
    }
    let mode = if group.is_some() {
        file.mode | 0o440
    } else {
        file.mode
    };
    let mut open = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&full)?;
    open.write_all(&file.bytes)?;
    chown(&full, None, group)?;
    // The mask of the process must not take bits away.
    fs::set_permissions(&full, Permissions::from_mode(mode))
}

fn same(folder: &Path, files: &Files) -> io::Result<bool> {
    if count(folder)? != files.len() {
        return Ok(false);
    }
    for (path, file) in files {
        match fs::read(folder.join(path)) {
            Ok(bytes) if bytes == file.bytes => {}
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn count(folder: &Path) -> io::Result<usize> {
    let mut total = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        total += if entry.file_type()?.is_dir() {
            count(&entry.path())?
        } else {
            1
        };
    }
    Ok(total)
}

/// Links every file's first path element through `..data`, and removes links that lead nowhere.
fn link(volume: &Path, files: &Files) -> io::Result<()> {
    let wanted: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &wanted {
        match symlink(Path::new(DATA).join(name), volume.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    for entry in fs::read_dir(volume)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !wanted.contains(name.as_ref()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
