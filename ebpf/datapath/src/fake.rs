//! The traits over plain memory, for the tests of this crate.

use skep_abi::{
    Address, BackendFlags, BackendId, BackendValue, Counter, FlowFlags, FlowKey, FlowValue, FragmentKey,
    FragmentValue, FrontendFlags, FrontendKey, FrontendValue, NodeConfig, PodRange, PortBe, PrefixKey,
    Protocol, ReportBudget, Scope, ServiceFlags, ServiceId, ServiceSerial, ServiceValue, SocketKey,
    SocketValue, SourceRangeKey,
};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use crate::account::Event;
use crate::answer::{self, Refusal};
use crate::tables::{FlowTable, FragmentTable, Inserted, PacketWorld, ServiceTables, SocketTables};

pub(crate) fn address(text: &str) -> Address {
    text.parse::<IpAddr>().unwrap().into()
}

pub(crate) fn endpoint(text: &str) -> (Address, PortBe) {
    let parsed: SocketAddr = text.parse().unwrap();
    (parsed.ip().into(), PortBe::from_host(parsed.port()))
}

/// Maps, clock and dice of one node, 172.29.0.11, whose pods are 10.128.0.0/24 of 10.128.0.0/16.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) frontends: HashMap<FrontendKey, FrontendValue>,
    pub(crate) services: BTreeMap<ServiceId, ServiceValue>,
    pub(crate) slots: Vec<BackendId>,
    pub(crate) backends: BTreeMap<BackendId, BackendValue>,
    pub(crate) choices: RefCell<HashMap<SocketKey, SocketValue>>,
    pub(crate) reverses: RefCell<HashMap<SocketKey, SocketValue>>,
    pub(crate) flows: RefCell<HashMap<FlowKey, FlowValue>>,
    pub(crate) fragments: RefCell<HashMap<FragmentKey, FragmentValue>>,
    pub(crate) counts: RefCell<BTreeMap<Counter, u32>>,
    /// What was counted of services, in its order.
    pub(crate) events: RefCell<Vec<(ServiceSerial, Event)>>,
    pub(crate) forwards: RefCell<Vec<(Address, Address)>>,
    pub(crate) config: NodeConfig,
    pub(crate) in_node_network: bool,
    /// Why nothing can be sent on: at all, or to this address.
    pub(crate) no_way: Option<Refusal>,
    pub(crate) no_way_to: Option<Address>,
    pub(crate) reports: RefCell<ReportBudget>,
    pub(crate) source_ranges: Vec<SourceRangeKey>,
    /// The IPv4 and the IPv6 address of whoever has the socket.
    pub(crate) clients: (Address, Address),
    /// Flow entries that find no room any more.
    pub(crate) flow_limit: Option<usize>,
    /// What another CPU inserts just before the next insertion.
    pub(crate) rivals: RefCell<Vec<(FlowKey, FlowValue)>>,
    pub(crate) clock_s: Cell<u32>,
    dice: Cell<u64>,
}

impl World {
    pub(crate) fn new() -> Self {
        let config = NodeConfig {
            ipv4: address("172.29.0.11"),
            ipv6: address("fd00:29::11"),
            source_port_first: crate::ports::DEFAULT_RANGE.0,
            source_port_last: crate::ports::DEFAULT_RANGE.1,
            ..NodeConfig::default()
        };
        Self {
            config,
            dice: Cell::new(1),
            ..Self::default()
        }
    }

    pub(crate) fn add_service(&mut self, backends: &[&str]) -> ServiceId {
        let id = ServiceId(u32::try_from(self.services.len()).unwrap() + 1);
        let slot_offset = u32::try_from(self.slots.len()).unwrap();
        for text in backends {
            let (address, port) = endpoint(text);
            let backend = BackendId(u32::try_from(self.backends.len()).unwrap() + 1);
            let here = text.starts_with("10.128.0.") || text.starts_with("[fd00:128::");
            let flags = if here {
                BackendFlags::LOCAL
            } else {
                BackendFlags::NONE
            };
            let flags = flags.with(BackendFlags::PRESENT);
            self.backends.insert(
                backend,
                BackendValue {
                    address,
                    port,
                    flags,
                    ..BackendValue::default()
                },
            );
            self.slots.push(backend);
        }
        let slot_count = u32::try_from(backends.len()).unwrap();
        let value = ServiceValue {
            slot_offset,
            slot_count,
            flags: ServiceFlags::PRESENT,
            serial: Self::serial_of(id),
            ..Default::default()
        };
        self.services.insert(id, value);
        id
    }

    /// The number under which a service is counted.
    pub(crate) fn serial_of(service: ServiceId) -> ServiceSerial {
        ServiceSerial(1_000 + service.0)
    }

    pub(crate) fn add_frontend(
        &mut self,
        at: &str,
        protocol: Protocol,
        service: ServiceId,
        flags: FrontendFlags,
    ) {
        self.put_frontend(at, protocol, service, flags, Scope::ANY);
    }

    pub(crate) fn add_external_frontend(
        &mut self,
        at: &str,
        protocol: Protocol,
        service: ServiceId,
        flags: FrontendFlags,
    ) {
        self.put_frontend(at, protocol, service, flags, Scope::EXTERNAL);
    }

    fn put_frontend(
        &mut self,
        at: &str,
        protocol: Protocol,
        service: ServiceId,
        flags: FrontendFlags,
        scope: Scope,
    ) {
        let (address, port) = endpoint(at);
        let key = FrontendKey {
            address,
            port,
            protocol,
            scope,
        };
        self.frontends.insert(key, FrontendValue { service, flags });
    }

    pub(crate) fn add_source_range(&mut self, service: ServiceId, network: &str, length: u8) {
        let prefix = PrefixKey::new(address(network), length);
        self.source_ranges.push(SourceRangeKey::new(service, prefix));
    }

    /// Points the slots of the first service at the backends that are left.
    pub(crate) fn refill_slots(&mut self) {
        self.slots = self.backends.keys().copied().collect();
        let value = self.services.get_mut(&ServiceId(1)).unwrap();
        (value.slot_offset, value.slot_count) = (0, u32::try_from(self.slots.len()).unwrap());
    }

    pub(crate) fn counted(&self, counter: Counter) -> u32 {
        self.counts.borrow().get(&counter).copied().unwrap_or(0)
    }
}

impl ServiceTables for World {
    fn frontend(&self, key: &FrontendKey) -> Option<FrontendValue> {
        self.frontends.get(key).copied()
    }

    fn service(&self, id: ServiceId) -> Option<&ServiceValue> {
        self.services.get(&id)
    }

    fn slot(&self, index: u32) -> Option<BackendId> {
        self.slots.get(index as usize).copied()
    }

    fn backend(&self, id: BackendId) -> Option<&BackendValue> {
        self.backends.get(&id)
    }

    fn in_source_ranges(&self, service: ServiceId, client: &Address) -> bool {
        let bits = |address: &Address| u128::from_be_bytes(address.octets());
        self.source_ranges.iter().any(|range| {
            let length = range.prefix_length - 32;
            let differing = bits(&range.address) ^ bits(client);
            range.service == service && differing.leading_zeros() >= length
        })
    }

    fn in_service_range(&self, address: &Address) -> bool {
        let text = address.to_ip().to_string();
        text.starts_with("10.64.") || text.starts_with("fd00:64::")
    }

    fn random(&self) -> u32 {
        // splitmix64
        self.dice.set(self.dice.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mut z = self.dice.get();
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((z ^ (z >> 31)) >> 32).unwrap()
    }

    fn count(&self, counter: Counter) {
        *self.counts.borrow_mut().entry(counter).or_default() += 1;
    }

    fn account(&self, serial: ServiceSerial, event: Event) {
        self.events.borrow_mut().push((serial, event));
    }
}

impl SocketTables for World {
    fn choice(&self, key: &SocketKey) -> Option<SocketValue> {
        self.choices.borrow().get(key).copied()
    }

    fn put_choice(&self, key: &SocketKey, value: &SocketValue) -> bool {
        self.choices.borrow_mut().insert(*key, *value);
        true
    }

    fn reverse(&self, key: &SocketKey) -> Option<SocketValue> {
        self.reverses.borrow().get(key).copied()
    }

    fn put_reverse(&self, key: &SocketKey, value: &SocketValue) -> bool {
        self.reverses.borrow_mut().insert(*key, *value);
        true
    }

    fn remove_reverse(&self, key: &SocketKey) {
        self.reverses.borrow_mut().remove(key);
    }

    fn in_node_network(&self) -> bool {
        self.in_node_network
    }

    fn client(&self, remote: &Address) -> Address {
        if remote.is_ipv4() {
            self.clients.0
        } else {
            self.clients.1
        }
    }
}

impl FlowTable for World {
    type Flow<'a> = Box<FlowValue>;

    fn flow(&self, key: &FlowKey) -> Option<Box<FlowValue>> {
        self.flows.borrow().get(key).copied().map(Box::new)
    }

    fn insert_flow(&self, key: &FlowKey, value: &FlowValue) -> Inserted {
        let mut flows = self.flows.borrow_mut();
        flows.extend(self.rivals.borrow_mut().drain(..));
        if flows.contains_key(key) {
            return Inserted::Taken;
        }
        if self.flow_limit.is_some_and(|limit| flows.len() >= limit) {
            return Inserted::Failed;
        }
        flows.insert(*key, *value);
        Inserted::New
    }

    fn remove_flow(&self, key: &FlowKey) {
        self.flows.borrow_mut().remove(key);
    }

    fn repeat<S: FnMut(u32) -> bool>(limit: u32, step: S) {
        (0..limit).all(step);
    }

    fn renew_flow(&self, key: &FlowKey, flags: FlowFlags, now_s: u32) {
        if let Some(value) = self.flows.borrow_mut().get_mut(key) {
            (value.flags, value.last_seen_s) = (flags, now_s);
        }
    }
}

impl FragmentTable for World {
    fn fragment(&self, key: &FragmentKey) -> Option<FragmentValue> {
        self.fragments.borrow().get(key).copied()
    }

    fn put_fragment(&self, key: &FragmentKey, value: &FragmentValue) {
        self.fragments.borrow_mut().insert(*key, *value);
    }
}

impl PacketWorld for World {
    fn config(&self) -> Option<&NodeConfig> {
        Some(&self.config)
    }

    fn pod_range(&self, address: &Address) -> PodRange {
        let text = address.to_ip().to_string();
        let is_in = |prefixes: [&str; 2]| prefixes.iter().any(|prefix| text.starts_with(prefix));
        if is_in(["10.128.0.", "fd00:128::"]) {
            PodRange::CLUSTER.with(PodRange::NODE)
        } else if is_in(["10.128.", "fd00:128"]) {
            PodRange::CLUSTER
        } else {
            PodRange::NONE
        }
    }

    fn keeps_source(&self, address: &Address) -> bool {
        let text = address.to_ip().to_string();
        ["10.128.", "172.29.0.", "fd00:128", "fd00:29::"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
    }

    fn now_s(&self) -> u32 {
        self.clock_s.get()
    }

    fn may_report(&self) -> bool {
        answer::take(&mut self.reports.borrow_mut(), self.clock_s.get())
    }

    fn forward(&self, source: &Address, destination: &Address) -> Result<(), Refusal> {
        self.forwards.borrow_mut().push((*source, *destination));
        let here = self.no_way_to.is_none_or(|to| to == *destination);
        self.no_way.filter(|_| here).map_or(Ok(()), Err)
    }
}
