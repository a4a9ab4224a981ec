//! A path inside a volume, opened so that no link in it can lead out of the volume, and bound to a place of its own.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, mkdirat};

/// Binds `root`/`sub_path` (made as directories where it does not exist) to `target`.
pub(super) fn bind(root: &Path, sub_path: &Path, target: &Path) -> io::Result<()> {
    if sub_path
        .components()
        .any(|part| !matches!(part, Component::Normal(_) | Component::CurDir))
    {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "must be a relative path without \"..\"",
        ));
    }
    let source = open_beneath(root, sub_path)?;
    let opened = format!("/proc/self/fd/{}", source.as_raw_fd());
    prepare_target(Path::new(&opened), target)?;
    let nothing: Option<&str> = None;
    mount(
        Some(opened.as_str()),
        target,
        nothing,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        nothing,
    )?;
    Ok(())
}

fn how(flags: OFlag) -> OpenHow {
    OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS)
}

fn open_beneath(root: &Path, sub_path: &Path) -> io::Result<OwnedFd> {
    let root = open(
        root,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    match openat2(&root, sub_path, how(OFlag::O_PATH)) {
        Err(Errno::ENOENT) => {}
        other => return Ok(other?),
    }
    let mut parent = openat2(&root, ".", how(OFlag::O_PATH | OFlag::O_DIRECTORY))?;
    let mut walked = std::path::PathBuf::new();
    for part in sub_path.components() {
        let Component::Normal(name) = part else {
            continue;
        };
        walked.push(name);
        let next = match openat2(&root, &walked, how(OFlag::O_PATH | OFlag::O_DIRECTORY)) {
            Err(Errno::ENOENT) => {
                mkdirat(&parent, name, Mode::from_bits_truncate(0o755))?;
                openat2(&root, &walked, how(OFlag::O_PATH | OFlag::O_DIRECTORY))?
            }
            other => other?,
        };
        parent = next;
    }
    Ok(parent)
}

/// A mount's target must be of the kind of its source; what was bound there before goes.
fn prepare_target(source: &Path, target: &Path) -> io::Result<()> {
    match umount2(target, MntFlags::MNT_DETACH) {
        // Not there, or not a mount.
        Ok(()) | Err(Errno::ENOENT | Errno::EINVAL) => {}
        Err(error) => return Err(error.into()),
    }
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    if fs::metadata(source)?.is_dir() {
        fs::create_dir_all(target)
    } else {
        fs::File::create(target).map(drop)
    }
}
