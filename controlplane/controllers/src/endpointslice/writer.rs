//! Writes slices, and remembers what it wrote until the informer shows it: a plan made of older slices
//! would write endpoints twice.

use crate::context::{namespace_is_terminating, unless_gone};
use crate::endpointslice::packing::{self, Writes};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::Mutex;
use skep_api::{ApiError, ObjectExt, ObjectKey, Revision};
use skep_client::{Client, DeleteOptions};
use skep_runtime::{Change, Store};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long the informer is waited for; after that what it shows counts.
pub(crate) const WAIT_LIMIT: Duration = Duration::from_secs(30);

struct Write {
    /// None: deleted.
    revision: Option<Revision>,
    at: Instant,
}

/// Our last write by slice uid.
type Written = HashMap<String, Write>;

#[derive(Clone)]
pub(crate) struct Writer {
    client: Client,
    slices: Store<EndpointSlice>,
    manager: &'static str,
    written: Arc<Mutex<HashMap<ObjectKey, Written>>>,
}

impl Writer {
    pub(crate) fn new(client: Client, slices: Store<EndpointSlice>, manager: &'static str) -> Self {
        Self {
            client,
            slices,
            manager,
            written: Arc::default(),
        }
    }

    /// Whether the change is more than our own write coming back, or lets a waiting plan go on.
    pub(crate) fn is_news(&self, change: &Change<EndpointSlice>) -> bool {
        let slice = change.object();
        let Some(key) = packing::service_of(slice, self.manager) else {
            return false;
        };
        let mut all = self.written.lock();
        let Some(written) = all.get_mut(&key) else {
            return true;
        };
        if let Change::Deleted(_) = change {
            written.remove(slice.uid());
            return true;
        }
        match written.get(slice.uid()) {
            Some(Write {
                revision: Some(revision),
                ..
            }) => slice.resource_version() >= Some(*revision),
            Some(Write { revision: None, .. }) => false,
            None => true,
        }
    }

    /// Whether `existing` (the informer's slices of the Service) shows all that was written.
    pub(crate) fn is_current(&self, key: &ObjectKey, existing: &[Arc<EndpointSlice>]) -> bool {
        let all = self.written.lock();
        let Some(written) = all.get(key) else {
            return true;
        };
        written.iter().all(|(uid, write)| {
            let shown = existing.iter().find(|slice| slice.uid() == uid);
            let current = match (shown, write.revision) {
                (Some(slice), Some(revision)) => slice.resource_version() >= Some(revision),
                (None, None) => true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            current || write.at.elapsed() >= WAIT_LIMIT
        })
    }

    pub(crate) fn forget(&self, key: &ObjectKey) {
        self.written.lock().remove(key);
    }

    fn note(&self, key: &ObjectKey, slice: &EndpointSlice, revision: Option<Revision>) {
        let mut all = self.written.lock();
        all.entry(key.clone()).or_default().insert(
            slice.uid().to_owned(),
            Write {
                revision,
                at: Instant::now(),
            },
        );
        // The informer may have been faster than the answer.
        let gone = self
            .slices
            .get(&slice.key())
            .is_none_or(|shown| shown.uid() != slice.uid());
        if revision.is_none()
            && gone
            && let Some(written) = all.get_mut(key)
        {
            written.remove(slice.uid());
        }
    }

    /// New slices first, then changed ones, then removals: an endpoint is rather twice than nowhere.
    pub(crate) async fn apply(
        &self,
        key: &ObjectKey,
        writes: Writes,
        creating: bool,
    ) -> Result<(), ApiError> {
        for slice in writes.create.iter().filter(|_| creating) {
            match self.client.create(slice).await {
                Ok(created) => self.note(key, &created, created.resource_version()),
                Err(error) if namespace_is_terminating(&error) => {}
                Err(error) => return Err(error),
            }
        }
        for slice in &writes.update {
            let updated = self.client.update(slice).await?;
            self.note(key, &updated, updated.resource_version());
        }
        for slice in &writes.delete {
            let options = DeleteOptions::default().with_uid(slice.uid());
            unless_gone(self.client.delete::<EndpointSlice>(&slice.key(), &options).await)?;
            self.note(key, slice, None);
        }
        Ok(())
    }
}
