//! Controller references: who owns an object, and whether a controller should adopt or release it.
//! Pure; the rules are those of upstream's `controller_ref_manager.go`.

use k8s_openapi::Resource;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};

pub(crate) fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
}

pub(crate) fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller_of(meta).is_some_and(|owner| owner.uid == uid)
}

/// The reference that makes `owner` the controller of a new or adopted object.
pub(crate) fn controller_ref<K: Resource>(owner: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: owner.name.clone().unwrap_or_default(),
        uid: owner.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Ours already.
    Keep,
    /// An orphan that the selector matches: take it.
    Adopt,
    /// Ours, and the selector matches it no more: let it go.
    Release,
    /// Not ours, or not to be touched.
    Ignore,
}

/// What a controller (`owner`) does about an object whose labels do or do not match its selector.
pub(crate) fn claim(owner: &ObjectMeta, object: &ObjectMeta, matches: bool) -> Claim {
    let owner_goes = owner.deletion_timestamp.is_some();
    match controller_of(object) {
        Some(current) if Some(&current.uid) != owner.uid.as_ref() => Claim::Ignore,
        Some(_) if matches => Claim::Keep,
        Some(_) if owner_goes => Claim::Ignore,
        Some(_) => Claim::Release,
        None if owner_goes || !matches || object.deletion_timestamp.is_some() => Claim::Ignore,
        None if object.namespace != owner.namespace => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// The strategic merge patch that adopts the object with `uid`.
pub(crate) fn adopt_patch(owner: &OwnerReference, uid: &str) -> Value {
    json!({ "metadata": { "uid": uid, "ownerReferences": [owner] } })
}

/// The strategic merge patch that releases the object with `uid` from the owner.
pub(crate) fn release_patch(owner_uids: &[&str], uid: &str) -> Value {
    let removed: Vec<Value> = owner_uids
        .iter()
        .map(|owner| json!({ "$patch": "delete", "uid": owner }))
        .collect();
    json!({ "metadata": { "uid": uid, "ownerReferences": removed } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn meta(uid: &str, controller: Option<&str>, going: bool) -> ObjectMeta {
        ObjectMeta {
            uid: Some(uid.to_owned()),
            namespace: Some("ns".to_owned()),
            deletion_timestamp: going.then_some(Time(jiff::Timestamp::UNIX_EPOCH)),
            owner_references: controller.map(|uid| {
                vec![OwnerReference {
                    uid: uid.to_owned(),
                    controller: Some(true),
                    ..Default::default()
                }]
            }),
            ..Default::default()
        }
    }

    #[test]
    fn claims_follow_the_controller_reference_first() {
        let owner = meta("o", None, false);
        let going = meta("o", None, true);
        for (owner, object, matches, expected) in [
            (&owner, meta("p", Some("o"), false), true, Claim::Keep),
            (&owner, meta("p", Some("o"), false), false, Claim::Release),
            (&owner, meta("p", Some("x"), false), true, Claim::Ignore),
            (&owner, meta("p", None, false), true, Claim::Adopt),
            (&owner, meta("p", None, false), false, Claim::Ignore),
            (&owner, meta("p", None, true), true, Claim::Ignore),
            (&going, meta("p", None, false), true, Claim::Ignore),
            (&going, meta("p", Some("o"), false), false, Claim::Ignore),
            (&going, meta("p", Some("o"), false), true, Claim::Keep),
        ] {
            assert_eq!(
                claim(owner, &object, matches),
                expected,
                "{object:?} matches={matches}"
            );
        }
    }

    #[test]
    fn another_namespace_is_never_adopted() {
        let mut object = meta("p", None, false);
        object.namespace = Some("other".to_owned());
        assert_eq!(claim(&meta("o", None, false), &object, true), Claim::Ignore);
    }
}
