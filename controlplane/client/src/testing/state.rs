//! The objects of the in-memory API, their history, and what each verb does to them.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use skep_api::{ApiError, GroupVersionResource, ObjectKey, Revision};
use tokio::time::Instant;

use super::object::{
    Filter, copy_field, has_finalizers, is_terminating, query, revision, set_meta, set_revision, text, uid,
};
use super::patching;
use crate::{ApiRequest, Verb};

/// The revision before the first write: not 0, which in requests means "any".
const EMPTY: Revision = Revision(1);

/// One write, before and after.
pub(super) struct Entry {
    pub(super) resource: GroupVersionResource,
    pub(super) old: Option<Value>,
    /// With a deletion: `None`; `old` carries the deletion's revision then.
    pub(super) new: Option<Value>,
}

/// What a request leads to.
pub(super) enum Outcome {
    Object(Value),
    Done,
    List {
        revision: Revision,
        continue_token: Option<String>,
        items: Vec<Value>,
    },
}

pub(super) struct State {
    revision: u64,
    objects: BTreeMap<(GroupVersionResource, ObjectKey), Value>,
    /// Entry `i` has revision `EMPTY + i + 1`.
    log: Vec<Entry>,
    /// Watches from before this revision are too old.
    floor: u64,
    continues: HashMap<String, (Revision, Vec<Value>)>,
    /// Rises when open watches must end, with what they end.
    pub(super) watch_epoch: u64,
    pub(super) watch_error: Option<ApiError>,
    pub(super) bookmarks: u64,
    serial: u64,
    began: (Timestamp, Instant),
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            revision: EMPTY.0,
            objects: BTreeMap::new(),
            log: Vec::new(),
            floor: 0,
            continues: HashMap::new(),
            watch_epoch: 0,
            watch_error: None,
            bookmarks: 0,
            serial: 0,
            began: (Timestamp::now(), Instant::now()),
        }
    }

    pub(super) fn revision(&self) -> Revision {
        Revision(self.revision)
    }

    pub(super) fn log_since(&self, revision: Revision) -> &[Entry] {
        let from = usize::try_from(revision.0.saturating_sub(EMPTY.0))
            .unwrap_or(usize::MAX)
            .min(self.log.len());
        &self.log[from..]
    }

    pub(super) fn is_compacted(&self, revision: Revision) -> bool {
        revision.0 < self.floor
    }

    pub(super) fn end_watches(&mut self, error: Option<ApiError>) {
        self.watch_epoch += 1;
        self.watch_error = error;
    }

    pub(super) fn compact(&mut self) {
        self.floor = self.revision;
        self.continues.clear();
    }

    pub(super) fn bookmark(&mut self) {
        self.bookmarks += 1;
    }

    pub(super) fn find(&self, resource: &GroupVersionResource, key: &ObjectKey) -> Option<&Value> {
        self.objects.get(&(resource.clone(), key.clone()))
    }

    pub(super) fn all(&self, resource: &GroupVersionResource) -> impl Iterator<Item = &Value> {
        let from = (resource.clone(), ObjectKey::default());
        let resource = resource.clone();
        self.objects
            .range(from..)
            .take_while(move |((other, _), _)| *other == resource)
            .map(|(_, object)| object)
    }

    /// The present, moving with tokio's clock.
    fn now(&self) -> Value {
        let (timestamp, instant) = self.began;
        let elapsed = SignedDuration::try_from(instant.elapsed()).unwrap_or(SignedDuration::ZERO);
        json!(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            timestamp + elapsed
        ))
    }

    fn write(&mut self, resource: &GroupVersionResource, key: ObjectKey, mut new: Value) -> Value {
        self.revision += 1;
        set_revision(&mut new, Revision(self.revision));
        let old = self.objects.insert((resource.clone(), key), new.clone());
        self.log.push(Entry {
            resource: resource.clone(),
            old,
            new: Some(new.clone()),
        });
        new
    }

    pub(super) fn remove(&mut self, resource: &GroupVersionResource, key: &ObjectKey) -> Option<Value> {
        let mut old = self.objects.remove(&(resource.clone(), key.clone()))?;
        self.revision += 1;
        set_revision(&mut old, Revision(self.revision));
        self.log.push(Entry {
            resource: resource.clone(),
            old: Some(old.clone()),
            new: None,
        });
        Some(old)
    }

    pub(super) fn put(
        &mut self,
        resource: &GroupVersionResource,
        key: ObjectKey,
        mut object: Value,
    ) -> Value {
        let old = self.find(resource, &key).cloned();
        for field in ["uid", "creationTimestamp"] {
            if text(&object, &format!("/metadata/{field}")).is_empty() {
                let kept = old
                    .as_ref()
                    .and_then(|old| old.pointer(&format!("/metadata/{field}")).cloned());
                let value = kept.unwrap_or_else(|| self.fresh(field));
                set_meta(&mut object, field, value);
            }
        }
        self.write(resource, key, object)
    }

    fn fresh(&mut self, field: &str) -> Value {
        if field == "uid" {
            self.serial += 1;
            json!(format!("00000000-0000-4000-8000-{:012x}", self.serial))
        } else {
            self.now()
        }
    }

    pub(super) fn handle(&mut self, request: &ApiRequest) -> Result<Outcome, ApiError> {
        let subresource = request.subresource.as_deref();
        match (request.verb, subresource) {
            (Verb::Get, _) => Ok(Outcome::Object(self.existing(request)?.clone())),
            (Verb::List, _) => self.list(request),
            (Verb::Create, None) => self.create(request).map(Outcome::Object),
            (Verb::Create, Some("binding")) => self.bind(request),
            (Verb::Create, Some("eviction")) | (Verb::Delete, None) => {
                self.delete(request).map(Outcome::Object)
            }
            (Verb::Update, _) => {
                let new = body(request)?;
                self.update(request, new).map(Outcome::Object)
            }
            (Verb::Patch(kind), _) => {
                let new = patching::apply(kind, request, self.existing(request)?.clone())?;
                self.update(request, new).map(Outcome::Object)
            }
            (Verb::DeleteCollection, None) => self.delete_collection(request),
            _ => Err(ApiError::method_not_supported(
                &request.resource,
                request.verb.as_str(),
            )),
        }
    }

    fn existing(&self, request: &ApiRequest) -> Result<&Value, ApiError> {
        let key = key(request);
        self.find(&request.resource, &key)
            .ok_or_else(|| ApiError::not_found(&request.resource, &key.name))
    }

    fn list(&mut self, request: &ApiRequest) -> Result<Outcome, ApiError> {
        let (revision, mut items) = match query(request, "continue") {
            Some(token) => self
                .continues
                .remove(token)
                .ok_or_else(|| ApiError::expired("The provided continue parameter is too old"))?,
            None => {
                let filter = Filter::of(request)?;
                let items = self
                    .all(&request.resource)
                    .filter(|object| filter.matches(object));
                (self.revision(), items.cloned().collect())
            }
        };
        let limit = query(request, "limit")
            .and_then(|limit| limit.parse().ok())
            .filter(|limit| *limit > 0);
        let rest = limit
            .filter(|limit| items.len() > *limit)
            .map(|limit| items.split_off(limit));
        let continue_token = rest.map(|rest| {
            self.serial += 1;
            let token = format!("page-{}", self.serial);
            self.continues.insert(token.clone(), (revision, rest));
            token
        });
        Ok(Outcome::List {
            revision,
            continue_token,
            items,
        })
    }

    fn create(&mut self, request: &ApiRequest) -> Result<Value, ApiError> {
        let mut object = body(request)?;
        if text(&object, "/metadata/name").is_empty() {
            let prefix = text(&object, "/metadata/generateName").to_owned();
            if prefix.is_empty() {
                return Err(ApiError::bad_request("name or generateName is required"));
            }
            self.serial += 1;
            set_meta(&mut object, "name", json!(format!("{prefix}{:05x}", self.serial)));
        }
        let namespace = request.namespace.clone().unwrap_or_default();
        let key = ObjectKey {
            namespace: namespace.clone(),
            name: text(&object, "/metadata/name").to_owned(),
        };
        if self.find(&request.resource, &key).is_some() {
            return Err(ApiError::already_exists(&request.resource, &key.name));
        }
        let namespace = if namespace.is_empty() {
            Value::Null
        } else {
            json!(namespace)
        };
        set_meta(&mut object, "namespace", namespace);
        for field in ["uid", "creationTimestamp"] {
            let value = self.fresh(field);
            set_meta(&mut object, field, value);
        }
        set_meta(&mut object, "deletionTimestamp", Value::Null);
        if object.get("spec").is_some() {
            set_meta(&mut object, "generation", json!(1));
        }
        Ok(self.write(&request.resource, key, object))
    }

    fn update(&mut self, request: &ApiRequest, mut new: Value) -> Result<Value, ApiError> {
        let old = self.existing(request)?.clone();
        let key = key(request);
        let stale = |pointer: &str| {
            let asked = text(&new, pointer);
            !asked.is_empty() && asked != text(&old, pointer)
        };
        if stale("/metadata/resourceVersion") || stale("/metadata/uid") {
            return Err(ApiError::modified(&request.resource, &key.name));
        }
        if request.subresource.as_deref() == Some("status") {
            let status = new;
            new = old.clone();
            copy_field(&status, &mut new, "status");
        } else {
            copy_field(&old, &mut new, "status");
        }
        for field in [
            "uid",
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generation",
        ] {
            let value = old
                .pointer(&format!("/metadata/{field}"))
                .cloned()
                .unwrap_or(Value::Null);
            set_meta(&mut new, field, value);
        }
        if new.get("spec") != old.get("spec") {
            let generation = old
                .pointer("/metadata/generation")
                .and_then(Value::as_i64)
                .unwrap_or(0);
            set_meta(&mut new, "generation", json!(generation + 1));
        }
        set_revision(&mut new, revision(&old));
        if new == old {
            return Ok(old);
        }
        let written = self.write(&request.resource, key.clone(), new);
        let waits = written
            .pointer("/metadata/deletionGracePeriodSeconds")
            .and_then(Value::as_i64)
            .unwrap_or(0)
            > 0;
        if is_terminating(&written) && !has_finalizers(&written) && !waits {
            self.remove(&request.resource, &key);
        }
        Ok(written)
    }

    fn delete(&mut self, request: &ApiRequest) -> Result<Value, ApiError> {
        let options = request.body.as_ref().map_or(Ok(Value::Null), |_| body(request))?;
        let options = options.get("deleteOptions").unwrap_or(&options);
        let old = self.existing(request)?.clone();
        let key = key(request);
        for (asked, actual) in [
            (text(options, "/preconditions/uid"), uid(&old)),
            (
                text(options, "/preconditions/resourceVersion"),
                text(&old, "/metadata/resourceVersion"),
            ),
        ] {
            if !asked.is_empty() && asked != actual {
                let why = format!("the precondition {asked} does not hold: {actual}");
                return Err(ApiError::conflict(&request.resource, &key.name, &why));
            }
        }
        let grace = self.grace(&request.resource, &old, options);
        if grace == 0 && !has_finalizers(&old) {
            return Ok(self.remove(&request.resource, &key).unwrap_or(old));
        }
        let known = old
            .pointer("/metadata/deletionGracePeriodSeconds")
            .and_then(Value::as_i64);
        if is_terminating(&old) && known.is_none_or(|known| known <= grace) {
            return Ok(old);
        }
        let mut new = old;
        let now = self.now();
        set_meta(&mut new, "deletionTimestamp", now);
        set_meta(&mut new, "deletionGracePeriodSeconds", json!(grace));
        Ok(self.write(&request.resource, key, new))
    }

    /// Only pods that run somewhere are waited for.
    fn grace(&self, resource: &GroupVersionResource, object: &Value, options: &Value) -> i64 {
        let is_pod = resource.group.is_empty() && resource.resource == "pods";
        let over = ["Succeeded", "Failed"].contains(&text(object, "/status/phase"));
        if !is_pod || over || text(object, "/spec/nodeName").is_empty() {
            return 0;
        }
        let number = |value: Option<&Value>| value.and_then(Value::as_i64);
        number(options.get("gracePeriodSeconds"))
            .or_else(|| number(object.pointer("/spec/terminationGracePeriodSeconds")))
            .unwrap_or(30)
    }

    fn delete_collection(&mut self, request: &ApiRequest) -> Result<Outcome, ApiError> {
        let filter = Filter::of(request)?;
        let keys: Vec<_> = self
            .all(&request.resource)
            .filter(|object| filter.matches(object))
            .map(|object| {
                (
                    text(object, "/metadata/namespace").to_owned(),
                    text(object, "/metadata/name").to_owned(),
                )
            })
            .collect();
        for (namespace, name) in keys {
            self.delete(&request.clone().namespace(&namespace).name(&name))?;
        }
        Ok(Outcome::Done)
    }

    fn bind(&mut self, request: &ApiRequest) -> Result<Outcome, ApiError> {
        let binding = body(request)?;
        let mut pod = self.existing(request)?.clone();
        let key = key(request);
        let conflict = |why: &str| Err(ApiError::conflict(&request.resource, &key.name, why));
        let asked = text(&binding, "/metadata/uid");
        if !asked.is_empty() && asked != uid(&pod) {
            return conflict("the uid in the precondition does not match");
        }
        if is_terminating(&pod) {
            return conflict("pod is being deleted, cannot be assigned to a host");
        }
        let node = text(&pod, "/spec/nodeName");
        if !node.is_empty() {
            return conflict(&format!("pod {} is already assigned to node {node:?}", key.name));
        }
        pod["spec"]["nodeName"] = json!(text(&binding, "/target/name"));
        let conditions = &mut pod["status"]["conditions"];
        let kept = conditions.as_array_mut().map(std::mem::take).unwrap_or_default();
        let kept = kept
            .into_iter()
            .filter(|condition| text(condition, "/type") != "PodScheduled");
        let now = self.now();
        let scheduled = json!({ "type": "PodScheduled", "status": "True", "lastTransitionTime": now });
        *conditions = kept.chain([scheduled]).collect();
        self.write(&request.resource, key.clone(), pod);
        Ok(Outcome::Done)
    }
}

fn key(request: &ApiRequest) -> ObjectKey {
    ObjectKey {
        namespace: request.namespace.clone().unwrap_or_default(),
        name: request.name.clone().unwrap_or_default(),
    }
}

fn body(request: &ApiRequest) -> Result<Value, ApiError> {
    serde_json::from_slice(request.body.as_deref().unwrap_or_default())
        .map_err(|error| ApiError::bad_request(error.to_string()))
}
