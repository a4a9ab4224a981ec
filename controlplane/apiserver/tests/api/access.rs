//! Who may do what, and that there is no way around it.

use crate::support::Cluster;
use crate::support::raw::{Answer, Connection};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, Secret};
use serde_json::{Value, json};
use skep_api::{ObjectExt, ObjectKey};
use skep_apiserver::User;
use skep_client::{WatchEvent, WatchOptions};

const JSON: (&str, &str) = ("content-type", "application/json");
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// Gives a user rules in a namespace, and waits until they are in force.
async fn grant(cluster: &Cluster, admin: &mut Connection, user: &str, namespace: &str, rules: Value) {
    let scope = format!("{RBAC}/namespaces/{namespace}");
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": user}, "rules": rules});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": user}, "subjects": [{"kind": "User", "name": user}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user}});
    for (resource, object) in [("roles", role), ("rolebindings", binding)] {
        let path = format!("{scope}/{resource}");
        let answer = admin.send("POST", &path, &[JSON], object.to_string()).await;
        assert_eq!(answer.status, 201, "{:?}", answer.body);
    }
    let marker = &rules[0];
    let first = |list: &str| marker[list][0].clone();
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {"user": user,
        "resourceAttributes": {"namespace": namespace, "verb": first("verbs"), "group": first("apiGroups"),
            "resource": first("resources"), "name": first("resourceNames")}}});
    for _attempt in 0..500 {
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let answer = admin.send("POST", path, &[JSON], review.to_string()).await.json();
        if answer["status"]["allowed"] == true {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{user} did not get its rules in {}", cluster.address);
}

async fn admin(cluster: &Cluster) -> Connection {
    Connection::open(cluster, Some(&cluster.admin_identity())).await
}

async fn connect(cluster: &Cluster, user: &str, groups: &[&str]) -> Connection {
    Connection::open(cluster, Some(&cluster.identity(user, groups))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_not_reached_through_another() {
    let cluster = Cluster::start().await;
    let mut admin = admin(&cluster).await;
    for name in ["a", "b"] {
        cluster.namespace(name).await;
    }
    let rules = json!([{"verbs": ["get", "update", "patch", "delete"], "apiGroups": [""], "resources": ["namespaces"]}]);
    grant(&cluster, &mut admin, "jane", "a", rules).await;
    let mut jane = connect(&cluster, "jane", &[]).await;
    assert_eq!(jane.get("/api/v1/namespaces/a").await.status, 200);
    assert_eq!(jane.get("/api/v1/namespaces/b").await.status, 403);
    for method in ["GET", "DELETE"] {
        let answer = jane
            .send(method, "/api/v1/namespaces/a/namespaces/b", &[], "")
            .await;
        assert_eq!(answer.status, 404, "{method}");
        assert_eq!(
            answer.json()["message"],
            "the server could not find the requested resource"
        );
    }
    let patch = [("content-type", "application/merge-patch+json")];
    let through = "/api/v1/namespaces/a/namespaces/b";
    assert_eq!(jane.send("PATCH", through, &patch, "{}").await.status, 404);
    assert_eq!(jane.get("/api/v1/namespaces/a/namespaces").await.status, 403);
    assert_eq!(admin.get("/api/v1/namespaces/a/namespaces").await.status, 404);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_one_object_shows_no_other() {
    let cluster = Cluster::start().await;
    let mut admin = admin(&cluster).await;
    let maps = "/api/v1/namespaces/default/configmaps";
    for name in ["mine", "other"] {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        assert_eq!(
            admin.send("POST", maps, &[JSON], map.to_string()).await.status,
            201
        );
    }
    let rules = json!([{"verbs": ["watch"], "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["mine"]}]);
    grant(&cluster, &mut admin, "jane", "default", rules).await;
    let mut jane = connect(&cluster, "jane", &[]).await;
    let watch = "/api/v1/watch/namespaces/default/configmaps";
    for (path, shown) in [
        (format!("{watch}/mine?timeoutSeconds=1"), true),
        (
            format!("{watch}/mine?timeoutSeconds=1&fieldSelector=metadata.namespace=default"),
            true,
        ),
        (
            format!("{watch}/mine?timeoutSeconds=1&fieldSelector=metadata.name=other"),
            false,
        ),
    ] {
        let answer = jane.get(&path).await;
        assert_eq!(answer.status, 200, "{path}");
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(text.contains("\"mine\""), shown, "{path}: {text}");
        assert!(!text.contains("\"other\""), "{path}: {text}");
    }
    assert_eq!(jane.get(&format!("{watch}/other")).await.status, 403);
    cluster.stop().await;
}

const MERGE: (&str, &str) = ("content-type", "application/merge-patch+json");

fn message(answer: &Answer) -> String {
    answer.json()["message"].as_str().unwrap_or_default().to_owned()
}

/// Creates an object that the user may create.
async fn create(by: &mut Connection, path: &str, object: Value) {
    let answer = by.send("POST", path, &[JSON], object.to_string()).await;
    assert_eq!(answer.status, 201, "{path}: {:?}", answer.body);
}

/// A pod that refers to one secret and one config map of its own, bound to a node.
async fn bound_pod(admin: &mut Connection, name: &str, node: &str) {
    let scope = "/api/v1/namespaces/default";
    for (resource, kind) in [("secrets", "Secret"), ("configmaps", "ConfigMap")] {
        let object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": format!("of-{name}")}});
        create(admin, &format!("{scope}/{resource}"), object).await;
    }
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}}, "spec": {
        "containers": [{"name": "c", "image": "i", "envFrom": [{"configMapRef": {"name": format!("of-{name}")}}]}],
        "volumes": [{"name": "v", "secret": {"secretName": format!("of-{name}")}}],
    }});
    create(admin, &format!("{scope}/pods"), pod).await;
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
        "target": {"kind": "Node", "name": node}});
    create(admin, &format!("{scope}/pods/{name}/binding"), binding).await;
}

/// Asks, and says the code of the answer.
async fn code(by: &mut Connection, request: &str) -> u16 {
    let (method, path) = request.split_once(' ').expect("method and path");
    let headers: &[(&str, &str)] = if method == "PATCH" { &[MERGE] } else { &[] };
    let body = if method == "PATCH" { "{}" } else { "" };
    by.send(method, path, headers, body).await.status.as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_reads_what_its_pods_refer_to() {
    let cluster = Cluster::start().await;
    let mut admin = admin(&cluster).await;
    let mut kubelet = connect(&cluster, "system:node:n1", &["system:nodes"]).await;
    let secret = "GET /api/v1/namespaces/default/secrets/of-mine";
    assert_eq!(code(&mut kubelet, secret).await, 403);
    bound_pod(&mut admin, "mine", "n1").await;
    bound_pod(&mut admin, "theirs", "n2").await;
    let allowed = [
        "GET /api/v1/namespaces/default/secrets/of-mine",
        "GET /api/v1/namespaces/default/configmaps/of-mine",
        "GET /api/v1/namespaces/default/secrets?fieldSelector=metadata.name%3Dof-mine",
        "GET /api/v1/namespaces/default/secrets?watch=1&timeoutSeconds=1&fieldSelector=metadata.name%3Dof-mine",
        "GET /api/v1/pods?fieldSelector=spec.nodeName%3Dn1",
        "GET /api/v1/pods?watch=1&timeoutSeconds=1&fieldSelector=spec.nodeName%3Dn1",
        "GET /api/v1/namespaces/default/pods/mine",
        "GET /api/v1/services",
        "PATCH /api/v1/namespaces/default/pods/mine/status",
    ];
    for request in allowed {
        assert_eq!(code(&mut kubelet, request).await, 200, "{request}");
    }
    let refused = [
        "GET /api/v1/namespaces/default/secrets/of-theirs",
        "GET /api/v1/namespaces/default/configmaps/of-theirs",
        "GET /api/v1/namespaces/kube-system/secrets/of-mine",
        "GET /api/v1/secrets?fieldSelector=metadata.name%3Dof-mine",
        "GET /api/v1/namespaces/default/secrets",
        "GET /api/v1/namespaces/default/secrets?fieldSelector=type%3DOpaque",
        "GET /api/v1/namespaces/default/secrets?fieldSelector=metadata.name%3Dof-theirs",
        "DELETE /api/v1/namespaces/default/secrets/of-mine",
        "PATCH /api/v1/namespaces/default/secrets/of-mine",
        "GET /api/v1/pods",
        "GET /api/v1/namespaces/default/pods?fieldSelector=spec.nodeName%3Dn2",
        "GET /api/v1/pods?fieldSelector=spec.nodeName!%3Dn1",
        "GET /api/v1/namespaces/default/pods/theirs",
        "PATCH /api/v1/namespaces/default/pods/theirs/status",
        "PATCH /api/v1/namespaces/default/pods/mine",
        "DELETE /api/v1/namespaces/default/pods/theirs",
        "DELETE /api/v1/namespaces/default/pods",
        "GET /api/v1/namespaces/default/pods/mine/log",
        "GET /apis/rbac.authorization.k8s.io/v1/clusterroles",
    ];
    for request in refused {
        assert_eq!(code(&mut kubelet, request).await, 403, "{request}");
    }
    let theirs = kubelet.get("/api/v1/namespaces/default/secrets/of-theirs").await;
    assert_eq!(
        message(&theirs),
        r#"secrets "of-theirs" is forbidden: User "system:node:n1" cannot get resource "secrets" in API group "" in the namespace "default": no relationship found between node 'n1' and this object"#
    );
    let relabel = json!({"metadata": {"labels": {"app": "bank"}}}).to_string();
    let path = "/api/v1/namespaces/default/pods/mine/status";
    let answer = kubelet.send("PATCH", path, &[MERGE], relabel).await;
    assert_eq!(
        message(&answer),
        r#"pods "mine" is forbidden: node "n1" cannot update labels through pod status"#
    );
    // The name alone, without the group, is nobody; and what is gone is not found.
    let mut impostor = connect(&cluster, "system:node:n1", &[]).await;
    assert_eq!(code(&mut impostor, allowed[0]).await, 403);
    let now = r#"{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0}"#;
    let mine = "/api/v1/namespaces/default/pods/mine";
    assert_eq!(kubelet.send("DELETE", mine, &[JSON], now).await.status, 200);
    assert_eq!(kubelet.get(mine).await.status, 404);
    assert_eq!(code(&mut kubelet, secret).await, 403);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_writes_its_own_node_and_lease() {
    let cluster = Cluster::start().await;
    cluster.namespace("kube-node-lease").await;
    let mut admin = admin(&cluster).await;
    let mut kubelet = connect(&cluster, "system:node:n1", &["system:nodes"]).await;
    let node = |name: &str| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    let lease = |name: &str| {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
            "spec": {"holderIdentity": name}})
    };
    let (nodes, leases) = (
        "/api/v1/nodes",
        "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases",
    );
    for (path, own, other) in [
        (nodes, node("n1"), node("n2")),
        (leases, lease("n1"), lease("n2")),
    ] {
        let answer = kubelet.send("POST", path, &[JSON], other.to_string()).await;
        assert_eq!(answer.status, 403, "{:?}", answer.body);
        let put = format!("{path}/n2");
        let answer = kubelet.send("PUT", &put, &[JSON], other.to_string()).await;
        assert_eq!(answer.status, 403, "{:?}", answer.body);
        create(&mut kubelet, path, own).await;
        create(&mut admin, path, other).await;
        assert_eq!(code(&mut kubelet, &format!("GET {path}/n1")).await, 200);
        assert_eq!(code(&mut kubelet, &format!("PATCH {path}/n1")).await, 200);
        assert_eq!(code(&mut kubelet, &format!("GET {path}/n2")).await, 403);
        assert_eq!(code(&mut kubelet, &format!("PATCH {path}/n2")).await, 403);
    }
    for (request, expected) in [
        (format!("PATCH {nodes}/n1/status"), 200),
        (format!("PATCH {nodes}/n2/status"), 403),
        (format!("DELETE {nodes}/n1"), 403),
        (format!("GET {nodes}"), 403),
        (format!("GET {nodes}?fieldSelector=metadata.name%3Dn1"), 200),
        (
            "PATCH /apis/coordination.k8s.io/v1/namespaces/default/leases/n1".to_owned(),
            403,
        ),
    ] {
        assert_eq!(code(&mut kubelet, &request).await, expected, "{request}");
    }
    let tainted = json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}).to_string();
    let answer = kubelet
        .send("PATCH", &format!("{nodes}/n1"), &[MERGE], tainted)
        .await;
    assert_eq!(
        message(&answer),
        r#"nodes "n1" is forbidden: node "n1" is not allowed to modify taints"#
    );
    cluster.stop().await;
}

/// A kubelet asks for a secret at the very moment at which it hears of the pod.
#[tokio::test(flavor = "multi_thread")]
async fn a_kubelet_that_sees_a_pod_may_read_its_secret() {
    let cluster = Cluster::start().await;
    let mut admin = admin(&cluster).await;
    let kubelet = cluster
        .api
        .in_process_client(User::new("system:node:n1", ["system:nodes"]));
    let options = WatchOptions {
        field_selector: Some("spec.nodeName=n1".to_owned()),
        ..WatchOptions::default()
    };
    let mut pods = kubelet.watch::<Pod>(None, &options).await.expect("watch");
    for index in 0..50 {
        bound_pod(&mut admin, &format!("p{index}"), "n1").await;
        let Some(Ok(WatchEvent::Added(pod))) = pods.next().await else {
            panic!("the pod is shown");
        };
        let secret = ObjectKey::new("default", format!("of-{}", pod.name()));
        kubelet.get::<Secret>(&secret).await.expect("allowed at once");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gives_away_rights_that_they_do_not_have() {
    let cluster = Cluster::start().await;
    let mut admin = admin(&cluster).await;
    let rbac = "rbac.authorization.k8s.io";
    let rules = json!([
        {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]},
        {"verbs": ["create", "update", "patch", "get"], "apiGroups": [rbac], "resources": ["roles", "rolebindings"]},
        {"verbs": ["bind"], "apiGroups": [rbac], "resources": ["clusterroles"], "resourceNames": ["lent"]},
    ]);
    grant(&cluster, &mut admin, "jane", "default", rules).await;
    let mut jane = connect(&cluster, "jane", &[]).await;
    let roles = format!("{RBAC}/namespaces/default/roles");
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    let role = |name: &str, verb: &str| {
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": {"name": name},
            "rules": [{"verbs": [verb], "apiGroups": [""], "resources": ["pods"]}]})
    };
    let binding = |name: &str, kind: &str, role: &str| {
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": {"name": name},
            "subjects": [{"kind": "User", "name": "kim"}], "roleRef": {"apiGroup": rbac, "kind": kind, "name": role}})
    };
    let why = "user \"jane\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}";
    let refused = |answer: &Answer, what: &str| {
        assert_eq!(answer.status, 403, "{:?}", answer.body);
        assert_eq!(message(answer), format!("{what} is forbidden: {why}"));
    };
    create(&mut jane, &roles, role("weak", "get")).await;
    let strong = role("strong", "delete").to_string();
    let answer = jane.send("POST", &roles, &[JSON], strong.clone()).await;
    refused(&answer, "roles.rbac.authorization.k8s.io \"strong\"");
    let answer = jane
        .send("PUT", &format!("{roles}/strong"), &[JSON], strong)
        .await;
    refused(&answer, "roles.rbac.authorization.k8s.io \"strong\"");
    let more = json!({"rules": role("weak", "delete")["rules"]}).to_string();
    let answer = jane.send("PATCH", &format!("{roles}/weak"), &[MERGE], more).await;
    refused(&answer, "roles.rbac.authorization.k8s.io \"weak\"");

    create(&mut admin, &roles, role("strong", "delete")).await;
    for name in ["lent", "kept"] {
        let mut role = role(name, "delete");
        role["kind"] = "ClusterRole".into();
        create(&mut admin, &format!("{RBAC}/clusterroles"), role).await;
    }
    create(&mut jane, &bindings, binding("weak", "Role", "weak")).await;
    create(&mut jane, &bindings, binding("lent", "ClusterRole", "lent")).await;
    for (kind, role) in [("Role", "strong"), ("ClusterRole", "kept")] {
        let body = binding("strong", kind, role).to_string();
        let answer = jane.send("POST", &bindings, &[JSON], body).await;
        refused(&answer, "rolebindings.rbac.authorization.k8s.io \"strong\"");
    }
    let body = binding("dangling", "Role", "absent").to_string();
    let answer = jane.send("POST", &bindings, &[JSON], body).await;
    assert_eq!(
        (answer.status.as_u16(), message(&answer).as_str()),
        (404, "roles.rbac.authorization.k8s.io \"absent\" not found")
    );

    // Garbage collection may do its part on a role whose rules it does not have.
    let housekeeping = json!({"metadata": {"finalizers": ["example.com/held"]}}).to_string();
    let path = format!("{roles}/strong");
    assert_eq!(
        jane.send("PATCH", &path, &[MERGE], housekeeping).await.status,
        200
    );
    let label = json!({"metadata": {"labels": {"a": "b"}}}).to_string();
    assert_eq!(jane.send("PATCH", &path, &[MERGE], label).await.status, 403);

    let rules = json!([{"verbs": ["create", "escalate"], "apiGroups": [rbac], "resources": ["roles"]}]);
    grant(&cluster, &mut admin, "root", "default", rules).await;
    let mut root = connect(&cluster, "root", &[]).await;
    create(&mut root, &roles, role("anything", "delete")).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn to_put_what_does_not_exist_is_to_create() {
    let cluster = Cluster::start().await;
    let mut admin = admin(&cluster).await;
    let leases = json!(["coordination.k8s.io"]);
    let updater = json!([{"verbs": ["update"], "apiGroups": leases, "resources": ["leases"]}]);
    grant(&cluster, &mut admin, "updater", "default", updater).await;
    let creator = json!([{"verbs": ["update", "create"], "apiGroups": leases, "resources": ["leases"]}]);
    grant(&cluster, &mut admin, "creator", "default", creator).await;
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/a";
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"},
        "spec": {"holderIdentity": "x"}});
    let mut updater = connect(&cluster, "updater", &[]).await;
    let answer = updater.send("PUT", path, &[JSON], lease.to_string()).await;
    assert_eq!(
        (answer.status.as_u16(), message(&answer).as_str()),
        (
            403,
            r#"leases.coordination.k8s.io "a" is forbidden: User "updater" cannot create resource "leases" in API group "coordination.k8s.io" in the namespace "default""#
        )
    );
    let mut creator = connect(&cluster, "creator", &[]).await;
    assert_eq!(
        creator.send("PUT", path, &[JSON], lease.to_string()).await.status,
        201
    );
    assert_eq!(
        updater.send("PUT", path, &[JSON], lease.to_string()).await.status,
        200
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn service_accounts_are_impersonated_as_such() {
    let cluster = Cluster::start().await;
    let mut admin = admin(&cluster).await;
    let rules = json!([{"verbs": ["impersonate"], "apiGroups": [""], "resources": ["serviceaccounts"]}]);
    grant(&cluster, &mut admin, "jane", "default", rules).await;
    let mut jane = connect(&cluster, "jane", &[]).await;
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).to_string();
    let path = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let me = async |by: &mut Connection, user: &str| {
        let headers = [JSON, ("impersonate-user", user)];
        by.send("POST", path, &headers, review.clone()).await
    };
    // Its rights come from the group of its namespace: without it, it could not even ask.
    let rules = json!([{"verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"]}]);
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "ask"}, "rules": rules});
    create(&mut admin, &format!("{RBAC}/clusterroles"), role).await;
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "ask"}, "subjects": [{"kind": "Group", "name": "system:serviceaccounts:default"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "ask"}});
    create(&mut admin, &format!("{RBAC}/clusterrolebindings"), binding).await;
    let mut answer = me(&mut jane, "system:serviceaccount:default:bot").await;
    for _attempt in 0..500 {
        if answer.status == 201 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        answer = me(&mut jane, "system:serviceaccount:default:bot").await;
    }
    assert_eq!(
        answer.json()["status"]["userInfo"]["groups"],
        json!([
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated"
        ])
    );
    let answer = me(&mut jane, "system:serviceaccount:kube-system:bot").await;
    assert_eq!(
        message(&answer),
        r#"serviceaccounts "bot" is forbidden: User "jane" cannot impersonate resource "serviceaccounts" in API group "" in the namespace "kube-system""#
    );
    for (user, resource) in [("kim", "users"), ("system:serviceaccount:default", "users")] {
        let answer = me(&mut jane, user).await;
        assert_eq!(answer.status, 403);
        assert!(message(&answer).contains(&format!("cannot impersonate resource {resource:?}")));
    }
    cluster.stop().await;
}
