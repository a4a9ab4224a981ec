//! What others do to a kubelet's objects, and what goes wrong beside it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::json;
use skep_api::ObjectKey;
use skep_client::Patch;
use skep_cri::testing::ExecAnswer;

use crate::faked::{node, node_ready, started};
use crate::harness::{Kubelet, NODE, eventually, is_ready, key, pod};

/// What the node lifecycle controller does to a pod of a node that fell silent.
fn unready() -> Patch {
    Patch::strategic(&json!({ "status": { "conditions": [{ "type": "Ready", "status": "False" }] } }))
        .unwrap()
}

#[tokio::test]
async fn readiness_that_others_took_away_is_given_back() {
    let (mut kubelet, _runtime, _directory) = started().await;
    kubelet.create(pod("silenced", "true")).await;
    kubelet.ready("silenced", true).await;
    let taken = kubelet
        .client()
        .patch_status::<Pod>(&key("silenced"), &unready())
        .await
        .unwrap();
    assert!(!is_ready(taken.status.as_ref().unwrap()));
    kubelet.ready("silenced", true).await;
    kubelet.stop().await;
}

#[tokio::test]
async fn node_that_others_called_unknown_says_at_once_that_it_is_ready() {
    let (mut kubelet, _runtime, _directory) = started().await;
    let ready = |kubelet: &Kubelet| match node_ready(kubelet) {
        Some((status, _)) if status == "True" => Ok(()),
        other => Err(other),
    };
    eventually("ready", || ready(&kubelet)).await;
    let unknown = json!({ "status": { "conditions": [
        { "type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown" },
        { "type": "Maintained", "status": "False", "reason": "ByAnotherComponent" },
    ] } });
    let unknown = Patch::strategic(&unknown).unwrap();
    let told = std::time::Instant::now();
    kubelet
        .client()
        .patch_status::<Node>(&ObjectKey::cluster(NODE), &unknown)
        .await
        .unwrap();
    eventually("ready again", || ready(&kubelet)).await;
    // The next look by the clock would come later.
    assert!(told.elapsed() < std::time::Duration::from_secs(8));
    let conditions = node(&kubelet).unwrap().status.unwrap().conditions.unwrap();
    let foreign = conditions
        .iter()
        .find(|condition| condition.type_ == "Maintained");
    assert_eq!(
        foreign.and_then(|condition| condition.reason.as_deref()),
        Some("ByAnotherComponent")
    );
    kubelet.stop().await;
}

#[tokio::test]
async fn what_others_add_to_the_node_is_left_and_not_answered() {
    let (mut kubelet, _runtime, _directory) = started().await;
    eventually("ready", || match node_ready(&kubelet) {
        Some((status, _)) if status == "True" => Ok(()),
        other => Err(other),
    })
    .await;
    let more = json!({ "status": {
        "addresses": [{ "type": "ExternalIP", "address": "192.0.2.7" }],
        "capacity": { "example.com/bees": "9" },
        "allocatable": { "example.com/bees": "9" },
    } });
    let more = Patch::strategic(&more).unwrap();
    let node_key = ObjectKey::cluster(NODE);
    kubelet
        .client()
        .patch_status::<Node>(&node_key, &more)
        .await
        .unwrap();
    let statuses = || {
        let writes = kubelet.api.writes();
        writes
            .iter()
            .filter(|write| write.contains("nodes/status"))
            .count()
    };
    let written = statuses();
    assert!(written > 1, "{:?}", kubelet.api.writes());
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    assert_eq!(statuses(), written);
    let status = node(&kubelet).unwrap().status.unwrap();
    assert_eq!(status.addresses.unwrap().len(), 3);
    assert_eq!(status.allocatable.unwrap()["example.com/bees"].0, "9");
    kubelet.stop().await;
}

#[tokio::test]
async fn endless_grace_period_can_be_cut_short() {
    let (mut kubelet, runtime, _directory) = started().await;
    runtime.ignore_stop_signal("main");
    let mut object = pod("endless", "true");
    object["spec"]["terminationGracePeriodSeconds"] = json!(i64::MAX);
    kubelet.create(object).await;
    kubelet.phase("endless", "Running").await;
    kubelet.delete("endless").await;
    let asked = |seconds: i32| format!("StopContainer main {seconds}s");
    eventually("the longest time there is", || {
        let calls = runtime.calls();
        calls.contains(&asked(i32::MAX)).then_some(()).ok_or(calls)
    })
    .await;
    let sooner = skep_client::DeleteOptions {
        grace_period_seconds: Some(1),
        ..Default::default()
    };
    kubelet
        .client()
        .delete::<Pod>(&key("endless"), &sooner)
        .await
        .unwrap();
    kubelet.gone("endless").await;
    assert!(runtime.calls().contains(&asked(2)), "{:?}", runtime.calls());
    kubelet.stop().await;
}

#[tokio::test]
async fn pod_whose_worker_panicked_goes_on_with_the_next_change() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let (mut kubelet, runtime, _directory) = started().await;
    let panicked = Arc::new(AtomicBool::new(false));
    let first = Arc::clone(&panicked);
    runtime.on_exec(move |_, _| {
        assert!(
            first.swap(true, Ordering::Relaxed),
            "the hook that a test lets fail"
        );
        ExecAnswer::Exit(0, String::new())
    });
    let mut object = pod("unlucky", "true");
    object["spec"]["containers"][0]["lifecycle"] = json!({ "postStart": { "exec": { "command": ["x"] } } });
    kubelet.create(object).await;
    eventually("panicked", || {
        panicked.load(Ordering::Relaxed).then_some(()).ok_or(())
    })
    .await;
    kubelet.create(pod("beside", "true")).await;
    kubelet.phase("beside", "Running").await;
    kubelet
        .patch("unlucky", json!({ "metadata": { "labels": { "seen": "yes" } } }))
        .await;
    kubelet.phase("unlucky", "Running").await;
    kubelet.delete("unlucky").await;
    kubelet.gone("unlucky").await;
    kubelet.stop().await;
}

#[tokio::test]
async fn nobody_else_has_a_way_into_pods_directories() {
    use std::os::unix::fs::PermissionsExt;
    let (mut kubelet, _runtime, directory) = started().await;
    kubelet.create(pod("private", "true")).await;
    kubelet.phase("private", "Running").await;
    let uid = kubelet.pod("private").unwrap().metadata.uid.unwrap();
    for path in ["kubelet", "kubelet/pods", &format!("kubelet/pods/{uid}")] {
        let metadata = std::fs::metadata(directory.path().join(path)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o750, "{path}");
    }
    kubelet.stop().await;
}

#[tokio::test]
async fn directories_of_no_pod_go_and_those_of_pods_stay() {
    let (mut kubelet, runtime, directory) = started().await;
    kubelet.create(pod("kept", "true")).await;
    kubelet.phase("kept", "Running").await;
    let uid = kubelet.pod("kept").unwrap().metadata.uid.unwrap();
    kubelet.stop().await;
    let pods = directory.path().join("kubelet/pods");
    let orphan = pods.join("nobody/volumes/kubernetes.io~empty-dir/data");
    std::fs::create_dir_all(&orphan).unwrap();
    std::fs::write(orphan.join("file"), "x").unwrap();
    kubelet.start(runtime.clone());
    eventually("only the pod's directory is left", || {
        let left: Vec<_> = std::fs::read_dir(&pods)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        (left == [uid.as_str()]).then_some(()).ok_or(left)
    })
    .await;
    assert!(runtime.running("main").is_some());
    kubelet.stop().await;
}
