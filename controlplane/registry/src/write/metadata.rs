//! The parts of `metadata` that the server owns.

use jiff::Timestamp;
use skep_api::k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use skep_api::resource::ResourceInfo;
use skep_api::{ApiError, ObjectKey, Revision};

/// The present, as API times show it.
pub(super) fn now() -> Time {
    Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default())
}

/// Gives a new object what the server owns. `namespace` is the URL's.
pub(super) fn begin(meta: &mut ObjectMeta, info: &ResourceInfo, namespace: &str) -> Result<(), ApiError> {
    place(meta, info, namespace)?;
    if meta
        .resource_version
        .as_deref()
        .is_some_and(|version| !version.is_empty() && version != "0")
    {
        return Err(ApiError::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    meta.resource_version = None;
    meta.creation_timestamp = Some(now());
    meta.uid = Some(uuid::Uuid::new_v4().to_string());
    meta.deletion_timestamp = None;
    meta.deletion_grace_period_seconds = None;
    meta.generation = None;
    meta.self_link = None;
    meta.managed_fields = None;
    Ok(())
}

fn place(meta: &mut ObjectMeta, info: &ResourceInfo, namespace: &str) -> Result<(), ApiError> {
    let own = meta.namespace.as_deref().unwrap_or("");
    if info.namespaced {
        if !own.is_empty() && own != namespace {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        meta.namespace = Some(namespace.to_owned());
    } else if own.is_empty() {
        meta.namespace = None;
    }
    Ok(())
}

/// Checks that the proposed state is of the object at `key`, and restores what no client may change.
pub(super) fn carry(new: &mut ObjectMeta, old: &ObjectMeta, key: &ObjectKey) -> Result<(), ApiError> {
    match new.name.as_deref().unwrap_or("") {
        "" => new.name = Some(key.name.clone()),
        name if name == key.name => {}
        name => {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                key.name
            )));
        }
    }
    match new.namespace.as_deref().unwrap_or("") {
        "" => new.namespace = old.namespace.clone(),
        namespace if namespace == key.namespace => {}
        _ => {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    }
    if new.uid.as_deref().unwrap_or("").is_empty() {
        new.uid.clone_from(&old.uid);
    }
    new.creation_timestamp.clone_from(&old.creation_timestamp);
    new.deletion_timestamp.clone_from(&old.deletion_timestamp);
    new.deletion_grace_period_seconds = old.deletion_grace_period_seconds;
    new.generation = old.generation;
    new.self_link = None;
    new.managed_fields = None;
    Ok(())
}

/// The revision that a client says its state is based on.
pub(super) fn expected_revision(meta: &ObjectMeta) -> Result<Option<Revision>, ApiError> {
    match meta.resource_version.as_deref().unwrap_or("") {
        "" | "0" => Ok(None),
        text => crate::parse_revision(text).map(Some),
    }
}

/// Whether the metadata lets an object go whose deletion has been asked for.
pub(super) fn is_released(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
        && meta.deletion_grace_period_seconds == Some(0)
        && meta.finalizers.as_ref().is_none_or(Vec::is_empty)
}

/// The generation after the next change of the desired state.
pub(super) fn raise_generation(meta: &mut ObjectMeta) {
    meta.generation = Some(meta.generation.unwrap_or(0).saturating_add(1));
}
