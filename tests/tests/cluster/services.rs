//! Services as pods see them.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use skep_tests::{Kubectl, TestCluster, eventually, expect_success};

const PATIENCE: Duration = Duration::from_secs(30);
const DEMO: &str = "skep.local/demo";
const HELLO: &str = "http://hello.default.svc.cluster.local";

/// Runs a shell line in a pod of its own and returns what it printed.
pub(crate) fn in_pod(kubectl: &Kubectl, name: &str, script: &str) -> Result<String> {
    run_pod(kubectl, name, "skep.local/busybox", &["sh", "-c", script])
}

/// Asks with the demo's client in a pod of its own; returns what was answered.
pub(crate) fn ask_in_pod(kubectl: &Kubectl, name: &str, arguments: &[&str]) -> Result<String> {
    run_pod(kubectl, name, DEMO, &[&["ask"], arguments].concat())
}

/// Starts the demo's client in a pod.
pub(crate) fn start_asking(kubectl: &Kubectl, name: &str, arguments: &[&str]) -> Result<()> {
    start_pod(kubectl, name, DEMO, &[&["ask"], arguments].concat())
}

fn start_pod(kubectl: &Kubectl, name: &str, image: &str, command: &[&str]) -> Result<()> {
    let image = format!("--image={image}");
    let overrides = r#"{"spec":{"terminationGracePeriodSeconds":0}}"#;
    let run = [
        "run",
        name,
        &image,
        "--restart=Never",
        "--overrides",
        overrides,
        "--",
    ];
    kubectl.run(&[&run, command].concat())?;
    Ok(())
}

fn run_pod(kubectl: &Kubectl, name: &str, image: &str, command: &[&str]) -> Result<String> {
    start_pod(kubectl, name, image, command)?;
    let result = eventually("the pod ends", PATIENCE * 2, || {
        let phase = kubectl.run(&["get", "pod", name, "-o", "jsonpath={.status.phase}"])?;
        ensure!(phase == "Succeeded" || phase == "Failed", "pod {name} is {phase}");
        Ok(phase)
    });
    let printed = kubectl.run(&["logs", name]);
    kubectl.run(&["delete", "pod", name, "--wait=true", "--timeout=60s"])?;
    let (phase, printed) = (result?, printed?);
    ensure!(phase == "Succeeded", "pod {name} failed: {printed}");
    Ok(printed)
}

pub(crate) fn name_answers_from_all_replicas(cluster: &TestCluster) -> Result<()> {
    let script = format!("for i in $(seq 60); do wget -qO- {HELLO} || exit 1; done");
    let printed = in_pod(&cluster.kubectl(), "asks-by-name", &script)?;
    let pods: BTreeSet<&str> = printed
        .lines()
        .filter_map(|line| line.split(' ').nth(2))
        .collect();
    ensure!(
        printed.lines().count() == 60 && pods.len() == 3,
        "60 requests were answered by {pods:?}:\n{printed}"
    );
    Ok(())
}

pub(crate) fn translated_at_the_socket(cluster: &TestCluster) -> Result<()> {
    let kubectl = cluster.kubectl();
    let service = kubectl.run(&["get", "service", "hello", "-o", "jsonpath={.spec.clusterIP}"])?;
    let mut captures = Vec::new();
    for node in ["node1", "node2"] {
        let space = format!("/run/netns/skep-{}-{node}", cluster.name());
        let capture = Command::new("nsenter")
            .arg(format!("--net={space}"))
            .args([
                "tcpdump",
                "--interface=any",
                "-n",
                "-l",
                "--immediate-mode",
                "tcp and (port 80 or port 8080)",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start tcpdump in the node's namespace")?;
        captures.push(capture);
    }
    std::thread::sleep(Duration::from_secs(1));
    let asked = in_pod(
        &kubectl,
        "asks-by-address",
        &format!("wget -qO- http://{service}"),
    );
    let mut seen = String::new();
    for capture in captures {
        expect_success(&Command::new("kill").arg(capture.id().to_string()).output()?)?;
        let output = capture.wait_with_output();
        seen.push_str(&String::from_utf8_lossy(&output?.stdout));
    }
    asked?;
    ensure!(
        seen.contains(".8080:") || seen.contains(".8080 >"),
        "no packet to a backend was seen:\n{seen}"
    );
    ensure!(
        !seen.contains(&service),
        "packets carry the Service's address {service}:\n{seen}"
    );
    Ok(())
}

pub(crate) fn refuses_without_endpoints(cluster: &TestCluster) -> Result<()> {
    let kubectl = cluster.kubectl();
    kubectl.run(&["create", "service", "clusterip", "empty", "--tcp=80:80"])?;
    let address = kubectl.run(&["get", "service", "empty", "-o", "jsonpath={.spec.clusterIP}"])?;
    let started = Instant::now();
    let printed = in_pod(
        &kubectl,
        "asks-nobody",
        &format!("sleep 1; time timeout 9 wget -qO- http://{address} 2>&1; true"),
    );
    kubectl.run(&["delete", "service", "empty"])?;
    let printed = printed?;
    ensure!(printed.contains("Connection refused"), "{printed}");
    ensure!(
        printed.contains("real\t0m 0"),
        "not at once, {:?} in all:\n{printed}",
        started.elapsed()
    );
    Ok(())
}

pub(crate) fn udp_answers(cluster: &TestCluster) -> Result<()> {
    let kubectl = cluster.kubectl();
    let address = kubectl.run(&["get", "service", "hello", "-o", "jsonpath={.spec.clusterIP}"])?;
    let printed = ask_in_pod(
        &kubectl,
        "asks-by-udp",
        &["--count", "60", &format!("udp://{address}:80")],
    )?;
    let pods: BTreeSet<&str> = printed
        .lines()
        .filter_map(|line| line.split(' ').nth(2))
        .collect();
    ensure!(printed.contains("answered 60 failed 0"), "UDP: {printed}");
    // The last line has a third word too.
    ensure!(
        pods.len() == 4,
        "60 datagrams were answered by {pods:?}:\n{printed}"
    );
    Ok(())
}
