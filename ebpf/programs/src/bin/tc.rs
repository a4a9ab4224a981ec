//! Packet hooks of a node's devices: node ports for traffic from outside, and masquerade for pods.
#![no_std]
#![no_main]

use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use skep_datapath::{Family, Verdict, egress, ingress};
use skep_programs::maps;
use skep_programs::packet::Skb;
use skep_programs::world::World;

/// On to the next program or the stack.
const TCX_NEXT: i32 = -1;
const TCX_DROP: i32 = 2;
const TCX_REDIRECT: i32 = 7;

/// Length of an Ethernet header; a VLAN tag is held apart from it.
const ETHERNET: u32 = 14;

#[classifier]
fn skep_ingress(context: TcContext) -> i32 {
    if !Skb(context.skb.skb).is_for_this_machine() {
        return TCX_NEXT;
    }
    handle(context, ingress::ingress)
}

#[classifier]
fn skep_egress(context: TcContext) -> i32 {
    handle(context, egress::egress)
}

#[inline(always)]
fn handle(context: TcContext, decide: impl Fn(&World<Skb>, &mut Skb, Family, u32) -> Verdict) -> i32 {
    let mut skb = Skb(context.skb.skb);
    let Some(family) = skb.family() else {
        return TCX_NEXT;
    };
    match decide(&World { context: skb }, &mut skb, family, ETHERNET) {
        Verdict::Pass | Verdict::Translated => TCX_NEXT,
        Verdict::Forwarded => TCX_REDIRECT,
        Verdict::Answered(counter) => {
            maps::count(counter);
            TCX_REDIRECT
        }
        Verdict::Drop(counter) => {
            maps::count(counter);
            TCX_DROP
        }
    }
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
