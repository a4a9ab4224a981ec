//! Which of its endpoints a Service port uses: by traffic policy, readiness and topology.
//!
//! The rules are kube-proxy's (pkg/proxy/topology.go): ready endpoints, of the whole cluster or of this node; of
//! the cluster's, those that the hints give to this node or else to its zone, if every ready endpoint has such a
//! hint and one is for us; without any ready endpoint, those that serve while they terminate (KEP-1669), whatever
//! their hints say.

use skep_abi::BackendId;

use crate::backends::Traits;
use crate::facts::{EndpointState, Hint};

/// Which endpoints a frontend may pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reach {
    Cluster,
    /// Those of this node, whatever their hints say.
    Local,
}

pub(crate) const REACHES: [Reach; 2] = [Reach::Cluster, Reach::Local];

/// The rule by which the endpoints within reach are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Every ready one.
    Ready,
    /// Ready ones hinted for this node.
    SameNode,
    /// Ready ones hinted for this node's zone.
    SameZone,
    /// Nothing is ready: those that serve and terminate.
    Terminating,
}

/// An endpoint over all slices that list it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Listing {
    pub(crate) backend: Option<BackendId>,
    pub(crate) listed: u32,
    ready: u32,
    fallback: u32,
    local: u32,
    terminating: u32,
    node_hints: Hints,
    zone_hints: Hints,
}

/// How many slices have hints of one kind for an endpoint.
#[derive(Clone, Copy, Debug, Default)]
struct Hints {
    given: u32,
    for_us: u32,
}

/// The ready endpoints within one reach, counted: all that the mode depends on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    ready: usize,
    node_hinted: usize,
    for_node: usize,
    zone_hinted: usize,
    for_zone: usize,
}

impl Listing {
    /// A slice begins (`by` = 1) or ceases (-1) to say this of the endpoint.
    pub(crate) fn count(&mut self, state: &EndpointState, by: i32) {
        for (counter, holds) in [
            (&mut self.listed, true),
            (&mut self.ready, state.ready),
            (&mut self.fallback, state.fallback),
            (&mut self.local, state.local),
            (&mut self.terminating, state.terminating),
            (&mut self.node_hints.given, state.node_hint != Hint::None),
            (&mut self.node_hints.for_us, state.node_hint == Hint::ForUs),
            (&mut self.zone_hints.given, state.zone_hint != Hint::None),
            (&mut self.zone_hints.for_us, state.zone_hint == Hint::ForUs),
        ] {
            if holds {
                *counter = counter.saturating_add_signed(by);
            }
        }
    }

    pub(crate) fn traits(&self) -> Traits {
        Traits {
            local: self.local > 0,
            terminating: self.terminating > 0,
        }
    }

    pub(crate) fn is_chosen(&self, reach: Reach, mode: Mode) -> bool {
        self.is_within(reach)
            && match mode {
                Mode::Ready => self.ready > 0,
                Mode::SameNode => self.ready > 0 && self.node_hints.for_us > 0,
                Mode::SameZone => self.ready > 0 && self.zone_hints.for_us > 0,
                Mode::Terminating => self.fallback > 0,
            }
    }

    fn is_within(&self, reach: Reach) -> bool {
        self.backend.is_some() && (reach == Reach::Cluster || self.local > 0)
    }
}

impl Tally {
    /// An endpoint is added (`by` = 1) or taken away (-1).
    pub(crate) fn count(&mut self, reach: Reach, listing: &Listing, by: isize) {
        if !listing.is_within(reach) || listing.ready == 0 {
            return;
        }
        for (counter, holds) in [
            (&mut self.ready, true),
            (&mut self.node_hinted, listing.node_hints.given > 0),
            (&mut self.for_node, listing.node_hints.for_us > 0),
            (&mut self.zone_hinted, listing.zone_hints.given > 0),
            (&mut self.for_zone, listing.zone_hints.for_us > 0),
        ] {
            if holds {
                *counter = counter.saturating_add_signed(by);
            }
        }
    }

    pub(crate) fn mode(&self, reach: Reach) -> Mode {
        let all_hinted = |hinted, for_us| hinted == self.ready && for_us > 0;
        match reach {
            _ if self.ready == 0 => Mode::Terminating,
            Reach::Local => Mode::Ready,
            Reach::Cluster if all_hinted(self.node_hinted, self.for_node) => Mode::SameNode,
            Reach::Cluster if all_hinted(self.zone_hinted, self.for_zone) => Mode::SameZone,
            Reach::Cluster => Mode::Ready,
        }
    }
}
