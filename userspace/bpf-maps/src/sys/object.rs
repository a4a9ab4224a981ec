//! What all kernel objects have: pins and information.

use std::ffi::CString;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{bpf, bpf_fd, length, raw};

const OBJ_PIN: libc::c_int = 6;
const OBJ_GET: libc::c_int = 7;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;

#[repr(C)]
struct ObjectAttr {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

/// Pins an object at `path`, on a bpffs, where nothing may be yet.
///
/// # Errors
/// The kernel's answer.
pub fn object_pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    let mut attr = ObjectAttr {
        pathname: path.as_ptr() as u64,
        bpf_fd: raw(object),
        file_flags: 0,
    };
    // SAFETY: the path is NUL-terminated and outlives the call.
    unsafe { bpf(OBJ_PIN, &mut attr) }.map(|_| ())
}

/// Opens the object pinned at `path`; `None` when there is no such file.
///
/// # Errors
/// The kernel's answer.
pub fn object_get(path: &Path) -> io::Result<Option<OwnedFd>> {
    let path = c_path(path)?;
    let mut attr = ObjectAttr {
        pathname: path.as_ptr() as u64,
        bpf_fd: 0,
        file_flags: 0,
    };
    // SAFETY: the path is NUL-terminated and outlives the call; OBJ_GET returns a descriptor.
    match unsafe { bpf_fd(OBJ_GET, &mut attr) } {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

#[repr(C)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// Reads the kernel's information of a map, program or link into `info`.
///
/// # Errors
/// The kernel's answer.
///
/// # Safety
/// `T` is `repr(C)`, any bytes are valid for it, and it is laid out as the leading part of the kernel's
/// information of that kind of object; pointers in it are null or valid for the lengths beside them.
pub unsafe fn object_info<T>(object: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let mut attr = InfoAttr {
        bpf_fd: raw(object),
        info_len: length(size_of::<T>())?,
        info: std::ptr::from_mut(info) as u64,
    };
    // SAFETY: info_len bounds what the kernel writes to the live `info`.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attr) }.map(|_| ())
}
