//! The bridge, the nodes' network namespaces and the cables between them.

use std::fs::File;
use std::path::PathBuf;

use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};

use crate::command::{find, ip};
use crate::plan::{ClusterPlan, NodePlan};
use crate::{ClusterError, command};

/// The nodes' network device, inside their namespaces.
pub(crate) const NODE_DEVICE: &str = "eth0";

/// Where `ip netns` keeps namespaces: a mount of its own, which the first `ip netns add` makes.
const SPACES: &str = "/run/netns";

/// Makes the bridge and every node's namespace and cable.
pub(crate) fn create(plan: &ClusterPlan) -> Result<(), ClusterError> {
    command::require("ip", "iproute2")?;
    let bridge = &plan.bridge;
    ip(&format!("link add {bridge} type bridge"))?;
    ip(&format!(
        "addr add {}/{} dev {bridge}",
        plan.api.ip(),
        plan.underlay.prefix_len()
    ))?;
    ip(&format!("link set {bridge} up"))?;
    for node in &plan.nodes {
        create_node(plan, node)?;
    }
    Ok(())
}

fn create_node(plan: &ClusterPlan, node: &NodePlan) -> Result<(), ClusterError> {
    let (space, cable, length) = (&node.namespace, &node.cable, plan.underlay.prefix_len());
    ip(&format!("netns add {space}"))?;
    ip(&format!(
        "link add {cable} type veth peer name {NODE_DEVICE} netns {space}"
    ))?;
    ip(&format!("link set {cable} master {} up", plan.bridge))?;
    ip(&format!(
        "-netns {space} addr add {}/{length} dev {NODE_DEVICE}",
        node.address
    ))?;
    ip(&format!("-netns {space} link set lo up"))?;
    ip(&format!("-netns {space} link set {NODE_DEVICE} up"))?;
    ip(&format!("-netns {space} route add default via {}", plan.api.ip()))?;
    Ok(())
}

/// Removes what [`create`] made, as far as it is there. Returns what could not be removed.
pub(crate) fn remove(name: &crate::ClusterName) -> Vec<String> {
    if find("ip").is_none() {
        return Vec::new();
    }
    let mut left = Vec::new();
    let prefix = format!("skep-{name}-");
    for space in names(SPACES)
        .into_iter()
        .filter(|space| space.starts_with(&prefix))
    {
        if let Err(error) = ip(&format!("netns delete {space}")) {
            left.push(error.to_string());
        }
    }
    let bridge = format!("sk-{name}");
    // A namespace's devices go with it, but only after a moment: remove the host's ends of the cables now.
    for cable in names(&format!("/sys/class/net/{bridge}/brif")) {
        drop(ip(&format!("link delete {cable}")));
    }
    if PathBuf::from(format!("/sys/class/net/{bridge}")).exists()
        && let Err(error) = ip(&format!("link delete {bridge}"))
    {
        left.push(error.to_string());
    }
    left
}

/// Undoes the mount that the first `ip netns add` made, unless there are namespaces in it: then it is busy. Whoever
/// adds one next makes it again.
pub(crate) fn forget_spaces() {
    if names(SPACES).is_empty() {
        umount2(SPACES, MntFlags::empty()).ok();
    }
}

fn names(folder: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Moves this thread into a node's network namespace.
pub(crate) fn enter(node: &NodePlan) -> Result<(), ClusterError> {
    let path = PathBuf::from(SPACES).join(&node.namespace);
    let file = File::open(&path).map_err(ClusterError::io("open the network namespace", &path))?;
    setns(file, CloneFlags::CLONE_NEWNET).map_err(|error| ClusterError::Io {
        what: "enter the network namespace",
        path,
        source: error.into(),
    })
}
