//! Conditions, and the loop against an API in memory.

use super::*;
use crate::testing::{Bench, object};
use k8s_openapi::api::core::v1::{ConfigMap, NamespaceStatus};
use serde_json::json;
use skep_client::testing::FakeTransport;

fn condition(status: &NamespaceStatus, kind: &str) -> (String, String, String) {
    let conditions = status.conditions.as_ref().unwrap();
    let found = conditions
        .iter()
        .find(|condition| condition.type_ == kind)
        .unwrap();
    (
        found.status.clone(),
        found.reason.clone().unwrap(),
        found.message.clone().unwrap(),
    )
}

#[test]
fn the_status_says_what_remains() {
    let outcome = Outcome {
        remaining: [
            (gvr_of::<Pod>(), 2),
            (GroupVersionResource::new("apps", "v1", "deployments"), 1),
        ]
        .into(),
        finalizers: [("x/y".to_owned(), 1)].into(),
        ..Default::default()
    };
    let early: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let status = conditions::status(&NamespaceStatus::default(), &outcome, early);
    let text = |text: (&str, &str, &str)| (text.0.to_owned(), text.1.to_owned(), text.2.to_owned());
    assert_eq!(
        condition(&status, "NamespaceContentRemaining"),
        text((
            "True",
            "SomeResourcesRemain",
            "Some resources are remaining: pods. has 2 resource instances, deployments.apps has 1 resource instances"
        ))
    );
    assert_eq!(
        condition(&status, "NamespaceFinalizersRemaining"),
        text((
            "True",
            "SomeFinalizersRemain",
            "Some content in the namespace has finalizers remaining: x/y in 1 resource instances"
        ))
    );
    let later = early + jiff::SignedDuration::from_secs(60);
    let healed = conditions::status(&status, &Outcome::default(), later);
    assert_eq!(
        condition(&healed, "NamespaceContentRemaining").1,
        "ContentRemoved"
    );
    let times: Vec<_> = healed
        .conditions
        .unwrap()
        .into_iter()
        .map(|condition| condition.last_transition_time.unwrap().0)
        .collect();
    assert_eq!(
        times,
        [early, early, early, later, later],
        "only what changed moves"
    );
}

#[test]
fn pods_are_the_first_kind() {
    let kinds = kinds();
    assert_eq!(kinds[0], gvr_of::<Pod>());
    assert!(kinds.contains(&gvr_of::<ConfigMap>()));
    assert!(!kinds.contains(&gvr_of::<Namespace>()));
}

fn map(name: &str, finalizers: &[&str]) -> ConfigMap {
    object(json!({ "metadata": { "name": name, "namespace": "a", "finalizers": finalizers } }))
}

#[tokio::test(start_paused = true)]
async fn content_goes_pods_first_then_the_namespace_is_let_go() {
    let api = FakeTransport::new();
    api.put::<Namespace>(&object(json!({
        "metadata": { "name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z" },
        "spec": { "finalizers": ["kubernetes"] } })));
    api.put::<Namespace>(&object(
        json!({ "metadata": { "name": "b" }, "spec": { "finalizers": ["kubernetes"] } }),
    ));
    api.put(&map("plain", &[]));
    api.put(&map("held", &["x/y"]));
    api.put::<Pod>(&object(json!({ "metadata": { "name": "p", "namespace": "a" },
        "spec": { "containers": [], "nodeName": "n1" } })));
    let bench = Bench::start(api, Default::default(), |context| vec![controller(context)]);
    let pod = ObjectKey::new("a", "p");
    let going = |api: &FakeTransport| {
        api.get::<Pod>(&pod)
            .is_some_and(|pod| pod.metadata.deletion_timestamp.is_some())
    };
    bench.until("the pod is going", going).await;
    bench.settle(Duration::from_secs(1)).await;
    assert_eq!(
        bench.api.all::<ConfigMap>().len(),
        2,
        "nothing else goes while a pod runs"
    );
    bench.api.remove::<Pod>(&pod);
    bench
        .until("what is not held goes", |api| api.all::<ConfigMap>().len() == 1)
        .await;
    let held = ObjectKey::new("a", "held");
    let shown = |api: &FakeTransport| {
        let status = api.get::<Namespace>(&ObjectKey::cluster("a")).unwrap().status;
        status.is_some_and(|status| condition(&status, "NamespaceFinalizersRemaining").0 == "True")
    };
    bench.until("what holds it is shown", shown).await;
    bench.api.remove::<ConfigMap>(&held);
    let finalizers = |api: &FakeTransport, name: &str| {
        api.get::<Namespace>(&ObjectKey::cluster(name))
            .map(|namespace| namespace.spec.unwrap().finalizers.unwrap_or_default().len())
    };
    bench
        .until("let go", |api| finalizers(api, "a").unwrap_or(0) == 0)
        .await;
    assert_eq!(finalizers(&bench.api, "b"), Some(1), "others are left alone");
    bench.stop().await;
}
