//! What a deletion does to an object: remove it, mark it, or nothing more. Pure.
//!
//! Source: upstream's `rest.BeforeDelete` and the generic registry's `updateForGracefulDeletionAndFinalizers`.

use jiff::{SignedDuration, Timestamp};
use skep_api::k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use skep_api::resource::DynObject;

use super::metadata::raise_generation;
use crate::strategy::Strategy;
use crate::{DeleteOptions, Propagation};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What to do.
#[derive(Debug)]
pub(super) enum Plan {
    Remove,
    /// Write this state, in which the deletion has begun.
    Mark(Box<dyn DynObject>),
    /// The deletion has begun already and is waited for.
    Wait,
}

pub(super) fn plan(
    object: &dyn DynObject,
    strategy: &dyn Strategy,
    options: &DeleteOptions,
    now: Timestamp,
) -> Plan {
    let mut new = object.clone_box();
    // Upstream's rule: a negative time is the shortest.
    let requested = options
        .grace_period_seconds
        .map(|seconds| if seconds < 0 { 1 } else { seconds });
    let began_before = new.object_meta().deletion_timestamp.is_some();
    let grace = strategy.grace_seconds(object, requested);
    let grace = match (grace, began_before) {
        (Some(seconds), false) => {
            begin(new.meta_mut(), seconds, now);
            Some(seconds)
        }
        (Some(_), true) => match shorten(new.meta_mut(), requested, now) {
            Some(seconds) => Some(seconds),
            None if finalizers_for(new.object_meta(), options.propagation).is_none() => return Plan::Wait,
            None => new.object_meta().deletion_grace_period_seconds,
        },
        (None, _) => None,
    };
    if let Some(finalizers) = finalizers_for(new.object_meta(), options.propagation) {
        new.meta_mut().finalizers = (!finalizers.is_empty()).then_some(finalizers);
    }
    let finalized = new.object_meta().finalizers.as_ref().is_none_or(Vec::is_empty);
    if finalized && !strategy.is_held(&*new) && grace.unwrap_or(0) == 0 {
        return Plan::Remove;
    }
    if grace.is_none() && !began_before {
        begin(new.meta_mut(), 0, now);
    }
    strategy.mark_deleting(&mut *new);
    if new.equals(object) {
        Plan::Wait
    } else {
        Plan::Mark(new)
    }
}

/// When so many seconds are over; no later than time itself.
fn end(begun: Timestamp, seconds: i64) -> Timestamp {
    let whole = Timestamp::from_second(begun.as_second()).unwrap_or(begun);
    whole
        .saturating_add(SignedDuration::from_secs(seconds))
        .unwrap_or(whole)
}

fn begin(meta: &mut ObjectMeta, seconds: i64, now: Timestamp) {
    meta.deletion_timestamp = Some(Time(end(now, seconds)));
    meta.deletion_grace_period_seconds = Some(seconds);
    if meta.generation.is_some_and(|generation| generation > 0) {
        raise_generation(meta);
    }
}

/// Shortens the time that a deletion has left; `None` when the request does not.
fn shorten(meta: &mut ObjectMeta, requested: Option<i64>, now: Timestamp) -> Option<i64> {
    let Some(before) = meta.deletion_grace_period_seconds else {
        return Some(0);
    };
    let seconds = requested.filter(|seconds| *seconds < before)?;
    if let Some(Time(known)) = &mut meta.deletion_timestamp {
        // An end that was cut off does not lead back to the beginning.
        let begun = known.checked_sub(SignedDuration::from_secs(before));
        *known = end(begun.unwrap_or(now), seconds);
    }
    meta.deletion_grace_period_seconds = Some(seconds);
    Some(seconds)
}

/// The finalizers that the propagation asks for, when they differ.
fn finalizers_for(meta: &ObjectMeta, propagation: Option<Propagation>) -> Option<Vec<String>> {
    let wanted = match propagation? {
        Propagation::Orphan => Some(ORPHAN),
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Background => None,
    };
    let before = meta.finalizers.as_deref().unwrap_or_default();
    let kept = before
        .iter()
        .filter(|name| ![ORPHAN, FOREGROUND].contains(&name.as_str()) || wanted == Some(name));
    let mut after: Vec<String> = kept.cloned().collect();
    if let Some(wanted) = wanted.filter(|wanted| !after.iter().any(|name| name == wanted)) {
        after.push(wanted.to_owned());
    }
    (after != before).then_some(after)
}

#[cfg(test)]
mod tests {
    use skep_api::k8s_openapi::api::core::v1::{ConfigMap, Namespace, NamespaceSpec, Pod};

    use super::*;

    struct Graceful(i64);

    impl Strategy for Graceful {
        fn grace_seconds(&self, _: &dyn DynObject, requested: Option<i64>) -> Option<i64> {
            Some(requested.unwrap_or(self.0))
        }
    }

    struct Plain;

    impl Strategy for Plain {}

    struct Held;

    impl Strategy for Held {
        fn is_held(&self, _: &dyn DynObject) -> bool {
            true
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn grace(seconds: Option<i64>) -> DeleteOptions {
        DeleteOptions {
            grace_period_seconds: seconds,
            ..DeleteOptions::default()
        }
    }

    fn marked(plan: Plan) -> (i64, i64, Vec<String>) {
        let Plan::Mark(object) = plan else {
            panic!("{plan:?}")
        };
        let meta = object.object_meta();
        (
            meta.deletion_timestamp.as_ref().unwrap().0.as_second(),
            meta.deletion_grace_period_seconds.unwrap(),
            meta.finalizers.clone().unwrap_or_default(),
        )
    }

    fn deleting(end: i64, seconds: i64) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.deletion_timestamp = Some(Time(at(end)));
        pod.metadata.deletion_grace_period_seconds = Some(seconds);
        pod
    }

    #[test]
    fn ordinary_objects_go_at_once() {
        assert!(matches!(
            plan(&ConfigMap::default(), &Plain, &grace(None), at(0)),
            Plan::Remove
        ));
        assert!(matches!(
            plan(&ConfigMap::default(), &Plain, &grace(Some(30)), at(0)),
            Plan::Remove
        ));
    }

    #[test]
    fn graceful_objects_get_their_time_which_can_only_be_shortened() {
        let pod = Pod::default();
        assert_eq!(
            marked(plan(&pod, &Graceful(30), &grace(None), at(100))),
            (130, 30, vec![])
        );
        assert!(matches!(
            plan(&pod, &Graceful(0), &grace(None), at(100)),
            Plan::Remove
        ));
        assert_eq!(
            marked(plan(&deleting(130, 30), &Graceful(30), &grace(Some(10)), at(105))),
            (110, 10, vec![])
        );
        assert!(matches!(
            plan(&deleting(130, 30), &Graceful(30), &grace(Some(60)), at(105)),
            Plan::Wait
        ));
        assert!(matches!(
            plan(&deleting(130, 30), &Graceful(30), &grace(None), at(105)),
            Plan::Wait
        ));
        assert!(matches!(
            plan(&deleting(130, 30), &Graceful(30), &grace(Some(0)), at(105)),
            Plan::Remove
        ));
    }

    #[test]
    fn a_negative_time_is_one_second() {
        assert_eq!(
            marked(plan(&deleting(130, 30), &Graceful(30), &grace(Some(-1)), at(105))),
            (101, 1, vec![])
        );
        assert!(matches!(
            plan(&deleting(101, 1), &Graceful(30), &grace(Some(i64::MIN)), at(101)),
            Plan::Wait
        ));
        assert_eq!(
            marked(plan(&Pod::default(), &Graceful(30), &grace(Some(-5)), at(100))),
            (101, 1, vec![])
        );
    }

    #[test]
    fn endless_grace_is_shortened_from_now() {
        let Plan::Mark(endless) = plan(&Pod::default(), &Graceful(i64::MAX), &grace(None), at(100)) else {
            panic!("not marked")
        };
        let shortened = plan(&*endless, &Graceful(i64::MAX), &grace(Some(10)), at(200));
        assert_eq!(marked(shortened), (210, 10, vec![]));
    }

    #[test]
    fn finalizers_hold_an_object_back() {
        let mut object = ConfigMap::default();
        object.metadata.finalizers = Some(vec!["x/y".into()]);
        object.metadata.generation = Some(1);
        let Plan::Mark(new) = plan(&object, &Plain, &grace(None), at(100)) else {
            panic!()
        };
        assert_eq!(new.object_meta().generation, Some(2));
        assert!(matches!(plan(&*new, &Plain, &grace(None), at(200)), Plan::Wait));
        let namespace = Namespace {
            spec: Some(NamespaceSpec { finalizers: None }),
            ..Namespace::default()
        };
        assert_eq!(
            marked(plan(&namespace, &Held, &grace(None), at(100))),
            (100, 0, vec![])
        );
    }

    #[test]
    fn propagation_becomes_a_finalizer() {
        let with = |propagation| DeleteOptions {
            propagation: Some(propagation),
            ..DeleteOptions::default()
        };
        let mut object = ConfigMap::default();
        let names =
            |object: &ConfigMap, propagation| marked(plan(object, &Plain, &with(propagation), at(1))).2;
        assert_eq!(names(&object, Propagation::Foreground), [FOREGROUND]);
        assert_eq!(names(&object, Propagation::Orphan), [ORPHAN]);
        object.metadata.finalizers = Some(vec![FOREGROUND.into(), "x/y".into()]);
        assert_eq!(names(&object, Propagation::Background), ["x/y"]);
        assert_eq!(names(&object, Propagation::Orphan), ["x/y", ORPHAN]);
    }
}
