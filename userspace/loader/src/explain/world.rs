//! The datapath's view of the world over a copy of the maps, which writes down what is asked of it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use skep_abi::{
    Address, BackendId, BackendValue, Counter, FlowFlags, FlowKey, FlowValue, FragmentKey, FragmentValue,
    FrontendKey, FrontendValue, NodeConfig, PodRange, ServiceId, ServiceSerial, ServiceValue, SocketKey,
    SocketValue,
};
use skep_datapath::account::Event;
use skep_datapath::answer::Refusal;
use skep_datapath::tables::Inserted;
use skep_datapath::{FlowTable, FragmentTable, PacketWorld, ServiceTables, SocketTables};

use super::{Client, Step};
use crate::Snapshot;

pub(super) struct World<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) steps: RefCell<Vec<Step>>,
    pub(super) counted: RefCell<Vec<Counter>>,
    client: Client,
    /// What the next throw of the dice is; later ones of the same decision follow from it.
    dice: Cell<u32>,
    /// The connection under way: there is no other.
    flows: RefCell<HashMap<FlowKey, FlowValue>>,
}

impl<'a> World<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, client: Client) -> Self {
        Self {
            snapshot,
            steps: RefCell::default(),
            counted: RefCell::default(),
            client,
            dice: Cell::new(0),
            flows: RefCell::default(),
        }
    }

    /// Forgets the last connection. Over all `throws` the first throws of decisions are spread evenly.
    pub(super) fn start_throw(&self, number: u32, throws: u32) {
        let spread = (u64::from(number) << 32) / u64::from(throws.max(1));
        self.dice.set(u32::try_from(spread).unwrap_or(u32::MAX));
        self.flows.borrow_mut().clear();
        self.steps.borrow_mut().clear();
        self.counted.borrow_mut().clear();
    }
}

impl ServiceTables for World<'_> {
    fn frontend(&self, key: &FrontendKey) -> Option<FrontendValue> {
        let found = self.snapshot.frontends.get(key).copied();
        self.steps.borrow_mut().push(Step::Frontend(*key, found));
        found
    }

    fn service(&self, id: ServiceId) -> Option<&ServiceValue> {
        self.snapshot.services.get(&id)
    }

    fn slot(&self, index: u32) -> Option<BackendId> {
        self.snapshot.slots.get(&index).copied()
    }

    fn backend(&self, id: BackendId) -> Option<&BackendValue> {
        self.snapshot.backends.get(&id)
    }

    fn in_source_ranges(&self, service: ServiceId, client: &Address) -> bool {
        let found = self.snapshot.source_range(service, client);
        self.steps.borrow_mut().push(Step::SourceRange(*client, found));
        found.is_some()
    }

    fn in_service_range(&self, address: &Address) -> bool {
        let found = self.snapshot.service_range(address);
        self.steps.borrow_mut().push(Step::ServiceRange(*address, found));
        found.is_some()
    }

    fn random(&self) -> u32 {
        let thrown = self.dice.get();
        // Knuth's multiplicative hash.
        self.dice.set(thrown.wrapping_add(1).wrapping_mul(2_654_435_761));
        thrown
    }

    fn count(&self, counter: Counter) {
        self.counted.borrow_mut().push(counter);
    }

    /// What is only asked is not counted.
    fn account(&self, _serial: ServiceSerial, _event: Event) {}
}

/// Every socket is a new one.
impl SocketTables for World<'_> {
    fn choice(&self, _key: &SocketKey) -> Option<SocketValue> {
        None
    }

    fn put_choice(&self, _key: &SocketKey, _value: &SocketValue) -> bool {
        true
    }

    fn reverse(&self, _key: &SocketKey) -> Option<SocketValue> {
        None
    }

    fn put_reverse(&self, _key: &SocketKey, _value: &SocketValue) -> bool {
        true
    }

    fn remove_reverse(&self, _key: &SocketKey) {}

    fn in_node_network(&self) -> bool {
        self.client == Client::Node
    }

    fn client(&self, remote: &Address) -> Address {
        let v4 = remote.is_ipv4();
        match self.client {
            Client::Node if v4 => self.snapshot.config.ipv4,
            Client::Node => self.snapshot.config.ipv6,
            Client::Pod(ip) | Client::Packet(ip) if ip.is_ipv4() == v4 => ip.into(),
            Client::Pod(_) | Client::Packet(_) => Address::UNSPECIFIED,
        }
    }
}

impl FlowTable for World<'_> {
    type Flow<'f>
        = Box<FlowValue>
    where
        Self: 'f;

    fn flow(&self, key: &FlowKey) -> Option<Box<FlowValue>> {
        self.flows.borrow().get(key).copied().map(Box::new)
    }

    fn insert_flow(&self, key: &FlowKey, value: &FlowValue) -> Inserted {
        match self.flows.borrow_mut().insert(*key, *value) {
            None => Inserted::New,
            Some(_) => Inserted::Taken,
        }
    }

    fn remove_flow(&self, key: &FlowKey) {
        self.flows.borrow_mut().remove(key);
    }

    fn repeat<S: FnMut(u32) -> bool>(limit: u32, step: S) {
        (0..limit).all(step);
    }

    fn renew_flow(&self, _key: &FlowKey, _flags: FlowFlags, _now_s: u32) {}
}

/// Packets are asked about whole.
impl FragmentTable for World<'_> {
    fn fragment(&self, _key: &FragmentKey) -> Option<FragmentValue> {
        None
    }

    fn put_fragment(&self, _key: &FragmentKey, _value: &FragmentValue) {}
}

impl PacketWorld for World<'_> {
    fn config(&self) -> Option<&NodeConfig> {
        Some(&self.snapshot.config)
    }

    fn pod_range(&self, address: &Address) -> PodRange {
        let range = self.snapshot.pod_range(address);
        self.steps.borrow_mut().push(Step::PodRange(*address, range));
        range
    }

    fn keeps_source(&self, address: &Address) -> bool {
        self.snapshot.keeps_source(address)
    }

    fn now_s(&self) -> u32 {
        0
    }

    fn may_report(&self) -> bool {
        true
    }

    /// The routing table is another network namespace's.
    fn forward(&self, _source: &Address, _destination: &Address) -> Result<(), Refusal> {
        Ok(())
    }
}
