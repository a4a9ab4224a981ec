//! The zone as readers see it: persistent maps, replaced key by key, shared by clones.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::Name;

use crate::service::{ServiceRecords, Target};
use crate::zone::ZoneConfig;

mod lookup;

/// An immutable state of the zone. Cloning is O(1).
#[derive(Clone, Debug)]
pub struct Snapshot {
    shared: Arc<ZoneNames>,
    /// By [`ServiceKey`].
    services: imbl::HashMap<Arc<[u8]>, Arc<ServiceRecords>>,
    namespaces: imbl::HashMap<Box<[u8]>, Presence>,
    reverse: imbl::HashMap<IpAddr, Arc<[PtrOwner]>>,
    /// Addresses of `ns.dns.<zone>`.
    name_server: Arc<[IpAddr]>,
    serial: u32,
}

/// The configuration, and the names that every answer needs.
#[derive(Debug)]
struct ZoneNames {
    config: ZoneConfig,
    labels: usize,
    services: Option<Name>,
    name_server: Name,
    hostmaster: Name,
}

/// Why a namespace's name exists: its object, or Services with records in it.
#[derive(Clone, Copy, Debug, Default)]
struct Presence {
    object: bool,
    services: u32,
}

/// A Service whose records claim an address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PtrOwner {
    /// As its cluster address; such an owner hides the endpoints'.
    cluster: bool,
    service: Arc<[u8]>,
}

impl Snapshot {
    pub(crate) fn empty(mut config: ZoneConfig) -> Snapshot {
        config.domain.set_fqdn(true);
        let domain = &config.domain;
        let under = |label: &str| {
            domain
                .prepend_label(label)
                .unwrap_or_else(|_overlong| domain.clone())
        };
        let names = ZoneNames {
            labels: usize::from(domain.num_labels()),
            services: domain.prepend_label("svc").ok(),
            name_server: under("dns")
                .prepend_label("ns")
                .unwrap_or_else(|_overlong| domain.clone()),
            hostmaster: under("hostmaster"),
            config,
        };
        Snapshot {
            shared: Arc::new(names),
            services: imbl::HashMap::new(),
            namespaces: imbl::HashMap::new(),
            reverse: imbl::HashMap::new(),
            name_server: Arc::default(),
            serial: 1,
        }
    }

    /// Number of Services that have records.
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// The SOA's serial: grows by one with every change of the zone.
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// `<name>.<namespace>.svc.<zone>`; None if that is no legal name.
    pub(crate) fn service_name(&self, namespace: &str, name: &str) -> Option<Name> {
        self.shared
            .services
            .as_ref()?
            .prepend_label(namespace.as_bytes())
            .ok()?
            .prepend_label(name)
            .ok()
    }

    pub(crate) fn set_namespace(&mut self, name: &str, exists: bool) {
        self.change_namespace(name.as_bytes(), |presence| presence.object = exists);
    }

    /// Puts `new` in the place of the Service's records, if it is any different.
    pub(crate) fn replace(&mut self, namespace: &str, name: &str, new: Option<Arc<ServiceRecords>>) {
        let Some(key) = ServiceKey::new(namespace.as_bytes(), name.as_bytes()) else {
            return;
        };
        let old = self.services.get(key.as_slice()).cloned();
        if old == new {
            return;
        }
        let key: Arc<[u8]> = key.as_slice().into();
        self.serial = self.serial.wrapping_add(1);
        self.replace_reverse(&key, old.as_deref(), new.as_deref());
        match (old.is_some(), new.is_some()) {
            (false, true) => self.change_namespace(namespace.as_bytes(), |presence| presence.services += 1),
            (true, false) => self.change_namespace(namespace.as_bytes(), |presence| presence.services -= 1),
            _ => {}
        }
        let dns_service = &self.shared.config.dns_service;
        if (namespace, name) == (&*dns_service.0, &*dns_service.1) {
            self.name_server = new
                .as_deref()
                .map_or(&[][..], |records| records.target.addresses())
                .into();
        }
        match new {
            Some(records) => self.services.insert(key, records),
            None => self.services.remove(&*key),
        };
    }

    fn change_namespace(&mut self, name: &[u8], change: impl FnOnce(&mut Presence)) {
        let old = self.namespaces.get(name).copied();
        let mut presence = old.unwrap_or_default();
        change(&mut presence);
        let exists = presence.object || presence.services > 0;
        if exists != old.is_some() {
            self.serial = self.serial.wrapping_add(1);
        }
        if exists {
            self.namespaces.insert(name.into(), presence);
        } else {
            self.namespaces.remove(name);
        }
    }

    fn replace_reverse(
        &mut self,
        key: &Arc<[u8]>,
        old: Option<&ServiceRecords>,
        new: Option<&ServiceRecords>,
    ) {
        let old = old.map(ServiceRecords::reverse).unwrap_or_default();
        let new = new.map(ServiceRecords::reverse).unwrap_or_default();
        for address in old.keys().filter(|address| !new.contains_key(address)) {
            self.set_reverse(*address, key, None);
        }
        for (address, cluster) in &new {
            if old.get(address) != Some(cluster) {
                self.set_reverse(
                    *address,
                    key,
                    Some(PtrOwner {
                        cluster: *cluster,
                        service: key.clone(),
                    }),
                );
            }
        }
    }

    /// Replaces what `key` claims of `address`. Owners stay sorted, so that answers do not depend on history.
    fn set_reverse(&mut self, address: IpAddr, key: &Arc<[u8]>, claim: Option<PtrOwner>) {
        let owners = self.reverse.get(&address).map_or(&[][..], |owners| owners);
        let mut owners: Vec<PtrOwner> = owners
            .iter()
            .filter(|owner| owner.service != *key)
            .cloned()
            .collect();
        owners.extend(claim);
        owners.sort_unstable_by(|a, b| a.service.cmp(&b.service));
        if owners.is_empty() {
            self.reverse.remove(&address);
        } else {
            self.reverse.insert(address, owners.into());
        }
    }

    fn service(&self, namespace: &[u8], name: &[u8]) -> Option<&ServiceRecords> {
        self.services
            .get(ServiceKey::new(namespace, name)?.as_slice())
            .map(|records| &**records)
    }

    fn namespace_exists(&self, namespace: &[u8]) -> bool {
        self.namespaces
            .contains_key(namespace.to_ascii_lowercase().as_slice())
    }

    /// Every PTR target of `address`; None if nothing is known of it.
    fn reverse_names(&self, address: IpAddr) -> Option<Vec<Name>> {
        let owners = self.reverse.get(&address)?;
        let cluster_only = owners.iter().any(|owner| owner.cluster);
        let chosen = owners.iter().filter(|owner| owner.cluster == cluster_only);
        let names = chosen.filter_map(|owner| {
            let records = self.services.get(&*owner.service)?;
            match records.target {
                Target::Cluster(_) if owner.cluster => Some(records.base.clone()),
                _ => records.host_name(records.host_of(address)?),
            }
        });
        Some(names.collect())
    }
}

/// `<namespace> 0 <name>` in lower case, on the stack: looking a Service up allocates nothing.
struct ServiceKey {
    bytes: [u8; 2 * MAX_LABEL + 1],
    len: usize,
}

/// Bytes in a label (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;

impl ServiceKey {
    fn new(namespace: &[u8], name: &[u8]) -> Option<ServiceKey> {
        let len = namespace.len() + 1 + name.len();
        let mut bytes = [0; 2 * MAX_LABEL + 1];
        bytes.get_mut(..namespace.len())?.copy_from_slice(namespace);
        bytes.get_mut(namespace.len() + 1..len)?.copy_from_slice(name);
        bytes.make_ascii_lowercase();
        Some(ServiceKey { bytes, len })
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}
