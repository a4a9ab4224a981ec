//! A node's own containerd: its configuration, and whether it answers.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::command::{require, run};
use crate::plan::NodePlan;
use crate::{ClusterError, images};

/// Where skep-cni's configuration and program of a node are.
pub(crate) struct CniPaths {
    pub(crate) config_dir: PathBuf,
    pub(crate) program_dir: PathBuf,
}

/// A node's CNI folders.
pub(crate) fn cni_paths(node: &NodePlan) -> CniPaths {
    let base = node.state_dir.join("cni");
    CniPaths {
        config_dir: base.join("net.d"),
        program_dir: base.join("bin"),
    }
}

/// Writes the configuration and returns its path.
pub(crate) fn configure(node: &NodePlan) -> Result<PathBuf, ClusterError> {
    let cni = cni_paths(node);
    for folder in [&node.run_dir, &node.state_dir, &cni.config_dir, &cni.program_dir] {
        fs::create_dir_all(folder).map_err(ClusterError::io("create", folder))?;
    }
    let path = node.state_dir.join("containerd.toml");
    fs::write(&path, configuration(node, &cni)).map_err(ClusterError::io("write", &path))?;
    Ok(path)
}

/// The configuration file (containerd's config version 2).
///
/// `restrict_oom_score_adj`: without CAP_SYS_RESOURCE the score cannot be lowered, and every sandbox would fail.
/// `SystemdCgroup = false`: cgroups are the kubelet's own, not systemd's.
/// `netns_mounts_under_state_dir`: a node leaves nothing in the host's /run/netns.
fn configuration(node: &NodePlan, cni: &CniPaths) -> String {
    let state = node.state_dir.join("containerd");
    let run = node.run_dir.join("containerd");
    format!(
        r#"version = 2
root = "{root}"
state = "{run}"
disabled_plugins = ["io.containerd.grpc.v1.tracing", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]

[grpc]
  address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_hugetlb_controller = true
  tolerate_missing_hugetlb_controller = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{bin}"
    conf_dir = "{conf}"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"

  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"#,
        root = state.display(),
        run = run.display(),
        socket = node.containerd_socket().display(),
        pause = images::PAUSE,
        bin = cni.program_dir.display(),
        conf = cni.config_dir.display(),
    )
}

/// Whether the node's containerd answers.
pub(crate) fn answers(node: &NodePlan) -> bool {
    ctr(node).and_then(|mut ctr| run(ctr.arg("version"))).is_ok()
}

/// containerd's own client, speaking to the node's containerd, in the namespace of CRI images.
pub(crate) fn ctr(node: &NodePlan) -> Result<Command, ClusterError> {
    let mut command = Command::new(require("ctr", "containerd")?);
    command
        .arg("--address")
        .arg(node.containerd_socket())
        .args(["--namespace", "k8s.io"]);
    Ok(command)
}
