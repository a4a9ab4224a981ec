//! Where a connection would go, and why: the dataplane's own decisions, run over a copy of its maps.
//!
//! Nothing is decided here. A connect or a packet is put to `skep-datapath` as the programs put it, many times
//! with other dice, and what it looks up, counts and answers is written down.

mod world;

use std::collections::BTreeMap;
use std::net::IpAddr;

use skep_abi::{
    Address, BackendValue, Counter, FrontendKey, FrontendValue, PodRange, PortBe, PrefixKey, Protocol,
};
use skep_datapath::frame::Frame;
use skep_datapath::socket::{self, SocketVerdict, Target};
use skep_datapath::{Verdict, ingress};

use crate::Snapshot;
use world::World;

/// Times that the dice are thrown for each backend: shares are right within a 64th of themselves.
const THROWS_PER_BACKEND: u32 = 64;
const MIN_THROWS: u32 = 4_096;
const MAX_THROWS: u32 = 262_144;
/// Link header of a [`Frame`].
const ETHERNET: u32 = 14;
/// Where clients' ports begin, of which each throw has another.
const FIRST_CLIENT_PORT: u16 = 32_768;
const CLIENT_PORTS: u32 = 28_000;

/// Who dials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// A program in the node's own network.
    Node,
    /// A program in the pod of the node that has this address.
    Pod(IpAddr),
    /// Somebody whose packets come in from a device.
    Packet(IpAddr),
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The address dialled.
    pub address: IpAddr,
    /// The port dialled.
    pub port: u16,
    /// Who dials.
    pub client: Client,
}

/// A look-up that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// In FRONTENDS.
    Frontend(FrontendKey, Option<FrontendValue>),
    /// In SOURCE_RANGES, for this client.
    SourceRange(Address, Option<PrefixKey>),
    /// In SERVICE_RANGES.
    ServiceRange(Address, Option<PrefixKey>),
    /// In POD_RANGES.
    PodRange(Address, PodRange),
}

/// How likely a backend is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// Its address.
    pub address: Address,
    /// Its port.
    pub port: PortBe,
    /// Its element of BACKENDS.
    pub backend: Option<BackendValue>,
    /// From 0 to 1.
    pub share: f64,
}

/// What becomes of the connection.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It goes to one of these backends, by address.
    Backends(Vec<Share>),
    /// It is no business of the dataplane: it goes to the address itself.
    LeftAlone,
    /// The packet is left to the node, for this reason.
    LeftToNode(Counter),
    /// The call fails with ECONNREFUSED, or the packet is answered so that it does, for this reason.
    Refused(Counter),
    /// The packet is dropped, for this reason.
    Dropped(Counter),
    /// The hooks do not handle the protocol.
    NotHandled,
}

/// The answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The look-ups, in the order in which they were made.
    pub steps: Vec<Step>,
    /// The frontend that counts, if there is one.
    pub frontend: Option<(FrontendKey, FrontendValue)>,
    /// What becomes of the connection.
    pub outcome: Outcome,
}

/// What one throw of the dice leads to.
enum Thrown {
    To(Address, PortBe),
    Ends(Outcome),
}

/// Puts the question to the dataplane. Packets are assumed to find a route.
pub fn explain(snapshot: &Snapshot, question: &Question) -> Explanation {
    let world = World::new(snapshot, question.client);
    let first = throw(&world, question, 0);
    let steps = world.steps.take();
    let frontend = steps.iter().rev().find_map(|step| match step {
        Step::Frontend(key, value) => Some((*key, (*value)?)),
        _ => None,
    });
    let outcome = match first {
        Thrown::Ends(outcome) => outcome,
        Thrown::To(..) => Outcome::Backends(shares(&world, question, frontend)),
    };
    Explanation {
        steps,
        frontend,
        outcome,
    }
}

/// Throws the dice often enough to see how likely each backend is.
fn shares(
    world: &World<'_>,
    question: &Question,
    frontend: Option<(FrontendKey, FrontendValue)>,
) -> Vec<Share> {
    let port = frontend.and_then(|(_, value)| world.snapshot.port(value.service));
    let backends = port.map(|port| port.backends).unwrap_or_default();
    let count = u32::try_from(backends.len()).unwrap_or(u32::MAX);
    let throws = count
        .saturating_mul(THROWS_PER_BACKEND)
        .clamp(MIN_THROWS, MAX_THROWS);
    let mut hits: BTreeMap<(Address, PortBe), u32> = BTreeMap::new();
    for number in 0..throws {
        world.start_throw(number, throws);
        if let Thrown::To(address, port) = throw(world, question, number) {
            *hits.entry((address, port)).or_default() += 1;
        }
    }
    let known = |address, port| {
        let same = |backend: &&&BackendValue| (backend.address, backend.port) == (address, port);
        backends.iter().find(same).map(|backend| **backend)
    };
    let shares = hits.into_iter().map(|((address, port), hits)| Share {
        address,
        port,
        backend: known(address, port),
        share: f64::from(hits) / f64::from(throws),
    });
    shares.collect()
}

fn throw(world: &World<'_>, question: &Question, number: u32) -> Thrown {
    match question.client {
        Client::Packet(source) => receive(world, question, source, number),
        Client::Node | Client::Pod(_) => dial(world, question, number),
    }
}

/// What a socket's connect comes to.
fn dial(world: &World<'_>, question: &Question, number: u32) -> Thrown {
    if !matches!(question.protocol, Protocol::TCP | Protocol::UDP) {
        return Thrown::Ends(Outcome::NotHandled);
    }
    let target = Target {
        cookie: u64::from(number) + 1,
        protocol: question.protocol,
        address: question.address.into(),
        port: PortBe::from_host(question.port),
    };
    match socket::connect(world, &target) {
        SocketVerdict::Pass => Thrown::Ends(Outcome::LeftAlone),
        SocketVerdict::Redirect(address, port) => Thrown::To(address, port),
        SocketVerdict::Refuse(counter) => Thrown::Ends(Outcome::Refused(counter)),
    }
}

/// What becomes of the first packet of a connection.
fn receive(world: &World<'_>, question: &Question, source: IpAddr, number: u32) -> Thrown {
    let same_family = source.is_ipv4() == question.address.is_ipv4();
    if !same_family || !matches!(question.protocol, Protocol::TCP | Protocol::UDP) {
        return Thrown::Ends(Outcome::NotHandled);
    }
    let client_port = FIRST_CLIENT_PORT + u16::try_from(number % CLIENT_PORTS).unwrap_or(0);
    let (from, to) = (source.to_string(), question.address.to_string());
    let mut frame = Frame::new(question.protocol, (&from, client_port), (&to, question.port), &[]);
    let family = frame.family();
    match ingress::ingress(world, &mut frame, family, ETHERNET) {
        Verdict::Drop(counter) => Thrown::Ends(Outcome::Dropped(counter)),
        Verdict::Answered(counter) => Thrown::Ends(Outcome::Refused(counter)),
        Verdict::Translated | Verdict::Forwarded => {
            let tuple = frame.header().tuple;
            Thrown::To(tuple.destination, tuple.destination_port)
        }
        Verdict::Pass => {
            let reason = world.counted.borrow().last().copied();
            Thrown::Ends(reason.map_or(Outcome::LeftAlone, Outcome::LeftToNode))
        }
    }
}

#[cfg(test)]
mod tests;
