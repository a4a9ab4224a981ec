//! Addresses and ports that at most one Service may have, and how they are claimed without races.

mod bitmap;
mod pool;
mod reservation;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ipnet::IpNet;
use parking_lot::Mutex;
use skep_store::Store;

pub(crate) use pool::{Refusal, Resources};
pub(crate) use reservation::Reservation;

use pool::Pool;

/// All pools. Marks are set when a claim is made, before the object is written, and whenever an object with them is
/// seen in the cache; they are cleared when the cache sees the object without them, or a claim is given back.
pub(crate) struct Allocators {
    pools: Mutex<Pools>,
}

struct Pools {
    addresses: Vec<Pool<IpNet>>,
    ports: Pool<RangeInclusive<u16>>,
}

impl Allocators {
    pub(crate) fn new(service_cidrs: &[IpNet], node_ports: &RangeInclusive<u16>) -> Arc<Self> {
        let pools = Pools {
            addresses: service_cidrs.iter().map(|cidr| Pool::addresses(*cidr)).collect(),
            ports: Pool::ports(node_ports.clone()),
        };
        Arc::new(Self {
            pools: Mutex::new(pools),
        })
    }

    /// Begins to claim; what is claimed is given back unless the claims are kept.
    pub(crate) fn claims(self: &Arc<Self>) -> Claims {
        Claims {
            allocators: Arc::clone(self),
            taken: Resources::default(),
            reservation: Reservation::default(),
        }
    }

    pub(crate) fn mark(&self, resources: &Resources) {
        let pools = &mut *self.pools.lock();
        for address in &resources.addresses {
            pools.addresses.iter_mut().for_each(|pool| pool.mark(address));
        }
        resources.ports.iter().for_each(|port| pools.ports.mark(port));
    }

    pub(crate) fn release(&self, resources: &Resources) {
        let pools = &mut *self.pools.lock();
        for address in &resources.addresses {
            pools.addresses.iter_mut().for_each(|pool| pool.release(address));
        }
        resources.ports.iter().for_each(|port| pools.ports.release(port));
    }

    pub(crate) fn clear(&self) {
        let pools = &mut *self.pools.lock();
        pools.addresses.iter_mut().for_each(Pool::clear);
        pools.ports.clear();
    }
}

/// What one write has claimed. Dropped, it is given back.
pub(crate) struct Claims {
    allocators: Arc<Allocators>,
    pub(crate) taken: Resources,
    pub(crate) reservation: Reservation,
}

impl Claims {
    /// Claims this very address.
    pub(crate) fn address(&mut self, address: IpAddr) -> Result<(), Refusal> {
        let pools = &mut *self.allocators.pools.lock();
        let Some(pool) = pools.addresses.iter_mut().find(|pool| pool.holds(&address)) else {
            let ranges = pools
                .addresses
                .iter()
                .map(Pool::<IpNet>::describe)
                .collect::<Vec<_>>()
                .join(", ");
            return Err(Refusal::OutOfRange { ranges });
        };
        pool.claim(&address)?;
        self.taken.addresses.push(address);
        Ok(())
    }

    /// Claims a free address of the first range of a family.
    pub(crate) fn any_address(&mut self, ipv6: bool) -> Result<IpAddr, Refusal> {
        let pools = &mut *self.allocators.pools.lock();
        let pool = pools
            .addresses
            .iter_mut()
            .find(|pool| pool.is_ipv6() == ipv6)
            .ok_or(Refusal::Full)?;
        let address = pool.claim_any(rand::random())?;
        self.taken.addresses.push(address);
        Ok(address)
    }

    /// Claims this very port.
    pub(crate) fn port(&mut self, port: u16) -> Result<(), Refusal> {
        let pools = &mut *self.allocators.pools.lock();
        if !pools.ports.holds(&port) {
            return Err(Refusal::OutOfRange {
                ranges: pools.ports.describe(),
            });
        }
        pools.ports.claim(&port)?;
        self.taken.ports.push(port);
        Ok(())
    }

    pub(crate) fn any_port(&mut self) -> Result<u16, Refusal> {
        let pools = &mut *self.allocators.pools.lock();
        let port = pools.ports.claim_any(rand::random())?;
        self.taken.ports.push(port);
        Ok(port)
    }

    /// The write succeeded, or may have: the claims stay.
    pub(crate) fn keep(mut self) {
        self.taken = Resources::default();
    }

    /// Ends the reservation.
    pub(crate) async fn release_reservation(&mut self, store: &dyn Store) {
        std::mem::take(&mut self.reservation).release(store).await;
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        self.allocators.release(&self.taken);
    }
}
