//! Deletion, of one object and of many.

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use skep_api::{ApiError, GroupVersionResource, ObjectKey, Revision};

use super::delete_plan::{Plan, plan};
use super::{ATTEMPTS, Attempt, Target};
use crate::registry::Inner;
use crate::{DeleteOptions, Deleted, ListOptions, ObjectList, Scope, SharedObject};

/// Deletions of one collection under way at a time.
const COLLECTION_WORKERS: usize = 16;

impl Inner {
    pub(crate) async fn delete(
        &self,
        resource: &GroupVersionResource,
        key: &ObjectKey,
        options: &DeleteOptions,
    ) -> Result<Deleted, ApiError> {
        let target = self.target(resource, key)?;
        let mut current = self.current(&target).await?;
        for _ in 0..ATTEMPTS {
            match self.delete_once(&target, &current, options).await {
                Ok(deleted) => return Ok(deleted),
                Err(Attempt::Lost(newer)) => current = newer,
                Err(Attempt::Failed(error)) => return Err(error),
            }
        }
        Err(ApiError::modified(resource, &key.name))
    }

    async fn delete_once(
        &self,
        target: &Target,
        current: &SharedObject,
        options: &DeleteOptions,
    ) -> Result<Deleted, Attempt> {
        check_preconditions(target, current, options)?;
        let strategy = self.strategies.of(&target.info);
        strategy.check_delete(current.object())?;
        match plan(current.object(), strategy, options, Timestamp::now()) {
            Plan::Wait => Ok(Deleted {
                object: current.clone(),
                gone: false,
            }),
            Plan::Remove if options.dry_run => Ok(Deleted {
                object: current.clone(),
                gone: true,
            }),
            Plan::Remove => {
                let removed = self
                    .store
                    .delete(&target.store_key, Some(current.revision().0))
                    .await;
                let (revision, _) = removed.map_err(|error| self.lost(target, error))?;
                Ok(Deleted {
                    object: current.at(Revision(revision)),
                    gone: true,
                })
            }
            Plan::Mark(new) if options.dry_run => {
                let object = SharedObject::unstored(new).map_err(ApiError::internal)?;
                Ok(Deleted { object, gone: false })
            }
            Plan::Mark(new) => {
                let object = self.swap(target, current, new, None).await?;
                Ok(Deleted { object, gone: false })
            }
        }
    }

    pub(crate) async fn delete_collection(
        &self,
        resource: &GroupVersionResource,
        scope: &Scope,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<ObjectList, ApiError> {
        let listed = self.list(resource, scope, list).await?;
        let deletions = listed
            .items
            .iter()
            .map(|object| self.delete_listed(resource, object, options));
        // Collected, because the futures borrow from the list.
        let deletions: Vec<_> = deletions.collect();
        stream::iter(deletions)
            .buffer_unordered(COLLECTION_WORKERS)
            .try_collect::<()>()
            .await?;
        Ok(listed)
    }

    /// Deletes this object, not another that took its name; done also when somebody else was faster.
    async fn delete_listed(
        &self,
        resource: &GroupVersionResource,
        object: &SharedObject,
        options: &DeleteOptions,
    ) -> Result<(), ApiError> {
        let options = DeleteOptions {
            uid: Some(object.uid().to_owned()),
            ..options.clone()
        };
        match self.delete(resource, object.key(), &options).await {
            Err(error) if error.is_not_found() || error.is_conflict() => Ok(()),
            outcome => outcome.map(drop),
        }
    }
}

fn check_preconditions(
    target: &Target,
    current: &SharedObject,
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    let refuse = |what: &str, wanted: &str, actual: &str| {
        let why =
            format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {actual}");
        Err(ApiError::conflict(target.resource(), &target.key.name, &why))
    };
    match (&options.uid, options.resource_version) {
        (Some(uid), _) if uid != current.uid() => refuse("UID", uid, current.uid()),
        (_, Some(revision)) if revision != current.revision() => refuse(
            "ResourceVersion",
            &revision.to_string(),
            &current.revision().to_string(),
        ),
        _ => Ok(()),
    }
}
