//! What becomes of an object by the state of its owners. Pure; upstream's `attemptToDeleteItem`.

use super::metadata::{FOREGROUND, ORPHAN, PartialObject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use skep_client::Propagation;

/// The state of one owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// There, or not to be judged.
    Solid,
    /// There, going, and waiting for its dependents.
    Waiting,
    /// Gone.
    Absent,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    Keep,
    /// Some owners are left: only these references stay.
    KeepReferences(Vec<OwnerReference>),
    /// No owner is left that would keep it.
    Delete(Propagation),
    /// The same, and its own dependents go before it; first its references block no owner any more,
    /// because a dependent of it waits too: owners in a circle would wait for each other.
    UnblockAndDelete,
}

/// `owners` are the states of the object's references in order; `dependents` are those of the object and
/// whether each waits for its own.
pub(crate) fn plan(object: &PartialObject, owners: &[Owner], dependents: &[bool]) -> Verdict {
    if owners.is_empty() {
        return Verdict::Keep;
    }
    if owners.contains(&Owner::Solid) {
        if owners.iter().all(|owner| *owner == Owner::Solid) {
            return Verdict::Keep;
        }
        let references = object.owners().iter().zip(owners);
        let kept = references
            .filter(|(_, owner)| **owner == Owner::Solid)
            .map(|(reference, _)| reference.clone());
        return Verdict::KeepReferences(kept.collect());
    }
    if owners.contains(&Owner::Waiting) && !dependents.is_empty() {
        return if dependents.contains(&true) {
            Verdict::UnblockAndDelete
        } else {
            Verdict::Delete(Propagation::Foreground)
        };
    }
    // An object that was marked before keeps its own way of going.
    Verdict::Delete(if object.has_finalizer(ORPHAN) {
        Propagation::Orphan
    } else if object.has_finalizer(FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    })
}
