//! Packet contexts (`struct __sk_buff`).

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::{
    bpf_fib_lookup, bpf_ktime_get_coarse_ns, bpf_l3_csum_replace, bpf_l4_csum_replace, bpf_loop,
    bpf_redirect_neigh, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes,
};
use skep_abi::{
    Address, Counter, FlowFlags, FlowKey, FlowValue, FragmentKey, FragmentValue, NodeConfig, Plain, PodRange,
};
use skep_datapath::answer::{self, Answer, Refusal};
use skep_datapath::packet::{Bytes, ChecksumUpdate, Family, PacketMut, Unwritable};
use skep_datapath::tables::Inserted;
use skep_datapath::{FlowTable, FragmentTable, PacketWorld};

use crate::maps;
use crate::world::World;

const BPF_F_PSEUDO_HDR: u64 = 1 << 4;
const BPF_F_MARK_MANGLED_0: u64 = 1 << 5;
/// Linux 6.16 and stable kernels since: do not even out the sum of a whole IPv6 packet, which has no header
/// checksum to do so.
const BPF_F_IPV6: u64 = 1 << 7;
const BPF_NOEXIST: u64 = 1;
const EEXIST: i64 = 17;
const EINVAL: i64 = 22;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// An skb as bytes.
#[derive(Clone, Copy)]
pub struct Skb(pub *mut __sk_buff);

impl Skb {
    /// The network protocol by the Ethernet type; `None` for anything but IP.
    #[inline(always)]
    pub fn family(&self) -> Option<Family> {
        // SAFETY: the context is valid while the program runs.
        match unsafe { (*self.0).protocol } {
            v4 if v4 == u32::from(0x0800_u16.to_be()) => Some(Family::V4),
            v6 if v6 == u32::from(0x86dd_u16.to_be()) => Some(Family::V6),
            _ => None,
        }
    }

    /// Whether the packet is addressed to this machine by its link-layer address. Others come by when a device
    /// is promiscuous or a bridge floods; the node does not handle them.
    #[inline(always)]
    pub fn is_for_this_machine(&self) -> bool {
        const PACKET_HOST: u32 = 0;
        // SAFETY: the context is valid while the program runs.
        unsafe { (*self.0).pkt_type == PACKET_HOST }
    }
}

impl Bytes for Skb {
    #[inline(always)]
    fn load<T: Plain>(&self, offset: u32) -> Option<T> {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the buffer has T's size; the helper checks the offset against the packet.
        let result = unsafe {
            bpf_skb_load_bytes(
                self.0.cast(),
                offset,
                value.as_mut_ptr().cast(),
                size_of::<T>() as u32,
            )
        };
        if result != 0 {
            return None;
        }
        // SAFETY: the helper returned success, so it has written all bytes, and any bytes are a valid T.
        Some(unsafe { value.assume_init() })
    }

    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: the context is valid while the program runs.
        unsafe { (*self.0).len }
    }
}

impl PacketMut for Skb {
    #[inline(always)]
    fn store<T: Plain>(&mut self, offset: u32, value: &T) -> Result<(), Unwritable> {
        let from = core::ptr::from_ref(value).cast();
        // SAFETY: the buffer has T's size; the helper checks the offset and makes the packet writable.
        done(unsafe { bpf_skb_store_bytes(self.0, offset, from, size_of::<T>() as u32, 0) })
    }

    #[inline(always)]
    fn resize(&mut self, length: u32) -> Result<(), Unwritable> {
        // SAFETY: the helper checks the length.
        done(unsafe { bpf_skb_change_tail(self.0, length, 0) })
    }

    #[inline(always)]
    fn update_header_checksum(&mut self, offset: u32, difference: u32) -> Result<(), Unwritable> {
        // SAFETY: the helper checks the offset. Size 0 in the flags: `to` is a difference.
        done(unsafe { bpf_l3_csum_replace(self.0, offset, 0, u64::from(difference), 0) })
    }

    #[inline(always)]
    fn update_checksum(&mut self, update: &ChecksumUpdate) -> Result<(), Unwritable> {
        let mut flags = 0;
        if update.pseudo_header {
            flags |= BPF_F_PSEUDO_HDR;
        }
        if update.udp {
            flags |= BPF_F_MARK_MANGLED_0;
        }
        let replace = |flags| {
            // SAFETY: the helper checks the offset. Size 0 in the flags: `to` is a difference.
            unsafe { bpf_l4_csum_replace(self.0, update.offset, 0, u64::from(update.difference), flags) }
        };
        if update.ipv6 && update.pseudo_header {
            // Kernels that do not know the flag refuse it before they touch anything.
            let result = replace(flags | BPF_F_IPV6);
            if result != -EINVAL {
                return done(result);
            }
        }
        done(replace(flags))
    }
}

#[inline(always)]
fn done(result: i64) -> Result<(), Unwritable> {
    if result == 0 { Ok(()) } else { Err(Unwritable) }
}

impl FlowTable for World<Skb> {
    type Flow<'a> = &'a FlowValue;

    #[inline(always)]
    fn flow(&self, key: &FlowKey) -> Option<&FlowValue> {
        // SAFETY: the kernel keeps the element's memory while the program runs. Another CPU may reuse the
        // element for another key meanwhile; a packet is then translated as a neighbour's, once.
        unsafe { maps::FLOWS.get(key) }
    }

    #[inline(always)]
    fn insert_flow(&self, key: &FlowKey, value: &FlowValue) -> Inserted {
        match maps::write(&maps::FLOWS, key, value, BPF_NOEXIST) {
            Ok(()) => Inserted::New,
            Err(error) if error == -EEXIST => Inserted::Taken,
            Err(_) => Inserted::Failed,
        }
    }

    #[inline(always)]
    fn remove_flow(&self, key: &FlowKey) {
        maps::remove(&maps::FLOWS, key);
    }

    #[inline(always)]
    fn repeat<S: FnMut(u32) -> bool>(limit: u32, mut step: S) {
        // SAFETY: the callback has the signature that bpf_loop calls, and `step` outlives the call.
        unsafe {
            bpf_loop(
                limit,
                call::<S> as *mut c_void,
                core::ptr::from_mut(&mut step).cast(),
                0,
            )
        };
    }

    #[inline(always)]
    fn renew_flow(&self, key: &FlowKey, flags: FlowFlags, now_s: u32) {
        if let Some(value) = maps::FLOWS.get_ptr_mut(key) {
            // SAFETY: null-checked, and the element's memory stays while the program runs. Only the two
            // fields are written, so a concurrent writer of the other direction's entry is not disturbed.
            unsafe {
                (*value).flags = flags;
                (*value).last_seen_s = now_s;
            }
        }
    }
}

/// One round of bpf_loop, with `step` as its context; 1 ends the loop.
extern "C" fn call<S: FnMut(u32) -> bool>(round: u64, step: *mut c_void) -> i64 {
    // SAFETY: `repeat` passes a live S, which nothing else uses meanwhile.
    let step = unsafe { &mut *step.cast::<S>() };
    i64::from(!step(round as u32))
}

impl FragmentTable for World<Skb> {
    #[inline(always)]
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentValue> {
        maps::read(&maps::FRAGMENTS, key)
    }

    #[inline(always)]
    fn put_fragment(&self, key: &FragmentKey, value: &FragmentValue) {
        // A table that refuses costs the other fragments their way, no more.
        let _refused = maps::write(&maps::FRAGMENTS, key, value, 0);
    }
}

impl PacketWorld for World<Skb> {
    #[inline(always)]
    fn config(&self) -> Option<&NodeConfig> {
        maps::CONFIG.get(0)
    }

    #[inline(always)]
    fn pod_range(&self, address: &Address) -> PodRange {
        maps::longest_prefix(&maps::POD_RANGES, address).unwrap_or(PodRange::NONE)
    }

    #[inline(always)]
    fn keeps_source(&self, address: &Address) -> bool {
        maps::longest_prefix(&maps::NON_MASQUERADE, address).is_some()
    }

    #[inline(always)]
    fn now_s(&self) -> u32 {
        // SAFETY: a helper without arguments. Seconds since boot fit 32 bits for 136 years.
        (unsafe { bpf_ktime_get_coarse_ns() } / 1_000_000_000) as u32
    }

    #[inline(always)]
    fn may_report(&self) -> bool {
        let Some(budget) = maps::REPORTS.get_ptr_mut(0) else {
            return false;
        };
        // SAFETY: the pointer is to a live element and was null-checked. Other CPUs count in it as well, and races
        // among them give a few more reports away than there are: it is a limit, not an account.
        answer::take(unsafe { &mut *budget }, self.now_s())
    }

    #[inline(always)]
    fn forward(&self, source: &Address, destination: &Address) -> Result<(), Refusal> {
        forward(self.context, source, destination)
    }
}

/// `struct bpf_fib_lookup`, its unions resolved as this project uses them.
#[repr(C)]
struct FibLookup {
    family: u8,
    l4_protocol: u8,
    source_port: u16,
    destination_port: u16,
    total_length: u16,
    ifindex: u32,
    flow_information: u32,
    source: [u32; 4],
    destination: [u32; 4],
    vlan: u32,
    macs: [u32; 3],
}

const _: () = assert!(size_of::<FibLookup>() == 64);

/// `struct bpf_redir_neigh`.
#[repr(C)]
struct NextHop {
    family: u32,
    address: [u32; 4],
}

/// Skip the neighbour table: bpf_redirect_neigh resolves it, and waits for it, by itself.
const BPF_FIB_LOOKUP_SKIP_NEIGH: u32 = 1 << 2;
const BPF_FIB_LKUP_RET_SUCCESS: i64 = 0;
const BPF_FIB_LKUP_RET_FRAG_NEEDED: i64 = 8;
const TC_ACT_REDIRECT: i64 = 7;

/// Asks the routing table and hands the packet to the device it names.
#[inline(never)]
fn forward(skb: Skb, source: &Address, destination: &Address) -> Result<(), Refusal> {
    let v4 = destination.is_ipv4();
    let words = |address: &Address| {
        if v4 {
            [address.ipv4_be(), 0, 0, 0]
        } else {
            address.words_be()
        }
    };
    let mut lookup = FibLookup {
        family: if v4 { AF_INET } else { AF_INET6 },
        l4_protocol: 0,
        source_port: 0,
        destination_port: 0,
        total_length: 0,
        // SAFETY: the context is valid while the program runs.
        ifindex: unsafe { (*skb.0).ifindex },
        flow_information: 0,
        source: words(source),
        destination: words(destination),
        vlan: 0,
        macs: [0; 3],
    };
    let size = size_of::<FibLookup>() as i32;
    // SAFETY: the parameters live on the stack and have the size given.
    let result = unsafe {
        bpf_fib_lookup(
            skb.0.cast(),
            core::ptr::from_mut(&mut lookup).cast(),
            size,
            BPF_FIB_LOOKUP_SKIP_NEIGH,
        )
    };
    match result {
        BPF_FIB_LKUP_RET_SUCCESS => {}
        // The look-up has replaced the length by the MTU.
        BPF_FIB_LKUP_RET_FRAG_NEEDED => {
            return Err(Refusal {
                mtu: u32::from(lookup.total_length),
                ..Refusal::told(Counter::DropTooBig, Answer::TooBig)
            });
        }
        _ => return Err(Counter::DropNoRoute.into()),
    }
    // The look-up has replaced destination and family by those of the next hop.
    let mut hop = NextHop {
        family: u32::from(lookup.family),
        address: lookup.destination,
    };
    // SAFETY: the parameters live on the stack and have the size given.
    let result = unsafe {
        bpf_redirect_neigh(
            lookup.ifindex,
            core::ptr::from_mut(&mut hop).cast(),
            size_of::<NextHop>() as i32,
            0,
        )
    };
    if result == TC_ACT_REDIRECT {
        Ok(())
    } else {
        Err(Counter::DropNoRoute.into())
    }
}
