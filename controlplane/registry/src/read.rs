//! Reading: get and list, from the cache at an exact revision.

use std::ops::Bound;
use std::sync::Arc;

use skep_api::resource::ResourceInfo;
use skep_api::{ApiError, FieldSelector, GroupVersionResource, ObjectKey, Revision};
use skep_store::StoreError;

use crate::cache::{Objects, Slot, Snapshot};
use crate::continue_token::ContinueToken;
use crate::registry::Inner;
use crate::{GetOptions, ListOptions, ObjectList, ReadVersion, Scope, SharedObject, error, keys};

impl Inner {
    /// The row and the cache's place of a resource.
    pub(crate) fn resource(
        &self,
        resource: &GroupVersionResource,
    ) -> Result<(Arc<ResourceInfo>, Slot), ApiError> {
        let info = self.table.get(resource).ok_or_else(ApiError::unknown_path)?;
        let slot = self.cache.slot(resource).ok_or_else(ApiError::unknown_path)?;
        Ok((Arc::clone(info), slot))
    }

    /// Waits until the cache shows every write that was acknowledged before this call.
    pub(crate) async fn fresh(&self, resource: &GroupVersionResource) -> Result<(), ApiError> {
        let revision = self
            .store
            .revision()
            .await
            .map_err(|error| error::from_store(error, resource, ""))?;
        self.cache.wait_for(revision).await
    }

    /// Waits until the cache is as fresh as asked for.
    async fn reach(&self, resource: &GroupVersionResource, version: ReadVersion) -> Result<(), ApiError> {
        match version {
            ReadVersion::Latest => self.fresh(resource).await,
            ReadVersion::Any => Ok(()),
            ReadVersion::NotOlderThan(revision) | ReadVersion::Exact(revision) => {
                self.cache.wait_for(revision.0).await
            }
        }
    }

    pub(crate) async fn get(
        &self,
        resource: &GroupVersionResource,
        key: &ObjectKey,
        options: &GetOptions,
    ) -> Result<SharedObject, ApiError> {
        let (_, slot) = self.resource(resource)?;
        self.reach(resource, options.version).await?;
        self.cache
            .get(slot, key)
            .ok_or_else(|| ApiError::not_found(resource, &key.name))
    }

    pub(crate) async fn list(
        &self,
        resource: &GroupVersionResource,
        scope: &Scope,
        options: &ListOptions,
    ) -> Result<ObjectList, ApiError> {
        let (info, slot) = self.resource(resource)?;
        check_fields(&info, options)?;
        let token = match options.continue_token.as_deref().filter(|text| !text.is_empty()) {
            None => None,
            Some(_)
                if matches!(
                    options.version,
                    ReadVersion::NotOlderThan(_) | ReadVersion::Exact(_)
                ) =>
            {
                return Err(ApiError::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            Some(text) => Some(ContinueToken::decode(text)?),
        };
        let version = match &token {
            None => options.version,
            Some(token) => match token.revision() {
                Some(revision) => ReadVersion::Exact(Revision(revision)),
                None => ReadVersion::Latest,
            },
        };
        self.reach(resource, version).await?;
        let after = token.as_ref().map(ContinueToken::after);
        let snapshot = match version {
            ReadVersion::Exact(revision) => {
                self.at(&info, slot, revision.0)
                    .await
                    .map_err(|error| match after {
                        Some(after) if error.is_gone() => expired_page(error, after),
                        _ => error,
                    })?
            }
            _ => self.cache.snapshot(slot),
        };
        Ok(page(&snapshot, &keys::scope_prefix(scope), after, options))
    }

    /// The state at exactly `revision`: from the cache's log or, further back, from the store's history.
    async fn at(&self, info: &ResourceInfo, slot: Slot, revision: u64) -> Result<Snapshot, ApiError> {
        if let Some(snapshot) = self.cache.snapshot_at(slot, revision) {
            return Ok(snapshot);
        }
        let prefix = keys::prefix(&info.gvr);
        let listing = self
            .store
            .list(&prefix, Some(revision), None, None)
            .await
            .map_err(|error| match error {
                StoreError::Compacted { .. } => ApiError::expired(
                    "The provided resource version is too old to display a consistent list result.",
                ),
                error => error::from_store(error, &info.gvr, ""),
            })?;
        let mut objects = Objects::new();
        for entry in listing.entries {
            let object = info
                .codec
                .decode(&entry.value, None)
                .map_err(ApiError::internal)?;
            let object = SharedObject::new(&entry.value, object, Revision(entry.mod_revision));
            objects.insert(entry.key[prefix.len()..].into(), object);
        }
        Ok(Snapshot { objects, revision })
    }
}

/// Refuses selectors on fields that the kind does not offer.
pub(crate) fn check_selector(
    info: &ResourceInfo,
    labels: &skep_api::LabelSelector,
    fields: &FieldSelector,
) -> Result<(), ApiError> {
    match fields
        .requirements
        .iter()
        .find(|requirement| !info.codec.knows_field(&requirement.field))
    {
        None => Ok(()),
        Some(unknown) => Err(ApiError::bad_request(format!(
            "Unable to find {:?} that match label selector {:?}, field selector {:?}: field label not supported: {}",
            format!("{}, Resource={}", info.gvr.api_version(), info.gvr.resource),
            labels.to_string(),
            fields.to_string(),
            unknown.field,
        ))),
    }
}

fn check_fields(info: &ResourceInfo, options: &ListOptions) -> Result<(), ApiError> {
    check_selector(info, &options.labels, &options.fields)
}

/// 410 for a page whose revision is forgotten, with a token that goes on in the current state.
fn expired_page(_: ApiError, after: &str) -> ApiError {
    let mut gone = ApiError::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    gone.continue_token = Some(ContinueToken::inconsistent(after).encode());
    gone
}

/// The items of a snapshot that lie in the scope after `after`, match, and fit in the limit.
fn page(snapshot: &Snapshot, prefix: &str, after: Option<&str>, options: &ListOptions) -> ObjectList {
    let everything = options.labels.is_empty() && options.fields.is_empty();
    let limit = options.limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let start = match after {
        Some(after) if after >= prefix => Bound::Excluded(Arc::from(after)),
        _ => Bound::Included(Arc::from(prefix)),
    };
    let mut list = ObjectList {
        revision: Revision(snapshot.revision),
        items: Vec::new(),
        continue_token: None,
        remaining: None,
    };
    let mut last: &str = "";
    let mut rest = snapshot
        .objects
        .range::<_, Arc<str>>((start, Bound::Unbounded))
        .take_while(|(path, _)| path.starts_with(prefix))
        .filter(|(_, object)| everything || object.matches(&options.labels, &options.fields));
    while let Some((path, object)) = rest.next() {
        if list.items.len() == limit {
            list.continue_token = Some(ContinueToken::new(snapshot.revision, last).encode());
            list.remaining = everything.then(|| 1 + rest.count());
            break;
        }
        last = path;
        list.items.push(object.clone());
    }
    list
}
