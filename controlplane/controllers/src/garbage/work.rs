//! Carries out what the graph asks for, on the server's present state.

use super::graph::{Graph, Place};
use super::metadata::{FOREGROUND, Kind, ORPHAN, PartialObject};
use super::plan::{Owner, Verdict, plan};
use crate::context::unless_gone;
use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use parking_lot::Mutex;
use serde_json::{Value, json};
use skep_api::ApiError;
use skep_client::{
    ApiRequest, ApiResponse, Client, DeleteOptions, PatchKind, Preconditions, Propagation, Verb,
};
use skep_runtime::WorkQueue;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const CONFLICT_DELAY: Duration = Duration::from_millis(250);
/// Owners remembered as gone; each spares a question for every further dependent.
const ABSENT_CAPACITY: usize = 500;

/// By uid.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Job {
    /// Whether it is to go by its owners, or may go by its dependents.
    Check(String),
    /// Let its dependents go, then itself.
    Orphan(String),
}

pub(crate) struct Collector {
    client: Client,
    graph: Arc<Mutex<Graph>>,
    kinds: Vec<Arc<Kind>>,
    queue: WorkQueue<Job>,
    absent: Mutex<Absent>,
}

/// Owners that the server said are not there: a uid never comes again.
#[derive(Default)]
struct Absent {
    set: HashSet<String>,
    order: VecDeque<String>,
}

impl Absent {
    fn insert(&mut self, owner: String) {
        if self.set.insert(owner.clone()) {
            self.order.push_back(owner);
        }
        if self.order.len() > ABSENT_CAPACITY
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
        }
    }
}

impl Collector {
    pub(crate) fn new(
        client: Client,
        graph: Arc<Mutex<Graph>>,
        kinds: Vec<Arc<Kind>>,
        queue: WorkQueue<Job>,
    ) -> Self {
        Self {
            client,
            graph,
            kinds,
            queue,
            absent: Mutex::default(),
        }
    }

    pub(crate) async fn work(&self, job: Job) -> Result<(), ApiError> {
        match job {
            Job::Check(uid) => self.check(&uid).await,
            Job::Orphan(uid) => self.orphan(&uid).await,
        }
    }

    async fn check(&self, uid: &str) -> Result<(), ApiError> {
        let vertex = self.graph.lock().get(uid).cloned();
        let Some(vertex) = vertex.filter(|vertex| !vertex.deleting || vertex.waits) else {
            return Ok(());
        };
        let Some(object) = self.present(&vertex.place, uid).await? else {
            return Ok(());
        };
        if object.waits_for_dependents() {
            return self.serve_waiting(&vertex.place, uid).await;
        }
        let mut owners = Vec::with_capacity(object.owners().len());
        for owner in object.owners() {
            owners.push(self.owner(owner, &vertex.place).await?);
        }
        let dependents: Vec<bool> = self
            .graph
            .lock()
            .dependents(uid)
            .into_iter()
            .map(|(_, dependent)| dependent.waits)
            .collect();
        match plan(&object, &owners, &dependents) {
            Verdict::Keep => Ok(()),
            Verdict::KeepReferences(references) => self.set_owners(&vertex.place, &object, &references).await,
            Verdict::Delete(propagation) => self.delete(&vertex.place, &object, propagation).await,
            Verdict::UnblockAndDelete => {
                let unblocked: Vec<OwnerReference> = object
                    .owners()
                    .iter()
                    .map(|owner| OwnerReference {
                        block_owner_deletion: Some(false),
                        ..owner.clone()
                    })
                    .collect();
                if unblocked != object.owners() {
                    // The change comes back through the graph, and with it the deletion.
                    self.set_owners(&vertex.place, &object, &unblocked).await?;
                    self.queue.add_after(Job::Check(uid.to_owned()), CONFLICT_DELAY);
                    return Ok(());
                }
                self.delete(&vertex.place, &object, Propagation::Foreground).await
            }
        }
    }

    /// The object itself; if the server does not have it, the graph learns so.
    async fn present(&self, place: &Place, uid: &str) -> Result<Option<PartialObject>, ApiError> {
        let found = self.get(place).await?.filter(|object| object.uid() == uid);
        if found.is_none() {
            let jobs = self.graph.lock().remove(uid);
            jobs.into_iter().for_each(|job| self.queue.add(job));
        }
        Ok(found)
    }

    /// An owner that waits goes when nothing blocks it any more.
    async fn serve_waiting(&self, place: &Place, uid: &str) -> Result<(), ApiError> {
        let blocking: Vec<(String, bool)> = {
            let graph = self.graph.lock();
            graph
                .blocking(uid)
                .into_iter()
                .map(|(uid, vertex)| (uid.clone(), vertex.waits))
                .collect()
        };
        if blocking.is_empty() {
            return self.remove_finalizer(place, uid, FOREGROUND).await;
        }
        for (dependent, waits) in blocking {
            if !waits {
                self.queue.add(Job::Check(dependent));
            }
        }
        Ok(())
    }

    async fn orphan(&self, uid: &str) -> Result<(), ApiError> {
        let (place, dependents) = {
            let graph = self.graph.lock();
            let Some(vertex) = graph.get(uid) else {
                return Ok(());
            };
            let dependents: Vec<(String, Place)> = graph
                .dependents(uid)
                .into_iter()
                .map(|(uid, vertex)| (uid.clone(), vertex.place.clone()))
                .collect();
            (vertex.place.clone(), dependents)
        };
        for (dependent, at) in dependents {
            let Some(object) = self.get(&at).await?.filter(|object| object.uid() == dependent) else {
                continue;
            };
            let kept: Vec<OwnerReference> = object
                .owners()
                .iter()
                .filter(|owner| owner.uid != uid)
                .cloned()
                .collect();
            if kept.len() < object.owners().len() {
                self.set_owners(&at, &object, &kept).await?;
            }
        }
        self.remove_finalizer(&place, uid, ORPHAN).await
    }

    /// The state of an owner: as the graph knows it, else as the server says.
    async fn owner(&self, owner: &OwnerReference, dependent: &Place) -> Result<Owner, ApiError> {
        let group = owner.api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let kind = self
            .kinds
            .iter()
            .find(|kind| kind.gvr.group == group && kind.kind == owner.kind);
        let Some(kind) = kind.filter(|kind| !kind.namespaced || !dependent.namespace.is_empty()) else {
            // A kind that is not served, or an owner in a namespace for an object of the cluster: nothing
            // can be said, so nothing is done.
            tracing::debug!(owner = owner.kind, name = owner.name, "owner cannot be judged");
            return Ok(Owner::Solid);
        };
        let namespace = if kind.namespaced {
            dependent.namespace.clone()
        } else {
            String::new()
        };
        let place = Place {
            kind: kind.clone(),
            namespace,
            name: owner.name.clone(),
        };
        let known = self
            .graph
            .lock()
            .get(&owner.uid)
            .filter(|vertex| vertex.place == place)
            .map(|vertex| vertex.waits);
        if let Some(waits) = known {
            return Ok(if waits { Owner::Waiting } else { Owner::Solid });
        }
        let identity = format!("{} {} {} {}", kind.gvr, place.namespace, owner.name, owner.uid);
        if self.absent.lock().set.contains(&identity) {
            return Ok(Owner::Absent);
        }
        match self.get(&place).await?.filter(|object| object.uid() == owner.uid) {
            Some(object) if object.waits_for_dependents() => Ok(Owner::Waiting),
            Some(_) => Ok(Owner::Solid),
            None => {
                self.absent.lock().insert(identity);
                Ok(Owner::Absent)
            }
        }
    }

    async fn get(&self, place: &Place) -> Result<Option<PartialObject>, ApiError> {
        match unless_gone(self.client.raw(request(Verb::Get, place)).await)? {
            Some(ApiResponse::Object(object)) => PartialObject::decode(&object).map(Some),
            _ => Ok(None),
        }
    }

    async fn delete(
        &self,
        place: &Place,
        object: &PartialObject,
        propagation: Propagation,
    ) -> Result<(), ApiError> {
        tracing::info!(
            kind = place.kind.kind,
            namespace = place.namespace,
            name = place.name,
            ?propagation,
            "owners are gone, deleting"
        );
        // Of exactly this state: an owner that was added since would keep it.
        let options = DeleteOptions {
            propagation_policy: Some(propagation),
            preconditions: Some(Preconditions {
                uid: object.metadata.uid.clone(),
                resource_version: object.metadata.resource_version.clone(),
            }),
            ..Default::default()
        };
        let body = serde_json::to_vec(&options).map_err(ApiError::internal)?;
        unless_gone(
            self.client
                .raw(request(Verb::Delete, place).body(Bytes::from(body)))
                .await,
        )
        .map(drop)
    }

    async fn set_owners(
        &self,
        place: &Place,
        object: &PartialObject,
        owners: &[OwnerReference],
    ) -> Result<(), ApiError> {
        self.patch(place, object, json!({ "ownerReferences": owners }))
            .await
    }

    async fn remove_finalizer(&self, place: &Place, uid: &str, name: &str) -> Result<(), ApiError> {
        let Some(object) = self.get(place).await?.filter(|object| object.uid() == uid) else {
            return Ok(());
        };
        if !object.has_finalizer(name) {
            return Ok(());
        }
        let kept: Vec<&String> = object
            .metadata
            .finalizers
            .iter()
            .flatten()
            .filter(|finalizer| *finalizer != name)
            .collect();
        self.patch(place, &object, json!({ "finalizers": kept })).await
    }

    /// Sets metadata of exactly this state of the object.
    async fn patch(
        &self,
        place: &Place,
        object: &PartialObject,
        mut metadata: Value,
    ) -> Result<(), ApiError> {
        metadata["uid"] = json!(object.metadata.uid);
        metadata["resourceVersion"] = json!(object.metadata.resource_version);
        let body = serde_json::to_vec(&json!({ "metadata": metadata })).map_err(ApiError::internal)?;
        let request = request(Verb::Patch(PatchKind::Merge), place).body(Bytes::from(body));
        unless_gone(self.client.raw(request).await).map(drop)
    }
}

fn request(verb: Verb, place: &Place) -> ApiRequest {
    ApiRequest::new(verb, place.kind.gvr.clone())
        .namespace(&place.namespace)
        .name(&place.name)
}
