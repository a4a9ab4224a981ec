//! The `loopback` plugin: brings `lo` up in the pod's network namespace, without the agent.

use std::io;
use std::os::fd::AsFd;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::json;

use super::call::{Call, Command};
use super::result::with_family;
use crate::protocol::{Failure, code};

pub(super) fn answer(call: &Call) -> Result<String, Failure> {
    if !matches!(call.command, Command::Add | Command::Check) {
        // There is nothing to take away: the device goes with its namespace.
        return Ok(String::new());
    }
    let Some(netns) = call.open_netns()? else {
        return Err(Failure::new(
            code::INVALID_ENVIRONMENT,
            "the variable CNI_NETNS is missing",
        ));
    };
    let failed = |what: &str, error: &io::Error| {
        Failure::new(code::NETWORK, what.to_owned()).with_details(error.to_string())
    };
    // Only this short-lived program's one thread changes its namespace.
    move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|error| failed("cannot enter the network namespace", &error.into()))?;
    if call.command == Command::Check {
        return match is_up() {
            Ok(true) => Ok(String::new()),
            Ok(false) => Err(Failure::new(code::DIFFERS, "lo is down")),
            Err(error) => Err(failed("cannot read the state of lo", &error)),
        };
    }
    bring_up().map_err(|error| failed("cannot bring lo up", &error))?;
    Ok(json!({
        "cniVersion": call.version,
        "interfaces": [{ "name": "lo", "mac": "00:00:00:00:00:00", "sandbox": call.netns }],
        "ips": [
            with_family(&call.version, json!({ "address": "127.0.0.1/8", "interface": 0 }), "4"),
            with_family(&call.version, json!({ "address": "::1/128", "interface": 0 }), "6"),
        ],
        "dns": {},
    })
    .to_string())
}

fn is_up() -> io::Result<bool> {
    let (_, request) = flags()?;
    // SAFETY: SIOCGIFFLAGS, which succeeded, has written this member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(flags & UP != 0)
}

fn bring_up() -> io::Result<()> {
    let (socket, mut request) = flags()?;
    // SAFETY: SIOCGIFFLAGS, which succeeded, has written this member of the union.
    unsafe { request.ifr_ifru.ifru_flags |= UP };
    control(&socket, libc::SIOCSIFFLAGS, &mut request)
}

const UP: libc::c_short = 1;

/// A socket to ask through, and the answer: the flags of `lo`.
fn flags() -> io::Result<(std::net::UdpSocket, libc::ifreq)> {
    // SAFETY: all zeros is a valid ifreq: an empty name and a union of plain numbers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    control(&socket, libc::SIOCGIFFLAGS, &mut request)?;
    Ok((socket, request))
}

fn control(
    socket: &std::net::UdpSocket,
    operation: libc::Ioctl,
    request: &mut libc::ifreq,
) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open for as long as `socket` is borrowed; both operations read and write one ifreq,
    // which `request` points to.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), operation, request) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
