//! The rules that kube-proxy writes, for the baselines. Pure: Services in, the text for the tool out.

pub(super) mod iptables;
mod names;
pub(super) mod nftables;

#[cfg(test)]
mod tests;

/// The bit that says a packet is to be masqueraded.
const MASQUERADE_MARK: &str = "0x4000";
