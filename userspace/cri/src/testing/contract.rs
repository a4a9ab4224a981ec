//! The facts about a runtime that the kubelet relies on, as checks against any [`Runtime`] that holds
//! the image [`BUSYBOX`](super::BUSYBOX).

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;

use super::BUSYBOX;
use crate::{Runtime, RuntimeErrorKind, RuntimeEventKind, v1};

/// Runs every check. `cgroup` is the parent for the sandboxes' cgroups, `logs` an existing directory.
///
/// # Panics
/// When a fact does not hold.
pub async fn check(runtime: &dyn Runtime, cgroup: &str, logs: &str) {
    let at = Place { cgroup, logs };
    sandbox_life(runtime, &at).await;
    container_life(runtime, &at).await;
    signals(runtime, &at).await;
    absences(runtime, &at).await;
    exec(runtime, &at).await;
    events(runtime, &at).await;
}

struct Place<'a> {
    cgroup: &'a str,
    logs: &'a str,
}

fn sandbox_config(at: &Place<'_>, name: &str, attempt: u32) -> v1::PodSandboxConfig {
    let namespaces = v1::NamespaceOption {
        network: v1::NamespaceMode::Node.into(),
        ..Default::default()
    };
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            namespace: "contract".to_owned(),
            attempt,
        }),
        log_directory: format!("{}/{name}", at.logs),
        labels: HashMap::from([("pod".to_owned(), name.to_owned())]),
        annotations: HashMap::from([("note".to_owned(), "kept".to_owned())]),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: format!("{}/{name}", at.cgroup),
            security_context: Some(v1::LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces),
                ..Default::default()
            }),
            sysctls: HashMap::new(),
        }),
        ..Default::default()
    }
}

fn container_config(name: &str, attempt: u32, script: &str) -> v1::ContainerConfig {
    let namespaces = v1::NamespaceOption {
        network: v1::NamespaceMode::Node.into(),
        pid: v1::NamespaceMode::Container.into(),
        ..Default::default()
    };
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: name.to_owned(),
            attempt,
        }),
        image: Some(v1::ImageSpec {
            image: BUSYBOX.to_owned(),
            ..Default::default()
        }),
        command: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
        labels: HashMap::from([("container".to_owned(), name.to_owned())]),
        annotations: HashMap::from([("attempt".to_owned(), attempt.to_string())]),
        log_path: format!("{name}_{attempt}.log"),
        linux: Some(v1::LinuxContainerConfig {
            resources: None,
            security_context: Some(v1::LinuxContainerSecurityContext {
                namespace_options: Some(namespaces),
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}

async fn sandbox_life(runtime: &dyn Runtime, at: &Place<'_>) {
    let config = sandbox_config(at, "life", 0);
    let id = runtime
        .run_pod_sandbox(config.clone())
        .await
        .expect("a sandbox starts");
    let again = runtime.run_pod_sandbox(config).await;
    assert!(again.is_err(), "name, namespace, uid and attempt are reserved");

    let status = runtime.pod_sandbox_status(&id).await.expect("a status");
    assert_eq!(status.state(), v1::PodSandboxState::SandboxReady);
    assert_eq!(status.annotations["note"], "kept");
    let network = status.network.unwrap_or_default();
    assert_eq!(
        network.ip, "",
        "a sandbox in the host's network has no address of its own"
    );

    let selector = |name: &str| {
        Some(v1::PodSandboxFilter {
            label_selector: HashMap::from([("pod".to_owned(), name.to_owned())]),
            ..Default::default()
        })
    };
    let listed = runtime.list_pod_sandboxes(selector("life")).await;
    assert_eq!(listed.expect("a list").len(), 1);
    let listed = runtime.list_pod_sandboxes(selector("other")).await;
    assert_eq!(listed.expect("a list").len(), 0);

    runtime.stop_pod_sandbox(&id).await.expect("it stops");
    runtime
        .stop_pod_sandbox(&id)
        .await
        .expect("stopping is idempotent");
    let status = runtime.pod_sandbox_status(&id).await.expect("a status");
    assert_eq!(status.state(), v1::PodSandboxState::SandboxNotready);
    let sandbox = sandbox_config(at, "life", 0);
    let late = runtime
        .create_container(&id, container_config("late", 0, "true"), sandbox)
        .await;
    assert!(late.is_err(), "no container is made in a stopped sandbox");
    runtime.remove_pod_sandbox(&id).await.expect("it goes");
    runtime
        .remove_pod_sandbox(&id)
        .await
        .expect("removing is idempotent");
    let gone = runtime.pod_sandbox_status(&id).await.expect_err("gone");
    assert!(gone.is_not_found(), "{gone}");
}

async fn container_life(runtime: &dyn Runtime, at: &Place<'_>) {
    let sandbox_config = sandbox_config(at, "containers", 0);
    let sandbox = runtime
        .run_pod_sandbox(sandbox_config.clone())
        .await
        .expect("a sandbox");
    let id = runtime
        .create_container(
            &sandbox,
            container_config("app", 3, "sleep 1000"),
            sandbox_config.clone(),
        )
        .await
        .expect("a container");
    let status = runtime.container_status(&id).await.expect("a status");
    assert_eq!(status.state(), v1::ContainerState::ContainerCreated);
    runtime.start_container(&id).await.expect("it starts");
    let status = runtime.container_status(&id).await.expect("a status");
    assert_eq!(status.state(), v1::ContainerState::ContainerRunning);
    assert!(status.started_at >= status.created_at);
    assert_eq!(status.annotations["attempt"], "3");
    assert_eq!(status.metadata.expect("metadata").attempt, 3);
    assert!(runtime.start_container(&id).await.is_err(), "started only once");

    let filter = v1::ContainerFilter {
        label_selector: HashMap::from([("container".to_owned(), "app".to_owned())]),
        ..Default::default()
    };
    let listed = runtime.list_containers(Some(filter)).await.expect("a list");
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].pod_sandbox_id, sandbox);

    runtime
        .stop_pod_sandbox(&sandbox)
        .await
        .expect("the sandbox stops");
    let status = runtime.container_status(&id).await.expect("a status");
    assert_eq!(
        status.state(),
        v1::ContainerState::ContainerExited,
        "a stopped sandbox takes its containers with it"
    );
    assert_eq!(status.exit_code, 137);
    runtime
        .remove_pod_sandbox(&sandbox)
        .await
        .expect("the sandbox goes");
    let gone = runtime.container_status(&id).await.expect_err("gone");
    assert!(gone.is_not_found(), "{gone}");
}

async fn signals(runtime: &dyn Runtime, at: &Place<'_>) {
    let sandbox_config = sandbox_config(at, "signals", 0);
    let sandbox = runtime
        .run_pod_sandbox(sandbox_config.clone())
        .await
        .expect("a sandbox");
    let polite = "trap 'exit 143' TERM; while true; do sleep 0.05; done";
    let mut ids = Vec::new();
    for (name, grace, script) in [("polite", 20, polite), ("killed", 0, "sleep 1000")] {
        let config = container_config(name, 0, script);
        let id = runtime
            .create_container(&sandbox, config, sandbox_config.clone())
            .await
            .expect("a container");
        runtime.start_container(&id).await.expect("it starts");
        tokio::time::sleep(Duration::from_millis(200)).await;
        runtime
            .stop_container(&id, Duration::from_secs(grace))
            .await
            .expect("it stops");
        let status = runtime.container_status(&id).await.expect("a status");
        assert_eq!(status.state(), v1::ContainerState::ContainerExited);
        assert_eq!(status.exit_code, if grace == 0 { 137 } else { 143 }, "{name}");
        assert_eq!(status.reason, "Error");
        assert!(status.finished_at >= status.started_at);
        runtime
            .stop_container(&id, Duration::ZERO)
            .await
            .expect("stopping is idempotent");
        ids.push(id);
    }
    for id in ids {
        runtime.remove_container(&id).await.expect("it goes");
        runtime
            .remove_container(&id)
            .await
            .expect("removing is idempotent");
    }
    runtime
        .stop_pod_sandbox(&sandbox)
        .await
        .expect("the sandbox stops");
    runtime
        .remove_pod_sandbox(&sandbox)
        .await
        .expect("the sandbox goes");
}

async fn absences(runtime: &dyn Runtime, at: &Place<'_>) {
    let absent = runtime
        .image_status("skep.local/absent:latest")
        .await
        .expect("an answer");
    assert!(absent.is_none(), "an absent image is no error");
    let present = runtime.image_status(BUSYBOX).await.expect("an answer");
    assert!(present.is_some_and(|image| !image.id.is_empty()));
    let images = runtime.list_images().await.expect("a list");
    assert!(
        images
            .iter()
            .any(|image| image.repo_tags.iter().any(|tag| tag == BUSYBOX))
    );

    let sandbox_config = sandbox_config(at, "absences", 0);
    let sandbox = runtime
        .run_pod_sandbox(sandbox_config.clone())
        .await
        .expect("a sandbox");
    let mut config = container_config("app", 0, "true");
    config.image = Some(v1::ImageSpec {
        image: "skep.local/absent:latest".to_owned(),
        ..Default::default()
    });
    let made = runtime.create_container(&sandbox, config, sandbox_config).await;
    assert!(made.is_err(), "no container without its image");
    runtime
        .stop_pod_sandbox(&sandbox)
        .await
        .expect("the sandbox stops");
    runtime
        .remove_pod_sandbox(&sandbox)
        .await
        .expect("the sandbox goes");
    runtime
        .stop_container("nothing", Duration::ZERO)
        .await
        .expect("stopping what is not there is fine");
}

async fn exec(runtime: &dyn Runtime, at: &Place<'_>) {
    let sandbox_config = sandbox_config(at, "exec", 0);
    let sandbox = runtime
        .run_pod_sandbox(sandbox_config.clone())
        .await
        .expect("a sandbox");
    let id = runtime
        .create_container(&sandbox, container_config("app", 0, "sleep 1000"), sandbox_config)
        .await
        .expect("a container");
    runtime.start_container(&id).await.expect("it starts");
    let answer = runtime
        .exec_sync(&id, vec!["true".to_owned()], Duration::from_secs(10))
        .await
        .expect("it runs");
    assert_eq!(answer.exit_code, 0);
    let hanging = vec!["sleep".to_owned(), "100".to_owned()];
    let late = runtime
        .exec_sync(&id, hanging, Duration::from_secs(1))
        .await
        .expect_err("too late");
    assert_eq!(late.kind, RuntimeErrorKind::DeadlineExceeded, "{late}");
    runtime
        .stop_container(&id, Duration::ZERO)
        .await
        .expect("it stops");
    let late = runtime
        .exec_sync(&id, vec!["true".to_owned()], Duration::from_secs(1))
        .await;
    assert!(late.is_err(), "nothing runs in a container that has ended");
    runtime
        .stop_pod_sandbox(&sandbox)
        .await
        .expect("the sandbox stops");
    runtime
        .remove_pod_sandbox(&sandbox)
        .await
        .expect("the sandbox goes");
}

async fn events(runtime: &dyn Runtime, at: &Place<'_>) {
    let mut events = runtime.events().await.expect("a stream of events");
    let sandbox_config = sandbox_config(at, "events", 0);
    let sandbox = runtime
        .run_pod_sandbox(sandbox_config.clone())
        .await
        .expect("a sandbox");
    let id = runtime
        .create_container(&sandbox, container_config("app", 0, "sleep 1000"), sandbox_config)
        .await
        .expect("a container");
    runtime.start_container(&id).await.expect("it starts");
    runtime
        .stop_container(&id, Duration::ZERO)
        .await
        .expect("it stops");
    let told = async {
        while let Some(event) = events.next().await {
            let event = event.expect("the stream goes on");
            if event.container_id == id && event.kind == RuntimeEventKind::Stopped {
                return;
            }
        }
        panic!("the stream of events ended");
    };
    tokio::time::timeout(Duration::from_secs(10), told)
        .await
        .expect("the end of a container is told");
    let status = runtime.container_status(&id).await.expect("a status");
    assert_eq!(
        status.state(),
        v1::ContainerState::ContainerExited,
        "when an end is told, the status has it"
    );
    runtime
        .stop_pod_sandbox(&sandbox)
        .await
        .expect("the sandbox stops");
    runtime
        .remove_pod_sandbox(&sandbox)
        .await
        .expect("the sandbox goes");
}
