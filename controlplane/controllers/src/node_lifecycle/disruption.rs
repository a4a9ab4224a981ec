//! How fast pods are evicted, by how much of the cluster is well. Pure but for its own memory.
//!
//! When most of a zone falls silent the network is more likely to blame than the nodes: eviction slows or
//! stops. When every node is silent, nothing is evicted at all.

use crate::node_lifecycle::health::Ready;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Node;
use std::collections::HashMap;

const REGION_LABEL: &str = "topology.kubernetes.io/region";
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
/// One node of a zone in so long; so much longer in a large zone that is mostly gone.
const EVICTION_INTERVAL: SignedDuration = SignedDuration::from_secs(10);
const SLOW_EVICTION_INTERVAL: SignedDuration = SignedDuration::from_secs(100);
/// Zones up to this size stop evicting when they are mostly gone.
const SMALL_ZONE_NODES: usize = 50;
/// A zone is mostly gone from this part on, and from more nodes than two.
const UNHEALTHY_PERCENT: usize = 55;

struct Seen {
    zone: String,
    well: bool,
}

#[derive(Default)]
pub(crate) struct Zones {
    nodes: HashMap<String, Seen>,
    /// When the next node of a zone may be evicted from.
    next: HashMap<String, Timestamp>,
}

pub(crate) struct Verdict {
    pub(crate) evict: bool,
    /// When to ask again, if time alone changes the answer.
    pub(crate) again_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Stopped,
    Every(SignedDuration),
}

fn zone_of(node: &Node) -> String {
    let label = |key| {
        node.metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(key))
            .map(String::as_str)
            .unwrap_or_default()
    };
    format!("{}/{}", label(REGION_LABEL), label(ZONE_LABEL))
}

impl Zones {
    /// Takes note of the node; whether that may change the answer for others.
    pub(crate) fn set(&mut self, node: &Node, ready: Ready) -> bool {
        let name = node.metadata.name.clone().unwrap_or_default();
        let seen = Seen {
            zone: zone_of(node),
            well: ready == Ready::True,
        };
        self.changing(|zones| {
            zones.nodes.insert(name, seen);
        })
    }

    pub(crate) fn remove(&mut self, name: &str) -> bool {
        self.changing(|zones| {
            zones.nodes.remove(name);
        })
    }

    fn changing(&mut self, change: impl FnOnce(&mut Self)) -> bool {
        let before = self.paces();
        change(self);
        before != self.paces()
    }

    fn paces(&self) -> HashMap<String, Pace> {
        let all_gone = !self.nodes.values().any(|seen| seen.well);
        let mut counts: HashMap<&str, (usize, usize)> = HashMap::new();
        for seen in self.nodes.values() {
            let (well, ill) = counts.entry(&seen.zone).or_default();
            *(if seen.well { well } else { ill }) += 1;
        }
        counts
            .into_iter()
            .map(|(zone, (well, ill))| {
                let mostly_gone = well > 0 && ill > 2 && ill * 100 >= (well + ill) * UNHEALTHY_PERCENT;
                let pace = if all_gone || (mostly_gone && well + ill <= SMALL_ZONE_NODES) {
                    Pace::Stopped
                } else if mostly_gone {
                    Pace::Every(SLOW_EVICTION_INTERVAL)
                } else {
                    Pace::Every(EVICTION_INTERVAL)
                };
                (zone.to_owned(), pace)
            })
            .collect()
    }

    /// Whether pods may be evicted from the node now; `tainted` if they are already. A node that is well
    /// needs no answer and spends nothing.
    pub(crate) fn may_evict(&mut self, name: &str, tainted: bool, now: Timestamp) -> Verdict {
        let no = |again_at| Verdict {
            evict: false,
            again_at,
        };
        let Some(seen) = self.nodes.get(name).filter(|seen| !seen.well) else {
            return no(None);
        };
        if !self.nodes.values().any(|seen| seen.well) {
            return no(None);
        }
        if tainted {
            return Verdict {
                evict: true,
                again_at: None,
            };
        }
        let Some(Pace::Every(interval)) = self.paces().get(&seen.zone).copied() else {
            return no(None);
        };
        let next = self.next.entry(seen.zone.clone()).or_insert(now);
        if *next > now {
            return no(Some(*next));
        }
        *next = now + interval;
        Verdict {
            evict: true,
            again_at: None,
        }
    }
}
