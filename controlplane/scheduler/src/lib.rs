//! Decides on which node each pod runs.
//!
//! Shape: [`Scheduler::run`] is one task that owns all state. Between two pods it applies what the informers and the
//! bindings in flight have reported; so a scheduling cycle reads a [`Cache`] that does not move, without locks or
//! copies. A cycle is pure: [`Framework::schedule`] filters and scores the cache's nodes for one pod. The chosen node is
//! assumed in the cache at once, and the binding written behind the cycle's back; when that fails, the assumption is
//! taken back and the pod queued again. What a pod needs and what a node has is computed once, in [`PodInfo`] and
//! [`NodeInfo`]; plugins compare the two.

mod binding;
mod cache;
mod config;
mod framework;
mod metrics;
mod node_info;
mod plugins;
mod pod_info;
mod queue;
mod resources;
mod scheduler;

pub use cache::Cache;
pub use config::SchedulerConfig;
pub use framework::{Cycle, FilterPlugin, FitError, Framework, Rejection, ScorePlugin, Siblings};
pub use metrics::SchedulerMetrics;
pub use node_info::NodeInfo;
pub use pod_info::{HostPort, PodInfo};
pub use resources::Resources;
pub use scheduler::Scheduler;
