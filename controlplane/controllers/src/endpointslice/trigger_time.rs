//! When the change happened that the next write of a Service's endpoints answers to. Pure but for its own
//! memory; behind the `last-change-trigger-time` annotation.

use crate::pods;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};
use skep_api::ObjectKey;
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Default)]
struct Seen {
    service: Option<Timestamp>,
    /// By pod name.
    pods: HashMap<String, Timestamp>,
}

#[derive(Default)]
pub(crate) struct TriggerTimes {
    services: HashMap<ObjectKey, Seen>,
}

impl TriggerTimes {
    /// The earliest of the trigger times that are new since the last call; None: nothing with a known time
    /// changed.
    pub(crate) fn next(
        &mut self,
        key: &ObjectKey,
        service: &Service,
        pods: &[Arc<Pod>],
    ) -> Option<Timestamp> {
        let known = self.services.contains_key(key);
        let seen = self.services.entry(key.clone()).or_default();
        let created = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let times: HashMap<String, Timestamp> = pods
            .iter()
            .filter_map(|pod| {
                let ready = pods::condition(pod, pods::POD_READY)?
                    .last_transition_time
                    .as_ref()?
                    .0;
                Some((pod.metadata.name.clone()?, ready))
            })
            .collect();
        let mut changed: Vec<Timestamp> = times
            .iter()
            .filter(|(name, time)| known && seen.pods.get(*name).is_none_or(|before| before < time))
            .map(|(_, time)| *time)
            .collect();
        if !known {
            changed.extend(created);
        }
        seen.pods = times;
        seen.service = created;
        changed.into_iter().min()
    }

    pub(crate) fn forget(&mut self, key: &ObjectKey) {
        self.services.remove(key);
    }
}
