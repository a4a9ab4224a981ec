//! The extension points, and the cycle that runs them: filter the nodes, score those that are left, choose.
//!
//! Everything here is pure; what plugins see of the world are their arguments.

use std::collections::BTreeMap;
use std::fmt;

use rand::Rng;
use skep_api::LabelSelector;

use crate::plugins;
use crate::{Cache, NodeInfo, PodInfo};

/// The best and the worst score of a node.
pub(crate) const MAX_SCORE: i64 = 100;

/// Why a node cannot take a pod, in upstream's words; more than one reason may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection(pub Vec<String>);

impl Rejection {
    #[must_use]
    pub fn because(reason: &str) -> Self {
        Self(vec![reason.to_owned()])
    }
}

/// The pods that a pod should not share a node with, if that can be had: those that do the same.
#[derive(Clone, Debug, Default)]
pub enum Siblings {
    #[default]
    None,
    /// Pods of the same controller.
    OfOwner(String),
    /// Pods of the namespace that one of the Services selects, which also select this pod.
    OfServices(Vec<LabelSelector>),
}

/// One pod's turn.
#[derive(Clone, Debug)]
pub struct Cycle<'a> {
    pub pod: &'a PodInfo,
    pub siblings: Siblings,
}

/// Says which nodes cannot take a pod.
pub trait FilterPlugin: Send + Sync {
    fn name(&self) -> &'static str;

    /// # Errors
    /// Why the node cannot take the pod.
    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection>;

    /// Whether a pod that was rejected everywhere could be accepted somewhere now that this node has changed. The
    /// default is right for plugins that look at one node at a time.
    fn may_accept_after(&self, pod: &PodInfo, changed: &NodeInfo) -> bool {
        self.filter(pod, changed).is_ok()
    }
}

/// Says how good a node is for a pod.
pub trait ScorePlugin: Send + Sync {
    fn name(&self) -> &'static str;

    /// Any number; [`normalize`](Self::normalize) brings it to the common scale.
    fn score(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> i64;

    /// Brings the scores of all nodes to 0 (worst) to 100 (best).
    fn normalize(&self, scores: &mut [i64]) {
        _ = scores;
    }
}

/// For scores that count something bad: none of it is best, the most of it worst.
pub(crate) fn normalize_fewest(scores: &mut [i64]) {
    let most = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        *score = if most == 0 {
            MAX_SCORE
        } else {
            MAX_SCORE - *score * MAX_SCORE / most
        };
    }
}

/// Why a pod fits nowhere. Displays as upstream's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FitError {
    pub nodes: usize,
    /// How many nodes each reason holds for.
    pub reasons: BTreeMap<String, usize>,
}

impl fmt::Display for FitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available", self.nodes)?;
        let mut reasons: Vec<_> = self
            .reasons
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        reasons.sort_unstable();
        if !reasons.is_empty() {
            write!(f, ": {}", reasons.join(", "))?;
        }
        f.write_str(".")
    }
}

impl std::error::Error for FitError {}

/// A set of plugins.
pub struct Framework {
    filters: Vec<Box<dyn FilterPlugin>>,
    /// With their weights.
    scores: Vec<(Box<dyn ScorePlugin>, i64)>,
}

impl fmt::Debug for Framework {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filters: Vec<_> = self.filters.iter().map(|plugin| plugin.name()).collect();
        let scores: Vec<_> = self
            .scores
            .iter()
            .map(|(plugin, weight)| (plugin.name(), weight))
            .collect();
        f.debug_struct("Framework")
            .field("filters", &filters)
            .field("scores", &scores)
            .finish()
    }
}

impl Default for Framework {
    fn default() -> Self {
        Self {
            filters: plugins::filters(),
            scores: plugins::scores(),
        }
    }
}

impl Framework {
    #[must_use]
    pub fn new(filters: Vec<Box<dyn FilterPlugin>>, scores: Vec<(Box<dyn ScorePlugin>, i64)>) -> Self {
        Self { filters, scores }
    }

    /// The best node for the pod; `rng` decides between equals.
    ///
    /// # Errors
    /// When no node can take it.
    pub fn schedule<'a>(
        &self,
        cycle: &Cycle<'_>,
        cache: &'a Cache,
        rng: &mut impl Rng,
    ) -> Result<&'a NodeInfo, FitError> {
        let mut reasons = BTreeMap::new();
        let mut fitting = Vec::new();
        for node in cache.nodes() {
            match self.filter(cycle.pod, node) {
                Ok(()) => fitting.push(node),
                Err(Rejection(why)) => {
                    for reason in why {
                        *reasons.entry(reason).or_default() += 1;
                    }
                }
            }
        }
        match fitting.as_slice() {
            [] => Err(FitError {
                nodes: cache.node_count(),
                reasons,
            }),
            [only] => Ok(only),
            nodes => Ok(self.best(cycle, nodes, rng)),
        }
    }

    /// The first plugin that rejects speaks for all.
    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        self.filters
            .iter()
            .try_for_each(|plugin| plugin.filter(pod, node))
    }

    /// Whether a change of this node may let a pod be scheduled that was rejected everywhere.
    #[must_use]
    pub fn may_accept_after(&self, pod: &PodInfo, changed: &NodeInfo) -> bool {
        self.filters
            .iter()
            .all(|plugin| plugin.may_accept_after(pod, changed))
    }

    fn best<'a>(&self, cycle: &Cycle<'_>, nodes: &[&'a NodeInfo], rng: &mut impl Rng) -> &'a NodeInfo {
        let mut totals = vec![0i64; nodes.len()];
        let mut scores = Vec::with_capacity(nodes.len());
        for (plugin, weight) in &self.scores {
            scores.clear();
            scores.extend(nodes.iter().map(|node| plugin.score(cycle, node)));
            plugin.normalize(&mut scores);
            for (total, score) in totals.iter_mut().zip(&scores) {
                *total += score * weight;
            }
        }
        let mut best = 0;
        let mut equals = 1;
        for (i, total) in totals.iter().enumerate().skip(1) {
            if *total > totals[best] {
                (best, equals) = (i, 1);
            } else if *total == totals[best] {
                // Each of n equals is chosen with chance 1/n.
                equals += 1;
                if rng.random_range(0..equals) == 0 {
                    best = i;
                }
            }
        }
        nodes[best]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_is_upstream_s() {
        let error = |nodes, reasons: &[(&str, usize)]| {
            let reasons = reasons
                .iter()
                .map(|(reason, count)| ((*reason).to_owned(), *count))
                .collect();
            FitError { nodes, reasons }.to_string()
        };
        assert_eq!(error(0, &[]), "no nodes available to schedule pods");
        assert_eq!(
            error(
                3,
                &[
                    ("Too many pods", 1),
                    ("Insufficient cpu", 2),
                    ("Insufficient memory", 1)
                ]
            ),
            "0/3 nodes are available: 1 Insufficient memory, 1 Too many pods, 2 Insufficient cpu."
        );
    }

    #[test]
    fn fewest_is_best() {
        let mut scores = [0, 1, 4];
        normalize_fewest(&mut scores);
        assert_eq!(scores, [100, 75, 0]);
        let mut scores = [0, 0];
        normalize_fewest(&mut scores);
        assert_eq!(scores, [100, 100]);
    }
}
