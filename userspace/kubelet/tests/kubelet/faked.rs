//! With a runtime in memory.

use std::sync::Arc;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Service};
use serde_json::{Value, json};
use skep_api::ObjectKey;
use skep_cri::testing::{BUSYBOX, ExecAnswer, FakeRuntime};
use skep_cri::{Runtime, RuntimeErrorKind};

use crate::harness::{Kubelet, NODE, eventually, is_ready, key, pod};

pub(crate) async fn started() -> (Kubelet, Arc<FakeRuntime>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let mut kubelet = Kubelet::new(directory.path());
    let runtime = FakeRuntime::new();
    runtime.add_image(BUSYBOX);
    kubelet.start(runtime.clone());
    (kubelet, runtime, directory)
}

pub(crate) fn node(kubelet: &Kubelet) -> Option<Node> {
    kubelet.api.get(&ObjectKey::cluster(NODE))
}

pub(crate) fn node_ready(kubelet: &Kubelet) -> Option<(String, String)> {
    let status = node(kubelet)?.status?;
    let mut conditions = status.conditions?.into_iter();
    let ready = conditions.find(|condition| condition.type_ == "Ready")?;
    Some((ready.status, ready.message.unwrap_or_default()))
}

#[tokio::test]
async fn node_registers_and_becomes_ready_with_the_network() {
    let directory = tempfile::tempdir().unwrap();
    let mut kubelet = Kubelet::new(directory.path());
    let runtime = FakeRuntime::new();
    runtime.set_network_ready(false);
    kubelet.start(runtime.clone());
    eventually("not ready without a network", || match node_ready(&kubelet) {
        Some((status, message)) if status == "False" && message.contains("NetworkPluginNotReady") => Ok(()),
        other => Err(other),
    })
    .await;
    runtime.set_network_ready(true);
    eventually("ready", || match node_ready(&kubelet) {
        Some((status, _)) if status == "True" => Ok(()),
        other => Err(other),
    })
    .await;
    let lease = kubelet
        .api
        .get::<Lease>(&ObjectKey::new("kube-node-lease", NODE))
        .unwrap();
    assert_eq!(lease.spec.unwrap().lease_duration_seconds, Some(40));
    kubelet.stop().await;
}

#[tokio::test]
async fn failing_container_backs_off_and_says_so() {
    let (mut kubelet, runtime, _directory) = started().await;
    kubelet.create(pod("crash", "false")).await;
    kubelet.phase("crash", "Running").await;
    for restarts in 0..2 {
        let id = eventually("runs", || runtime.running("main").ok_or("not running")).await;
        let count = kubelet.container("crash", "main").restart_count;
        assert!(count <= restarts, "{count}");
        runtime.exit(&id, 1, "");
        if restarts == 0 {
            eventually("restarted at once", || {
                runtime.running("main").filter(|now| *now != id).ok_or(())
            })
            .await;
        }
    }
    kubelet.waiting("crash", "main", "CrashLoopBackOff").await;
    let status = kubelet.container("crash", "main");
    let message = status.state.unwrap().waiting.unwrap().message.unwrap();
    let uid = kubelet.pod("crash").unwrap().metadata.uid.unwrap();
    let expected = format!("back-off 10s restarting failed container=main pod=crash_default({uid})");
    assert_eq!(message, expected);
    let last = status.last_state.unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (1, Some("Error")));
    assert_eq!(status.restart_count, 1);
    assert_eq!(kubelet.status("crash").phase.as_deref(), Some("Running"));
    kubelet.event("BackOff").await;
    kubelet.stop().await;
}

#[tokio::test]
async fn finished_pod_succeeds_and_lets_go_of_its_sandbox() {
    let (mut kubelet, runtime, _directory) = started().await;
    let mut object = pod("job", "true");
    object["spec"]["restartPolicy"] = json!("Never");
    kubelet.create(object).await;
    kubelet.phase("job", "Running").await;
    runtime.exit(&runtime.running("main").unwrap(), 0, "");
    kubelet.phase("job", "Succeeded").await;
    eventually("no sandbox runs", || match runtime.ready_sandboxes() {
        sandboxes if sandboxes.is_empty() => Ok(()),
        sandboxes => Err(sandboxes),
    })
    .await;
    let end = kubelet
        .container("job", "main")
        .state
        .unwrap()
        .terminated
        .unwrap();
    assert_eq!((end.exit_code, end.reason.as_deref()), (0, Some("Completed")));
    kubelet.delete("job").await;
    kubelet.gone("job").await;
    eventually("nothing is left", || {
        let left = runtime
            .calls()
            .iter()
            .filter(|call| call.starts_with("RemovePodSandbox"))
            .count();
        (left == 1).then_some(()).ok_or_else(|| runtime.calls())
    })
    .await;
    kubelet.stop().await;
}

#[tokio::test]
async fn absent_loaded_image_is_never_pulled() {
    let (mut kubelet, runtime, _directory) = started().await;
    let mut object = pod("never", "true");
    object["spec"]["containers"][0]["image"] = json!("skep.local/absent:latest");
    object["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
    kubelet.create(object).await;
    kubelet.waiting("never", "main", "ErrImageNeverPull").await;
    assert_eq!(kubelet.status("never").phase.as_deref(), Some("Pending"));
    assert!(!runtime.calls().iter().any(|call| call.starts_with("PullImage")));
    runtime.add_image("skep.local/absent:latest");
    kubelet.phase("never", "Running").await;
    kubelet.stop().await;
}

#[tokio::test]
async fn failed_pull_backs_off() {
    let (mut kubelet, runtime, _directory) = started().await;
    runtime.fail_next("PullImage", RuntimeErrorKind::Other, "no such host");
    let mut object = pod("pull", "true");
    object["spec"]["containers"][0]["image"] = json!("registry.example/app:1");
    kubelet.create(object).await;
    kubelet.waiting("pull", "main", "ImagePullBackOff").await;
    kubelet.event("Failed").await;
    kubelet.stop().await;
}

#[tokio::test]
async fn missing_config_map_holds_the_container_until_it_is_there() {
    let (mut kubelet, _runtime, _directory) = started().await;
    let mut object = pod("configured", "true");
    object["spec"]["containers"][0]["env"] =
        json!([{ "name": "A", "valueFrom": { "configMapKeyRef": { "name": "settings", "key": "a" } } }]);
    kubelet.create(object).await;
    kubelet
        .waiting("configured", "main", "CreateContainerConfigError")
        .await;
    let status = kubelet
        .container("configured", "main")
        .state
        .unwrap()
        .waiting
        .unwrap();
    assert_eq!(
        status.message.as_deref(),
        Some("configmap \"settings\" not found")
    );
    let settings: ConfigMap = serde_json::from_value(
        json!({ "metadata": { "name": "settings", "namespace": "default" }, "data": { "a": "1" } }),
    )
    .unwrap();
    kubelet.client().create(&settings).await.unwrap();
    kubelet.phase("configured", "Running").await;
    kubelet.stop().await;
}

#[tokio::test]
async fn init_containers_run_one_after_the_other() {
    let (mut kubelet, runtime, _directory) = started().await;
    let mut object = pod("steps", "true");
    let init = |name: &str| json!({ "name": name, "image": BUSYBOX });
    object["spec"]["initContainers"] = json!([init("one"), init("two")]);
    kubelet.create(object).await;
    for name in ["one", "two"] {
        let id = eventually(name, || runtime.running(name).ok_or_else(|| runtime.calls())).await;
        assert!(runtime.running("main").is_none());
        assert_eq!(kubelet.status("steps").phase.as_deref(), Some("Pending"));
        runtime.exit(&id, 0, "");
    }
    kubelet.phase("steps", "Running").await;
    let init = kubelet.container("steps", "one");
    assert!(init.ready && init.state.unwrap().terminated.is_some());
    kubelet.stop().await;
}

#[tokio::test]
async fn sidecar_starts_first_and_is_kept_running() {
    let (mut kubelet, runtime, _directory) = started().await;
    let mut object = pod("beside", "true");
    object["spec"]["restartPolicy"] = json!("Never");
    object["spec"]["initContainers"] =
        json!([{ "name": "helper", "image": BUSYBOX, "restartPolicy": "Always" }]);
    kubelet.create(object).await;
    kubelet.phase("beside", "Running").await;
    let helper = runtime.running("helper").unwrap();
    runtime.exit(&helper, 1, "");
    eventually("restarted", || {
        runtime.running("helper").filter(|id| *id != helper).ok_or(())
    })
    .await;
    runtime.exit(&runtime.running("main").unwrap(), 0, "");
    kubelet.phase("beside", "Succeeded").await;
    eventually("the sidecar ends with the pod", || {
        match runtime.running("helper") {
            None => Ok(()),
            Some(id) => Err(id),
        }
    })
    .await;
    kubelet.stop().await;
}

fn probed(name: &str, kind: &str, more: Value) -> Value {
    let mut object = pod(name, "true");
    let mut probe = json!({ "exec": { "command": [kind] }, "periodSeconds": 1, "failureThreshold": 1 });
    probe
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    object["spec"]["containers"][0][kind] = probe;
    object
}

#[tokio::test]
async fn readiness_follows_its_probe() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let (mut kubelet, runtime, _directory) = started().await;
    let healthy = Arc::new(AtomicBool::new(false));
    let answer = Arc::clone(&healthy);
    runtime
        .on_exec(move |_, _| ExecAnswer::Exit(i32::from(!answer.load(Ordering::Relaxed)), "no".to_owned()));
    kubelet
        .create(probed("probed", "readinessProbe", json!({})))
        .await;
    kubelet.phase("probed", "Running").await;
    assert!(!is_ready(&kubelet.status("probed")));
    healthy.store(true, Ordering::Relaxed);
    kubelet.ready("probed", true).await;
    healthy.store(false, Ordering::Relaxed);
    kubelet.ready("probed", false).await;
    kubelet.event("Unhealthy").await;
    assert_eq!(kubelet.container("probed", "main").restart_count, 0);
    kubelet.stop().await;
}

#[tokio::test]
async fn failed_liveness_probe_restarts_the_container() {
    let (mut kubelet, runtime, _directory) = started().await;
    runtime.on_exec(|_, _| ExecAnswer::Exit(1, String::new()));
    kubelet.create(probed("ill", "livenessProbe", json!({}))).await;
    eventually("restarted", || {
        match kubelet.container("ill", "main").restart_count {
            0 => Err(kubelet.status("ill")),
            _ => Ok(()),
        }
    })
    .await;
    kubelet.event("Killing").await;
    kubelet.stop().await;
}

#[tokio::test]
async fn deletion_stops_gracefully_and_then_forgets() {
    let (mut kubelet, runtime, directory) = started().await;
    kubelet.create(pod("old", "true")).await;
    kubelet.phase("old", "Running").await;
    kubelet.delete("old").await;
    kubelet.gone("old").await;
    let calls = runtime.calls();
    assert!(calls.contains(&"StopContainer main 5s".to_owned()), "{calls:?}");
    eventually("nothing is left", || {
        let pods = std::fs::read_dir(directory.path().join("kubelet/pods")).map_or(0, Iterator::count);
        let logs = std::fs::read_dir(directory.path().join("logs")).map_or(0, Iterator::count);
        (pods + logs == 0).then_some(()).ok_or((pods, logs))
    })
    .await;
    kubelet.stop().await;
}

#[tokio::test]
async fn restart_of_the_kubelet_touches_nothing() {
    let (mut kubelet, runtime, _directory) = started().await;
    runtime.on_exec(|_, _| ExecAnswer::Exit(0, String::new()));
    kubelet
        .create(probed(
            "stays",
            "readinessProbe",
            json!({ "initialDelaySeconds": 1 }),
        ))
        .await;
    kubelet.ready("stays", true).await;
    let before = kubelet.pod("stays").unwrap();
    let calls = runtime.calls();
    kubelet.stop().await;
    kubelet.start(runtime.clone());
    tokio::time::sleep(std::time::Duration::from_millis(700)).await;
    let after = kubelet.pod("stays").unwrap();
    assert_eq!(runtime.calls(), calls);
    assert_eq!(
        after.metadata.resource_version, before.metadata.resource_version,
        "{:#?}",
        after.status
    );
    kubelet.stop().await;
}

#[tokio::test]
async fn pod_that_the_api_does_not_have_is_ended_after_a_restart() {
    let (mut kubelet, runtime, _directory) = started().await;
    kubelet.create(pod("orphan", "true")).await;
    kubelet.create(pod("kept", "true")).await;
    kubelet.phase("orphan", "Running").await;
    kubelet.phase("kept", "Running").await;
    kubelet.stop().await;
    kubelet.api.remove::<Pod>(&key("orphan"));
    kubelet.start(runtime.clone());
    eventually("one sandbox is left", || match runtime.ready_sandboxes() {
        sandboxes if sandboxes.len() == 1 => Ok(()),
        sandboxes => Err(sandboxes),
    })
    .await;
    assert!(runtime.running("main").is_some());
    kubelet.stop().await;
}

#[tokio::test]
async fn dead_sandbox_is_replaced_and_the_container_restarted() {
    let (mut kubelet, runtime, _directory) = started().await;
    kubelet.create(pod("again", "true")).await;
    kubelet.phase("again", "Running").await;
    let sandbox = runtime.ready_sandboxes().remove(0);
    runtime.kill_sandbox(&sandbox);
    eventually("another sandbox", || {
        let ready = runtime.ready_sandboxes();
        (ready.len() == 1 && ready[0] != sandbox)
            .then_some(())
            .ok_or(ready)
    })
    .await;
    eventually("restarted", || {
        match kubelet.container("again", "main").restart_count {
            1 => Ok(()),
            _ => Err(kubelet.status("again")),
        }
    })
    .await;
    kubelet.stop().await;
}

#[tokio::test]
async fn exits_are_noticed_without_events() {
    let directory = tempfile::tempdir().unwrap();
    let mut kubelet = Kubelet::new(directory.path());
    let runtime = FakeRuntime::without_events();
    runtime.add_image(BUSYBOX);
    kubelet.start(Arc::clone(&runtime) as Arc<dyn Runtime>);
    kubelet.create(pod("polled", "true")).await;
    kubelet.phase("polled", "Running").await;
    runtime.exit(&runtime.running("main").unwrap(), 3, "");
    eventually("restarted", || {
        match kubelet.container("polled", "main").restart_count {
            1 => Ok(()),
            _ => Err(kubelet.status("polled")),
        }
    })
    .await;
    kubelet.stop().await;
}

#[tokio::test]
async fn pods_go_on_while_the_api_is_away() {
    let (mut kubelet, runtime, _directory) = started().await;
    kubelet.create(pod("alone", "true")).await;
    kubelet.phase("alone", "Running").await;
    let away = skep_api::ApiError::connection("away");
    kubelet.api.fail_next(usize::MAX, away.clone());
    kubelet.api.break_watches(away.clone());
    let first = runtime.running("main").unwrap();
    runtime.exit(&first, 1, "");
    eventually("restarted", || {
        runtime.running("main").filter(|id| *id != first).ok_or(())
    })
    .await;
    kubelet.api.fail_next(0, away);
    eventually("told afterwards", || {
        match kubelet.container("alone", "main").restart_count {
            1 => Ok(()),
            _ => Err(kubelet.status("alone")),
        }
    })
    .await;
    kubelet.stop().await;
}

async fn variables_of(kubelet: &Kubelet, runtime: &FakeRuntime, object: Value) -> Vec<String> {
    let container = &object["spec"]["containers"][0]["name"];
    let container = container.as_str().unwrap().to_owned();
    kubelet.create(object).await;
    let id = eventually("runs", || runtime.running(&container).ok_or("not running")).await;
    let config = runtime.container_config(&id).unwrap();
    let pairs = config
        .envs
        .iter()
        .map(|pair| format!("{}={}", pair.key, String::from_utf8_lossy(&pair.value)));
    pairs.collect()
}

#[tokio::test]
async fn containers_are_told_of_services_by_variables() {
    let (mut kubelet, runtime, _directory) = started().await;
    let service = |namespace: &str, name: &str, ip: &str, ports: Value| {
        let object = json!({
            "metadata": { "name": name, "namespace": namespace }, "spec": { "clusterIP": ip, "ports": ports },
        });
        kubelet
            .api
            .put(&serde_json::from_value::<Service>(object).unwrap());
    };
    let https = json!([{ "name": "https", "port": 443, "targetPort": 6443 }]);
    service("default", "kubernetes", "10.96.0.1", https);
    service("apps", "hello-web", "10.96.0.7", json!([{ "port": 80 }]));
    service("apps", "headless", "None", json!([{ "port": 80 }]));
    service("other", "elsewhere", "10.96.0.8", json!([{ "port": 80 }]));
    let in_apps = |name: &str| {
        let mut object = pod(name, "true");
        object["metadata"]["namespace"] = json!("apps");
        object["spec"]["containers"][0]["name"] = json!(name);
        object
    };
    let api = [
        "KUBERNETES_SERVICE_HOST=10.96.0.1",
        "KUBERNETES_SERVICE_PORT=443",
        "KUBERNETES_SERVICE_PORT_HTTPS=443",
        "KUBERNETES_PORT=tcp://10.96.0.1:443",
        "KUBERNETES_PORT_443_TCP=tcp://10.96.0.1:443",
        "KUBERNETES_PORT_443_TCP_PROTO=tcp",
        "KUBERNETES_PORT_443_TCP_PORT=443",
        "KUBERNETES_PORT_443_TCP_ADDR=10.96.0.1",
    ];
    let own = [
        "HELLO_WEB_SERVICE_HOST=10.96.0.7",
        "HELLO_WEB_SERVICE_PORT=80",
        "HELLO_WEB_PORT=tcp://10.96.0.7:80",
        "HELLO_WEB_PORT_80_TCP=tcp://10.96.0.7:80",
    ];
    let linked = variables_of(&kubelet, &runtime, in_apps("linked")).await;
    for expected in api.iter().chain(&own) {
        assert!(
            linked.contains(&(*expected).to_owned()),
            "{expected} of {linked:?}"
        );
    }
    assert!(
        !linked
            .iter()
            .any(|pair| pair.starts_with("ELSEWHERE") || pair.starts_with("HEADLESS"))
    );
    let mut object = in_apps("unlinked");
    object["spec"]["enableServiceLinks"] = json!(false);
    let unlinked = variables_of(&kubelet, &runtime, object).await;
    let mut sorted: Vec<&str> = unlinked.iter().map(String::as_str).collect();
    let mut expected = api.to_vec();
    sorted.sort_unstable();
    expected.sort_unstable();
    assert_eq!(sorted, expected);
    // A service of that name in the pod's own namespace goes first.
    service("apps", "kubernetes", "10.96.0.9", json!([{ "port": 443 }]));
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let replaced = variables_of(&kubelet, &runtime, in_apps("replaced")).await;
    assert!(
        replaced.contains(&"KUBERNETES_SERVICE_HOST=10.96.0.9".to_owned()),
        "{replaced:?}"
    );
    kubelet.stop().await;
}
