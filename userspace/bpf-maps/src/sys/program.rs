//! Programs that are loaded already: information and test runs.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::{bpf, bpf_fd, length, object_info, raw};

const PROG_TEST_RUN: libc::c_int = 10;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const ENABLE_STATS: libc::c_int = 32;

/// `struct bpf_prog_info` up to `verified_insns`. Pointers and the lengths beside them stay zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct ProgramInfo {
    /// `enum bpf_prog_type`.
    pub program_type: u32,
    /// Kernel-wide number.
    pub id: u32,
    /// Hash of the instructions.
    pub tag: [u8; 8],
    /// Bytes of machine code.
    pub jited_length: u32,
    /// Bytes of instructions after the verifier's rewriting.
    pub translated_length: u32,
    instruction_pointers: [u64; 2],
    /// Nanoseconds after boot.
    pub load_time_ns: u64,
    created_by_uid: u32,
    map_count: u32,
    map_ids: u64,
    /// NUL-padded.
    pub name: [u8; 16],
    ifindex: u32,
    gpl_compatible: u32,
    netns: [u64; 2],
    jited_symbol_counts: [u32; 2],
    jited_symbols: [u64; 2],
    btf_id: u32,
    function_record_size: u32,
    functions: u64,
    function_count: u32,
    line_count: u32,
    lines: [u64; 2],
    jited_line_count: u32,
    line_record_sizes: [u32; 2],
    tag_count: u32,
    tags: u64,
    /// Time spent in it since kernel.bpf_stats_enabled.
    pub run_time_ns: u64,
    /// Runs since kernel.bpf_stats_enabled.
    pub run_count: u64,
    recursion_misses: u64,
    /// Instructions that the verifier walked through.
    pub verified_instructions: u32,
    padding: u32,
}

const _: () = {
    assert!(core::mem::offset_of!(ProgramInfo, name) == 64);
    assert!(core::mem::offset_of!(ProgramInfo, run_time_ns) == 192);
    assert!(core::mem::offset_of!(ProgramInfo, verified_instructions) == 216);
};

/// Reads the kernel's information of a program.
///
/// # Errors
/// The kernel's answer.
pub fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    let mut info = ProgramInfo::default();
    // SAFETY: ProgramInfo is repr(C), all integers, and the leading part of struct bpf_prog_info; pointers are
    // null and their lengths zero.
    unsafe { object_info(program, &mut info) }?;
    Ok(info)
}

#[repr(C)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Opens a program by its kernel-wide number.
///
/// # Errors
/// The kernel's answer.
pub fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attr = IdAttr {
        id,
        next_id: 0,
        open_flags: 0,
    };
    // SAFETY: no pointers in the attribute; the command returns a descriptor.
    unsafe { bpf_fd(PROG_GET_FD_BY_ID, &mut attr) }
}

#[repr(C)]
struct TestRunAttr {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
}

/// What a program did to a packet.
#[derive(Clone, Debug)]
pub struct TestRun {
    /// Its return value.
    pub verdict: u32,
    /// The packet afterwards.
    pub packet: Vec<u8>,
    /// Mean time of a run.
    pub duration_ns: u32,
}

/// Runs a packet program `repeat` times on `packet`, an Ethernet frame; with more than one run, each meets
/// what the one before left.
///
/// # Errors
/// The kernel's answer.
pub fn program_test_run(program: BorrowedFd<'_>, packet: &[u8], repeat: u32) -> io::Result<TestRun> {
    let mut out = vec![0; packet.len() + 256];
    let mut attr = TestRunAttr {
        prog_fd: raw(program),
        retval: 0,
        data_size_in: length(packet.len())?,
        data_size_out: length(out.len())?,
        data_in: packet.as_ptr() as u64,
        data_out: out.as_mut_ptr() as u64,
        repeat,
        duration: 0,
        ctx_size_in: 0,
        ctx_size_out: 0,
        ctx_in: 0,
        ctx_out: 0,
    };
    // SAFETY: both buffers live and have the sizes given.
    unsafe { bpf(PROG_TEST_RUN, &mut attr) }?;
    out.truncate(attr.data_size_out as usize);
    Ok(TestRun {
        verdict: attr.retval,
        packet: out,
        duration_ns: attr.duration,
    })
}

#[repr(C)]
struct EnableStatsAttr {
    kind: u32,
}

/// Lets the kernel count runs and run times of all programs until the descriptor is closed, as the sysctl
/// kernel.bpf_stats_enabled does for good.
///
/// # Errors
/// The kernel's answer.
pub fn enable_run_statistics() -> io::Result<OwnedFd> {
    const BPF_STATS_RUN_TIME: u32 = 0;
    let mut attr = EnableStatsAttr {
        kind: BPF_STATS_RUN_TIME,
    };
    // SAFETY: no pointers in the attribute; the command returns a descriptor.
    unsafe { bpf_fd(ENABLE_STATS, &mut attr) }
}
