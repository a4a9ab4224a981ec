//! With containerd, in the network of the machine.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use serde_json::json;
use skep_client::Patch;
use skep_cri::Runtime;
use skep_cri::testing::{BUSYBOX, TestContainerd, with_containerd};
use skep_kubelet::KubeletConfig;

use crate::harness::{Kubelet, PATIENCE, STEP, eventually, key, pod};

fn kubelet(harness: &TestContainerd) -> Kubelet {
    let mut kubelet = Kubelet::new(&harness.directory());
    kubelet.config.cgroup_parent = format!("{}/kubepods", harness.cgroup());
    kubelet.config.cgroup_mounts = KubeletConfig::CGROUP_MOUNTS.into();
    kubelet.start(Arc::new(harness.client()));
    kubelet
}

fn log(kubelet: &Kubelet, pod: &str, container: &str) -> String {
    let uid = kubelet
        .pod(pod)
        .and_then(|pod| pod.metadata.uid)
        .unwrap_or_default();
    let path = kubelet
        .config
        .log_dir
        .join(format!("default_{pod}_{uid}/{container}/0.log"));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.splitn(4, ' ').nth(3))
        .collect::<Vec<_>>()
        .join("\n")
}

fn cgroups_of(path: &str) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/thread-self/mounts").unwrap();
    let points = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let cgroups = points.filter(|fields| fields[2].starts_with("cgroup"));
    let groups = cgroups.map(|fields| Path::new(fields[1]).join(path.trim_start_matches('/')));
    groups
        .filter(|group| group.exists())
        .map(|group| group.display().to_string())
        .collect()
}

/// Waits until the runtime has nothing of any pod: records are removed after the API has forgotten their pod.
async fn emptied(harness: &TestContainerd) {
    let client = harness.client();
    let began = Instant::now();
    loop {
        let sandboxes = client.list_pod_sandboxes(None).await.unwrap();
        let containers = client.list_containers(None).await.unwrap();
        if sandboxes.is_empty() && containers.is_empty() {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "left: {sandboxes:?} {containers:?}");
        tokio::time::sleep(STEP).await;
    }
}

/// The script keeps running and ends at once when asked to.
fn polite(setup: &str) -> String {
    format!("trap 'exit 0' TERM; {setup}; while true; do sleep 0.1; done")
}

#[test]
#[ignore = "needs root and containerd: cargo test -p skep-kubelet -- --ignored"]
fn a_pod_lives_and_dies_on_containerd() {
    with_containerd(|harness| async move {
        let mut kubelet = kubelet(&harness);
        let began = Instant::now();
        let mut object = pod(
            "web",
            &polite("echo \"$GREETING from $POD on $NODE\"; id; hostname"),
        );
        object["spec"]["containers"][0]["env"] = json!([
            { "name": "POD", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
            { "name": "NODE", "valueFrom": { "fieldRef": { "fieldPath": "spec.nodeName" } } },
            { "name": "GREETING", "value": "hello" },
        ]);
        object["spec"]["containers"][0]["resources"] =
            json!({ "requests": { "cpu": "100m" }, "limits": { "memory": "64Mi" } });
        let created = kubelet.create(object).await;
        kubelet.ready("web", true).await;
        println!("created to Ready: {:?}", began.elapsed());
        let status = kubelet.status("web");
        assert_eq!(status.pod_ip.as_deref(), Some("127.0.0.1"));
        assert_eq!(status.qos_class.as_deref(), Some("Burstable"));
        assert!(
            kubelet
                .container("web", "main")
                .container_id
                .unwrap()
                .starts_with("containerd://")
        );
        eventually("the log", || match log(&kubelet, "web", "main") {
            text if text.contains("hello from web on node1") => Ok(()),
            text => Err(text),
        })
        .await;
        let uid = created.metadata.uid.unwrap();
        let group = format!("{}/burstable/pod{uid}", kubelet.config.cgroup_parent);
        let groups = cgroups_of(&group);
        assert!(groups.len() > 1, "{groups:?}");
        let limit = groups
            .iter()
            .find_map(|group| std::fs::read_to_string(format!("{group}/memory.limit_in_bytes")).ok());
        assert_eq!(
            limit.map(|limit| limit.trim().to_owned()),
            Some((64 * 1024 * 1024).to_string())
        );

        let began = Instant::now();
        kubelet.delete("web").await;
        kubelet.gone("web").await;
        println!("deleted to gone: {:?}", began.elapsed());
        eventually("no cgroup is left", || match cgroups_of(&group) {
            left if left.is_empty() => Ok(()),
            left => Err(left),
        })
        .await;
        emptied(&harness).await;
        kubelet.stop().await;
    });
}

#[test]
#[ignore = "needs root and containerd: cargo test -p skep-kubelet -- --ignored"]
fn volumes_hold_what_objects_say_and_follow_them() {
    with_containerd(|harness| async move {
        let mut kubelet = kubelet(&harness);
        let settings = json!({ "metadata": { "name": "settings", "namespace": "default" }, "data": { "a.conf": "one" } });
        let settings: ConfigMap = serde_json::from_value(settings).unwrap();
        kubelet.client().create(&settings).await.unwrap();
        let script = polite(
            "cat /config/a.conf; echo; cat /sub/a; echo; echo memory > /memory/x; stat -f -c %T /memory; cat /info/labels; echo; \
             while [ \"$(cat /config/a.conf)\" = one ]; do sleep 0.05; done; echo changed",
        );
        let mut object = pod("volumes", &script);
        object["spec"]["volumes"] = json!([
            { "name": "config", "configMap": { "name": "settings" } },
            { "name": "memory", "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } },
            { "name": "info", "downwardAPI": { "items": [{ "path": "labels", "fieldRef": { "fieldPath": "metadata.labels" } }] } },
        ]);
        object["spec"]["containers"][0]["volumeMounts"] = json!([
            { "name": "config", "mountPath": "/config" },
            { "name": "config", "mountPath": "/sub/a", "subPath": "a.conf" },
            { "name": "memory", "mountPath": "/memory" },
            { "name": "info", "mountPath": "/info" },
        ]);
        kubelet.create(object).await;
        kubelet.ready("volumes", true).await;
        eventually("the log", || match log(&kubelet, "volumes", "main") {
            text if text.contains("one\none\ntmpfs\napp=\"volumes\"") => Ok(()),
            text => Err(text),
        })
        .await;
        let patch = Patch::merge(&json!({ "data": { "a.conf": "two" } })).unwrap();
        kubelet
            .client()
            .patch::<ConfigMap>(&key("settings"), &patch)
            .await
            .unwrap();
        eventually("the change", || match log(&kubelet, "volumes", "main") {
            text if text.ends_with("changed") => Ok(()),
            text => Err(text),
        })
        .await;
        kubelet.delete("volumes").await;
        kubelet.gone("volumes").await;
        assert_eq!(mounts_of(&kubelet), Vec::<String>::new());
        kubelet.stop().await;
    });
}

/// The mounts that the kubelet has made on the machine.
fn mounts_of(kubelet: &Kubelet) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/thread-self/mounts").unwrap();
    let root = kubelet.config.root_dir.display().to_string();
    let own = mounts.lines().filter(|line| line.contains(&root));
    own.map(str::to_owned).collect()
}

/// Pods of a user, of a user in a group, and of root that read the secret `keys`.
async fn create_readers(kubelet: &Kubelet) {
    let script = polite(
        "cat /open/key; echo; stat -f -c %T /open; cat /closed/key || echo refused; \
         cat /sub; echo; touch /open/new || echo read-only; \
         while [ \"$(cat /open/key)\" = one ]; do sleep 0.05; done; echo changed",
    );
    let volume = |name: &str, mode: i32| json!({ "name": name, "secret": { "secretName": "keys", "defaultMode": mode } });
    let mount = |name: &str| json!({ "name": name, "mountPath": format!("/{name}") });
    let mut user = pod("user", &script);
    user["spec"]["securityContext"] = json!({ "runAsUser": 1000, "runAsGroup": 1000 });
    user["spec"]["volumes"] = json!([volume("open", 0o444), volume("closed", 0o400)]);
    let sub = json!({ "name": "open", "mountPath": "/sub", "subPath": "key" });
    user["spec"]["containers"][0]["volumeMounts"] = json!([mount("open"), mount("closed"), sub]);
    kubelet.create(user).await;
    let mut group = pod("group", &polite("cat /group/key; echo; id -G"));
    group["spec"]["securityContext"] = json!({ "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 3000 });
    group["spec"]["volumes"] = json!([volume("group", 0o400)]);
    group["spec"]["containers"][0]["volumeMounts"] = json!([mount("group")]);
    kubelet.create(group).await;
    let mut root = pod("root", &polite("touch /open/new 2>&1; cat /open/key; echo"));
    root["spec"]["volumes"] = json!([volume("open", 0o400)]);
    root["spec"]["containers"][0]["volumeMounts"] = json!([mount("open")]);
    kubelet.create(root).await;
}

#[test]
#[ignore = "needs root and containerd: cargo test -p skep-kubelet -- --ignored"]
fn secrets_lie_in_memory_for_the_pod_alone() {
    with_containerd(|harness| async move {
        let mut kubelet = kubelet(&harness);
        let secret =
            json!({ "metadata": { "name": "keys", "namespace": "default" }, "data": { "key": "b25l" } });
        let secret: Secret = serde_json::from_value(secret).unwrap();
        kubelet.client().create(&secret).await.unwrap();
        create_readers(&kubelet).await;
        for (name, words) in [
            ("user", &["one", "tmpfs", "refused", "read-only"][..]),
            ("group", &["one", "3000"]),
            ("root", &["Read-only file system", "one"]),
        ] {
            kubelet.ready(name, true).await;
            eventually("the log", || match log(&kubelet, name, "main") {
                text if words.iter().all(|word| text.contains(word)) => Ok(()),
                text => Err(text),
            })
            .await;
        }
        let own = mounts_of(&kubelet);
        let bounded = own.iter().filter(|line| line.contains("kubernetes.io~secret"));
        let bounded = bounded.filter(|line| line.contains("size=65536k")).count();
        assert_eq!(bounded, 4, "{own:?}");

        // Another kubelet takes the mounts over, brings them up to date, and away when the API has the pod no more.
        kubelet.stop().await;
        kubelet.start(Arc::new(harness.client()));
        let patch = Patch::merge(&json!({ "data": { "key": "dHdv" } })).unwrap();
        kubelet
            .client()
            .patch::<Secret>(&key("keys"), &patch)
            .await
            .unwrap();
        eventually("the change", || match log(&kubelet, "user", "main") {
            text if text.ends_with("changed") => Ok(()),
            text => Err(text),
        })
        .await;
        kubelet.stop().await;
        kubelet.api.remove::<Pod>(&key("user"));
        kubelet.start(Arc::new(harness.client()));
        for name in ["group", "root"] {
            kubelet.delete(name).await;
            kubelet.gone(name).await;
        }
        eventually("no mount is left", || match mounts_of(&kubelet) {
            left if left.is_empty() => Ok(()),
            left => Err(left),
        })
        .await;
        kubelet.stop().await;
    });
}

#[test]
#[ignore = "needs root and containerd: cargo test -p skep-kubelet -- --ignored"]
fn ends_are_told_as_they_were() {
    with_containerd(|harness| async move {
        let mut kubelet = kubelet(&harness);
        let mut object = pod(
            "oom",
            "echo last words > /dev/termination-log; x=a; while true; do x=$x$x; done",
        );
        object["spec"]["restartPolicy"] = json!("Never");
        object["spec"]["containers"][0]["resources"] = json!({ "limits": { "memory": "16Mi" } });
        kubelet.create(object).await;
        let mut object = pod("fails", "echo to the log; exit 7");
        object["spec"]["restartPolicy"] = json!("Never");
        object["spec"]["containers"][0]["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
        kubelet.create(object).await;
        for name in ["oom", "fails"] {
            kubelet.phase(name, "Failed").await;
        }
        let end = |name: &str| kubelet.container(name, "main").state.unwrap().terminated.unwrap();
        assert_eq!(end("oom").reason.as_deref(), Some("OOMKilled"));
        assert_eq!(end("oom").message.as_deref(), Some("last words\n"));
        assert_eq!(
            (end("fails").exit_code, end("fails").reason.as_deref()),
            (7, Some("Error"))
        );
        assert_eq!(end("fails").message.as_deref(), Some("to the log\n"));
        kubelet.stop().await;
    });
}

#[test]
#[ignore = "needs root and containerd: cargo test -p skep-kubelet -- --ignored"]
fn probes_hooks_and_contexts_hold_on_containerd() {
    with_containerd(|harness| async move {
        let mut kubelet = kubelet(&harness);
        let script = polite("touch /work/ready; id -u; id -G; touch /root-is-writable 2>&1");
        let mut object = pod("guarded", &script);
        object["spec"]["securityContext"] = json!({ "runAsUser": 1000, "runAsGroup": 2000, "fsGroup": 3000 });
        object["spec"]["volumes"] = json!([{ "name": "work", "emptyDir": {} }]);
        let container = &mut object["spec"]["containers"][0];
        container["securityContext"] =
            json!({ "readOnlyRootFilesystem": true, "capabilities": { "drop": ["ALL"] } });
        container["volumeMounts"] = json!([{ "name": "work", "mountPath": "/work" }]);
        container["readinessProbe"] =
            json!({ "exec": { "command": ["cat", "/work/ready"] }, "periodSeconds": 1 });
        container["lifecycle"] = json!({
            "postStart": { "exec": { "command": ["sh", "-c", "echo started > /work/hook"] } },
            "preStop": { "exec": { "command": ["sh", "-c", "cp /work/hook /work/stopped || true"] } },
        });
        kubelet.create(object).await;
        kubelet.ready("guarded", true).await;
        let text = eventually("the log", || match log(&kubelet, "guarded", "main") {
            text if text.lines().count() >= 3 => Ok(text),
            text => Err(text),
        })
        .await;
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "1000");
        assert!(lines[1].split(' ').any(|group| group == "3000"), "{text}");
        assert!(lines[2].contains("Read-only file system"), "{text}");
        kubelet
            .patch("guarded", json!({ "metadata": { "labels": { "seen": "yes" } } }))
            .await;
        kubelet.delete("guarded").await;
        kubelet.gone("guarded").await;
        kubelet.stop().await;
    });
}

#[test]
#[ignore = "needs root and containerd: cargo test -p skep-kubelet -- --ignored"]
fn restarted_kubelet_finds_its_pods_again() {
    with_containerd(|harness| async move {
        let mut kubelet = kubelet(&harness);
        let mut object = pod("stays", &polite("true"));
        object["spec"]["containers"][0]["readinessProbe"] =
            json!({ "exec": { "command": ["true"] }, "periodSeconds": 1 });
        kubelet.create(object).await;
        kubelet.ready("stays", true).await;
        let before = kubelet.pod("stays").unwrap();
        kubelet.stop().await;
        kubelet.start(Arc::new(harness.client()));
        tokio::time::sleep(Duration::from_secs(3)).await;
        let after = kubelet.pod("stays").unwrap();
        assert_eq!(
            after.metadata.resource_version, before.metadata.resource_version,
            "{:#?}",
            after.status
        );
        assert_eq!(harness.client().list_containers(None).await.unwrap().len(), 1);
        kubelet.stop().await;
    });
}

#[test]
#[ignore = "needs root and containerd: cargo test -p skep-kubelet -- --ignored"]
fn ten_pods_at_once_are_up_soon() {
    with_containerd(|harness| async move {
        let mut kubelet = kubelet(&harness);
        // The first pod of a containerd is slower than the others.
        kubelet.create(pod("warm", &polite("true"))).await;
        kubelet.ready("warm", true).await;
        let mut single = Vec::new();
        for index in 0..5 {
            let name = format!("single-{index}");
            let began = Instant::now();
            kubelet.create(pod(&name, &polite("true"))).await;
            kubelet.ready(&name, true).await;
            single.push(began.elapsed());
        }
        single.sort();
        let began = Instant::now();
        for index in 0..10 {
            kubelet
                .create(pod(&format!("burst-{index}"), &polite("true")))
                .await;
        }
        for index in 0..10 {
            kubelet.ready(&format!("burst-{index}"), true).await;
        }
        println!(
            "one pod: {single:?}; ten pods: {:?}; image {BUSYBOX}",
            began.elapsed()
        );
        kubelet.stop().await;
    });
}
