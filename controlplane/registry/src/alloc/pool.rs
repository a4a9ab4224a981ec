//! [`Pool`]: one range of addresses or ports, with a lower band that is handed out last.
//!
//! Source: KEP-3070 and KEP-3668: the lower `min(max(16, size/16), 256)` addresses (ports: `min(max(16, size/32),
//! 128)`) are left to those who ask for one by name, as long as the rest has free ones.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::bitmap::Bitmap;

/// The most members that one pool tracks; larger (IPv6) ranges are used up to here.
const POOL_LIMIT: u128 = 1 << 20;

/// Addresses and node ports that an object has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ports: Vec<u16>,
}

impl Resources {
    pub(crate) fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.ports.is_empty()
    }

    /// Whether something is in both.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        self.without(other) != *self
    }

    /// What `self` has and `other` has not.
    pub(crate) fn without(&self, other: &Self) -> Self {
        let addresses = self
            .addresses
            .iter()
            .filter(|address| !other.addresses.contains(address));
        let ports = self.ports.iter().filter(|port| !other.ports.contains(port));
        Self {
            addresses: addresses.copied().collect(),
            ports: ports.copied().collect(),
        }
    }
}

/// Why something cannot be claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    InUse,
    OutOfRange { ranges: String },
    Full,
}

/// A range whose members are numbered.
pub(super) trait Numbered {
    type Member;

    fn index(&self, member: &Self::Member) -> Option<usize>;
    fn member(&self, index: usize) -> Option<Self::Member>;
}

#[derive(Debug)]
pub(super) struct Pool<R> {
    range: R,
    used: Bitmap,
    /// Members below this are handed out last.
    band: usize,
}

/// The network's address (and IPv4's broadcast address) are left out: number 0 is the first host's address.
impl Numbered for IpNet {
    type Member = IpAddr;

    fn index(&self, address: &IpAddr) -> Option<usize> {
        if !self.contains(address) {
            return None;
        }
        let offset = match (address, self.network()) {
            (IpAddr::V4(address), IpAddr::V4(network)) => {
                u128::from(u32::from(*address) - u32::from(network))
            }
            (IpAddr::V6(address), IpAddr::V6(network)) => u128::from(*address) - u128::from(network),
            _ => return None,
        };
        let index = usize::try_from(offset.checked_sub(1)?).ok()?;
        (index < address_count(self)).then_some(index)
    }

    fn member(&self, index: usize) -> Option<IpAddr> {
        Some(match self.network() {
            IpAddr::V4(network) => IpAddr::from(
                u32::from(network)
                    .checked_add(u32::try_from(index).ok()? + 1)?
                    .to_be_bytes(),
            ),
            IpAddr::V6(network) => {
                IpAddr::from(u128::from(network).checked_add(index as u128 + 1)?.to_be_bytes())
            }
        })
    }
}

fn address_count(cidr: &IpNet) -> usize {
    let bits = u32::from(cidr.max_prefix_len() - cidr.prefix_len());
    let all = 1_u128.checked_shl(bits).unwrap_or(u128::MAX);
    let special = if cidr.addr().is_ipv4() { 2 } else { 1 };
    // At most 2^20.
    usize::try_from(all.saturating_sub(special).min(POOL_LIMIT)).unwrap_or(0)
}

impl Numbered for RangeInclusive<u16> {
    type Member = u16;

    fn index(&self, port: &u16) -> Option<usize> {
        self.contains(port).then(|| usize::from(port - self.start()))
    }

    fn member(&self, index: usize) -> Option<u16> {
        u16::try_from(index)
            .ok()
            .and_then(|index| self.start().checked_add(index))
    }
}

impl Pool<IpNet> {
    pub(super) fn addresses(cidr: IpNet) -> Self {
        let count = address_count(&cidr);
        Self {
            range: cidr,
            used: Bitmap::new(count),
            band: band(count, 16, 256),
        }
    }

    pub(super) fn is_ipv6(&self) -> bool {
        self.range.addr().is_ipv6()
    }

    pub(super) fn describe(&self) -> String {
        self.range.trunc().to_string()
    }
}

impl Pool<RangeInclusive<u16>> {
    pub(super) fn ports(range: RangeInclusive<u16>) -> Self {
        let count = range.len();
        Self {
            range,
            used: Bitmap::new(count),
            band: band(count, 32, 128),
        }
    }

    pub(super) fn describe(&self) -> String {
        format!("{}-{}", self.range.start(), self.range.end())
    }
}

fn band(count: usize, share: usize, most: usize) -> usize {
    if count <= 16 {
        0
    } else {
        (count / share).max(16).min(most)
    }
}

impl<R: Numbered> Pool<R> {
    pub(super) fn holds(&self, member: &R::Member) -> bool {
        self.range.index(member).is_some()
    }

    pub(super) fn mark(&mut self, member: &R::Member) {
        if let Some(index) = self.range.index(member) {
            self.used.set(index, true);
        }
    }

    pub(super) fn release(&mut self, member: &R::Member) {
        if let Some(index) = self.range.index(member) {
            self.used.set(index, false);
        }
    }

    pub(super) fn clear(&mut self) {
        self.used.clear();
    }

    pub(super) fn claim(&mut self, member: &R::Member) -> Result<(), Refusal> {
        match self.range.index(member) {
            None => Err(Refusal::OutOfRange {
                ranges: String::new(),
            }),
            Some(index) if self.used.get(index) => Err(Refusal::InUse),
            Some(index) => {
                self.used.set(index, true);
                Ok(())
            }
        }
    }

    /// Claims a free member, chosen by `random`, of the upper band while it has one.
    pub(super) fn claim_any(&mut self, random: u32) -> Result<R::Member, Refusal> {
        let (len, band) = (self.used.len(), self.band);
        let start = band + random as usize % (len - band).max(1);
        let free = self
            .used
            .first_unset(start.min(len)..len)
            .or_else(|| self.used.first_unset(band..start.min(len)))
            .or_else(|| self.used.first_unset(0..band));
        let index = free.ok_or(Refusal::Full)?;
        self.used.set(index, true);
        self.range.member(index).ok_or(Refusal::Full)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn every_address_is_given_once_and_the_lower_band_last() {
        let mut pool = Pool::addresses(net("10.0.0.0/24"));
        let band: Vec<IpAddr> = (1..=16).map(|last| IpAddr::from([10, 0, 0, last])).collect();
        let mut seen = HashSet::new();
        for step in 0..254_u32 {
            let address = pool.claim_any(step.wrapping_mul(2_654_435_761)).unwrap();
            assert_eq!(band.contains(&address), step >= 238, "{address} at {step}");
            assert!(seen.insert(address) && net("10.0.0.0/24").contains(&address));
        }
        assert_eq!(pool.claim_any(0), Err(Refusal::Full));
        pool.release(&"10.0.0.77".parse().unwrap());
        assert_eq!(pool.claim_any(5), Ok("10.0.0.77".parse().unwrap()));
    }

    #[test]
    fn network_and_broadcast_addresses_are_no_members() {
        let pool = Pool::addresses(net("10.0.0.0/24"));
        for outside in ["10.0.0.0", "10.0.0.255", "10.0.1.1", "fd00::1"] {
            assert!(!pool.holds(&outside.parse().unwrap()), "{outside}");
        }
        let pool = Pool::addresses(net("fd00::/64"));
        assert!(pool.holds(&"fd00::1".parse().unwrap()) && !pool.holds(&"fd00::".parse().unwrap()));
    }

    #[test]
    fn named_claims_are_checked() {
        let mut pool = Pool::ports(30000..=32767);
        assert_eq!(pool.claim(&30080), Ok(()));
        assert_eq!(pool.claim(&30080), Err(Refusal::InUse));
        assert!(!pool.holds(&80));
        assert!(pool.claim_any(0).unwrap() >= 30000 + 86);
    }
}
