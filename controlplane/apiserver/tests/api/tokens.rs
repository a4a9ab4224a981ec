//! Service accounts' tokens: who gets them, and how long they are believed.

use crate::support::raw::Connection;
use crate::support::{Cluster, ISSUER};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use http::StatusCode;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use serde_json::{Value, json};
use skep_api::ObjectKey;
use skep_client::DeleteOptions;
use skep_pki::names;

const JSON: (&str, &str) = ("content-type", "application/json");
const SELF: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

async fn account(cluster: &Cluster, name: &str) {
    let account = json!({ "metadata": { "name": name, "namespace": "default" } });
    let account: ServiceAccount = serde_json::from_value(account).expect("account");
    cluster.admin.create(&account).await.expect("account");
}

/// A pod of the account on a node; its uid.
async fn pod(cluster: &Cluster, name: &str, account: &str, node: &str) -> String {
    let pod = json!({
        "metadata": { "name": name, "namespace": "default" },
        "spec": { "serviceAccountName": account, "nodeName": node, "containers": [{ "name": "a", "image": "a" }] },
    });
    let pod: Pod = serde_json::from_value(pod).expect("pod");
    let created = cluster.admin.create(&pod).await.expect("pod");
    created.metadata.uid.clone().expect("uid")
}

async fn request(asker: &mut Connection, account: &str, spec: Value) -> (StatusCode, Value) {
    let path = format!("/api/v1/namespaces/default/serviceaccounts/{account}/token");
    let body = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec });
    let answer = asker.send("POST", &path, &[JSON], body.to_string()).await;
    (answer.status, answer.json())
}

async fn token(asker: &mut Connection, account: &str, spec: Value) -> String {
    let (status, answer) = request(asker, account, spec).await;
    assert_eq!(status, 201, "{answer}");
    answer["status"]["token"].as_str().expect("token").to_owned()
}

/// A cluster in which everyone who is somebody may ask who they are.
async fn started() -> Cluster {
    let cluster = Cluster::start().await;
    let mut admin = Connection::open(&cluster, Some(&cluster.admin_identity())).await;
    let rules = json!([{ "verbs": ["create"], "apiGroups": ["authentication.k8s.io"], "resources": ["selfsubjectreviews"] }]);
    let role = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": "asker" }, "rules": rules });
    let binding = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": "asker" }, "subjects": [{ "kind": "Group", "name": "system:authenticated" }],
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "asker" } });
    for (resource, object) in [("clusterroles", role), ("clusterrolebindings", binding)] {
        let path = format!("/apis/rbac.authorization.k8s.io/v1/{resource}");
        let answer = admin.send("POST", &path, &[JSON], object.to_string()).await;
        assert_eq!(answer.status, 201, "{:?}", answer.body);
    }
    let mut anybody = Connection::open(&cluster, Some(&cluster.identity("jane", &[]))).await;
    let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
    for _attempt in 0..500 {
        let answer = anybody.send("POST", SELF, &[JSON], review.to_string()).await;
        if answer.status == 201 {
            return cluster;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the rules did not come into force");
}

/// Whom the server sees behind a token.
async fn who(cluster: &Cluster, token: &str) -> (StatusCode, Value) {
    let mut nobody = Connection::open(cluster, None).await;
    let bearer = format!("Bearer {token}");
    let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
    let headers = [JSON, ("authorization", bearer.as_str())];
    let answer = nobody.send("POST", SELF, &headers, review.to_string()).await;
    (answer.status, answer.json()["status"]["userInfo"].clone())
}

fn bound_to(pod: &str, uid: &str) -> Value {
    json!({ "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid } })
}

#[tokio::test(flavor = "multi_thread")]
async fn token_is_believed_while_its_account_exists() {
    let cluster = started().await;
    let mut admin = Connection::open(&cluster, Some(&cluster.admin_identity())).await;
    account(&cluster, "bot").await;
    let (status, answer) = request(&mut admin, "bot", json!({ "expirationSeconds": 1200 })).await;
    assert_eq!(status, 201, "{answer}");
    assert_eq!(answer["spec"]["audiences"], json!([ISSUER]));
    let token = answer["status"]["token"].as_str().expect("token");
    let claims = BASE64
        .decode(token.split('.').nth(1).expect("claims"))
        .expect("base64");
    let claims: Value = serde_json::from_slice(&claims).expect("JSON");
    assert_eq!(claims["sub"], "system:serviceaccount:default:bot");
    assert_eq!(claims["kubernetes.io"]["serviceaccount"]["name"], "bot");
    let seconds = |name: &str| claims[name].as_i64().expect("seconds");
    assert_eq!(seconds("exp") - seconds("iat"), 1200);

    let (status, user) = who(&cluster, token).await;
    assert_eq!(status, 201);
    assert_eq!(user["username"], "system:serviceaccount:default:bot");
    let groups = [
        "system:serviceaccounts",
        "system:serviceaccounts:default",
        "system:authenticated",
    ];
    assert_eq!(user["groups"], json!(groups));

    let key = ObjectKey::new("default", "bot");
    let now = DeleteOptions::default();
    cluster
        .admin
        .delete::<ServiceAccount>(&key, &now)
        .await
        .expect("deleted");
    assert_eq!(who(&cluster, token).await.0, 401);
    // Another of the name is another account.
    account(&cluster, "bot").await;
    assert_eq!(who(&cluster, token).await.0, 401);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_and_foreign_tokens_are_not_believed() {
    let cluster = started().await;
    let mut admin = Connection::open(&cluster, Some(&cluster.admin_identity())).await;
    account(&cluster, "bot").await;
    account(&cluster, "other").await;
    let own = token(&mut admin, "bot", json!({})).await;
    let others = token(&mut admin, "other", json!({})).await;
    let foreign = token(&mut admin, "bot", json!({ "audiences": ["vault"] })).await;
    let parts: Vec<&str> = own.split('.').collect();
    let stolen: Vec<&str> = others.split('.').collect();
    let unsigned = BASE64.encode(json!({ "alg": "none" }).to_string());
    for bad in [
        foreign.as_str(),
        &format!("{}.{}.{}", parts[0], stolen[1], parts[2]),
        &format!("{unsigned}.{}.", parts[1]),
        &format!("{}.{}", parts[0], parts[1]),
        "",
        "..",
    ] {
        assert_eq!(who(&cluster, bad).await.0, 401, "{bad}");
    }
    assert_eq!(who(&cluster, &own).await.0, 201);
    let others_key = Cluster::start().await;
    account(&others_key, "bot").await;
    assert_eq!(who(&others_key, &own).await.0, 401);
    for (seconds, status) in [(1, 422), (i64::MAX, 422), (600, 201)] {
        let (found, answer) = request(&mut admin, "bot", json!({ "expirationSeconds": seconds })).await;
        assert_eq!(found, status, "{answer}");
    }
    assert_eq!(request(&mut admin, "nobody", json!({})).await.0, 404);
    others_key.stop().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bound_token_ends_with_its_pod_and_nodes_get_those_of_their_own_pods_only() {
    let cluster = started().await;
    account(&cluster, "bot").await;
    account(&cluster, "other").await;
    let uid = pod(&cluster, "web", "bot", "node1").await;
    let mut admin = Connection::open(&cluster, Some(&cluster.admin_identity())).await;
    let bound = token(&mut admin, "bot", bound_to("web", &uid)).await;
    assert_eq!(who(&cluster, &bound).await.0, 201);
    assert_eq!(request(&mut admin, "bot", bound_to("web", "stale")).await.0, 409);
    assert_eq!(request(&mut admin, "bot", bound_to("absent", "")).await.0, 404);
    assert_eq!(request(&mut admin, "other", bound_to("web", &uid)).await.0, 400);

    for (node, spec, status) in [
        ("node1", bound_to("web", &uid), 201),
        ("node1", json!({}), 403),
        ("node2", bound_to("web", &uid), 403),
    ] {
        // In the masters' group too, so that only the rule for nodes can refuse.
        let identity = cluster.identity(&names::node(node), &[names::NODES, names::MASTERS]);
        let mut kubelet = Connection::open(&cluster, Some(&identity)).await;
        let (found, answer) = request(&mut kubelet, "bot", spec).await;
        assert_eq!(found, status, "{node}: {answer}");
    }

    let key = ObjectKey::new("default", "web");
    cluster
        .admin
        .delete::<Pod>(&key, &DeleteOptions::now())
        .await
        .expect("deleted");
    assert_eq!(who(&cluster, &bound).await.0, 401);
    cluster.stop().await;
}
