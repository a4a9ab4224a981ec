//! Real kubectl binaries: the one on PATH, and `kubectl.1.*` that lie beside it (as the Cloud SDK has them).

use super::Cluster;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(crate) struct Kubectl {
    pub(crate) version: String,
    program: PathBuf,
    kubeconfig: PathBuf,
    /// Discovery caches and such: every binary has its own.
    home: PathBuf,
}

pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Every kubectl of this machine by version, at least one.
pub(crate) fn programs() -> BTreeMap<String, PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = std::env::split_paths(&path)
        .map(|folder| folder.join("kubectl"))
        .filter(|p| p.is_file())
        .collect();
    let mut found = BTreeMap::new();
    for program in &on_path {
        let real = program.canonicalize().expect("a file has a path");
        let folder = real.parent().unwrap_or(Path::new("/"));
        let beside = std::fs::read_dir(folder)
            .expect("the folder of a file")
            .filter_map(Result::ok);
        for candidate in beside
            .map(|entry| entry.path())
            .filter(|path| is_versioned(path))
            .chain([real.clone()])
        {
            if let Some(version) = version_of(&candidate) {
                found.entry(version).or_insert(candidate);
            }
        }
    }
    assert!(
        !found.is_empty(),
        "no kubectl on PATH: install one (Debian: kubernetes-client) to run these tests; looked in {path:?}"
    );
    found
}

fn is_versioned(path: &Path) -> bool {
    path.file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| name.starts_with("kubectl.1."))
}

/// `1.31`, as the client says it.
fn version_of(program: &Path) -> Option<String> {
    let output = Command::new(program)
        .args(["version", "--client", "-o", "json"])
        .output()
        .ok()?;
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    let version = &value["clientVersion"];
    let minor = version["minor"]
        .as_str()?
        .trim_end_matches(|c: char| !c.is_ascii_digit());
    Some(format!("{}.{minor:0>2}", version["major"].as_str()?))
}

impl Kubectl {
    /// One per installed version, as the administrator.
    pub(crate) fn all(cluster: &Cluster) -> Vec<Self> {
        let kubeconfig = cluster.kubeconfig(&cluster.admin_identity());
        let make = |(version, program): (String, PathBuf)| {
            let home = cluster.dir.path().join(format!("home-{version}"));
            std::fs::create_dir_all(&home).expect("home");
            Self {
                version,
                program,
                kubeconfig: kubeconfig.clone(),
                home,
            }
        };
        programs().into_iter().map(make).collect()
    }

    /// The newest one, as the administrator.
    pub(crate) fn newest(cluster: &Cluster) -> Self {
        Self::all(cluster).pop().expect("at least one")
    }

    pub(crate) fn with_kubeconfig(&self, kubeconfig: PathBuf) -> Self {
        Self {
            version: self.version.clone(),
            program: self.program.clone(),
            kubeconfig,
            home: self.home.clone(),
        }
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.home)
            .env("KUBECONFIG", &self.kubeconfig)
            .args(args);
        command
    }

    pub(crate) fn run(&self, args: &[&str], stdin: &str) -> Output {
        let mut child = self
            .command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl starts");
        child
            .stdin
            .take()
            .expect("piped")
            .write_all(stdin.as_bytes())
            .ok();
        let output = child.wait_with_output().expect("kubectl ends");
        Output {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs, expects success, gives stdout.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        self.ok_with(args, "")
    }

    pub(crate) fn ok_with(&self, args: &[&str], stdin: &str) -> String {
        let output = self.run(args, stdin);
        assert_eq!(
            output.code, 0,
            "kubectl {} {args:?}: {}{}",
            self.version, output.stdout, output.stderr
        );
        output.stdout
    }

    /// Runs, expects failure, gives stderr.
    pub(crate) fn fails(&self, args: &[&str], stdin: &str) -> String {
        let output = self.run(args, stdin);
        assert_ne!(
            output.code, 0,
            "kubectl {} {args:?} succeeded: {}",
            self.version, output.stdout
        );
        output.stderr
    }

    #[track_caller]
    pub(crate) fn expect(&self, args: &[&str], stdin: &str, part: &str) {
        let output = self.ok_with(args, stdin);
        assert!(
            output.contains(part),
            "kubectl {} {args:?}: {part:?} not in:\n{output}",
            self.version
        );
    }
}
