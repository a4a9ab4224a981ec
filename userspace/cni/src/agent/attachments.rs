//! Makes, checks and removes the networks of pods.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use skep_ipam::{Ledger, LedgerError, Owner};
use tokio::time::Instant;

use super::{CniConfig, Observer, ObserverError};
use crate::CniError;
use crate::netlink::{Link, Netlink, Route};
use crate::protocol::Attached;

/// Where a pod sends everything; exists only as a neighbour entry in each pod.
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// Marks the host's routes to its pods.
const POD_ROUTE_PROTOCOL: u8 = 91;
/// Marks routes within pods (`static`).
const STATIC_PROTOCOL: u8 = 4;
/// What was added more recently is never collected.
const YOUNG: Duration = Duration::from_secs(60);
const JOURNAL: &str = "addresses.journal";

pub(super) struct Attachments {
    config: CniConfig,
    ledger: Arc<Mutex<Ledger>>,
    host: Netlink,
    /// One operation at a time; holds when this process made what.
    added: tokio::sync::Mutex<HashMap<Owner, Instant>>,
}

impl Attachments {
    pub(super) async fn open(config: CniConfig) -> Result<Self, CniError> {
        let (journal, cidr) = (config.state_dir.join(JOURNAL), config.pod_cidr.into());
        let ledger = tokio::task::spawn_blocking(move || Ledger::open(journal, cidr)).await??;
        tracing::info!(pod_cidr = %config.pod_cidr, assigned = ledger.pool().len(), "read the journal of addresses");
        let ledger = Arc::new(Mutex::new(ledger));
        Ok(Self {
            config,
            ledger,
            host: Netlink::here()?,
            added: tokio::sync::Mutex::default(),
        })
    }

    /// Connects the pod. Again for the same interface makes it anew with the same address.
    pub(super) async fn add(&self, owner: &Owner, netns: &OwnedFd) -> Result<Attached, CniError> {
        let mut added = self.added.lock().await;
        added.retain(|_, at| at.elapsed() < YOUNG);
        let assigned = owner.clone();
        let address = self.ledger(move |ledger| ledger.assign(&assigned)).await?;
        let connected = match address {
            IpAddr::V4(address) => self.connect(owner, address, netns).await,
            IpAddr::V6(_) => Err(CniError::Request {
                what: format!("{address} is not an IPv4 address"),
            }),
        };
        match connected {
            Ok(attached) => {
                added.insert(owner.clone(), Instant::now());
                Ok(attached)
            }
            Err(error) => {
                if let Err(second) = self.disconnect(owner).await {
                    let second = &second as &dyn std::error::Error;
                    tracing::warn!(
                        container = owner.container,
                        error = second,
                        "cleaning up after a failed ADD failed"
                    );
                }
                Err(error)
            }
        }
    }

    /// Disconnects the pod; fine when it never was connected.
    pub(super) async fn del(&self, owner: &Owner) -> Result<(), CniError> {
        let mut added = self.added.lock().await;
        self.disconnect(owner).await?;
        added.remove(owner);
        Ok(())
    }

    /// Whether all is as ADD made it; `known` are the addresses (with prefix length) that the runtime has on record.
    pub(super) async fn check(
        &self,
        owner: &Owner,
        known: &[String],
        netns: &OwnedFd,
    ) -> Result<(), CniError> {
        let _turn = self.added.lock().await;
        let Some(IpAddr::V4(address)) = self.ledger.lock().pool().address(owner) else {
            return Err(CniError::Differs {
                what: "no address is assigned".to_owned(),
            });
        };
        let differs = |what: String| Err(CniError::Differs { what });
        if !known.is_empty() && !known.contains(&format!("{address}/32")) {
            return differs(format!(
                "{address} is assigned, the runtime knows {}",
                known.join(", ")
            ));
        }
        let name = host_interface(owner);
        let host = self.host.existing_link(&name).await?;
        let to_pod = pod_route(address, host.index);
        if !host.up || !self.host.routes().await?.contains(&to_pod) {
            return differs(format!("{name} is down or the route to {address} is missing"));
        }
        let pod = Netlink::within(netns).await?;
        let link = pod.existing_link(&owner.interface).await?;
        if !link.up || !pod.has_address(link.index, address).await? {
            return differs(format!("{} is down or lacks {address}", owner.interface));
        }
        let routes = pod.routes().await?;
        match pod_routes(link.index)
            .iter()
            .find(|route| !routes.contains(route))
        {
            Some(missing) => differs(format!("the pod lacks its route to {}", missing.destination)),
            None => Ok(()),
        }
    }

    /// Removes the attachments that are not to be kept, but no young ones; gives their number.
    pub(super) async fn retain(&self, keep: impl Fn(&Owner) -> bool) -> Result<usize, CniError> {
        let mut added = self.added.lock().await;
        let young = |owner: &Owner| added.get(owner).is_some_and(|at| at.elapsed() < YOUNG);
        let gone: Vec<Owner> = self
            .ledger
            .lock()
            .pool()
            .assignments()
            .map(|(owner, _)| owner)
            .filter(|owner| !keep(owner) && !young(owner))
            .cloned()
            .collect();
        let (mut removed, mut failure) = (0, None);
        for owner in gone {
            tracing::info!(
                container = owner.container,
                interface = owner.interface,
                "removing an attachment whose container is gone"
            );
            match self.disconnect(&owner).await {
                Ok(()) => removed += 1,
                Err(error) => failure = failure.or(Some(error)),
            }
            added.remove(&owner);
        }
        failure.map_or(Ok(removed), Err)
    }

    async fn connect(&self, owner: &Owner, address: Ipv4Addr, netns: &OwnedFd) -> Result<Attached, CniError> {
        let name = host_interface(owner);
        // What an ADD left that was not answered.
        self.host.delete_link(&name).await?;
        self.host
            .add_veth(&name, &owner.interface, netns.as_fd(), self.config.mtu)
            .await?;
        let host = self.host.existing_link(&name).await?;
        let pod = Netlink::within(netns).await?;
        let link = pod.existing_link(&owner.interface).await?;
        pod.set_up(link.index).await?;
        pod.add_address(link.index, address).await?;
        pod.add_neighbour(link.index, GATEWAY, &host.mac).await?;
        for route in pod_routes(link.index) {
            pod.replace_route(&route).await?;
        }
        self.host.replace_route(&pod_route(address, host.index)).await?;
        let netns = netns.try_clone().map_err(|source| CniError::Namespace {
            during: "share",
            source,
        })?;
        self.tell(move |observer| observer.connected(netns.as_fd(), address.into()))
            .await?;
        Ok(self.attached(name, &host, &link, address))
    }

    fn attached(&self, host_interface: String, host: &Link, pod: &Link, address: Ipv4Addr) -> Attached {
        Attached {
            host_interface,
            host_mac: mac_text(&host.mac),
            mac: mac_text(&pod.mac),
            address,
            gateway: GATEWAY,
            mtu: self.config.mtu,
        }
    }

    /// Devices first (the kernel removes the routes with them): a free address has no route any more.
    async fn disconnect(&self, owner: &Owner) -> Result<(), CniError> {
        self.host.delete_link(&host_interface(owner)).await?;
        let address = self.ledger.lock().pool().address(owner);
        if let Some(address) = address {
            self.tell(move |observer| observer.disconnected(address)).await?;
        }
        let released = owner.clone();
        self.ledger(move |ledger| ledger.release(&[released])).await
    }

    /// What the observer does may take system calls: not on the runtime's threads.
    async fn tell(
        &self,
        news: impl FnOnce(&dyn Observer) -> Result<(), ObserverError> + Send + 'static,
    ) -> Result<(), CniError> {
        let observer = self.config.observer.clone();
        let told = tokio::task::spawn_blocking(move || news(&*observer)).await?;
        told.map_err(|source| CniError::Observer { source })
    }

    /// Waits for the disk elsewhere than on the runtime's threads.
    async fn ledger<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Ledger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, CniError> {
        let ledger = self.ledger.clone();
        Ok(tokio::task::spawn_blocking(move || work(&mut ledger.lock())).await??)
    }
}

fn pod_route(address: Ipv4Addr, device: u32) -> Route {
    Route {
        destination: address.into(),
        gateway: None,
        device: Some(device),
        protocol: POD_ROUTE_PROTOCOL,
    }
}

fn pod_routes(device: u32) -> [Route; 2] {
    let route = |destination, gateway| Route {
        destination,
        gateway,
        device: Some(device),
        protocol: STATIC_PROTOCOL,
    };
    [
        route(GATEWAY.into(), None),
        route(Ipv4Net::default(), Some(GATEWAY)),
    ]
}

/// The name of the host's end: as long as a device's name may be, and the same after a restart.
pub(super) fn host_interface(owner: &Owner) -> String {
    let hash = Sha256::new()
        .chain_update(&owner.container)
        .chain_update("/")
        .chain_update(&owner.interface)
        .finalize();
    hash[..6]
        .iter()
        .fold("sk".to_owned(), |name, byte| name + &format!("{byte:02x}"))
}

fn mac_text(mac: &[u8]) -> String {
    mac.iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_ends_have_stable_names_of_legal_length() {
        let owner = |container: &str, interface: &str| Owner {
            container: container.into(),
            interface: interface.into(),
        };
        let name = host_interface(&owner("c0ffee", "eth0"));
        assert_eq!(name, "sk6ad2516ced2a");
        assert!(name.len() <= 15);
        assert_ne!(name, host_interface(&owner("c0ffee", "eth1")));
        assert_ne!(name, host_interface(&owner("c0ffef", "eth0")));
    }
}
