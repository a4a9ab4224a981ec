//! The writer: objects come, change and go; each touches the records of its Service alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hickory_proto::rr::Name;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use crate::facts::{ServiceFacts, SliceFacts};
use crate::service::ServiceRecords;
use crate::snapshot::Snapshot;

/// The label that ties an EndpointSlice to its Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// What the zone is called and how it answers.
#[derive(Clone, Debug)]
pub struct ZoneConfig {
    /// The cluster domain, such as `cluster.local.`.
    pub domain: Name,
    /// Time to live of every record, seconds, at most 3600.
    pub ttl_s: u32,
    /// Whether `1-2-3-4.<namespace>.pod.<zone>` answers.
    pub pods: PodRecords,
    /// (namespace, name) of the Service whose cluster addresses `ns.dns.<zone>` gives.
    pub dns_service: (String, String),
}

impl ZoneConfig {
    /// The defaults of a Kubernetes cluster for `domain`.
    pub fn new(domain: Name) -> ZoneConfig {
        let dns_service = ("kube-system".to_owned(), "kube-dns".to_owned());
        ZoneConfig {
            domain,
            ttl_s: 5,
            pods: PodRecords::Insecure,
            dns_service,
        }
    }
}

/// Pod records, as CoreDNS's option of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodRecords {
    /// No pod names.
    Disabled,
    /// Every dashed address under an existing namespace answers with itself, whether a pod has it or not.
    Insecure,
}

/// The zone's writer. Not shared; readers hold [`Snapshot`]s.
#[derive(Debug)]
pub struct Zone {
    services: HashMap<(String, String), ServiceEntry>,
    /// (namespace, slice) to the Service's name, to find where a changed or removed slice belonged.
    slice_owners: HashMap<(String, String), String>,
    snapshot: Snapshot,
}

#[derive(Debug, Default)]
struct ServiceEntry {
    facts: Option<ServiceFacts>,
    slices: BTreeMap<String, SliceFacts>,
}

impl Zone {
    /// An empty zone: it has its apex names and nothing else.
    pub fn new(config: ZoneConfig) -> Zone {
        Zone {
            services: HashMap::new(),
            slice_owners: HashMap::new(),
            snapshot: Snapshot::empty(config),
        }
    }

    /// The zone as it stands; O(1).
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.clone()
    }

    /// A Service was added or changed.
    pub fn apply_service(&mut self, service: &Service) {
        let (Some(namespace), Some(name)) = (&service.metadata.namespace, &service.metadata.name) else {
            return;
        };
        let key = (namespace.clone(), name.clone());
        self.services.entry(key.clone()).or_default().facts = ServiceFacts::parse(service);
        self.publish(&key);
    }

    /// A Service was removed.
    pub fn remove_service(&mut self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(entry) = self.services.get_mut(&key) {
            entry.facts = None;
            self.publish(&key);
        }
    }

    /// An EndpointSlice was added or changed; also when it now belongs to another Service.
    pub fn apply_slice(&mut self, slice: &EndpointSlice) {
        let metadata = &slice.metadata;
        let (Some(namespace), Some(name)) = (&metadata.namespace, &metadata.name) else {
            return;
        };
        let owner = metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(SERVICE_NAME_LABEL));
        let slice_key = (namespace.clone(), name.clone());
        if self.slice_owners.get(&slice_key) != owner {
            self.remove_slice(namespace, name);
        }
        let Some(owner) = owner else { return };
        self.slice_owners.insert(slice_key, owner.clone());
        let key = (namespace.clone(), owner.clone());
        let entry = self.services.entry(key.clone()).or_default();
        let facts = SliceFacts::parse(slice);
        if entry.slices.get(name) != Some(&facts) {
            entry.slices.insert(name.clone(), facts);
            self.publish(&key);
        }
    }

    /// An EndpointSlice was removed.
    pub fn remove_slice(&mut self, namespace: &str, name: &str) {
        let Some(owner) = self.slice_owners.remove(&(namespace.to_owned(), name.to_owned())) else {
            return;
        };
        let key = (namespace.to_owned(), owner);
        if let Some(entry) = self.services.get_mut(&key) {
            entry.slices.remove(name);
            self.publish(&key);
        }
    }

    /// A Namespace was added: its name now exists, even without Services.
    pub fn apply_namespace(&mut self, name: &str) {
        self.snapshot.set_namespace(name, true);
    }

    /// A Namespace was removed.
    pub fn remove_namespace(&mut self, name: &str) {
        self.snapshot.set_namespace(name, false);
    }

    /// Compiles one Service anew and replaces its records, its reverse records and, for the DNS Service, the
    /// name server's addresses.
    fn publish(&mut self, key: &(String, String)) {
        let Some(entry) = self.services.get(key) else {
            return;
        };
        let base = self.snapshot.service_name(&key.0, &key.1);
        let new = entry.facts.as_ref().zip(base).and_then(|(facts, base)| {
            ServiceRecords::compile(base, facts, entry.slices.values()).map(Arc::new)
        });
        if entry.facts.is_none() && entry.slices.is_empty() {
            self.services.remove(key);
        }
        self.snapshot.replace(&key.0, &key.1, new);
    }
}
