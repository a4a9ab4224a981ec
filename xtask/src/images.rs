//! `images`: the local container images, each an OCI archive in target/images.

mod oci;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::command::{self, cargo, output, say, target};
use oci::{Entry, Image};

/// The target that links statically against glibc.
const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";
const BUSYBOX: &str = "/bin/busybox";
/// The user that the demo and pause images run as.
const NOBODY: &str = "65534:65534";

/// Builds every image that a local cluster loads.
pub(crate) fn run() -> Result<()> {
    let folder = target().join("images");
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let programs = static_programs()?;
    write(&folder, "pause", &pause(&programs)?)?;
    write(&folder, "demo", &demo(&programs)?)?;
    write(&folder, "busybox", &busybox()?)
}

fn static_programs() -> Result<PathBuf> {
    build_static(&["--package", "skep-demo"])
}

/// Builds programs that need no shared library; returns the folder that they are in.
pub(crate) fn build_static(packages: &[&str]) -> Result<PathBuf> {
    let architecture = std::env::consts::ARCH;
    if architecture != "x86_64" {
        bail!("images are built on x86_64 only, this is {architecture}");
    }
    command::run(
        cargo()
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .env("CARGO_TARGET_DIR", target().join("static"))
            .args(["build", "--release", "--target", STATIC_TARGET])
            .args(packages),
    )?;
    Ok(target().join("static").join(STATIC_TARGET).join("release"))
}

fn pause(programs: &Path) -> Result<Image> {
    Ok(Image {
        reference: "skep.local/pause:latest",
        entries: vec![Entry::program("pause", &programs.join("skep-pause"))?],
        entrypoint: vec!["/pause"],
        command: vec![],
        environment: vec![],
        user: NOBODY,
    })
}

fn demo(programs: &Path) -> Result<Image> {
    Ok(Image {
        reference: "skep.local/demo:latest",
        entries: vec![Entry::program("demo", &programs.join("skep-demo"))?],
        entrypoint: vec!["/demo"],
        command: vec![],
        environment: vec![],
        user: NOBODY,
    })
}

fn busybox() -> Result<Image> {
    let program = Path::new(BUSYBOX);
    if !program.is_file() {
        bail!("{BUSYBOX} is missing: run `cargo xtask setup` (Debian package busybox-static)");
    }
    let mut entries = vec![
        Entry::folder("tmp", 0o1777),
        Entry::folder("root", 0o700),
        Entry::folder("etc", 0o755),
        Entry::text(
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        ),
        Entry::text("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
        Entry::text("etc/nsswitch.conf", "hosts: files dns\n"),
        Entry::program("bin/busybox", program)?,
    ];
    let applets = output(std::process::Command::new(program).arg("--list"))?;
    let others = applets.lines().filter(|name| *name != "busybox");
    entries.extend(others.map(|name| Entry::link(&format!("bin/{name}"), "/bin/busybox")));
    Ok(Image {
        reference: "skep.local/busybox:latest",
        entries,
        entrypoint: vec![],
        command: vec!["sh"],
        environment: vec!["PATH=/bin"],
        user: "",
    })
}

fn write(folder: &Path, name: &str, image: &Image) -> Result<()> {
    let path = folder.join(format!("{name}.tar"));
    let archive = image.archive()?;
    // Renamed into place, so that an interrupted build leaves no half image.
    let partial = path.with_extension("partial");
    std::fs::write(&partial, &archive).with_context(|| format!("write {}", partial.display()))?;
    std::fs::rename(&partial, &path).with_context(|| format!("rename {} into place", partial.display()))?;
    say(&format!(
        "{} ({} KiB) in {}",
        image.reference,
        archive.len() / 1024,
        path.display()
    ));
    Ok(())
}
