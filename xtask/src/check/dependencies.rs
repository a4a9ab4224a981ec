//! The dependency rules of ARCHITECTURE.md, checked over `cargo metadata`.

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{DependencyKind, MetadataCommand, Package};

use crate::command::{root, say};

/// Crates that wire the others together: they may depend on everything, nothing depends on them.
const WIRING: &[&str] = &[
    "skep",
    "skep-agent",
    "skep-bench",
    "skep-cluster",
    "skep-server",
    "skep-tests",
    "xtask",
];
/// What wiring crates may use of each other.
const WIRING_USES: &[(&str, &str)] = &[
    ("skep", "skep-agent"),
    ("skep", "skep-server"),
    ("skep", "skep-cluster"),
    ("skep-tests", "skep-cluster"),
    // The control path is measured through the whole server.
    ("skep-bench", "skep-server"),
];
/// Pure crates: no runtime, no kernel, no sockets, no clock, no randomness.
const PURE: &[&str] = &[
    "skep-abi",
    "skep-datapath",
    "skep-service-table",
    "skep-ipam",
    "skep-dns-records",
    "skep-api",
];
/// External crates that pure crates must not use outside their tests.
const IMPURE: &[&str] = &[
    "tokio",
    "aya",
    "hyper",
    "axum",
    "tonic",
    "rand",
    "nix",
    "libc",
    "rtnetlink",
    "redb",
];
/// What node and DNS crates may use of the control plane.
const CLIENT_SIDE: &[&str] = &["skep-api", "skep-client", "skep-runtime"];
/// What node crates may use of each other: seams that are data or traits, not internals.
const NODE_SEAMS: &[(&str, &str)] = &[
    ("skep-kubelet", "skep-cri"),
    ("skep-cni", "skep-ipam"),
    ("skep-service-table", "skep-abi"),
    ("skep-service-proxy", "skep-abi"),
    ("skep-service-proxy", "skep-service-table"),
    ("skep-service-proxy", "skep-bpf-maps"),
    ("skep-service-table", "skep-bpf-maps"),
    ("skep-bpf-maps", "skep-abi"),
    ("skep-loader", "skep-abi"),
    ("skep-loader", "skep-bpf-maps"),
    ("skep-loader", "skep-datapath"),
    ("skep-dns", "skep-dns-records"),
];

/// One broken rule, said so that its repair is plain.
type Violation = String;

/// Fails with every rule that the workspace breaks.
pub(crate) fn check() -> Result<()> {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("read the workspace with cargo metadata")?;
    let root = root();
    let violations: Vec<Violation> = metadata
        .packages
        .iter()
        .flat_map(|package| {
            let area = area_of(package, &root);
            package
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind != DependencyKind::Development)
                .flat_map(move |dependency| violations_of(package, area, &dependency.name))
        })
        .collect();
    if !violations.is_empty() {
        bail!(
            "dependency rules broken (see ARCHITECTURE.md):\n  {}",
            violations.join("\n  ")
        );
    }
    say(&format!(
        "dependency rules hold for {} crates",
        metadata.packages.len()
    ));
    Ok(())
}

/// The top-level folder of a crate.
fn area_of<'a>(package: &'a Package, root: &std::path::Path) -> &'a str {
    let path = package.manifest_path.as_std_path();
    let relative = path.strip_prefix(root).unwrap_or(path);
    relative
        .components()
        .next()
        .and_then(|part| part.as_os_str().to_str())
        .unwrap_or_default()
}

fn violations_of(package: &Package, area: &str, dependency: &str) -> Vec<Violation> {
    let name = package.name.as_str();
    let mut found = Vec::new();
    let mut rule = |broken: bool, why: &str| {
        if broken {
            found.push(format!("{name} -> {dependency}: {why}"));
        }
    };
    let ours = dependency.starts_with("skep");
    let wiring = WIRING.contains(&name);
    let allowed = |table: &[(&str, &str)]| table.contains(&(name, dependency));
    rule(
        WIRING.contains(&dependency) && !allowed(WIRING_USES),
        "nothing depends on a wiring crate",
    );
    rule(
        PURE.contains(&name) && IMPURE.contains(&dependency),
        "a pure crate has no I/O, clock or randomness",
    );
    rule(
        dependency == "aya" && !matches!(name, "skep-bpf-maps" | "skep-loader" | "skep-tests"),
        "only bpf-maps and loader link aya",
    );
    rule(
        dependency == "skep-store" && !matches!(name, "skep-registry" | "skep-server" | "skep-tests"),
        "only the registry sees the store",
    );
    if wiring || !ours {
        return found;
    }
    let control_plane = is_control_plane(dependency);
    match area {
        "ebpf" => rule(
            !(name == "skep-datapath" && dependency == "skep-abi"),
            "abi depends on nothing of the workspace, datapath on abi alone",
        ),
        "controlplane" => rule(!control_plane, "the control plane never depends on the node side"),
        "userspace" | "dns" => {
            rule(
                control_plane && !CLIENT_SIDE.contains(&dependency),
                "of the control plane use api, client and runtime only",
            );
            rule(
                !control_plane && !allowed(NODE_SEAMS),
                "node crates never use each other's internals",
            );
        }
        _ => {}
    }
    found
}

fn is_control_plane(dependency: &str) -> bool {
    matches!(
        dependency,
        "skep-api"
            | "skep-client"
            | "skep-runtime"
            | "skep-store"
            | "skep-registry"
            | "skep-apiserver"
            | "skep-scheduler"
            | "skep-controllers"
            | "skep-pki"
            | "skep-server"
    )
}
