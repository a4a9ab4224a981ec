//! Finding, and if need be making, the mounts that the dataplane lives on.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use nix::sys::statfs::{self, CGROUP2_SUPER_MAGIC, FsType};

use crate::LoadError;

const BPF_FS_MAGIC: FsType = FsType(0xcafe_4a11);
const BPFFS: &str = "/sys/fs/bpf";
/// Where cgroup2 is mounted when nobody has.
const OWN_CGROUP2: &str = "/run/skep/cgroup2";

/// The folder where a bpffs is mounted: `/sys/fs/bpf`. Mounts it when it is not.
///
/// # Errors
/// [`LoadError::Io`] when it cannot be mounted.
pub fn bpffs() -> Result<PathBuf, LoadError> {
    let path = PathBuf::from(BPFFS);
    if !is_on(&path, BPF_FS_MAGIC) {
        mount("bpf", &path)?;
    }
    Ok(path)
}

/// The folder where cgroup2 is mounted, in a pure or hybrid hierarchy. Mounts it under `/run/skep` when it is
/// nowhere.
///
/// # Errors
/// [`LoadError::Io`] when the mounts cannot be read, or cgroup2 not be mounted.
pub fn cgroup2() -> Result<PathBuf, LoadError> {
    if let Some(found) = find_cgroup2()? {
        return Ok(found);
    }
    let path = PathBuf::from(OWN_CGROUP2);
    fs::create_dir_all(&path).map_err(LoadError::io("create folder", &path))?;
    mount("cgroup2", &path)?;
    Ok(path)
}

/// As [`cgroup2`], without mounting anything.
pub(crate) fn find_cgroup2() -> Result<Option<PathBuf>, LoadError> {
    let table = "/proc/self/mounts";
    let mounts = fs::read_to_string(table).map_err(LoadError::io("read", table))?;
    Ok(find(&mounts, "cgroup2"))
}

/// The first mount point of a type in the text of `/proc/self/mounts`.
fn find(mounts: &str, filesystem: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_device, target, kind) = (fields.next()?, fields.next()?, fields.next()?);
        // Blanks in a path are written as \040.
        (kind == filesystem).then(|| PathBuf::from(target.replace("\\040", " ")))
    })
}

fn mount(filesystem: &'static str, path: &Path) -> Result<(), LoadError> {
    tracing::info!(filesystem, path = %path.display(), "mounting");
    nix::mount::mount(
        Some(filesystem),
        path,
        Some(filesystem),
        MsFlags::empty(),
        None::<&str>,
    )
    .map_err(|errno| LoadError::io("mount a bpf or cgroup2 file system on", path)(errno.into()))
}

fn is_on(path: &Path, magic: FsType) -> bool {
    statfs::statfs(path).is_ok_and(|found| found.filesystem_type() == magic)
}

/// Creates the pin folder, mounting the bpffs that it should be on when it is not.
///
/// # Errors
/// [`LoadError::WrongFilesystem`] when it is not on a bpffs.
pub(crate) fn create_pin_dir(pin_dir: &Path) -> Result<(), LoadError> {
    if pin_dir.starts_with(BPFFS) {
        bpffs()?;
    }
    fs::create_dir_all(pin_dir).map_err(LoadError::io("create folder", pin_dir))?;
    if !is_on(pin_dir, BPF_FS_MAGIC) {
        return Err(LoadError::WrongFilesystem {
            path: pin_dir.to_owned(),
            filesystem: "bpf",
        });
    }
    Ok(())
}

/// Checks that a folder is a cgroup of the second version.
///
/// # Errors
/// [`LoadError::WrongFilesystem`], [`LoadError::Io`] when it does not exist.
pub(crate) fn check_cgroup2(path: &Path) -> Result<(), LoadError> {
    fs::metadata(path).map_err(LoadError::io("find the cgroup", path))?;
    if !is_on(path, CGROUP2_SUPER_MAGIC) {
        return Err(LoadError::WrongFilesystem {
            path: path.to_owned(),
            filesystem: "cgroup2",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_wherever_it_is_mounted() {
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/my\\040unified cgroup2 rw 0 0\n";
        assert_eq!(
            find(hybrid, "cgroup2"),
            Some(PathBuf::from("/sys/fs/cgroup/my unified"))
        );
        assert_eq!(find("proc /proc proc rw 0 0\n", "cgroup2"), None);
    }
}
