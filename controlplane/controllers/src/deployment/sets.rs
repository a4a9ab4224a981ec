//! The working copy of a Deployment's ReplicaSets on which a plan is made. Pure.

use crate::deployment::annotations;
use crate::deployment::spec::Settings;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

pub(crate) const HASH_LABEL: &str = "pod-template-hash";

pub(crate) struct Entry {
    pub(crate) object: ReplicaSet,
    /// What was observed; None: the plan creates it.
    pub(crate) observed: Option<Arc<ReplicaSet>>,
    changed: bool,
    /// Said when the change is written.
    event: Option<String>,
}

/// ReplicaSets by age (oldest first, then by name), the new one known by its place.
pub(crate) struct Sets {
    entries: Vec<Entry>,
    new: Option<usize>,
    /// Places in the order in which they were changed first.
    written: Vec<usize>,
}

impl Sets {
    pub(crate) fn of(deployment: &Deployment, observed: &[Arc<ReplicaSet>]) -> Self {
        let mut entries: Vec<Entry> = observed
            .iter()
            .map(|object| Entry {
                object: ReplicaSet::clone(object),
                observed: Some(object.clone()),
                changed: false,
                event: None,
            })
            .collect();
        entries.sort_by(|left, right| by_age(&left.object, &right.object));
        let template = Some(&deployment.spec.template);
        let new = entries
            .iter()
            .position(|entry| same_template(entry.object.spec.template.as_ref(), template));
        Self {
            entries,
            new,
            written: Vec::new(),
        }
    }

    pub(crate) fn new_set(&self) -> Option<&ReplicaSet> {
        self.new.map(|place| &self.entries[place].object)
    }

    pub(crate) fn new_place(&self) -> Option<usize> {
        self.new
    }

    pub(crate) fn get(&self, place: usize) -> &ReplicaSet {
        &self.entries[place].object
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &ReplicaSet> {
        self.entries.iter().map(|entry| &entry.object)
    }

    /// Places of all but the new one, oldest first.
    pub(crate) fn old_places(&self) -> Vec<usize> {
        (0..self.entries.len())
            .filter(|place| Some(*place) != self.new)
            .collect()
    }

    /// Places of old ReplicaSets that want pods, oldest first.
    pub(crate) fn active_old_places(&self) -> Vec<usize> {
        self.old_places()
            .into_iter()
            .filter(|place| size(self.get(*place)) > 0)
            .collect()
    }

    /// Places of all ReplicaSets that want pods, oldest first.
    pub(crate) fn active_places(&self) -> Vec<usize> {
        (0..self.entries.len())
            .filter(|place| size(self.get(*place)) > 0)
            .collect()
    }

    pub(crate) fn old(&self) -> impl Iterator<Item = &ReplicaSet> {
        self.old_places().into_iter().map(|place| self.get(place))
    }

    /// The sum of `spec.replicas`.
    pub(crate) fn total_size(&self) -> i32 {
        self.all().map(size).sum()
    }

    /// Adds the ReplicaSet that the plan creates.
    pub(crate) fn add_new(&mut self, object: ReplicaSet, event: Option<String>) {
        self.entries.push(Entry {
            object,
            observed: None,
            changed: true,
            event,
        });
        let place = self.entries.len() - 1;
        self.new = Some(place);
        self.written.push(place);
    }

    /// Changes the object in place; `change` says whether it did.
    pub(crate) fn update(&mut self, place: usize, change: impl FnOnce(&mut ReplicaSet) -> bool) {
        if change(&mut self.entries[place].object) {
            self.mark(place);
        }
    }

    /// Brings the ReplicaSet to `size`, and its record of the Deployment's size up to date. Says whether
    /// the size changed.
    pub(crate) fn scale(&mut self, place: usize, new_size: i32, settings: &Settings) -> bool {
        let entry = &mut self.entries[place];
        let old_size = size(&entry.object);
        let noted = annotations::set_sizes(
            &mut entry.object,
            settings.replicas,
            settings.replicas + settings.max_surge,
        );
        if old_size != new_size {
            entry.object.spec.replicas = Some(new_size);
            let direction = if new_size > old_size { "up" } else { "down" };
            let name = entry.object.metadata.name.as_deref().unwrap_or_default();
            entry.event = Some(format!(
                "Scaled {direction} replica set {name} from {old_size} to {new_size}"
            ));
        }
        if noted || old_size != new_size {
            self.mark(place);
        }
        old_size != new_size
    }

    fn mark(&mut self, place: usize) {
        if !self.entries[place].changed {
            self.entries[place].changed = true;
            self.written.push(place);
        }
    }

    /// The changed objects in the order of their changes: (object, is new, event).
    pub(crate) fn into_writes(mut self) -> Vec<(ReplicaSet, bool, Option<String>)> {
        let written = std::mem::take(&mut self.written);
        let mut entries: Vec<Option<Entry>> = self.entries.into_iter().map(Some).collect();
        written
            .into_iter()
            .filter_map(|place| entries[place].take())
            .map(|entry| (entry.object, entry.observed.is_none(), entry.event))
            .collect()
    }
}

/// `spec.replicas`.
pub(crate) fn size(replica_set: &ReplicaSet) -> i32 {
    replica_set.spec.replicas.unwrap_or(1)
}

/// `status.replicas`: pods that exist.
pub(crate) fn actual(replica_set: &ReplicaSet) -> i32 {
    replica_set.status.as_ref().map_or(0, |status| status.replicas)
}

pub(crate) fn available(replica_set: &ReplicaSet) -> i32 {
    replica_set
        .status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or(0)
}

pub(crate) fn ready(replica_set: &ReplicaSet) -> i32 {
    replica_set
        .status
        .as_ref()
        .and_then(|status| status.ready_replicas)
        .unwrap_or(0)
}

pub(crate) fn by_age(left: &ReplicaSet, right: &ReplicaSet) -> Ordering {
    let created = |set: &ReplicaSet| set.metadata.creation_timestamp.as_ref().map(|time| time.0);
    created(left)
        .cmp(&created(right))
        .then_with(|| left.metadata.name.cmp(&right.metadata.name))
}

/// Largest first; of two equal ones the younger (`younger`) or the older.
pub(crate) fn by_size(left: &ReplicaSet, right: &ReplicaSet, younger: bool) -> Ordering {
    let by_age = if younger {
        by_age(right, left)
    } else {
        by_age(left, right)
    };
    Reverse(size(left)).cmp(&Reverse(size(right))).then(by_age)
}

/// Equal but for the hash label, which only ReplicaSets' templates carry.
pub(crate) fn same_template(left: Option<&PodTemplateSpec>, right: Option<&PodTemplateSpec>) -> bool {
    let plain = |template: Option<&PodTemplateSpec>| {
        let mut template = template.cloned().unwrap_or_default();
        let meta = template.metadata.get_or_insert_default();
        if let Some(labels) = meta.labels.as_mut() {
            labels.remove(HASH_LABEL);
        }
        meta.labels = meta.labels.take().filter(|labels| !labels.is_empty());
        meta.annotations = meta
            .annotations
            .take()
            .filter(|annotations| !annotations.is_empty());
        meta.creation_timestamp = None;
        template
    };
    plain(left) == plain(right)
}
