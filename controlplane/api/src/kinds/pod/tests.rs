use serde_json::json;

use super::*;

fn pod(value: Value) -> Pod {
    serde_json::from_value(value).unwrap()
}

fn minimal() -> Value {
    json!({"metadata": {"name": "a", "namespace": "default"}, "spec": {"containers": [{"name": "c", "image": "nginx:1"}]}})
}

fn with_spec(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut value = minimal();
    change(&mut value["spec"]);
    let mut pod = pod(value);
    pod.set_defaults();
    Kind::validate(&pod).iter().map(ToString::to_string).collect()
}

#[test]
fn defaults_are_what_kubectl_shows() {
    let mut pod = pod(json!({"spec": {
        "containers": [{
            "name": "c", "image": "nginx", "ports": [{"containerPort": 80}],
            "resources": {"limits": {"cpu": "1000m"}},
            "readinessProbe": {"httpGet": {"port": 80}},
            "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        }],
        "volumes": [{"name": "a"}, {"name": "b", "configMap": {"name": "x"}}, {"name": "c", "secret": {"secretName": "x"}}],
    }}));
    pod.set_defaults();
    pod.prepare_create();
    let value = serde_json::to_value(&pod).unwrap();
    assert_eq!(
        value["spec"],
        json!({
            "containers": [{
                "name": "c", "image": "nginx", "imagePullPolicy": "Always",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}},
                "readinessProbe": {
                    "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"},
                    "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
                },
                "env": [{"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            }],
            "volumes": [
                {"name": "a", "emptyDir": {}},
                {"name": "b", "configMap": {"name": "x", "defaultMode": 420}},
                {"name": "c", "secret": {"secretName": "x", "defaultMode": 420}},
            ],
            "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
            "terminationGracePeriodSeconds": 30, "securityContext": {}, "enableServiceLinks": true,
            "serviceAccount": "default", "serviceAccountName": "default",
            "priority": 0, "preemptionPolicy": "PreemptLowerPriority",
            "tolerations": [
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            ],
        })
    );
    assert_eq!(
        value["status"],
        json!({"phase": "Pending", "qosClass": "Burstable"})
    );
    let before = pod.clone();
    pod.set_defaults();
    assert_eq!(pod, before, "defaulting twice changes nothing");
}

#[test]
fn qos_classes() {
    let class = |resources: Value| {
        let mut value = minimal();
        value["spec"]["containers"][0]["resources"] = resources;
        let mut pod = pod(value);
        pod.set_defaults();
        qos::class(pod.spec.as_ref().unwrap())
    };
    assert_eq!(class(json!({})), "BestEffort");
    assert_eq!(class(json!({"requests": {"cpu": "1"}})), "Burstable");
    assert_eq!(class(json!({"limits": {"cpu": "1"}})), "Burstable");
    assert_eq!(
        class(json!({"limits": {"cpu": "1", "memory": "1Gi"}})),
        "Guaranteed"
    );
    assert_eq!(
        class(json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}})),
        "Burstable"
    );
}

#[test]
fn what_users_get_wrong_is_told_as_upstream() {
    type Change = fn(&mut Value);
    let cases: &[(Change, &[&str])] = &[
        (|_| {}, &[]),
        (
            |spec| spec["containers"] = json!([]),
            &["spec.containers: Required value"],
        ),
        (
            |spec| spec["containers"][0]["image"] = json!(""),
            &["spec.containers[0].image: Required value"],
        ),
        (
            |spec| spec["containers"] = json!([{"name": "c", "image": "i"}, {"name": "c", "image": "i"}]),
            &[r#"spec.containers[1].name: Duplicate value: "c""#],
        ),
        (
            |spec| spec["containers"][0]["ports"] = json!([{"containerPort": 70000}]),
            &[
                "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            |spec| spec["containers"][0]["volumeMounts"] = json!([{"name": "v", "mountPath": "/x"}]),
            &[r#"spec.containers[0].volumeMounts[0].name: Not found: "v""#],
        ),
        (
            |spec| {
                spec["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2"}})
            },
            &[
                r#"spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1"#,
            ],
        ),
        (
            |spec| spec["restartPolicy"] = json!("Sometimes"),
            &[
                r#"spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never""#,
            ],
        ),
        (
            |spec| spec["containers"][0]["livenessProbe"] = json!({}),
            &["spec.containers[0].livenessProbe: Required value: must specify a handler type"],
        ),
        (
            |spec| spec["volumes"] = json!([{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]),
            &["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(with_spec(change), *expected);
    }
}

#[test]
fn existing_pods_change_only_images_tolerations_and_deadline() {
    let mut old = pod(minimal());
    old.set_defaults();
    let changed = |change: fn(&mut Pod)| {
        let mut new = old.clone();
        change(&mut new);
        Kind::validate_update(&new, &old).len()
    };
    assert_eq!(
        changed(|pod| pod.spec.as_mut().unwrap().containers[0].image = Some("nginx:2".into())),
        0
    );
    assert_eq!(
        changed(|pod| pod.spec.as_mut().unwrap().active_deadline_seconds = Some(5)),
        0
    );
    assert_eq!(
        changed(|pod| pod.spec.as_mut().unwrap().containers[0].name = "other".into()),
        1
    );
    assert_eq!(
        changed(|pod| pod.spec.as_mut().unwrap().host_network = Some(true)),
        1
    );
}

/// The cells of a pod with this status, at one o'clock.
fn status_cells(status: Value) -> Vec<Value> {
    let mut value = minimal();
    value["status"] = status;
    let cells = columns::cells(&pod(value), "2026-01-01T01:00:00Z".parse().unwrap());
    assert_eq!(cells.len(), columns::COLUMNS.len());
    cells
}

#[track_caller]
fn check_status(status: Value, expected: [&str; 3]) {
    let cells = status_cells(status);
    assert_eq!(cells[1..4], expected.map(Value::from));
}

fn running() -> Value {
    json!({"name": "c", "ready": true, "restartCount": 0, "state": {"running": {}}})
}

fn done(code: i32, reason: &str) -> Value {
    json!({"name": "d", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": code, "reason": reason}}})
}

#[test]
fn status_column_tells_of_containers_as_upstream() {
    let crash = json!({"name": "c", "ready": false, "restartCount": 3,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
        "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:55:00Z"}}});
    let with = |phase: &str, containers: Value| json!({"phase": phase, "containerStatuses": containers});
    check_status(with("Running", json!([running()])), ["1/1", "Running", "0"]);
    check_status(
        with("Running", json!([crash])),
        ["0/1", "CrashLoopBackOff", "3 (5m ago)"],
    );
    check_status(
        with("Succeeded", json!([done(0, "Completed")])),
        ["0/1", "Completed", "0"],
    );
    check_status(with("Failed", json!([done(2, "")])), ["0/1", "ExitCode:2", "0"]);
    check_status(
        with("Running", json!([done(0, "Completed"), running()])),
        ["1/1", "NotReady", "0"],
    );
    let mut ready = with("Running", json!([done(0, "Completed"), running()]));
    ready["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    check_status(ready, ["1/1", "Running", "0"]);
}

#[test]
fn status_column_tells_of_the_pod_as_upstream() {
    let gated = json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]);
    let waiting = json!([{"name": "i", "state": {"running": {}}}]);
    check_status(json!({"phase": "Pending"}), ["0/1", "Pending", "0"]);
    check_status(
        json!({"phase": "Failed", "reason": "Evicted"}),
        ["0/1", "Evicted", "0"],
    );
    check_status(
        json!({"phase": "Pending", "initContainerStatuses": waiting}),
        ["0/1", "Init:0/0", "0"],
    );
    let failed = json!({"phase": "Pending", "initContainerStatuses": [done(1, "Error")]});
    check_status(failed, ["0/1", "Init:Error", "0"]);
    check_status(
        json!({"phase": "Pending", "conditions": gated}),
        ["0/1", "SchedulingGated", "0"],
    );
    let mut value = minimal();
    value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(
        columns::cells(&pod(value), Timestamp::UNIX_EPOCH)[2],
        "Terminating"
    );
}
