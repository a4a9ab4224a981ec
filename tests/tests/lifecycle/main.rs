//! Starting, asking and ending clusters, and what is said when that cannot be done.

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use skep_tests::{TestCluster, curl, expect_success, require_root, skep, skep_binary};

type Behaviour = fn() -> Result<()>;

const BEHAVIOURS: &[(&str, Behaviour)] = &[
    ("up_answers_status_shows_it_down_leaves_no_trace", up_status_down),
    ("two_clusters_live_side_by_side", side_by_side),
    ("wrong_input_is_explained", wrong_input),
    ("a_port_in_use_is_named", port_in_use),
    ("no_root_is_said", no_root),
    ("a_missing_program_is_named", no_containerd),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let trials = BEHAVIOURS.iter().map(|(name, behaviour)| {
        Trial::test(*name, move || {
            behaviour().map_err(|error| Failed::from(format!("{error:#}")))
        })
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn traces(name: &str) -> Result<String> {
    let script = format!(
        "ls /run/netns 2>/dev/null | grep '^skep-{name}-'; ls /sys/class/net | grep -x 'sk-{name}'; \
         ls -d /sys/fs/bpf/skep/{name} /var/lib/skep/{name} /run/skep/{name} 2>/dev/null; \
         find /sys/fs/cgroup -maxdepth 3 -name 'skep-{name}' 2>/dev/null; grep 'skep/{name}/' /proc/mounts; \
         pgrep -fa 'skep/{name}/|--name {name} '; true"
    );
    let output = Command::new("sh").args(["-c", &script]).output()?;
    expect_success(&output)?;
    let lines = String::from_utf8(output.stdout)?;
    // The shell that looks is no trace.
    Ok(lines
        .lines()
        .filter(|line| !line.contains("pgrep"))
        .map(|line| format!("{line}\n"))
        .collect())
}

fn up_status_down() -> Result<()> {
    require_root()?;
    let started = Instant::now();
    let cluster = TestCluster::start("life", 1)?;
    println!("up took {:.1} s", started.elapsed().as_secs_f64());
    let port = cluster.node_port("hello", "http")?;
    let line = curl(&format!("http://{}:{port}/", cluster.node_address("node1")?))?;
    ensure!(line.starts_with("hello from hello-"), "{line}");
    let second = skep(&["up", "--name", "life"])?;
    let said = String::from_utf8(second.stderr)?;
    ensure!(
        !second.status.success() && said.contains("already runs"),
        "a second up said {said}"
    );
    let status = skep(&["status", "--name", "life"])?;
    expect_success(&status)?;
    let shown = String::from_utf8(status.stdout)?;
    for word in ["node1", "Ready", "connect4", "eth0", "FRONTENDS", "DNS"] {
        ensure!(shown.contains(word), "status does not show {word}:\n{shown}");
    }
    left_by_its_reader()?;
    cluster.stop()?;
    let left = traces("life")?;
    ensure!(left.is_empty(), "left behind:\n{left}");
    Ok(())
}

/// `skep status | head` ends with `head`.
fn left_by_its_reader() -> Result<()> {
    let piped = "\"$1\" status --name life | true";
    let output = Command::new("sh")
        .args(["-c", piped, "sh"])
        .arg(skep_binary())
        .output()?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(said.is_empty(), "status without a reader said {said}");
    Ok(())
}

fn side_by_side() -> Result<()> {
    require_root()?;
    let one = TestCluster::start("left", 1)?;
    let two = TestCluster::start("right", 1)?;
    for cluster in [&one, &two] {
        let port = cluster.node_port("hello", "http")?;
        let line = curl(&format!("http://{}:{port}/", cluster.node_address("node1")?))?;
        ensure!(line.starts_with("hello from hello-"), "{line}");
    }
    one.stop()?;
    let port = two.node_port("hello", "http")?;
    curl(&format!("http://{}:{port}/", two.node_address("node1")?))?;
    two.stop()
}

fn wrong_input() -> Result<()> {
    for (arguments, expected) in [
        (&["up", "--nodes", "many"][..], "invalid value 'many'"),
        (&["up", "--nodes", "0", "--name", "zero"], "1 to 64"),
        (&["up", "--name", "Not_A_Name"], "is not a cluster name"),
        (&["status", "--name", "absent"], "no cluster absent runs here"),
        (&["kubeconfig", "--name", "absent"], "skep up --name absent"),
        (
            &["image", "load", "--name", "absent", "/nothing"],
            "no cluster absent runs here",
        ),
        (&["fly"], "unrecognized subcommand"),
        (&["agent"], "--node-name"),
    ] {
        let output = skep(arguments)?;
        let said = String::from_utf8(output.stderr)?;
        ensure!(
            !output.status.success() && said.contains(expected),
            "skep {arguments:?} said {said}"
        );
    }
    expect_success(&skep(&["doctor"])?)
}

fn port_in_use() -> Result<()> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let folder = std::env::temp_dir().join("skep-port-in-use");
    let output = skep(&[
        "server",
        "--bind",
        &address,
        "--data-dir",
        &folder.to_string_lossy(),
    ])?;
    ensure!(
        !folder.exists(),
        "a server that could not start left {}",
        folder.display()
    );
    let said = String::from_utf8(output.stderr)?;
    ensure!(
        !output.status.success() && said.contains(&address) && said.contains("in use"),
        "{said}"
    );
    Ok(())
}

fn no_root() -> Result<()> {
    require_root()?;
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(skep_binary())
        .args(["up", "--name", "noroot"])
        .output()?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(
        !output.status.success() && said.contains("needs root"),
        "without root up said {said}"
    );
    Ok(())
}

fn no_containerd() -> Result<()> {
    require_root()?;
    let hidden = "mount --bind /dev/null \"$(command -v containerd)\" && exec \"$@\"";
    let said = |arguments: &[&str]| -> Result<(bool, String)> {
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c", hidden, "sh"])
            .arg(skep_binary())
            .args(arguments)
            .output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8(said)?))
    };
    for arguments in [&["up", "--name", "nocri"][..], &["doctor"]] {
        let (succeeded, said) = said(arguments)?;
        ensure!(
            !succeeded
                && said.contains("containerd")
                && said.contains("install the Debian package containerd"),
            "without containerd {arguments:?} said {said}"
        );
    }
    let left = traces("nocri")?;
    ensure!(left.is_empty(), "left behind:\n{left}");
    Ok(())
}
