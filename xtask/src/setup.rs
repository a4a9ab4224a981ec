//! `setup`: installs what the machine lacks, says what it does, and does nothing the second time.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::{self, cargo, find, output, require_root, say, tools};

/// What the machine is set up for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// Building and running a cluster.
    Running,
    /// All that, and the checks and tests.
    Testing,
}

/// Something that a Debian package provides, and how to see that it is there.
struct Need {
    package: &'static str,
    present: Present,
    testing_only: bool,
}

enum Present {
    Program(&'static str),
    File(&'static str),
}

const fn program(package: &'static str, name: &'static str) -> Need {
    Need {
        package,
        present: Present::Program(name),
        testing_only: false,
    }
}

const fn file(package: &'static str, path: &'static str) -> Need {
    Need {
        package,
        present: Present::File(path),
        testing_only: false,
    }
}

const fn for_tests(package: &'static str, name: &'static str) -> Need {
    Need {
        package,
        present: Present::Program(name),
        testing_only: true,
    }
}

/// What running and testing need, whatever builds the eBPF programs.
const PROGRAMS: &[Need] = &[
    program("containerd", "containerd"),
    program("runc", "runc"),
    program("iproute2", "ip"),
    program("curl", "curl"),
    file("busybox-static", "/bin/busybox"),
    program("kubernetes-client", "kubectl"),
    for_tests("etcd-server", "etcd"),
    for_tests("bind9-dnsutils", "dig"),
    for_tests("tcpdump", "tcpdump"),
    for_tests("util-linux", "nsenter"),
    // What the dataplane is measured beside. Nothing else uses them.
    for_tests("iptables", "iptables-restore"),
    for_tests("nftables", "nft"),
];

/// Debian's Rust with its library sources, and LLVM for the BPF linker.
const EBPF_TOOLCHAIN: &[Need] = &[
    file("rustc-web", "/usr/bin/rustc"),
    file("rust-web-src", "/usr/share/doc/rust-web-src"),
    program("binutils", "readelf"),
    file("llvm-22-dev", "/usr/lib/llvm-22/lib/libLLVM.so"),
    file("libpolly-22-dev", "/usr/lib/llvm-22/lib/libPolly.a"),
    file("zlib1g-dev", "/usr/include/zlib.h"),
    file("libzstd-dev", "/usr/include/zstd.h"),
    file("libxml2-dev", "/usr/include/libxml2"),
];

const LLVM_PREFIX: &str = "/usr/lib/llvm-22";
const NEXTEST_VERSION: &str = "^0.9";
const DENY_VERSION: &str = "^0.20";
const BPF_LINKER_VERSION: &str = "^0.13";

/// Installs what is missing.
///
/// # Errors
/// Names the packages when this is not Debian, or when they cannot be installed.
pub(crate) fn run(purpose: For) -> Result<()> {
    let needed = |need: &&Need| purpose == For::Testing || !need.testing_only;
    let needs = PROGRAMS.iter().filter(needed).chain(EBPF_TOOLCHAIN.iter());
    let missing: Vec<&str> = needs
        .filter(|need| !is_present(&need.present))
        .map(|need| need.package)
        .collect();
    if missing.is_empty() {
        say("every package is installed");
    } else {
        install_packages(&missing)?;
    }
    install_bpf_linker()?;
    if purpose == For::Testing {
        install_tool("cargo-nextest", NEXTEST_VERSION)?;
        install_tool("cargo-deny", DENY_VERSION)?;
    }
    Ok(())
}

fn is_present(present: &Present) -> bool {
    match present {
        Present::Program(name) => find(name).is_some(),
        Present::File(path) => Path::new(path).exists(),
    }
}

fn install_packages(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let debian = release.lines().any(|line| {
        line.strip_prefix("ID=")
            .or_else(|| line.strip_prefix("ID_LIKE="))
            .is_some_and(|ids| ids.contains("debian"))
    });
    if !debian {
        bail!(
            "this is not Debian: install by hand what these Debian packages hold, then run this again: {list}"
        );
    }
    require_root(&format!("installing {list}"))?;
    say(&format!("installing Debian packages: {list}"));
    let apt = |arguments: &[&str]| {
        command::run(
            Command::new("apt-get")
                .env("DEBIAN_FRONTEND", "noninteractive")
                .arg("-qq")
                .args(arguments),
        )
    };
    apt(&["update"])?;
    apt(&[&["install", "--yes", "--no-install-recommends"], packages].concat())
        .with_context(|| format!("install {list}"))
}

fn install_bpf_linker() -> Result<()> {
    if find("bpf-linker").is_some() {
        say("bpf-linker is installed");
        return Ok(());
    }
    command::run(
        cargo()
            .env("LLVM_PREFIX", LLVM_PREFIX)
            .args([
                "install",
                "bpf-linker",
                "--locked",
                "--no-default-features",
                "--features",
                "llvm-22",
            ])
            .args(["--version", BPF_LINKER_VERSION, "--root"])
            .arg(tools()),
    )
}

fn install_tool(name: &str, version: &str) -> Result<()> {
    if let Some(path) = find(name) {
        // A cargo subcommand that starts is good enough; its own version may be newer.
        output(Command::new(path).arg("--version"))?;
        say(&format!("{name} is installed"));
        return Ok(());
    }
    command::run(
        cargo()
            .args(["install", name, "--locked", "--version", version, "--root"])
            .arg(tools()),
    )
}
