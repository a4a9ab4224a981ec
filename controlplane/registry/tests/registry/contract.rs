//! The list and watch contract as a property: whatever is written, and whenever one begins to look, a list followed
//! by a watch from its revision gives every later list, with nothing lost, doubled or out of order.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;
use skep_api::k8s_openapi::api::core::v1::ConfigMap;
use skep_api::{LabelSelector, Revision};
use skep_registry::{ListOptions, ObjectList, ReadVersion, SharedObject, WatchEvent, WatchOptions};

use crate::harness::{Harness, config_map, take};

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Put { name: usize, on: bool },
    Delete { name: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0_usize..5, any::<bool>()).prop_map(|(name, on)| Step::Put { name, on }),
        1 => (0_usize..5).prop_map(|name| Step::Delete { name }),
    ];
    prop::collection::vec(step, 1..40)
}

type State = BTreeMap<String, (Revision, bytes::Bytes)>;

fn state(list: &ObjectList) -> State {
    list.items.iter().map(entry).collect()
}

fn entry(object: &SharedObject) -> (String, (Revision, bytes::Bytes)) {
    (object.key().to_string(), (object.revision(), object.json()))
}

async fn carry_out(harness: &Harness, step: &Step, count: usize) {
    match step {
        Step::Put { name, on } => {
            let name = format!("o{name}");
            let mut object = config_map(&name, &count.to_string());
            object["metadata"]["labels"] = json!({"on": if *on { "yes" } else { "no" }});
            if harness.create("default", object.clone()).await.is_err() {
                harness.update("default", &name, object).await.unwrap();
            }
        }
        Step::Delete { name } => {
            let outcome = harness.delete::<ConfigMap>("default", &format!("o{name}")).await;
            assert!(outcome.is_ok() || outcome.is_err_and(|error| error.is_not_found()));
        }
    }
}

/// Applies events up to `until` to a state, checking their order and that each fits.
fn replay(state: &mut State, events: &[WatchEvent]) -> Revision {
    let mut last = Revision(0);
    for event in events {
        let (object, fits) = match event {
            WatchEvent::Added(object) => (object, !state.contains_key(&object.key().to_string())),
            WatchEvent::Modified(object) | WatchEvent::Deleted(object) => {
                (object, state.contains_key(&object.key().to_string()))
            }
            WatchEvent::Bookmark { revision, .. } => {
                assert!(*revision >= last);
                continue;
            }
        };
        assert!(fits, "{event:?} does not fit");
        assert!(object.revision() > last, "{event:?} is out of order");
        last = object.revision();
        let (key, value) = entry(object);
        match event {
            WatchEvent::Deleted(_) => drop(state.remove(&key)),
            _ => drop(state.insert(key, value)),
        }
    }
    last
}

/// Carries out the steps; what a list and a watch from after the first `begin` of them see must agree throughout.
pub(crate) async fn check(harness: &Harness, steps: &[Step], begin: usize, selector: &str) {
    let labels = LabelSelector::parse(selector).unwrap();
    let begin = begin.min(steps.len());
    for (count, step) in steps[..begin].iter().enumerate() {
        carry_out(harness, step, count).await;
    }
    let options = ListOptions {
        labels: labels.clone(),
        ..ListOptions::default()
    };
    let first = harness.list(options.clone()).await.unwrap();
    let watch = WatchOptions {
        labels,
        resource_version: Some(first.revision),
        bookmarks: true,
        ..WatchOptions::default()
    };
    let mut watch = harness.watch(watch).await.unwrap();
    let mut lists = Vec::new();
    for (count, step) in steps[begin..].iter().enumerate() {
        carry_out(harness, step, begin + count).await;
        lists.push(harness.list(options.clone()).await.unwrap());
    }
    // A mark that matches every selector ends the watch's part.
    let mut mark = config_map("zz", "mark");
    mark["metadata"]["labels"] = json!({"on": "yes"});
    harness.create("default", mark).await.unwrap();
    let mut events = Vec::new();
    while !events
        .iter()
        .any(|event| matches!(event, WatchEvent::Added(object) if object.key().name == "zz"))
    {
        events.extend(take(&mut watch, 1).await);
    }
    for list in &lists {
        let until = |event: &&WatchEvent| match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => {
                object.revision() <= list.revision
            }
            WatchEvent::Bookmark { revision, .. } => *revision <= list.revision,
        };
        let part: Vec<WatchEvent> = events.iter().take_while(until).cloned().collect();
        let mut replayed = state(&first);
        replay(&mut replayed, &part);
        assert_eq!(replayed, state(list));
        // The same state is given again to whoever asks for exactly that revision.
        let exact = ListOptions {
            version: ReadVersion::Exact(list.revision),
            ..options.clone()
        };
        assert_eq!(state(&harness.list(exact).await.unwrap()), state(list));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_list_and_its_watch_give_every_later_list(steps in steps(), begin in 0_usize..40, selected in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let harness = Harness::new().await;
            check(&harness, &steps, begin, if selected { "on=yes" } else { "" }).await;
        });
    }
}
