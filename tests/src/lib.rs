//! The harness of the end-to-end tests: a cluster that is taken down again whatever happens, kubectl, and waiting.
//!
//! A test works on a cluster of its own name, never on one that a person started.

mod kubectl;
mod load;
mod wait;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail};

pub use kubectl::{Kubectl, kubectl_versions};
pub use load::{Load, Tally};
pub use wait::eventually;

/// The release binary, as a user runs it.
pub fn skep_binary() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
        PathBuf::from,
    );
    target.join("release/skep")
}

/// Runs `skep` and returns what it printed and how it ended.
pub fn skep(arguments: &[&str]) -> Result<Output> {
    let binary = skep_binary();
    Command::new(&binary)
        .args(arguments)
        .output()
        .with_context(|| format!("start {}: build it with `cargo xtask test e2e`", binary.display()))
}

/// A cluster of a test's own; dropping it takes it down.
pub struct TestCluster {
    name: String,
    kubeconfig: PathBuf,
}

impl TestCluster {
    /// Starts a cluster with the demo in it.
    pub fn start(name: &str, nodes: u16) -> Result<Self> {
        // A run that was ended by force may have left it.
        expect_success(&skep(&["down", "--name", name])?)?;
        let up = skep(&["up", "--name", name, "--nodes", &nodes.to_string()])?;
        expect_success(&up).context("skep up")?;
        // From here on dropping it takes it down.
        let mut cluster = Self {
            name: name.to_owned(),
            kubeconfig: PathBuf::new(),
        };
        let printed = skep(&["kubeconfig", "--name", name])?;
        expect_success(&printed)?;
        cluster.kubeconfig = PathBuf::from(String::from_utf8(printed.stdout)?.trim());
        Ok(cluster)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// kubectl, speaking to it as the administrator.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.kubeconfig)
    }

    /// Where its processes' ids are.
    pub fn run_dir(&self) -> PathBuf {
        Path::new("/run/skep").join(&self.name)
    }

    /// The process id of one of its programs, as its supervisor wrote it down.
    pub fn pid_of(&self, program: &str) -> Result<i32> {
        let path = self.run_dir().join(format!("{program}.pid"));
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let id = text.split_whitespace().next().context("the file is empty")?;
        Ok(id.parse()?)
    }

    /// Ends one of its programs with SIGKILL; its supervisor starts it again.
    pub fn kill(&self, program: &str) -> Result<()> {
        let id = self.pid_of(program)?;
        expect_success(&Command::new("kill").args(["-9", &id.to_string()]).output()?)
    }

    /// A node's address.
    pub fn node_address(&self, node: &str) -> Result<String> {
        let path = r#"jsonpath={.status.addresses[?(@.type=="InternalIP")].address}"#;
        Ok(self
            .kubectl()
            .run(&["get", "node", node, "-o", path])?
            .trim()
            .to_owned())
    }

    /// The NodePort of a Service's port of that name.
    pub fn node_port(&self, service: &str, port: &str) -> Result<u16> {
        let path = format!("jsonpath={{.spec.ports[?(@.name==\"{port}\")].nodePort}}");
        Ok(self
            .kubectl()
            .run(&["get", "service", service, "-o", &path])?
            .trim()
            .parse()?)
    }

    /// Takes it down and fails when that does.
    pub fn stop(mut self) -> Result<()> {
        let name = std::mem::take(&mut self.name);
        expect_success(&skep(&["down", "--name", &name])?)
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        if self.name.is_empty() {
            return;
        }
        match skep(&["down", "--name", &self.name]).and_then(|output| expect_success(&output)) {
            Ok(()) => {}
            Err(error) => eprintln!("cluster {} could not be taken down: {error:#}", self.name),
        }
    }
}

/// Fails with everything that a program said when it failed.
pub fn expect_success(output: &Output) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    bail!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What `curl` gets from a URL, within two seconds.
pub fn curl(url: &str) -> Result<String> {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--fail", "--max-time", "2", url])
        .output()?;
    expect_success(&output).with_context(|| format!("curl {url}"))?;
    Ok(String::from_utf8(output.stdout)?)
}

/// Fails loudly unless root: these tests are never skipped.
pub fn require_root() -> Result<()> {
    let output = Command::new("id").arg("-u").output()?;
    if output.stdout.trim_ascii() != b"0" {
        bail!("the end-to-end tests start clusters, which needs root: run `cargo xtask test e2e` as root");
    }
    Ok(())
}
