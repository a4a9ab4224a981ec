//! The DNS server's own address, on the node's loopback device.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;

const LOOPBACK: &str = "lo";

/// Puts an address on the loopback device of this network namespace, if it is not there yet.
pub(crate) async fn add(address: IpAddr) -> Result<()> {
    let (connection, handle, _) = rtnetlink::new_connection().context("open a netlink socket")?;
    let speaking = tokio::spawn(connection);
    let adding = async {
        let mut links = handle.link().get().match_name(LOOPBACK.to_owned()).execute();
        let link = links
            .try_next()
            .await?
            .context("this namespace has no loopback device")?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let added = handle
            .address()
            .add(link.header.index, address, bits)
            .execute()
            .await;
        match added {
            Err(rtnetlink::Error::NetlinkError(message)) if message.raw_code() == -nix::libc::EEXIST => {}
            result => result?,
        }
        anyhow::Ok(())
    };
    let result = adding
        .await
        .with_context(|| format!("add {address} to the loopback device"));
    speaking.abort();
    result
}
