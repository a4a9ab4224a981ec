//! What the node's network namespace must allow, for packets to pass between pods, nodes and the outside.

use std::io;
use std::path::{Path, PathBuf};

use crate::CniError;

const CONF: &str = "/proc/sys/net/ipv4/conf";
const IPV6_CONF: &str = "/proc/sys/net/ipv6/conf";

/// Sets the namespace of the calling thread up for pods: forwarding on, of both families; no reverse path filter (a
/// Service's reply may come by another way than the request went) and no ICMP redirects (a node that forwards to another
/// node's pod over its only link is no detour), on all devices and those to come.
///
/// # Errors
/// [`CniError::Io`] when a value differs and cannot be written.
pub fn prepare_node() -> Result<(), CniError> {
    set(Path::new("/proc/sys/net/ipv4/ip_forward"), "1")?;
    for device in devices(Path::new(CONF))? {
        for name in ["rp_filter", "send_redirects"] {
            if_there(set(&device.join(name), "0"))?;
        }
    }
    let ipv6 = Path::new(IPV6_CONF);
    if !ipv6.exists() {
        return Ok(());
    }
    // Routers believe no other router unless told so (2); the node's own default route may come from one.
    for device in devices(ipv6)? {
        let accept_ra = device.join("accept_ra");
        if std::fs::read_to_string(&accept_ra).is_ok_and(|value| value.trim() == "1") {
            if_there(set(&accept_ra, "2"))?;
        }
    }
    set(&ipv6.join("all/forwarding"), "1")
}

/// The folders of all devices, and of those to come.
fn devices(conf: &Path) -> Result<Vec<PathBuf>, CniError> {
    let failed = |source| CniError::Io {
        during: "list",
        path: conf.to_owned(),
        source,
    };
    let entries = std::fs::read_dir(conf).map_err(failed)?;
    entries.map(|entry| Ok(entry.map_err(failed)?.path())).collect()
}

/// A device may go away meanwhile.
fn if_there(result: Result<(), CniError>) -> Result<(), CniError> {
    match result {
        Err(CniError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn set(path: &Path, value: &str) -> Result<(), CniError> {
    let failed = |during| {
        let path = PathBuf::from(path);
        move |source| CniError::Io { during, path, source }
    };
    // Where it is right already it may also be read-only.
    if std::fs::read_to_string(path).map_err(failed("read"))?.trim() == value {
        return Ok(());
    }
    std::fs::write(path, value).map_err(failed("write"))
}
