//! The plugins, one per file, named as upstream's where upstream has them.

mod node_affinity;
mod node_name;
mod node_ports;
mod node_resources_fit;
mod node_unschedulable;
mod replica_spread;
mod taint_toleration;
#[cfg(test)]
mod testing;

use crate::{FilterPlugin, ScorePlugin};

/// Cheap and final rejections first; the order decides which reason a node is counted under.
pub(crate) fn filters() -> Vec<Box<dyn FilterPlugin>> {
    vec![
        Box::new(node_unschedulable::NodeUnschedulable),
        Box::new(node_name::NodeName),
        Box::new(taint_toleration::TaintToleration),
        Box::new(node_affinity::NodeAffinity),
        Box::new(node_ports::NodePorts),
        Box::new(node_resources_fit::NodeResourcesFit),
    ]
}

/// With upstream's weights.
pub(crate) fn scores() -> Vec<(Box<dyn ScorePlugin>, i64)> {
    vec![
        (Box::new(taint_toleration::TaintToleration), 3),
        (Box::new(node_affinity::NodeAffinity), 2),
        (Box::new(replica_spread::ReplicaSpread), 2),
        (Box::new(node_resources_fit::NodeResourcesFit), 1),
    ]
}
