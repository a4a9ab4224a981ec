//! The real kubectl, in every version that the machine has.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::expect_success;

/// Where a software kit keeps one kubectl for each version, as `kubectl.1.27`.
const VERSIONED: &[&str] = &["/usr/lib/google-cloud-sdk/bin", "/usr/local/bin"];

/// kubectl with a kubeconfig.
#[derive(Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    /// kubectl's cache of discovery must not be shared between clusters and versions.
    cache: PathBuf,
}

/// Every versioned kubectl on this machine; else the one on the path.
pub fn kubectl_versions() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = VERSIONED
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .filter(|path| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with("kubectl.1."))
        })
        .collect();
    found.sort();
    if found.is_empty() {
        vec![PathBuf::from("kubectl")]
    } else {
        found
    }
}

impl Kubectl {
    pub(crate) fn new(kubeconfig: &Path) -> Self {
        let cache = kubeconfig.with_file_name("kubectl-cache");
        Self {
            program: PathBuf::from("kubectl"),
            kubeconfig: kubeconfig.to_owned(),
            cache,
        }
    }

    /// The same with another kubectl.
    pub fn version(mut self, program: &Path) -> Self {
        let name = program
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        self.cache = self.cache.with_file_name(format!("cache-{name}"));
        self.program = program.to_owned();
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBECACHEDIR", &self.cache)
            .env("HOME", "/nonexistent");
        command
            .args(["--request-timeout=30s", "--cache-dir"])
            .arg(&self.cache)
            .args(arguments);
        command
    }

    /// Runs it and returns what it printed.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).output().context("start kubectl")?;
        expect_success(&output)
            .with_context(|| format!("{} {}", self.program.display(), arguments.join(" ")))?;
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs it, expects it to fail, and returns what it complained of.
    pub fn fails(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).output().context("start kubectl")?;
        if output.status.success() {
            bail!(
                "kubectl {} should fail, printed {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stdout)
            );
        }
        Ok(String::from_utf8(output.stderr)?)
    }

    /// Runs it with a manifest on its standard input.
    pub fn with_input(&self, arguments: &[&str], manifest: &str) -> Result<String> {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start kubectl")?;
        child
            .stdin
            .take()
            .context("kubectl's input")?
            .write_all(manifest.as_bytes())?;
        let output = child.wait_with_output()?;
        expect_success(&output).with_context(|| format!("kubectl {}", arguments.join(" ")))?;
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Starts it and leaves it running; the caller ends it.
    pub fn start(&self, arguments: &[&str]) -> Result<Child> {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start kubectl")
    }
}
