//! Image archives for tests, written without any tool: an OCI layout in a tar file.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The image that holds Debian's static busybox with its applets in `/bin`.
pub const BUSYBOX: &str = "skep.local/busybox:latest";
/// The image of sandboxes: sleeps for ever.
pub const PAUSE: &str = "skep.local/pause:latest";

/// The applets that tests use.
const APPLETS: [&str; 24] = [
    "cat", "chmod", "cut", "echo", "env", "false", "grep", "head", "hostname", "httpd", "id", "kill", "ls",
    "mkdir", "nc", "printf", "ps", "sh", "sleep", "stat", "tail", "touch", "true", "wget",
];

/// Writes an archive with [`BUSYBOX`] and [`PAUSE`], both made of the busybox at `busybox`.
pub fn write_image_archive(busybox: &Path, archive: &Path) -> io::Result<()> {
    let mut blobs = Blobs::default();
    let layer = blobs.add(layer(busybox)?);
    let mut manifests = Vec::new();
    for (name, command) in [
        (BUSYBOX, json!(["sh"])),
        (PAUSE, json!(["/bin/sleep", "2147483647"])),
    ] {
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": { "Cmd": command, "Env": ["PATH=/bin"] },
            "rootfs": { "type": "layers", "diff_ids": [layer.0] },
        });
        let config = blobs.add(config.to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
        });
        let manifest = blobs.add(manifest.to_string().into_bytes());
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
        entry["annotations"] = json!({ "io.containerd.image.name": name });
        manifests.push(entry);
    }
    let index = json!({ "schemaVersion": 2, "manifests": manifests }).to_string();
    let mut tar = tar::Builder::new(std::fs::File::create(archive)?);
    file(
        &mut tar,
        "oci-layout",
        0o644,
        br#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    file(&mut tar, "index.json", 0o644, index.as_bytes())?;
    for (digest, bytes) in &blobs.0 {
        let path = format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"));
        file(&mut tar, &path, 0o644, bytes)?;
    }
    tar.into_inner()?.flush()
}

fn descriptor(media_type: &str, blob: &(String, usize)) -> Value {
    json!({ "mediaType": media_type, "digest": blob.0, "size": blob.1 })
}

#[derive(Default)]
struct Blobs(Vec<(String, Vec<u8>)>);

impl Blobs {
    fn add(&mut self, bytes: Vec<u8>) -> (String, usize) {
        let digest: String = Sha256::digest(&bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let digest = format!("sha256:{digest}");
        let size = bytes.len();
        self.0.push((digest.clone(), bytes));
        (digest, size)
    }
}

fn layer(busybox: &Path) -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for directory in ["bin/", "etc/", "tmp/", "proc/", "sys/", "dev/"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(if directory == "tmp/" { 0o1777 } else { 0o755 });
        header.set_size(0);
        tar.append_data(&mut header, directory, io::empty())?;
    }
    file(&mut tar, "bin/busybox", 0o755, &std::fs::read(busybox)?)?;
    file(&mut tar, "etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/sh\n")?;
    file(&mut tar, "etc/group", 0o644, b"root:x:0:\n")?;
    for applet in APPLETS {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    tar.into_inner()
}

fn file<W: Write>(tar: &mut tar::Builder<W>, path: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content)
}
