//! A pod's volumes on the host: made before its containers, kept current, and taken away after them.
//!
//! Layout below the kubelet's root, as upstream's: `pods/<uid>/volumes/kubernetes.io~<kind>/<name>`; sub-paths are
//! bound to `pods/<uid>/volume-subpaths/…`. Everything here blocks: callers use a thread for it.

mod atomic;
mod host_path;
mod mounts;
mod payload;
mod sub_path;

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod, Volume};

use crate::env::{PodFacts, Referenced, ValueError};
use crate::spec::spec;

/// Nobody but the kubelet has a way into pods' directories, as upstream; what containers see is mounted for them.
const PRIVATE: u32 = 0o750;
/// The most that the files of one volume in memory take, old and new ones together: a few times what an object can hold.
const PAYLOAD_BYTES: i64 = 64 << 20;

/// Why a volume cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {source}")]
    Value { volume: String, source: ValueError },
    #[error("MountVolume.SetUp failed for volume \"{volume}\" : {path}: {source}")]
    Io {
        volume: String,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "MountVolume.SetUp failed for volume \"{volume}\" : hostPath type check failed: {path} is not {wanted}"
    )]
    HostPathType {
        volume: String,
        path: PathBuf,
        wanted: &'static str,
    },
    #[error(
        "MountVolume.SetUp failed for volume \"{volume}\" : {what} volumes are not supported by this node"
    )]
    Unsupported { volume: String, what: String },
    #[error("the pod's directory {path}: {source}")]
    Directory { path: PathBuf, source: io::Error },
    #[error("failed to prepare subPath for volumeMount \"{volume}\": {path}: {source}")]
    SubPath {
        volume: String,
        path: PathBuf,
        source: io::Error,
    },
}

/// A volume on the host.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) path: PathBuf,
    /// Whether containers may only read it, whatever they ask for: the kubelet alone writes what is made from objects.
    pub(crate) read_only: bool,
}

/// Makes a directory that nobody but the kubelet has a way into, or closes one that is there.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, Permissions::from_mode(PRIVATE))
}

/// Where pods' directories are.
#[derive(Clone, Debug)]
pub(crate) struct Volumes {
    pods: PathBuf,
}

impl Volumes {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            pods: root.join("pods"),
        }
    }

    /// The directory of one pod.
    pub(crate) fn pod(&self, uid: &str) -> PathBuf {
        self.pods.join(uid)
    }

    /// The uids that have a directory.
    pub(crate) fn known(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.pods).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect()
    }

    /// Makes or updates the directory and all volumes of a pod; returns where each is on the host, by name.
    pub(crate) fn prepare(
        &self,
        facts: &PodFacts<'_>,
        referenced: &Referenced,
    ) -> Result<HashMap<String, Prepared>, VolumeError> {
        let uid = facts.pod.metadata.uid.clone().unwrap_or_default();
        let volumes = spec(facts.pod)
            .get()
            .and_then(|spec| spec.volumes.as_deref())
            .unwrap_or_default();
        let directory = self.pod(&uid);
        for path in [&self.pods, &directory] {
            make_private(path).map_err(|source| VolumeError::Directory {
                path: path.clone(),
                source,
            })?;
        }
        let mut prepared = HashMap::new();
        for volume in volumes {
            let made = self.prepare_one(&directory, facts, referenced, volume)?;
            prepared.insert(volume.name.clone(), made);
        }
        Ok(prepared)
    }

    fn prepare_one(
        &self,
        pod_dir: &Path,
        facts: &PodFacts<'_>,
        referenced: &Referenced,
        volume: &Volume,
    ) -> Result<Prepared, VolumeError> {
        let at = |kind: &str| {
            pod_dir
                .join("volumes")
                .join(format!("kubernetes.io~{kind}"))
                .join(&volume.name)
        };
        let io_error = |path: &Path, source| VolumeError::Io {
            volume: volume.name.clone(),
            path: path.to_owned(),
            source,
        };
        let writable = |path| Prepared {
            path,
            read_only: false,
        };
        let group = fs_group(facts.pod);
        if let Some(source) = &volume.host_path {
            return host_path::check(&volume.name, source).map(writable);
        }
        if let Some(source) = &volume.empty_dir {
            let path = at("empty-dir");
            empty_dir(&path, source, group).map_err(|error| io_error(&path, error))?;
            return Ok(writable(path));
        }
        match payload::of(facts, referenced, volume) {
            Some(payload) => {
                let payload = payload.map_err(|source| VolumeError::Value {
                    volume: volume.name.clone(),
                    source,
                })?;
                let path = at(payload.kind);
                let made = match payload.on_disk {
                    true => fs::create_dir_all(&path),
                    false => mounts::in_memory(&path, Some(PAYLOAD_BYTES)).map(drop),
                };
                made.and_then(|()| atomic::write(&path, &payload.files, group))
                    .map_err(|error| io_error(&path, error))?;
                Ok(Prepared {
                    path,
                    read_only: true,
                })
            }
            None => Err(VolumeError::Unsupported {
                volume: volume.name.clone(),
                what: kind_of(volume),
            }),
        }
    }

    /// Binds a path inside a volume to a place of its own, so that no container can lead it elsewhere any more.
    pub(crate) fn bind_sub_path(
        &self,
        uid: &str,
        volume: (&str, &Path),
        container: &str,
        index: usize,
        sub_path: &str,
    ) -> Result<PathBuf, VolumeError> {
        let (name, root) = volume;
        let target = self
            .pod(uid)
            .join("volume-subpaths")
            .join(name)
            .join(container)
            .join(index.to_string());
        sub_path::bind(root, Path::new(sub_path), &target).map_err(|source| VolumeError::SubPath {
            volume: name.to_owned(),
            path: PathBuf::from(sub_path),
            source,
        })?;
        Ok(target)
    }

    /// Takes away everything of a pod. Host paths are not touched: only links and mounts lead there, and mounts are
    /// undone first.
    pub(crate) fn remove(&self, uid: &str) -> io::Result<()> {
        let directory = self.pod(uid);
        mounts::unmount_below(&directory)?;
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// The group that owns the pod's volumes.
fn fs_group(pod: &Pod) -> Option<u32> {
    let context = spec(pod).get()?.security_context.as_ref()?;
    u32::try_from(context.fs_group?).ok()
}

fn kind_of(volume: &Volume) -> String {
    let value = serde_json::to_value(volume).unwrap_or_default();
    let mut fields = value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.clone());
    fields
        .find(|key| key != "name")
        .unwrap_or_else(|| "empty".to_owned())
}

/// An empty directory, on a memory file system if asked for. One that exists stays as it is.
fn empty_dir(path: &Path, source: &EmptyDirVolumeSource, group: Option<u32>) -> io::Result<()> {
    if source.medium.as_deref() == Some("Memory") {
        let size = source
            .size_limit
            .as_ref()
            .and_then(|wire| wire.0.parse::<skep_api::Quantity>().ok());
        if !mounts::in_memory(path, size.map(|size| size.value()))? {
            return Ok(());
        }
    } else if path.exists() {
        return Ok(());
    } else {
        fs::create_dir_all(path)?;
    }
    chown(path, None, group)?;
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    fs::set_permissions(path, Permissions::from_mode(mode))
}
