//! What a scheduler needs to know.

use skep_runtime::LeaderOptions;

/// Configuration of one scheduler.
#[derive(Clone, Debug)]
pub struct SchedulerConfig {
    /// Pods with this `schedulerName` are scheduled; it also signs the events.
    pub name: String,
    /// Decides between equally good nodes. The same seed and the same sequence of changes give the same placements.
    pub seed: u64,
    /// With several servers: the lease to hold while scheduling (upstream's is kube-system/kube-scheduler).
    pub leader_election: Option<LeaderOptions>,
}

impl SchedulerConfig {
    /// The default scheduler, alone.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            name: "default-scheduler".to_owned(),
            seed,
            leader_election: None,
        }
    }
}
