//! A node with a dataplane, and the map entries of Services.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;

use skep_abi::{
    Address, BackendFlags, BackendId, BackendValue, Counter, FrontendFlags, FrontendKey, FrontendValue,
    Label, PortBe, PrefixKey, Protocol, Scope, ServiceFlags, ServiceId, ServiceName, ServiceSerial,
    ServiceStats, ServiceValue, SourceRangeKey, maps,
};
use skep_bpf_maps::{RawMap, ServiceMaps, sys};
use skep_loader::{Dataplane, DataplaneConfig, LoadError, MapSizes};

use crate::machine::{Cgroup, Netns, Pins};

/// Service addresses of the tests.
pub(crate) const SERVICE_CIDRS: [&str; 2] = ["10.96.0.0/16", "fd00:96::/112"];

/// A namespace with a dataplane in it. Fields drop in order: the agent, its pins, the cgroup.
pub(crate) struct Node {
    pub(crate) dataplane: Option<Dataplane>,
    pub(crate) config: DataplaneConfig,
    pub(crate) netns: Netns,
    _pins: Pins,
    _cgroup: Cgroup,
}

impl Node {
    /// Opens a dataplane in `netns` whose sockets this process has; `adapt` completes the configuration.
    pub(crate) fn open(netns: &Netns, adapt: impl FnOnce(&mut DataplaneConfig)) -> Self {
        Self::with_cgroup(Cgroup::entered(), netns, adapt)
    }

    /// As [`Node::open`]; the sockets of this process are none of the node's.
    pub(crate) fn open_apart(netns: &Netns, adapt: impl FnOnce(&mut DataplaneConfig)) -> Self {
        Self::with_cgroup(Cgroup::new(), netns, adapt)
    }

    fn with_cgroup(cgroup: Cgroup, netns: &Netns, adapt: impl FnOnce(&mut DataplaneConfig)) -> Self {
        let pins = Pins::new();
        let mut config = DataplaneConfig {
            pin_dir: pins.pin_dir.clone(),
            lock_path: pins.lock_path.clone(),
            cgroup: cgroup.path().to_owned(),
            devices: Vec::new(),
            node_addresses: Vec::new(),
            pod_cidrs: Vec::new(),
            cluster_pod_cidrs: Vec::new(),
            keep_source_cidrs: Vec::new(),
            service_cidrs: SERVICE_CIDRS.iter().map(|cidr| cidr.parse().unwrap()).collect(),
            source_ports: DataplaneConfig::SOURCE_PORTS,
            map_sizes: MapSizes::default(),
        };
        adapt(&mut config);
        let mut node = Self {
            dataplane: None,
            config,
            netns: netns.clone(),
            _pins: pins,
            _cgroup: cgroup,
        };
        node.reopen().unwrap_or_else(|error| panic!("{}", chain(&error)));
        node
    }

    /// What an agent does that starts (again).
    pub(crate) fn reopen(&mut self) -> Result<(), LoadError> {
        self.dataplane = None;
        let config = self.config.clone();
        self.dataplane = Some(self.netns.run(|| Dataplane::open(config))?);
        Ok(())
    }

    pub(crate) fn dataplane(&self) -> &Dataplane {
        self.dataplane.as_ref().unwrap()
    }

    pub(crate) fn services(&self) -> Services {
        Services {
            maps: self.dataplane().service_maps(),
            next: 1,
        }
    }

    /// Runs one of the packet programs on a packet.
    pub(crate) fn run_program(&self, hook: &str, packet: &[u8]) -> sys::TestRun {
        let link = sys::object_get(&self.config.pin_dir.join("links").join(hook))
            .unwrap()
            .unwrap();
        let program = sys::program_by_id(sys::link_info(link.as_fd()).unwrap().program_id).unwrap();
        self.netns
            .run(|| sys::program_test_run(program.as_fd(), packet, 1))
            .unwrap()
    }

    /// What is counted of a service that [`Services`] has added.
    pub(crate) fn counted(&self, service: ServiceId) -> ServiceStats {
        let counts = self
            .dataplane()
            .service_maps()
            .service_counts()
            .entries()
            .unwrap();
        let mut of_service = counts
            .into_iter()
            .filter(|(serial, _)| *serial == Services::serial(service));
        of_service.next().expect("it is counted").1
    }

    /// One counter, without reading everything else.
    pub(crate) fn counter(&self, counter: Counter) -> u64 {
        let map = RawMap::open(&maps::COUNTERS, &self.config.pin_dir)
            .unwrap()
            .unwrap();
        map.per_cpu_values(counter as u32).unwrap().iter().sum()
    }
}

/// An error with everything that caused it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Writes Services the way the service table would: backends, slots, service, frontends. Ids are handed out in
/// order; service `n` has the slots from `n * 64`.
pub(crate) struct Services {
    pub(crate) maps: std::sync::Arc<dyn ServiceMaps>,
    next: u32,
}

impl Services {
    /// Leaves out this many ids, which others have.
    pub(crate) fn skip(&mut self, ids: usize) {
        self.next += u32::try_from(ids).unwrap();
    }

    /// Adds a service port with frontends of `kind` and these backends; those on `local` addresses are on this
    /// node. Returns the service and the ids of its backends.
    pub(crate) fn add(
        &mut self,
        protocol: Protocol,
        kind: FrontendFlags,
        frontends: &[&str],
        backends: &[SocketAddr],
        local: &[IpAddr],
    ) -> (ServiceId, Vec<BackendId>) {
        let service = ServiceId(self.next);
        self.next += 1;
        let slot_offset = service.0 * 64;
        let mut ids = Vec::new();
        for (index, backend) in (0..).zip(backends) {
            let id = BackendId(slot_offset + index);
            let here = if local.contains(&backend.ip()) {
                BackendFlags::LOCAL
            } else {
                BackendFlags::NONE
            };
            let value = BackendValue {
                address: Address::from(backend.ip()),
                port: PortBe::from_host(backend.port()),
                protocol,
                flags: BackendFlags::PRESENT.with(here),
                ..BackendValue::default()
            };
            self.maps.backends().put(&id, &value).unwrap();
            self.maps.slots().put(&(slot_offset + index), &id).unwrap();
            ids.push(id);
        }
        let slot_count = u32::try_from(ids.len()).unwrap();
        self.name(service, protocol);
        self.set_range(service, slot_offset, slot_count);
        for frontend in frontends {
            let frontend: SocketAddr = frontend.parse().unwrap();
            let key = FrontendKey {
                address: Address::from(frontend.ip()),
                port: PortBe::from_host(frontend.port()),
                protocol,
                scope: Scope::ANY,
            };
            self.maps
                .frontends()
                .put(&key, &FrontendValue { service, flags: kind })
                .unwrap();
        }
        (service, ids)
    }

    /// The number under which a service is counted.
    pub(crate) fn serial(service: ServiceId) -> ServiceSerial {
        ServiceSerial(1_000_000 + service.0)
    }

    /// Gives a service a name, and counts it.
    fn name(&self, service: ServiceId, protocol: Protocol) {
        let name = ServiceName {
            namespace: Label::new("default"),
            name: Label::new(&format!("s{}", service.0)),
            port: Label::new("http"),
            protocol,
            ..ServiceName::default()
        };
        let serial = Self::serial(service);
        self.maps.service_counts().start(serial).unwrap();
        self.maps.service_names().put(&serial, &name).unwrap();
    }

    /// Opens the restricted frontends of a service to these clients.
    pub(crate) fn admit(&self, service: ServiceId, ranges: &[&str]) {
        for range in ranges {
            let range: ipnet::IpNet = range.parse().unwrap();
            let prefix = PrefixKey::new(range.network(), range.prefix_len());
            let key = SourceRangeKey::new(service, prefix);
            self.maps.source_ranges().put(&key, &1).unwrap();
        }
    }

    pub(crate) fn set_range(&self, service: ServiceId, slot_offset: u32, slot_count: u32) {
        let flags = ServiceFlags::PRESENT;
        let value = ServiceValue {
            slot_offset,
            slot_count,
            flags,
            serial: Self::serial(service),
            ..ServiceValue::default()
        };
        self.maps.services().put(&service, &value).unwrap();
    }
}
