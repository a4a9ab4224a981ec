//! Socket hooks of a node's cgroup: what a program dials as a Service goes to a backend from the start, and
//! what it then sees of the remote end is the Service again. Node ports are nobody else's.
#![no_std]
#![no_main]

use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::bpf_set_retval;
use aya_ebpf::macros::{cgroup_sock, cgroup_sock_addr};
use aya_ebpf::programs::{SockAddrContext, SockContext};
use skep_datapath::bind;
use skep_datapath::socket::{self, SocketVerdict, Target};
use skep_programs::maps;
use skep_programs::socket::Family;
use skep_programs::world::World;

const ALLOW: i32 = 1;
const DENY: i32 = 0;
const EADDRINUSE: i32 = 98;
const ECONNREFUSED: i32 = 111;

type SocketWorld = World<*mut bpf_sock_addr>;

#[cgroup_sock_addr(connect4)]
fn skep_connect4(context: SockAddrContext) -> i32 {
    dial(context, Family::V4, socket::connect)
}

#[cgroup_sock_addr(connect6)]
fn skep_connect6(context: SockAddrContext) -> i32 {
    dial(context, Family::V6, socket::connect)
}

#[cgroup_sock_addr(sendmsg4)]
fn skep_sendmsg4(context: SockAddrContext) -> i32 {
    dial(context, Family::V4, socket::send)
}

#[cgroup_sock_addr(sendmsg6)]
fn skep_sendmsg6(context: SockAddrContext) -> i32 {
    dial(context, Family::V6, socket::send)
}

#[cgroup_sock_addr(recvmsg4)]
fn skep_recvmsg4(context: SockAddrContext) -> i32 {
    show(context, Family::V4)
}

#[cgroup_sock_addr(recvmsg6)]
fn skep_recvmsg6(context: SockAddrContext) -> i32 {
    show(context, Family::V6)
}

#[cgroup_sock_addr(getpeername4)]
fn skep_getpeer4(context: SockAddrContext) -> i32 {
    show(context, Family::V4)
}

#[cgroup_sock_addr(getpeername6)]
fn skep_getpeer6(context: SockAddrContext) -> i32 {
    show(context, Family::V6)
}

#[cgroup_sock(post_bind4)]
fn skep_post_bind4(context: SockContext) -> i32 {
    take(context)
}

#[cgroup_sock(post_bind6)]
fn skep_post_bind6(context: SockContext) -> i32 {
    take(context)
}

/// A call that takes a port.
#[inline(always)]
fn take(context: SockContext) -> i32 {
    let world = World {
        context: context.sock,
    };
    let (protocol, port) = world.bound();
    match bind::bind(&world, protocol, port) {
        Ok(()) => ALLOW,
        Err(counter) => {
            maps::count(counter);
            deny(EADDRINUSE)
        }
    }
}

/// A call that names a remote end.
#[inline(always)]
fn dial(
    context: SockAddrContext,
    family: Family,
    decide: impl Fn(&SocketWorld, &Target) -> SocketVerdict,
) -> i32 {
    let world = World {
        context: context.sock_addr,
    };
    let Some(target) = world.target(family) else {
        return ALLOW;
    };
    match decide(&world, &target) {
        SocketVerdict::Pass => ALLOW,
        SocketVerdict::Redirect(address, port) => {
            if world.set_remote(family, &address, port) {
                ALLOW
            } else {
                refuse()
            }
        }
        SocketVerdict::Refuse(counter) => {
            maps::count(counter);
            refuse()
        }
    }
}

/// Lets the call fail as if the remote end had refused.
#[inline(always)]
fn refuse() -> i32 {
    deny(ECONNREFUSED)
}

#[inline(always)]
fn deny(error: i32) -> i32 {
    // SAFETY: a helper with a plain argument, which these attach types may call.
    unsafe { bpf_set_retval(-error) };
    DENY
}

/// A call that shows a remote end.
#[inline(always)]
fn show(context: SockAddrContext, family: Family) -> i32 {
    let world = World {
        context: context.sock_addr,
    };
    if let Some(remote) = world.target(family)
        && let Some((address, port)) = socket::original(&world, &remote)
    {
        world.set_remote(family, &address, port);
    }
    ALLOW
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
