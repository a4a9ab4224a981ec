//! kubectl, unchanged, in every version that is here.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use skep_tests::{Kubectl, TestCluster, eventually};

const PATIENCE: Duration = Duration::from_secs(40);

/// A Deployment and a Service, as a user writes them.
fn web(message: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: web }}
spec:
  replicas: 2
  selector: {{ matchLabels: {{ app: web }} }}
  template:
    metadata: {{ labels: {{ app: web }} }}
    spec:
      containers:
      - name: web
        image: skep.local/busybox
        command: [sh, -c, "echo {message}; mkdir -p /tmp/www; echo {message} >/tmp/www/index.html; exec httpd -f -p 8000 -h /tmp/www"]
        ports: [ {{ containerPort: 8000 }} ]
      terminationGracePeriodSeconds: 1
---
apiVersion: v1
kind: Service
metadata: {{ name: web }}
spec:
  selector: {{ app: web }}
  ports: [ {{ port: 80, targetPort: 8000 }} ]
"#
    )
}

pub(crate) fn lists(cluster: &TestCluster) -> Result<()> {
    let printed = cluster
        .kubectl()
        .run(&["get", "nodes,pods,svc", "-A", "-o", "wide"])?;
    for column in [
        "INTERNAL-IP",
        "CONTAINER-RUNTIME",
        "NOMINATED NODE",
        "READINESS GATES",
        "CLUSTER-IP",
        "SELECTOR",
    ] {
        ensure!(printed.contains(column), "no column {column} in\n{printed}");
    }
    for row in [
        "node/node1",
        "node/node2",
        "pod/hello-",
        "service/hello",
        "service/kubernetes",
        "service/kube-dns",
    ] {
        ensure!(printed.contains(row), "no row {row} in\n{printed}");
    }
    ensure!(
        printed.contains("Ready") && !printed.contains("NotReady"),
        "a node is not ready:\n{printed}"
    );
    Ok(())
}

pub(crate) fn watches(cluster: &TestCluster) -> Result<()> {
    let kubectl = cluster.kubectl();
    let mut watch = kubectl.start(&[
        "get",
        "configmaps",
        "--watch",
        "--output-watch-events",
        "--request-timeout=0",
    ])?;
    let output = watch.stdout.take().context("the watch's output")?;
    let (sender, lines) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let result = (|| {
        // The header comes once the watch stands.
        std::thread::sleep(Duration::from_millis(500));
        kubectl.run(&["create", "configmap", "watched", "--from-literal=a=1"])?;
        kubectl.run(&["delete", "configmap", "watched"])?;
        for event in ["ADDED", "DELETED"] {
            loop {
                let line = lines
                    .recv_timeout(PATIENCE)
                    .with_context(|| format!("no {event} was printed"))?;
                if line.starts_with(event) && line.contains("watched") {
                    break;
                }
            }
        }
        Ok(())
    })();
    watch.kill()?;
    watch.wait()?;
    ensure!(reader.join().is_ok(), "the reader failed");
    result
}

pub(crate) fn errors(cluster: &TestCluster) -> Result<()> {
    let kubectl = cluster.kubectl();
    let missing = kubectl.fails(&["get", "pod", "nothing"])?;
    ensure!(
        missing.contains(r#"Error from server (NotFound): pods "nothing" not found"#),
        "{missing}"
    );
    kubectl.run(&["create", "configmap", "twice"])?;
    let twice = kubectl.fails(&["create", "configmap", "twice"])?;
    kubectl.run(&["delete", "configmap", "twice"])?;
    ensure!(twice.contains(r#"configmaps "twice" already exists"#), "{twice}");
    let anonymous = skep_tests::curl(&format!("{}/api/v1/pods", server_of(&kubectl)?));
    ensure!(anonymous.is_err(), "an anonymous client read pods");
    let strict = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"bad"},"spec":{"portz":[]}}"#;
    let unknown = kubectl.with_input(&["create", "-f", "-"], strict);
    let text = format!("{:#}", unknown.err().context("an unknown field was accepted")?);
    ensure!(
        text.contains("unknown field \"spec.portz\"") || text.contains("portz"),
        "{text}"
    );
    Ok(())
}

fn server_of(kubectl: &Kubectl) -> Result<String> {
    let path = "jsonpath={.clusters[0].cluster.server}";
    Ok(kubectl
        .run(&["config", "view", "--minify", "-o", path])?
        .trim()
        .to_owned())
}

/// A user's session with one kubectl, in a namespace of its own.
pub(crate) fn session(cluster: &TestCluster, program: &Path) -> Result<()> {
    let kubectl = cluster.kubectl().version(program);
    let version = program
        .file_name()
        .map(|name| name.to_string_lossy().replace('.', "-"))
        .unwrap_or_default();
    let namespace = format!("of-{version}");
    kubectl.run(&["create", "namespace", &namespace])?;
    let session = Session {
        kubectl: &kubectl,
        namespace: &namespace,
    };
    let result = session
        .applies_and_scales()
        .and_then(|()| session.logs_and_runs())
        .and_then(|()| session.changes_and_undoes())
        .and_then(|()| session.explains_and_deletes());
    kubectl
        .run(&["delete", "namespace", &namespace, "--timeout=60s"])
        .context("delete the namespace")?;
    result
}

/// One kubectl at work in a namespace.
struct Session<'a> {
    kubectl: &'a Kubectl,
    namespace: &'a str,
}

impl Session<'_> {
    fn run(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl
            .run(&[&["--namespace", self.namespace], arguments].concat())
    }

    fn apply(&self, manifest: &str) -> Result<String> {
        self.kubectl
            .with_input(&["--namespace", self.namespace, "apply", "-f", "-"], manifest)
    }

    fn applies_and_scales(&self) -> Result<()> {
        let created = self.apply(&web("first"))?;
        ensure!(
            created.contains("deployment.apps/web created") && created.contains("service/web created"),
            "{created}"
        );
        let again = self.apply(&web("first"))?;
        ensure!(again.contains("deployment.apps/web unchanged"), "{again}");
        self.run(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
        self.run(&["scale", "deployment/web", "--replicas=3"])?;
        self.run(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
        ensure!(
            self.run(&["get", "pods", "-l", "app=web", "-o", "name"])?
                .lines()
                .count()
                == 3,
            "not three pods"
        );
        Ok(())
    }

    fn logs_and_runs(&self) -> Result<()> {
        let logs = self.run(&["logs", "deployment/web"])?;
        ensure!(logs.trim() == "first", "the log is {logs:?}");
        let said = self.run(&["exec", "deployment/web", "--", "cat", "/tmp/www/index.html"])?;
        ensure!(said.trim() == "first", "exec printed {said:?}");
        let failed = self.kubectl.fails(&[
            "--namespace",
            self.namespace,
            "exec",
            "deployment/web",
            "--",
            "sh",
            "-c",
            "exit 3",
        ])?;
        ensure!(failed.contains("exit code 3"), "{failed}");
        Ok(())
    }

    fn changes_and_undoes(&self) -> Result<()> {
        // `diff` ends with 1 where there is a difference.
        let difference = self.kubectl.with_input(
            &["--namespace", self.namespace, "diff", "-f", "-"],
            &web("second"),
        );
        ensure!(
            format!("{:?}", difference.err()).contains("echo second"),
            "diff shows no difference"
        );
        ensure!(
            self.apply(&web("second"))?
                .contains("deployment.apps/web configured"),
            "the change was not applied"
        );
        self.run(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
        eventually("the second revision logs", PATIENCE, || {
            let logs = self.run(&["logs", "deployment/web"])?;
            ensure!(logs.trim() == "second", "the log is {logs:?}");
            Ok(())
        })?;
        self.run(&["rollout", "undo", "deployment/web"])?;
        self.run(&["rollout", "status", "deployment/web", "--timeout=60s"])?;
        let command = self.run(&[
            "get",
            "deployment",
            "web",
            "-o",
            "jsonpath={.spec.template.spec.containers[0].command[2]}",
        ])?;
        ensure!(command.contains("echo first"), "undo left {command}");
        Ok(())
    }

    fn explains_and_deletes(&self) -> Result<()> {
        let explained = self.run(&["explain", "pod.spec"])?;
        ensure!(
            explained.contains("containers") && explained.contains("restartPolicy"),
            "{explained}"
        );
        ensure!(
            explained
                .to_lowercase()
                .contains("list of containers belonging to the pod"),
            "no descriptions:\n{explained}"
        );
        self.run(&["describe", "deployment", "web"])?;
        self.run(&["label", "service", "web", "tier=front"])?;
        self.run(&[
            "patch",
            "service",
            "web",
            "--type=json",
            "-p",
            r#"[{"op":"remove","path":"/metadata/labels/tier"}]"#,
        ])?;
        self.run(&["delete", "deployment/web", "service/web", "--timeout=60s"])?;
        eventually("the pods are collected", PATIENCE, || {
            let left = self.run(&["get", "pods", "-o", "name"])?;
            ensure!(left.trim().is_empty(), "left: {left}");
            Ok(())
        })
    }
}
