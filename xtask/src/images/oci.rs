//! Writes a one-layer OCI image layout as a tar archive (OCI image-spec 1.1, "Image Layout").
//!
//! The output depends on the entries alone (no times, no order of a file system), so equal inputs give equal digests.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// An image to be.
pub(super) struct Image {
    /// Full reference with tag.
    pub(super) reference: &'static str,
    pub(super) entries: Vec<Entry>,
    pub(super) entrypoint: Vec<&'static str>,
    pub(super) command: Vec<&'static str>,
    pub(super) environment: Vec<&'static str>,
    /// `uid:gid`, or empty for root.
    pub(super) user: &'static str,
}

/// One file, folder or link of the image's root.
pub(super) struct Entry {
    path: String,
    mode: u32,
    content: Content,
}

enum Content {
    Folder,
    Link(String),
    File(Vec<u8>),
}

impl Entry {
    pub(super) fn program(path: &str, source: &Path) -> Result<Self> {
        let bytes = std::fs::read(source).with_context(|| format!("read {}", source.display()))?;
        Ok(Self {
            path: path.to_owned(),
            mode: 0o755,
            content: Content::File(bytes),
        })
    }

    pub(super) fn folder(path: &str, mode: u32) -> Self {
        Self {
            path: path.to_owned(),
            mode,
            content: Content::Folder,
        }
    }

    pub(super) fn text(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            mode: 0o644,
            content: Content::File(text.as_bytes().to_vec()),
        }
    }

    pub(super) fn link(path: &str, target: &str) -> Self {
        Self {
            path: path.to_owned(),
            mode: 0o777,
            content: Content::Link(target.to_owned()),
        }
    }
}

impl Image {
    /// The whole archive.
    pub(super) fn archive(&self) -> Result<Vec<u8>> {
        let layer = self.layer()?;
        let config = serde_json::to_vec(&self.config(&layer))?;
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
        }))?;
        let mut listed = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
        listed["annotations"] = json!({
            "io.containerd.image.name": self.reference,
            "org.opencontainers.image.ref.name": self.reference.rsplit(':').next(),
        });
        let index = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [listed],
        }))?;
        let mut files = vec![
            Entry::text("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#),
            Entry {
                path: "index.json".to_owned(),
                mode: 0o644,
                content: Content::File(index),
            },
        ];
        for blob in [layer, config, manifest] {
            let path = format!("blobs/sha256/{}", hex_digest(&blob));
            files.push(Entry {
                path,
                mode: 0o644,
                content: Content::File(blob),
            });
        }
        archive_of(&files)
    }

    fn layer(&self) -> Result<Vec<u8>> {
        archive_of(&self.entries)
    }

    fn config(&self, layer: &[u8]) -> Value {
        json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "Entrypoint": self.entrypoint,
                "Cmd": self.command,
                "Env": self.environment,
                "User": self.user,
                "WorkingDir": "/",
            },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", hex_digest(layer))] },
            "history": [{ "created_by": "cargo xtask images" }],
        })
    }
}

fn archive_of(entries: &[Entry]) -> Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(entry.mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        match &entry.content {
            Content::Folder => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_size(0);
                builder.append_data(&mut header, &entry.path, std::io::empty())?;
            }
            Content::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                builder.append_link(&mut header, &entry.path, target)?;
            }
            Content::File(bytes) => {
                header.set_size(bytes.len() as u64);
                builder.append_data(&mut header, &entry.path, bytes.as_slice())?;
            }
        }
    }
    builder.into_inner().context("write the archive")
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{}", hex_digest(blob)), "size": blob.len() })
}

fn hex_digest(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").expect("a String takes every write");
    }
    text
}
