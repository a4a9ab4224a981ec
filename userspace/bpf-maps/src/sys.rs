//! The few `bpf(2)` commands that this project issues by itself: single and batched map operations, pins,
//! links and object information. Loading programs is aya's.
//!
//! Attribute layouts are those of `union bpf_attr` in the kernel's `include/uapi/linux/bpf.h`; a shorter
//! attribute than the kernel's is allowed and reads as zeroes beyond its end.

mod link;
mod map;
mod object;
mod program;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

pub use link::{LinkInfo, link_create, link_detach, link_info, link_update};
pub use map::{
    BatchCursor, ENOTSUPP, MapDefinition, MapInfo, map_create, map_delete, map_info, map_insert, map_lookup,
    map_lookup_batch, map_next_key, map_update, map_update_batch,
};
pub use object::{object_get, object_info, object_pin};
pub use program::{
    ProgramInfo, TestRun, enable_run_statistics, program_by_id, program_info, program_test_run,
};

/// # Safety
/// Pointers inside `attr` are valid for what `command` reads and writes through them.
unsafe fn bpf<A>(command: libc::c_int, attr: &mut A) -> io::Result<libc::c_int> {
    // SAFETY: attr is a live repr(C) value of size_of::<A>() bytes; the caller vouches for pointers inside.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<A>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    libc::c_int::try_from(result).map_err(io::Error::other)
}

/// As [`bpf`] for commands that return a file descriptor.
///
/// # Safety
/// As [`bpf`], and `command` returns a new file descriptor.
unsafe fn bpf_fd<A>(command: libc::c_int, attr: &mut A) -> io::Result<OwnedFd> {
    // SAFETY: passed on to the caller.
    let fd = unsafe { bpf(command, attr)? };
    // SAFETY: the command returned a new descriptor (always close-on-exec) that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn length(size: usize) -> io::Result<u32> {
    u32::try_from(size).map_err(io::Error::other)
}
