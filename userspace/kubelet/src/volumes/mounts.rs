//! The mounts below pods' directories: memory file systems, and taking all of them away.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Puts a memory file system of a size on a directory, which is made. One that is there stays as it is; files that were
/// there without one go. Says whether it is new.
pub(super) fn in_memory(path: &Path, size_bytes: Option<i64>) -> io::Result<bool> {
    if path.exists() {
        if is_mount_point(path)? {
            return Ok(false);
        }
        fs::remove_dir_all(path)?;
    }
    fs::create_dir_all(path)?;
    let size = size_bytes.map(|bytes| format!("size={bytes}"));
    let tmpfs = |options: &[&str]| {
        mount(
            Some("tmpfs"),
            path,
            Some("tmpfs"),
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            Some(options.join(",").as_str()),
        )
    };
    let mut options: Vec<&str> = size.iter().map(String::as_str).collect();
    options.push("noswap");
    match tmpfs(&options) {
        // Kernels before 6.3 do not know the option.
        Err(Errno::EINVAL) => tmpfs(&options[..options.len() - 1])?,
        mounted => mounted?,
    }
    Ok(true)
}

fn mount_points() -> io::Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/thread-self/mounts")?;
    // Spaces and the like are written as octal escapes.
    let unescape = |point: &str| {
        let mut out = String::new();
        let mut rest = point;
        while let Some((before, after)) = rest.split_once('\\') {
            out.push_str(before);
            let code = after.get(..3).and_then(|code| u8::from_str_radix(code, 8).ok());
            match code {
                Some(code) => {
                    out.push(char::from(code));
                    rest = &after[3..];
                }
                None => {
                    out.push('\\');
                    rest = after;
                }
            }
        }
        out.push_str(rest);
        PathBuf::from(out)
    };
    Ok(text
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .map(unescape)
        .collect())
}

fn is_mount_point(path: &Path) -> io::Result<bool> {
    Ok(mount_points()?.iter().any(|point| point == path))
}

/// Undoes every mount below a directory.
pub(super) fn unmount_below(directory: &Path) -> io::Result<()> {
    let points = mount_points()?;
    // The newest first: they may lie upon each other.
    for point in points.iter().rev().filter(|point| point.starts_with(directory)) {
        umount2(point, MntFlags::MNT_DETACH)?;
    }
    Ok(())
}
