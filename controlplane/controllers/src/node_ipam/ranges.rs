//! The first free range of a cluster range. Pure.

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The node's ranges as its spec has them; what cannot be read is left out.
pub(crate) fn of(node: &Node) -> Vec<IpNet> {
    let Some(spec) = node.spec.as_ref() else {
        return Vec::new();
    };
    let listed = spec.pod_cidrs.iter().flatten();
    listed
        .chain(&spec.pod_cidr)
        .filter_map(|cidr| cidr.parse().ok())
        .collect()
}

/// The lowest range of size `mask` in `cidr` that overlaps none of `used`; None: all are taken.
pub(crate) fn first_free(cidr: IpNet, mask: u8, used: &[IpNet]) -> Option<IpNet> {
    let shift = u32::from(cidr.max_prefix_len() - mask);
    let base = number(cidr.network());
    let count = 1_u128 << (mask - cidr.prefix_len());
    let mut taken = BTreeSet::new();
    for range in used.iter().filter(|range| overlap(range, &cidr)) {
        let first = number(range.network()).max(base) - base;
        let last = number(range.broadcast()).min(number(cidr.broadcast())) - base;
        taken.extend((first >> shift)..=(last >> shift));
    }
    let free = (0..count).find(|index| !taken.contains(index))?;
    IpNet::new(address(cidr.network(), base + (free << shift)), mask).ok()
}

fn overlap(left: &IpNet, right: &IpNet) -> bool {
    left.contains(right) || right.contains(left)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// Of the family of `like`.
fn address(like: IpAddr, number: u128) -> IpAddr {
    match (like, u32::try_from(number)) {
        (IpAddr::V4(_), Ok(number)) => IpAddr::V4(Ipv4Addr::from(number)),
        _ => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_range_is_taken() {
        for (cidr, mask, used, expected) in [
            ("10.128.0.0/16", 24, vec![], Some("10.128.0.0/24")),
            (
                "10.128.0.0/16",
                24,
                vec!["10.128.0.0/24", "10.128.2.0/24"],
                Some("10.128.1.0/24"),
            ),
            ("10.128.0.0/16", 24, vec!["10.128.0.0/22"], Some("10.128.4.0/24")),
            (
                "10.128.0.0/16",
                24,
                vec!["10.128.0.64/26", "10.9.0.0/16"],
                Some("10.128.1.0/24"),
            ),
            ("10.128.0.0/23", 24, vec!["10.128.0.0/24", "10.128.1.0/24"], None),
            ("10.128.0.0/16", 24, vec!["10.0.0.0/8"], None),
            ("10.128.0.0/24", 24, vec![], Some("10.128.0.0/24")),
            (
                "255.255.0.0/16",
                24,
                vec!["255.255.0.0/17"],
                Some("255.255.128.0/24"),
            ),
            ("fd00::/56", 64, vec!["fd00::/64"], Some("fd00:0:0:1::/64")),
        ] {
            let used: Vec<IpNet> = used.into_iter().map(|range| range.parse().unwrap()).collect();
            let found = first_free(cidr.parse().unwrap(), mask, &used);
            assert_eq!(
                found,
                expected.map(|range| range.parse().unwrap()),
                "{cidr} {used:?}"
            );
        }
    }
}
