//! Links: what holds a program to its hook.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::{bpf, bpf_fd, object_info, raw};

const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;
const LINK_DETACH: libc::c_int = 34;

#[repr(C)]
struct LinkCreateAttr {
    prog_fd: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    relative: u64,
    expected_revision: u64,
}

/// Attaches a program to `target` (a cgroup's descriptor, or an interface index, as the attach type asks).
///
/// # Errors
/// The kernel's answer.
pub fn link_create(program: BorrowedFd<'_>, target: u32, attach_type: u32) -> io::Result<OwnedFd> {
    let mut attr = LinkCreateAttr {
        prog_fd: raw(program),
        target,
        attach_type,
        flags: 0,
        relative: 0,
        expected_revision: 0,
    };
    // SAFETY: no pointers in the attribute; LINK_CREATE returns a descriptor.
    unsafe { bpf_fd(LINK_CREATE, &mut attr) }
}

#[repr(C)]
struct LinkUpdateAttr {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// Puts another program behind a link, atomically: every event meets either the old one or the new one.
///
/// # Errors
/// The kernel's answer; ENOLINK when what the link was attached to is gone.
pub fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkUpdateAttr {
        link_fd: raw(link),
        new_prog_fd: raw(program),
        flags: 0,
        old_prog_fd: 0,
    };
    // SAFETY: no pointers in the attribute.
    unsafe { bpf(LINK_UPDATE, &mut attr) }.map(|_| ())
}

#[repr(C)]
struct LinkDetachAttr {
    link_fd: u32,
}

/// Takes the program off its hook at once; the link itself lives on, attached to nothing. Closing or unpinning
/// a link does the same, but later.
///
/// # Errors
/// The kernel's answer.
pub fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkDetachAttr { link_fd: raw(link) };
    // SAFETY: no pointers in the attribute.
    unsafe { bpf(LINK_DETACH, &mut attr) }.map(|_| ())
}

/// `struct bpf_link_info`, as far as cgroup and tcx links fill it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkInfo {
    /// `enum bpf_link_type`: 3 = cgroup, 11 = tcx.
    pub link_type: u32,
    /// Kernel-wide number.
    pub id: u32,
    /// The program behind it.
    pub program_id: u32,
    padding: u32,
    /// cgroup: low half of the cgroup's number. tcx: the interface index. 0 when what it was attached to is
    /// gone.
    pub target_low: u32,
    /// cgroup: high half of the cgroup's number. tcx: `enum bpf_attach_type`.
    pub target_high: u32,
    /// cgroup: `enum bpf_attach_type`.
    pub cgroup_attach_type: u32,
    padding_end: u32,
}

impl LinkInfo {
    /// The number (inode) of the cgroup that a cgroup link is attached to; 0 when that is gone.
    pub fn cgroup_id(&self) -> u64 {
        u64::from(self.target_low) | u64::from(self.target_high) << 32
    }

    /// The interface index that a tcx link is attached to; 0 when that is gone.
    pub fn ifindex(&self) -> u32 {
        self.target_low
    }
}

/// Reads the kernel's information of a link.
///
/// # Errors
/// The kernel's answer.
pub fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = LinkInfo::default();
    // SAFETY: LinkInfo is repr(C), all integers, and the leading part of struct bpf_link_info; no pointers.
    unsafe { object_info(link, &mut info) }?;
    Ok(info)
}

const _: () = assert!(core::mem::offset_of!(LinkInfo, target_low) == 16);
