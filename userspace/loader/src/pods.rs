//! Pods' network namespaces: what tells the programs whose socket they see.

use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use nix::sched::{CloneFlags, setns};
use skep_abi::{Address, PodAddresses};
use skep_bpf_maps::{KernelTable, MapError, Table as _};

use crate::LoadError;

/// POD_NETWORKS.
#[derive(Debug)]
pub(crate) struct Pods(pub(crate) KernelTable<u64, PodAddresses>);

impl Pods {
    /// A namespace has this address. Whoever had it before is gone.
    pub(crate) fn add(&self, netns: BorrowedFd<'_>, address: IpAddr) -> Result<(), LoadError> {
        self.remove(address)?;
        let cookie = cookie_of(netns)?;
        let mut pod = self.0.get(&cookie)?.unwrap_or_default();
        *field(&mut pod, address) = address.into();
        Ok(self.0.put(&cookie, &pod)?)
    }

    /// No namespace has this address any more. The namespace may be gone already, and its cookie with it, so that it
    /// is looked for by the address; a node has few pods.
    pub(crate) fn remove(&self, address: IpAddr) -> Result<(), MapError> {
        for (cookie, mut pod) in self.0.entries()? {
            let held = field(&mut pod, address);
            if *held != address.into() {
                continue;
            }
            *held = Address::UNSPECIFIED;
            if pod == PodAddresses::default() {
                self.0.delete(&cookie)?;
            } else {
                self.0.put(&cookie, &pod)?;
            }
        }
        Ok(())
    }
}

fn field(pod: &mut PodAddresses, address: IpAddr) -> &mut Address {
    match address {
        IpAddr::V4(_) => &mut pod.ipv4,
        IpAddr::V6(_) => &mut pod.ipv6,
    }
}

/// The cookie of a network namespace, which only a thread inside can ask for.
fn cookie_of(netns: BorrowedFd<'_>) -> Result<u64, LoadError> {
    let ask = || {
        setns(netns, CloneFlags::CLONE_NEWNET)
            .map_err(|error| LoadError::io("enter the network namespace", "of a pod")(error.into()))?;
        netns_cookie()
    };
    std::thread::scope(|scope| {
        let asked = scope.spawn(ask).join();
        asked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// The cookie of the calling thread's network namespace.
pub(crate) fn netns_cookie() -> Result<u64, LoadError> {
    let failed = || {
        LoadError::io(
            "ask for the cookie of the network namespace",
            "/proc/thread-self/ns/net",
        )
    };
    let socket = std::net::UdpSocket::bind("127.0.0.1:0")
        .or_else(|_no_loopback| std::net::UdpSocket::bind("0.0.0.0:0"))
        .map_err(failed())?;
    let mut cookie = 0_u64;
    let mut length: libc::socklen_t = 8;
    // SAFETY: the socket is open; value and length are live and agree.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(failed()(std::io::Error::last_os_error()));
    }
    Ok(cookie)
}
