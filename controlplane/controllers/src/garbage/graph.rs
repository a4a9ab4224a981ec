//! Who owns whom, by uid. Pure: changes go in, and the objects to look at come out.

use super::metadata::{Kind, PartialObject};
use super::work::Job;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) kind: Arc<Kind>,
    /// Empty for objects of the cluster.
    pub(crate) namespace: String,
    pub(crate) name: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Vertex {
    pub(crate) place: Place,
    pub(crate) owners: Vec<OwnerReference>,
    pub(crate) deleting: bool,
    /// Going, and waiting for its dependents.
    pub(crate) waits: bool,
    /// Going, and its dependents are to be let go.
    orphans: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Graph {
    vertices: HashMap<String, Vertex>,
    /// By the owner's uid, also of owners that are not (yet) known.
    dependents: HashMap<String, BTreeSet<String>>,
}

impl Graph {
    pub(crate) fn get(&self, uid: &str) -> Option<&Vertex> {
        self.vertices.get(uid)
    }

    pub(crate) fn dependents(&self, uid: &str) -> Vec<(&String, &Vertex)> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| self.vertices.get_key_value(uid)).collect()
    }

    /// Dependents that the owner may not go before.
    pub(crate) fn blocking(&self, uid: &str) -> Vec<(&String, &Vertex)> {
        let blocks = |vertex: &Vertex| {
            vertex
                .owners
                .iter()
                .any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true))
        };
        self.dependents(uid)
            .into_iter()
            .filter(|(_, vertex)| blocks(vertex))
            .collect()
    }

    /// The object is there, as this.
    pub(crate) fn put(&mut self, kind: &Arc<Kind>, object: &PartialObject) -> Vec<Job> {
        let uid = object.uid().to_owned();
        let vertex = Vertex {
            place: Place {
                kind: kind.clone(),
                namespace: object.metadata.namespace.clone().unwrap_or_default(),
                name: object.metadata.name.clone().unwrap_or_default(),
            },
            owners: object.owners().to_vec(),
            deleting: object.is_deleting(),
            waits: object.waits_for_dependents(),
            orphans: object.orphans_dependents(),
        };
        let old = self.vertices.insert(uid.clone(), vertex.clone());
        let old_owners = old.as_ref().map(|old| old.owners.as_slice()).unwrap_or_default();
        for owner in old_owners {
            self.unlink(&owner.uid, &uid);
        }
        for owner in &vertex.owners {
            self.dependents
                .entry(owner.uid.clone())
                .or_default()
                .insert(uid.clone());
        }
        let mut jobs = Vec::new();
        let waited = old.as_ref().is_some_and(|old| old.waits);
        let orphaned = old.as_ref().is_some_and(|old| old.orphans);
        if vertex.orphans && !orphaned {
            jobs.push(Job::Orphan(uid.clone()));
        }
        if vertex.waits && !waited {
            jobs.extend(
                self.dependents(&uid)
                    .into_iter()
                    .map(|(uid, _)| Job::Check(uid.clone())),
            );
            jobs.push(Job::Check(uid.clone()));
        }
        // An owner that waits may be blocked by one reference less.
        jobs.extend(
            old_owners
                .iter()
                .filter(|owner| self.waits(&owner.uid))
                .map(|owner| Job::Check(owner.uid.clone())),
        );
        if vertex
            .owners
            .iter()
            .any(|owner| self.waits(&owner.uid) || !self.vertices.contains_key(&owner.uid))
        {
            jobs.push(Job::Check(uid));
        }
        jobs
    }

    /// The object is gone.
    pub(crate) fn remove(&mut self, uid: &str) -> Vec<Job> {
        let Some(vertex) = self.vertices.remove(uid) else {
            return Vec::new();
        };
        let mut jobs: Vec<Job> = self
            .dependents(uid)
            .into_iter()
            .map(|(uid, _)| Job::Check(uid.clone()))
            .collect();
        for owner in &vertex.owners {
            self.unlink(&owner.uid, uid);
            if self.waits(&owner.uid) {
                jobs.push(Job::Check(owner.uid.clone()));
            }
        }
        jobs
    }

    fn waits(&self, uid: &str) -> bool {
        self.vertices.get(uid).is_some_and(|vertex| vertex.waits)
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }
}
