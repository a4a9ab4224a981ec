//! Maps: create, read, write, information.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::{bpf, bpf_fd, object_info, raw};

const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;
const MAP_GET_NEXT_KEY: libc::c_int = 4;
const BPF_NOEXIST: u64 = 1;
const MAP_LOOKUP_BATCH: libc::c_int = 24;
const MAP_UPDATE_BATCH: libc::c_int = 26;

/// The kernel's internal ENOTSUPP, which some map kinds return for batch operations.
pub const ENOTSUPP: i32 = 524;

/// Shape of a map to create.
#[derive(Clone, Copy, Debug)]
pub struct MapDefinition<'a> {
    /// `enum bpf_map_type`.
    pub map_type: u32,
    /// Bytes.
    pub key_size: u32,
    /// Bytes.
    pub value_size: u32,
    /// Capacity.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub flags: u32,
    /// At most 15 bytes, letters, digits, `_` and `.`.
    pub name: &'a str,
}

#[repr(C)]
struct MapCreateAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
    map_ifindex: u32,
}

/// Creates a map.
///
/// # Errors
/// The kernel's answer.
pub fn map_create(definition: &MapDefinition<'_>) -> io::Result<OwnedFd> {
    let mut map_name = [0; 16];
    for (to, from) in map_name.iter_mut().take(15).zip(definition.name.bytes()) {
        *to = from;
    }
    let mut attr = MapCreateAttr {
        map_type: definition.map_type,
        key_size: definition.key_size,
        value_size: definition.value_size,
        max_entries: definition.max_entries,
        map_flags: definition.flags,
        inner_map_fd: 0,
        numa_node: 0,
        map_name,
        map_ifindex: 0,
    };
    // SAFETY: no pointers in the attribute; MAP_CREATE returns a descriptor.
    unsafe { bpf_fd(MAP_CREATE, &mut attr) }
}

#[repr(C)]
struct ElementAttr {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl ElementAttr {
    fn new(map: BorrowedFd<'_>, key: *const u8, value: *const u8, flags: u64) -> Self {
        Self {
            map_fd: raw(map),
            padding: 0,
            key: key as u64,
            value: value as u64,
            flags,
        }
    }
}

/// Reads the value of `key` into `value`; false when there is none.
///
/// # Errors
/// The kernel's answer.
///
/// # Safety
/// `key` has the map's key size and `value` its value size (times possible CPUs, each rounded up to 8, for
/// per-CPU maps).
pub unsafe fn map_lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<bool> {
    let mut attr = ElementAttr::new(map, key.as_ptr(), value.as_mut_ptr(), 0);
    // SAFETY: the caller vouches for the sizes.
    absent_is_false(unsafe { bpf(MAP_LOOKUP_ELEM, &mut attr) })
}

/// Writes one entry.
///
/// # Errors
/// The kernel's answer.
///
/// # Safety
/// As [`map_lookup`].
pub unsafe fn map_update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    let mut attr = ElementAttr::new(map, key.as_ptr(), value.as_ptr(), 0);
    // SAFETY: the caller vouches for the sizes; the kernel only reads both.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut attr) }.map(|_| ())
}

/// Writes one entry unless the key is there; false when it is.
///
/// # Errors
/// The kernel's answer.
///
/// # Safety
/// As [`map_lookup`].
pub unsafe fn map_insert(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<bool> {
    let mut attr = ElementAttr::new(map, key.as_ptr(), value.as_ptr(), BPF_NOEXIST);
    // SAFETY: the caller vouches for the sizes; the kernel only reads both.
    match unsafe { bpf(MAP_UPDATE_ELEM, &mut attr) } {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes one entry; false when there is none.
///
/// # Errors
/// The kernel's answer.
///
/// # Safety
/// `key` has the map's key size.
pub unsafe fn map_delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<bool> {
    let mut attr = ElementAttr::new(map, key.as_ptr(), std::ptr::null(), 0);
    // SAFETY: the caller vouches for the size.
    absent_is_false(unsafe { bpf(MAP_DELETE_ELEM, &mut attr) })
}

/// Writes into `next` the key after `key` (the first one for `None`, or when `key` is gone); false at the end.
///
/// # Errors
/// The kernel's answer.
///
/// # Safety
/// Both have the map's key size.
pub unsafe fn map_next_key(map: BorrowedFd<'_>, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<bool> {
    let key = key.map_or(std::ptr::null(), <[u8]>::as_ptr);
    let mut attr = ElementAttr::new(map, key, next.as_mut_ptr(), 0);
    // SAFETY: the caller vouches for the sizes.
    absent_is_false(unsafe { bpf(MAP_GET_NEXT_KEY, &mut attr) })
}

fn absent_is_false<T>(result: io::Result<T>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

#[repr(C)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Place of a batched read in a map: as large as the largest key.
pub type BatchCursor = [u8; 64];

/// Reads up to `count` entries from after `cursor` (`None` = the start) into `keys` and `values` and returns
/// how many there were and, unless the end is reached, where to go on.
///
/// # Errors
/// The kernel's answer; [`ENOTSUPP`] or EINVAL when the map's kind has no batches, ENOSPC when a hash bucket
/// holds more than `count`.
///
/// # Safety
/// `keys` and `values` have room for `count` keys and values of the map, and a key fits the cursor.
pub unsafe fn map_lookup_batch(
    map: BorrowedFd<'_>,
    cursor: Option<&BatchCursor>,
    keys: &mut [u8],
    values: &mut [u8],
    count: u32,
) -> io::Result<(u32, Option<BatchCursor>)> {
    let mut next: BatchCursor = [0; 64];
    let mut attr = BatchAttr {
        in_batch: cursor.map_or(0, |cursor| cursor.as_ptr() as u64),
        out_batch: next.as_mut_ptr() as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count,
        map_fd: raw(map),
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: the caller vouches for the sizes; the cursors outlive the call.
    match absent_is_false(unsafe { bpf(MAP_LOOKUP_BATCH, &mut attr) })? {
        true => Ok((attr.count, Some(next))),
        false => Ok((attr.count, None)),
    }
}

/// Writes `count` entries.
///
/// # Errors
/// The kernel's answer; some entries may have been written.
///
/// # Safety
/// `keys` and `values` hold `count` keys and values of the map.
pub unsafe fn map_update_batch(
    map: BorrowedFd<'_>,
    keys: &[u8],
    values: &[u8],
    count: u32,
) -> io::Result<()> {
    let mut attr = BatchAttr {
        in_batch: 0,
        out_batch: 0,
        keys: keys.as_ptr() as u64,
        values: values.as_ptr() as u64,
        count,
        map_fd: raw(map),
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: the caller vouches for the sizes; the kernel only reads both.
    unsafe { bpf(MAP_UPDATE_BATCH, &mut attr) }.map(|_| ())
}

/// Leading fields of `struct bpf_map_info`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MapInfo {
    /// `enum bpf_map_type`.
    pub map_type: u32,
    /// Kernel-wide number.
    pub id: u32,
    /// Bytes.
    pub key_size: u32,
    /// Bytes.
    pub value_size: u32,
    /// Capacity.
    pub max_entries: u32,
    /// `BPF_F_*`.
    pub map_flags: u32,
}

/// Reads the kernel's information of a map.
///
/// # Errors
/// The kernel's answer.
pub fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    let mut info = MapInfo::default();
    // SAFETY: MapInfo is repr(C), all integers, and the leading part of struct bpf_map_info.
    unsafe { object_info(map, &mut info) }?;
    Ok(info)
}
