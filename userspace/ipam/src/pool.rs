//! The allocator.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Who has an address: one interface of one container (sandbox).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Owner {
    /// The runtime's id of the container.
    pub container: String,
    /// Name of the interface within it.
    pub interface: String,
}

/// Every address of the subnet is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all {capacity} addresses of {subnet} are taken")]
pub struct Exhausted {
    /// The subnet.
    pub subnet: IpNet,
    /// How many addresses it has for pods.
    pub capacity: u128,
}

/// The addresses of one subnet and their owners.
///
/// Gives addresses out in turn, so that one that was given back rests as long as possible. An IPv4 subnet's first and
/// last address are never given out (if it has more than two), nor is an IPv6 subnet's first (the routers' anycast
/// address, RFC 4291 section 2.6.1).
#[derive(Clone, Debug)]
pub struct Pool {
    subnet: IpNet,
    by_owner: BTreeMap<Owner, IpAddr>,
    by_address: BTreeMap<IpAddr, Owner>,
    /// Number of the address that was given out last.
    last: u128,
}

impl Pool {
    /// All addresses of the subnet, none taken.
    pub fn new(subnet: IpNet) -> Self {
        let subnet = subnet.trunc();
        let last = first_number(subnet) + capacity(subnet) - 1;
        Self {
            subnet,
            by_owner: BTreeMap::new(),
            by_address: BTreeMap::new(),
            last,
        }
    }

    /// The subnet.
    pub fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// How many addresses can be taken at once.
    pub fn capacity(&self) -> u128 {
        capacity(self.subnet)
    }

    /// The owner's address; the same as before if it has one.
    ///
    /// # Errors
    /// [`Exhausted`].
    pub fn allocate(&mut self, owner: Owner) -> Result<IpAddr, Exhausted> {
        if let Some(address) = self.by_owner.get(&owner) {
            return Ok(*address);
        }
        let (first, capacity) = (first_number(self.subnet), self.capacity());
        // One more try than addresses are taken must find a free one.
        let tries = capacity.min(self.by_address.len() as u128 + 1);
        let turn = self.last - first + 1;
        let free = (0..tries)
            .map(|step| first + (turn + step) % capacity)
            .find(|number| !self.by_address.contains_key(&address_of(self.subnet, *number)));
        let Some(number) = free else {
            return Err(Exhausted {
                subnet: self.subnet,
                capacity,
            });
        };
        self.last = number;
        let address = address_of(self.subnet, number);
        self.insert(owner, address);
        Ok(address)
    }

    /// Takes over an assignment that was made before, also one of another subnet. A former address of this owner and a
    /// former owner of this address are forgotten.
    pub fn claim(&mut self, owner: Owner, address: IpAddr) {
        self.release(&owner);
        if let Some(former) = self.by_address.remove(&address) {
            self.by_owner.remove(&former);
        }
        let number = number_of(address);
        let first = first_number(self.subnet);
        if self.subnet.contains(&address) && (first..first + self.capacity()).contains(&number) {
            self.last = number;
        }
        self.insert(owner, address);
    }

    /// Gives the owner's address back.
    pub fn release(&mut self, owner: &Owner) -> Option<IpAddr> {
        let address = self.by_owner.remove(owner)?;
        self.by_address.remove(&address);
        Some(address)
    }

    /// The owner's address.
    pub fn address(&self, owner: &Owner) -> Option<IpAddr> {
        self.by_owner.get(owner).copied()
    }

    /// All assignments, sorted by owner.
    pub fn assignments(&self) -> impl Iterator<Item = (&Owner, IpAddr)> {
        self.by_owner.iter().map(|(owner, address)| (owner, *address))
    }

    /// How many addresses are taken.
    pub fn len(&self) -> usize {
        self.by_owner.len()
    }

    /// Whether no address is taken.
    pub fn is_empty(&self) -> bool {
        self.by_owner.is_empty()
    }

    fn insert(&mut self, owner: Owner, address: IpAddr) {
        self.by_address.insert(address, owner.clone());
        self.by_owner.insert(owner, address);
    }
}

fn capacity(subnet: IpNet) -> u128 {
    let host_bits = u32::from(subnet.max_prefix_len() - subnet.prefix_len());
    let all = 1_u128.checked_shl(host_bits).unwrap_or(u128::MAX);
    match subnet {
        IpNet::V4(_) if all > 2 => all - 2,
        IpNet::V6(_) if all > 1 => all - 1,
        _ => all,
    }
}

fn first_number(subnet: IpNet) -> u128 {
    let network = number_of(subnet.network());
    let whole = capacity(subnet) <= 2 && subnet.prefix_len() + 1 >= subnet.max_prefix_len();
    let skip_first = match subnet {
        IpNet::V4(_) => !whole,
        IpNet::V6(_) => subnet.prefix_len() < subnet.max_prefix_len(),
    };
    network + u128::from(skip_first)
}

fn number_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn address_of(subnet: IpNet, number: u128) -> IpAddr {
    match subnet {
        IpNet::V4(_) => {
            let bits = u32::try_from(number).expect("numbers lie within the subnet, which is IPv4");
            IpAddr::V4(bits.into())
        }
        IpNet::V6(_) => IpAddr::V6(number.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn owner(number: usize) -> Owner {
        Owner {
            container: format!("c{number}"),
            interface: "eth0".to_owned(),
        }
    }

    fn pool(subnet: &str) -> Pool {
        Pool::new(subnet.parse().unwrap())
    }

    fn fill(pool: &mut Pool) -> Vec<String> {
        (0..)
            .map_while(|index| pool.allocate(owner(index)).ok())
            .map(|address| address.to_string())
            .collect()
    }

    #[test]
    fn small_subnets_give_what_they_have() {
        assert_eq!(fill(&mut pool("10.0.0.0/29")).len(), 6);
        assert_eq!(fill(&mut pool("10.0.0.0/30")), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(fill(&mut pool("10.0.0.4/31")), ["10.0.0.4", "10.0.0.5"]);
        assert_eq!(fill(&mut pool("10.0.0.7/32")), ["10.0.0.7"]);
        assert_eq!(fill(&mut pool("fd00::/126")), ["fd00::1", "fd00::2", "fd00::3"]);
        assert_eq!(fill(&mut pool("fd00::/127")), ["fd00::1"]);
        assert_eq!(fill(&mut pool("fd00::9/128")), ["fd00::9"]);
    }

    #[test]
    fn the_largest_subnets_work() {
        let mut pool = pool("::/0");
        assert_eq!(pool.allocate(owner(1)).unwrap().to_string(), "::1");
        let mut pool = Pool::new("0.0.0.0/0".parse().unwrap());
        assert_eq!(pool.capacity(), (1 << 32) - 2);
        assert_eq!(pool.allocate(owner(1)).unwrap().to_string(), "0.0.0.1");
    }

    #[test]
    fn an_address_that_was_given_back_rests() {
        let mut pool = pool("10.0.0.0/24");
        let first = pool.allocate(owner(1)).unwrap();
        pool.release(&owner(1));
        let others: Vec<_> = (2..255)
            .map(|index| pool.allocate(owner(index)).unwrap())
            .collect();
        assert!(!others.contains(&first));
        assert_eq!(pool.allocate(owner(255)).unwrap(), first);
    }

    #[test]
    fn claims_of_another_subnet_are_kept_beside() {
        let mut pool = pool("10.0.0.0/30");
        pool.claim(owner(9), "192.168.1.1".parse().unwrap());
        assert_eq!(pool.allocate(owner(9)).unwrap().to_string(), "192.168.1.1");
        assert_eq!(fill(&mut pool).len(), 2);
    }

    proptest! {
        /// Against a plain model: no address twice, none outside, exhausted exactly when all are taken.
        #[test]
        fn addresses_are_never_shared(
            prefix in 26_u8..=32, steps in proptest::collection::vec((0_usize..80, 0_u8..4), 1..300),
        ) {
            let subnet = IpNet::new("10.9.8.0".parse().unwrap(), prefix).unwrap();
            let mut pool = Pool::new(subnet);
            let mut model: BTreeMap<usize, IpAddr> = BTreeMap::new();
            for (number, action) in steps {
                if action == 0 {
                    prop_assert_eq!(pool.release(&owner(number)), model.remove(&number));
                    continue;
                }
                match pool.allocate(owner(number)) {
                    Ok(address) => {
                        prop_assert!(subnet.contains(&address));
                        prop_assert_eq!(*model.entry(number).or_insert(address), address);
                    }
                    Err(exhausted) => {
                        prop_assert_eq!(model.len() as u128, exhausted.capacity);
                        prop_assert!(!model.contains_key(&number));
                    }
                }
                let distinct: BTreeSet<_> = model.values().collect();
                prop_assert_eq!(distinct.len(), model.len());
                prop_assert_eq!(pool.len(), model.len());
            }
        }
    }
}
