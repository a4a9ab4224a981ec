//! `build-ebpf`: compiles the eBPF programs into `target/ebpf/skep-*.o`, which `skep-loader` embeds.
//!
//! The programs are a workspace of their own, for another target, which needs the standard library's source
//! and an unstable cargo option: either a nightly toolchain with `rust-src`, or Debian's `rustc-web`. The result
//! lies in the workspace's own target folder, whatever `CARGO_TARGET_DIR` says, or where `SKEP_EBPF_DIR` says.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command;

/// The binaries of `ebpf/programs`; each becomes `<name>.o`.
const OBJECTS: &[&str] = &["skep-cgroup-sock", "skep-tc"];
const TARGET: &str = "bpfel-unknown-none";

/// Debian's compiler and the source that its package `rust-web-src` holds.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// A compiler that can build `core` for eBPF.
#[derive(Debug, PartialEq, Eq)]
enum Compiler {
    /// rustup's nightly, which has `rust-src`.
    Nightly,
    /// Debian's, told to accept unstable options.
    Debian,
}

/// Builds every program. Cargo skips what is up to date.
pub(crate) fn run() -> Result<()> {
    let linker = linker()?;
    let compiler = compiler()?;
    let build_dir = command::root().join("target/ebpf-build");
    let mut cargo = match compiler {
        Compiler::Nightly => {
            let mut cargo = Command::new("rustup");
            cargo
                .args(["run", "nightly", "cargo"])
                .env_remove("RUSTC")
                .env_remove("RUSTUP_TOOLCHAIN");
            cargo
        }
        Compiler::Debian => {
            let mut cargo = command::cargo();
            cargo.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
            cargo
        }
    };
    cargo
        .current_dir(command::root().join("ebpf/programs"))
        .args([
            "build",
            "--release",
            "--locked",
            "-Zbuild-std=core",
            "--target",
            TARGET,
            "--target-dir",
        ])
        .arg(&build_dir)
        .env_remove("RUSTFLAGS")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags(&linker));
    command::run(&mut cargo)?;
    publish(&build_dir.join(TARGET).join("release"), &output_dir())
}

/// Where `skep-loader` looks for the objects.
fn output_dir() -> PathBuf {
    std::env::var_os("SKEP_EBPF_DIR").map_or_else(|| command::root().join("target/ebpf"), PathBuf::from)
}

fn rustflags(linker: &Path) -> String {
    [
        "-Cdebuginfo=2",
        "-Clink-arg=--btf",
        &format!("-Clinker={}", linker.display()),
    ]
    .join("\u{1f}")
}

/// Copies the objects whose content has changed, so that nothing that embeds them is rebuilt for nothing.
fn publish(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    for name in OBJECTS {
        let built = from.join(name);
        let object = to.join(format!("{name}.o"));
        let content = std::fs::read(&built).with_context(|| format!("read {}", built.display()))?;
        if std::fs::read(&object).is_ok_and(|old| old == content) {
            continue;
        }
        std::fs::write(&object, content).with_context(|| format!("write {}", object.display()))?;
        command::say(&format!("wrote {}", object.display()));
    }
    Ok(())
}

/// `SKEP_BPF_LINKER`, else the one on PATH or in `target/tools/bin`.
fn linker() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("SKEP_BPF_LINKER").map(PathBuf::from) {
        if path.is_file() {
            return Ok(path);
        }
        bail!("SKEP_BPF_LINKER names {}, which is no file", path.display());
    }
    command::find("bpf-linker")
        .context("bpf-linker is not installed: run `cargo xtask setup`, or set SKEP_BPF_LINKER to its path")
}

fn compiler() -> Result<Compiler> {
    if nightly_has_source() {
        return Ok(Compiler::Nightly);
    }
    if Path::new(DEBIAN_RUSTC).is_file() && source_of(DEBIAN_RUSTC, &[]).is_some() {
        return Ok(Compiler::Debian);
    }
    bail!(
        "no Rust compiler here can build for eBPF. Either `rustup toolchain install nightly --component \
         rust-src`, or, on Debian, install the packages rustc-web and rust-web-src (`cargo xtask setup` \
         does that)"
    )
}

fn nightly_has_source() -> bool {
    source_of("rustup", &["run", "nightly", "rustc"]).is_some()
}

/// The folder of `core`'s source beside a compiler, if both are there.
fn source_of(program: &str, arguments: &[&str]) -> Option<PathBuf> {
    let output = Command::new(program)
        .args(arguments)
        .args(["--print", "sysroot"])
        .output()
        .ok()?;
    if !output.status.success() {
        return None;
    }
    let sysroot = String::from_utf8(output.stdout).ok()?;
    let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core");
    source.is_dir().then_some(source)
}
