//! The server as kubectl sees it: every installed version goes through the same day's work.

use crate::support::Cluster;
use crate::support::kubectl::Kubectl;

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app: web}
spec:
  replicas: 2
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
      - name: main
        image: skep.local/demo
        ports:
        - containerPort: 8080
      - name: side
        image: skep.local/busybox
---
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  selector: {app: web}
  ports:
  - name: http
    port: 80
    targetPort: 8080
";

/// Runs `work` with one kubectl after the other, each in a namespace of its own.
async fn with_each(work: fn(&Kubectl, &str)) {
    let cluster = Cluster::start().await;
    for kubectl in Kubectl::all(&cluster) {
        let namespace = format!("v{}", kubectl.version.replace('.', "-"));
        cluster.namespace(&namespace).await;
        let worked = tokio::task::spawn_blocking(move || work(&kubectl, &namespace)).await;
        if let Err(failure) = worked {
            std::panic::resume_unwind(failure.into_panic());
        }
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn applies_creates_changes_and_deletes() {
    with_each(|kubectl, namespace| {
        let n = &format!("-n={namespace}");
        let apply = ["apply", n, "-f", "-"];
        kubectl.expect(
            &apply,
            DEPLOYMENT,
            "deployment.apps/web created\nservice/web created",
        );
        kubectl.expect(
            &apply,
            DEPLOYMENT,
            "deployment.apps/web unchanged\nservice/web unchanged",
        );
        let more = DEPLOYMENT
            .replace("replicas: 2", "replicas: 3")
            .replace("skep.local/busybox", "skep.local/other");
        kubectl.expect(
            &apply,
            &more,
            "deployment.apps/web configured\nservice/web unchanged",
        );
        let images = "jsonpath={.spec.replicas} {.spec.template.spec.containers[*].image}";
        kubectl.expect(
            &["get", n, "deploy", "web", "-o", images],
            "",
            "3 skep.local/demo skep.local/other",
        );
        // A container that is taken out of the file leaves the object: the list merges by name.
        let fewer = more.replace("      - name: side\n        image: skep.local/other\n", "");
        kubectl.expect(&apply, &fewer, "deployment.apps/web configured");
        assert_eq!(
            kubectl.ok(&["get", n, "deploy", "web", "-o", images]),
            "3 skep.local/demo"
        );

        kubectl.expect(&["scale", n, "deploy/web", "--replicas=5"], "", "scaled");
        assert_eq!(
            kubectl.ok(&["get", n, "deploy", "web", "-o", "jsonpath={.spec.replicas}"]),
            "5"
        );
        kubectl.expect(
            &["set", "image", n, "deploy/web", "main=skep.local/demo:2"],
            "",
            "image updated",
        );
        kubectl.expect(&["label", n, "deploy", "web", "tier=front"], "", "labeled");
        kubectl.expect(&["annotate", n, "deploy", "web", "note=a b"], "", "annotate");
        let selected = kubectl.ok(&["get", n, "deploy", "-l", "tier=front,app!=x", "-o", "name"]);
        assert_eq!(selected, "deployment.apps/web\n");
        assert_eq!(
            kubectl.ok(&["get", n, "deploy", "-l", "tier=back", "-o", "name"]),
            ""
        );
        kubectl.expect(
            &["delete", n, "deploy,svc", "web"],
            "",
            "deployment.apps \"web\" deleted",
        );
        let gone = kubectl.fails(&["get", n, "deploy", "web"], "");
        assert_eq!(
            gone,
            "Error from server (NotFound): deployments.apps \"web\" not found\n"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_of_each_kind() {
    with_each(|kubectl, namespace| {
        let n = &format!("-n={namespace}");
        kubectl.ok_with(&["create", n, "-f", "-"], DEPLOYMENT);
        let patch =
            |kind: &str, body: &str| kubectl.ok(&["patch", n, "deploy", "web", "--type", kind, "-p", body]);
        let containers = || {
            kubectl.ok(&[
                "get",
                n,
                "deploy",
                "web",
                "-o",
                "jsonpath={.spec.template.spec.containers[*].name}",
            ])
        };
        patch(
            "strategic",
            r#"{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"skep.local/new"}]}}}}"#,
        );
        assert_eq!(containers(), "main side");
        patch(
            "merge",
            r#"{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"skep.local/new"}]}}}}"#,
        );
        assert_eq!(containers(), "main");
        patch("json", r#"[{"op":"replace","path":"/spec/replicas","value":7}]"#);
        assert_eq!(
            kubectl.ok(&["get", n, "deploy", "web", "-o", "jsonpath={.spec.replicas}"]),
            "7"
        );
        let no_such_path = kubectl.fails(
            &[
                "patch",
                n,
                "deploy",
                "web",
                "--type=json",
                "-p",
                r#"[{"op":"remove","path":"/spec/nothing"}]"#,
            ],
            "",
        );
        assert!(no_such_path.contains("The request is invalid"), "{no_such_path}");
        let edited = kubectl
            .command(&["edit", n, "deploy", "web"])
            .env("EDITOR", "sed -i s/replicas:.7/replicas:\\ 4/")
            .output()
            .expect("kubectl edit");
        assert!(
            edited.status.success(),
            "{}",
            String::from_utf8_lossy(&edited.stderr)
        );
        assert_eq!(
            kubectl.ok(&["get", n, "deploy", "web", "-o", "jsonpath={.spec.replicas}"]),
            "4"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_are_validated_as_asked() {
    with_each(|kubectl, namespace| {
        let n = &format!("-n={namespace}");
        let typo = DEPLOYMENT.replace("  replicas: 2", "  replicaz: 2");
        let refused = kubectl.fails(&["apply", n, "-f", "-"], &typo);
        assert!(refused.contains("strict decoding error: unknown field \"spec.replicaz\""), "{refused}");
        let warned = kubectl.run(&["apply", n, "--validate=warn", "-f", "-"], &typo);
        assert_eq!(warned.code, 0, "{}", warned.stderr);
        assert!(warned.stderr.contains("Warning: unknown field \"spec.replicaz\""), "{}", warned.stderr);
        let ignored = kubectl.run(&["apply", n, "--validate=ignore", "-f", "-"], &typo);
        assert!(ignored.code == 0 && !ignored.stderr.contains("replicaz"), "{}", ignored.stderr);
        let invalid = DEPLOYMENT.replace("replicas: 2", "replicas: -1").replace("name: web", "name: other");
        let refused = kubectl.fails(&["create", n, "-f", "-"], &invalid);
        assert!(refused.contains("The Deployment \"other\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"), "{refused}");
        kubectl.expect(&["create", n, "configmap", "dry", "--from-literal=a=b", "--dry-run=server"], "", "configmap/dry created (server dry run)");
        assert!(kubectl.fails(&["get", n, "configmap", "dry"], "").contains("NotFound"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn diffs_tell_what_would_change() {
    with_each(|kubectl, namespace| {
        let n = &format!("-n={namespace}");
        kubectl.ok_with(&["apply", n, "-f", "-"], DEPLOYMENT);
        let same = kubectl.run(&["diff", n, "-f", "-"], DEPLOYMENT);
        assert_eq!((same.code, same.stdout.as_str()), (0, ""), "{}", same.stderr);
        let changed = kubectl.run(
            &["diff", n, "-f", "-"],
            &DEPLOYMENT.replace("replicas: 2", "replicas: 9"),
        );
        assert_eq!(changed.code, 1, "{}", changed.stderr);
        assert!(
            changed.stdout.contains("-  replicas: 2\n+  replicas: 9"),
            "{}",
            changed.stdout
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn explains_from_the_schemas() {
    with_each(|kubectl, _namespace| {
        let pod = kubectl.ok(&["explain", "pod.spec"]);
        for part in [
            "KIND:       Pod",
            "VERSION:    v1",
            "FIELD: spec <PodSpec>",
            "containers\t<[]Container> -required-",
            "hostNetwork\t<boolean>",
        ] {
            assert!(
                pod.contains(part),
                "{part:?} in kubectl {}:\n{pod}",
                kubectl.version
            );
        }
        kubectl.expect(
            &["explain", "deployments.spec.strategy.rollingUpdate.maxSurge"],
            "",
            "IntOrString",
        );
        kubectl.expect(&["explain", "svc", "--recursive"], "", "clusterIPs\t<[]string>");
        kubectl.expect(
            &["explain", "rolebinding"],
            "",
            "GROUP:      rbac.authorization.k8s.io",
        );
        assert!(
            kubectl
                .fails(&["explain", "pod.spec.nothing"], "")
                .contains("field \"nothing\" does not exist")
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn discovers_what_is_served() {
    with_each(|kubectl, _namespace| {
        let resources = kubectl.ok(&["api-resources", "--no-headers"]);
        for part in [
            "deploy",
            "rolebindings",
            "selfsubjectaccessreviews",
            "endpointslices",
        ] {
            assert!(resources.contains(part), "{part} in\n{resources}");
        }
        let versions = kubectl.ok(&["api-versions"]);
        assert!(
            versions.contains("apps/v1\n") && versions.ends_with("v1\n"),
            "{versions}"
        );
        kubectl.expect(&["version"], "", "v1.37.0+skep");
        assert_eq!(kubectl.ok(&["get", "--raw", "/readyz"]), "ok");
        kubectl.expect(&["get", "--raw", "/metrics"], "", "apiserver_request_total");
        kubectl.expect(&["get", "--raw", "/openapi/v2"], "", "\"swagger\":\"2.0\"");
        kubectl.expect(&["cluster-info"], "", "Kubernetes control plane");
        assert!(
            kubectl
                .fails(&["get", "nothings"], "")
                .contains("the server doesn't have a resource type \"nothings\"")
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prints_tables_pages_and_descriptions() {
    with_each(|kubectl, namespace| {
        let n = &format!("-n={namespace}");
        kubectl.ok_with(&["apply", n, "-f", "-"], DEPLOYMENT);
        let table = kubectl.ok(&["get", n, "deploy,svc", "-o", "wide"]);
        for part in [
            "NAME",
            "READY",
            "UP-TO-DATE",
            "AVAILABLE",
            "CONTAINERS",
            "main,side",
            "deployment.apps/web",
            "service/web",
            "CLUSTER-IP",
            "10.64.",
        ] {
            assert!(table.contains(part), "{part} in\n{table}");
        }
        for index in 0..5 {
            kubectl.ok(&[
                "create",
                n,
                "configmap",
                &format!("c{index}"),
                "--from-literal=k=v",
            ]);
        }
        let paged = kubectl.ok(&["get", n, "configmaps", "--chunk-size=2", "--no-headers"]);
        assert_eq!(
            paged.lines().filter(|line| line.starts_with('c')).count(),
            5,
            "{paged}"
        );
        let sorted = kubectl.ok(&["get", n, "configmaps", "--sort-by=.metadata.name", "-o", "name"]);
        assert!(sorted.starts_with("configmap/c0\n"), "{sorted}");
        let one = kubectl.ok(&[
            "get",
            n,
            "configmaps",
            "--field-selector=metadata.name=c3",
            "-o",
            "name",
        ]);
        assert_eq!(one, "configmap/c3\n");
        kubectl.expect(&["describe", n, "deploy", "web"], "", "Replicas:");
        kubectl.expect(&["describe", n, "svc", "web"], "", "Selector:");
        kubectl.expect(&["get", n, "all"], "", "service/web");
        kubectl.expect(&["get", n, "configmap", "c1", "-o", "yaml"], "", "k: v");
        kubectl.expect(
            &["delete", n, "configmaps", "--all"],
            "",
            "configmap \"c4\" deleted",
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_until_the_condition_holds() {
    with_each(|kubectl, namespace| {
        let n = &format!("-n={namespace}");
        kubectl.ok(&["create", n, "configmap", "one", "--from-literal=a=b"]);
        let mut watch = kubectl
            .command(&["get", n, "configmaps", "--watch", "--output-watch-events"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        let lines = std::io::BufRead::lines(std::io::BufReader::new(watch.stdout.take().expect("piped")));
        let mut seen = Vec::new();
        for line in lines {
            let line = line.expect("text");
            if line.starts_with("ADDED") && line.contains("one") {
                kubectl.ok(&["create", n, "configmap", "two"]);
                kubectl.ok(&["label", n, "configmap", "two", "x=y"]);
                kubectl.ok(&["delete", n, "configmap", "two"]);
            }
            let ended = line.starts_with("DELETED") && line.contains("two");
            seen.push(line.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
            if ended {
                break;
            }
        }
        watch.kill().expect("kill");
        watch.wait().expect("wait");
        let changes: Vec<&str> = seen
            .iter()
            .map(String::as_str)
            .filter(|line| line.contains("two"))
            .collect();
        assert_eq!(
            changes,
            ["ADDED two", "MODIFIED two", "DELETED two"],
            "kubectl {}: {seen:?}",
            kubectl.version
        );
        kubectl.expect(
            &[
                "wait",
                n,
                "configmap/one",
                "--for=jsonpath={.data.a}=b",
                "--timeout=10s",
            ],
            "",
            "condition met",
        );
        kubectl.ok(&["delete", n, "configmap", "one", "--wait=true"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn access_rules_hold() {
    let cluster = Cluster::start().await;
    let admin = Kubectl::newest(&cluster);
    let jane = admin.with_kubeconfig(cluster.kubeconfig(&cluster.identity("jane", &["dev"])));
    let stranger = {
        // A certificate of another authority: the handshake passes, the request does not.
        let other = tempfile::tempdir().expect("tempdir");
        let pki =
            skep_pki::Pki::open_or_create(other.path(), skep_pki::PkiOptions::new("test")).expect("PKI");
        let identity = pki.issue_client("eve", &["system:masters"]).expect("certificate");
        let kubeconfig = cluster.kubeconfig(&identity);
        admin.with_kubeconfig(kubeconfig)
    };
    tokio::task::spawn_blocking(move || {
        assert_eq!(admin.ok(&["auth", "can-i", "create", "pods"]), "yes\n");
        let denied = jane.run(&["auth", "can-i", "create", "pods"], "");
        assert!(denied.stderr.contains("cannot create resource \"selfsubjectaccessreviews\""), "{}", denied.stderr);
        let rules = ["--verb=create", "--resource=selfsubjectaccessreviews.authorization.k8s.io,selfsubjectrulesreviews.authorization.k8s.io,selfsubjectreviews.authentication.k8s.io"];
        admin.ok(&["create", "clusterrole", "basic", rules[0], rules[1]]);
        admin.ok(&["create", "clusterrolebinding", "basic", "--clusterrole=basic", "--group=system:authenticated"]);
        admin.ok(&["create", "role", "reader", "--verb=get,list", "--resource=pods"]);
        admin.ok(&["create", "rolebinding", "readers", "--role=reader", "--group=dev"]);
        assert_eq!(jane.ok(&["auth", "can-i", "list", "pods"]), "yes\n");
        assert_eq!(jane.run(&["auth", "can-i", "delete", "pods"], "").stdout, "no\n");
        assert!(jane.ok(&["auth", "can-i", "--list"]).contains("pods"));
        assert!(jane.ok(&["auth", "whoami"]).contains("jane"));
        assert!(jane.run(&["get", "pods"], "").stderr.contains("No resources found"));
        assert_eq!(
            jane.fails(&["get", "pods", "-A"], ""),
            "Error from server (Forbidden): pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \"\" at the cluster scope\n"
        );
        assert_eq!(
            jane.fails(&["delete", "pod", "x"], ""),
            "Error from server (Forbidden): pods \"x\" is forbidden: User \"jane\" cannot delete resource \"pods\" in API group \"\" in the namespace \"default\"\n"
        );
        assert_eq!(admin.ok(&["auth", "can-i", "list", "pods", "--as=kim", "--as-group=dev"]), "yes\n");
        assert_eq!(admin.run(&["auth", "can-i", "list", "pods", "--as=kim"], "").stdout, "no\n");
        assert!(jane.fails(&["get", "pods", "--as=root"], "").contains("cannot impersonate resource \"users\""));
        let unauthorized = stranger.fails(&["get", "pods"], "");
        assert!(unauthorized.contains("You must be logged in to the server"), "{unauthorized}");
    })
    .await
    .expect("no panic");
    cluster.stop().await;
}
