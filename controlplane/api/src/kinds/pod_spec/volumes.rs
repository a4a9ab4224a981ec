//! Volumes of pods.

use std::collections::HashSet;

use k8s_openapi::api::core::v1::Volume;

use crate::error::{FieldError, FieldPath};
use crate::validation::{fields, names};

/// The names of the sources that a volume has; a right volume has one.
pub(super) fn sources(volume: &Volume) -> Vec<&'static str> {
    let all = [
        (volume.aws_elastic_block_store.is_some(), "awsElasticBlockStore"),
        (volume.azure_disk.is_some(), "azureDisk"),
        (volume.azure_file.is_some(), "azureFile"),
        (volume.cephfs.is_some(), "cephfs"),
        (volume.cinder.is_some(), "cinder"),
        (volume.config_map.is_some(), "configMap"),
        (volume.csi.is_some(), "csi"),
        (volume.downward_api.is_some(), "downwardAPI"),
        (volume.empty_dir.is_some(), "emptyDir"),
        (volume.ephemeral.is_some(), "ephemeral"),
        (volume.fc.is_some(), "fc"),
        (volume.flex_volume.is_some(), "flexVolume"),
        (volume.flocker.is_some(), "flocker"),
        (volume.gce_persistent_disk.is_some(), "gcePersistentDisk"),
        (volume.git_repo.is_some(), "gitRepo"),
        (volume.glusterfs.is_some(), "glusterfs"),
        (volume.host_path.is_some(), "hostPath"),
        (volume.image.is_some(), "image"),
        (volume.iscsi.is_some(), "iscsi"),
        (volume.nfs.is_some(), "nfs"),
        (volume.persistent_volume_claim.is_some(), "persistentVolumeClaim"),
        (volume.photon_persistent_disk.is_some(), "photonPersistentDisk"),
        (volume.portworx_volume.is_some(), "portworxVolume"),
        (volume.projected.is_some(), "projected"),
        (volume.quobyte.is_some(), "quobyte"),
        (volume.rbd.is_some(), "rbd"),
        (volume.scale_io.is_some(), "scaleIO"),
        (volume.secret.is_some(), "secret"),
        (volume.storageos.is_some(), "storageos"),
        (volume.vsphere_volume.is_some(), "vsphereVolume"),
    ];
    all.into_iter()
        .filter(|(present, _)| *present)
        .map(|(_, name)| name)
        .collect()
}

pub(super) fn validate(errors: &mut Vec<FieldError>, volumes: &[Volume], path: &FieldPath) {
    let mut seen = HashSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = path.index(index);
        let name = path.child("name");
        if volume.name.is_empty() {
            errors.push(FieldError::required(&name, ""));
        } else {
            fields::faults(errors, &name, &volume.name, names::dns1123_label(&volume.name));
            fields::unique(errors, &name, &volume.name, &mut seen);
        }
        for extra in sources(volume).into_iter().skip(1) {
            errors.push(FieldError::forbidden(
                path.child(extra),
                "may not specify more than 1 volume type",
            ));
        }
        validate_source(errors, volume, &path);
    }
}

fn validate_source(errors: &mut Vec<FieldError>, volume: &Volume, path: &FieldPath) {
    if let Some(source) = &volume.secret
        && source.secret_name.as_deref().unwrap_or("").is_empty()
    {
        errors.push(FieldError::required(path.child("secret").child("secretName"), ""));
    }
    if let Some(source) = &volume.config_map
        && source.name.is_empty()
    {
        errors.push(FieldError::required(path.child("configMap").child("name"), ""));
    }
    if let Some(source) = &volume.persistent_volume_claim
        && source.claim_name.is_empty()
    {
        errors.push(FieldError::required(
            path.child("persistentVolumeClaim").child("claimName"),
            "",
        ));
    }
    if let Some(source) = &volume.host_path {
        let path = path.child("hostPath");
        if source.path.is_empty() {
            errors.push(FieldError::required(path.child("path"), ""));
        } else if source.path.split('/').any(|part| part == "..") {
            errors.push(FieldError::invalid(
                path.child("path"),
                &source.path,
                "must not contain '..'",
            ));
        }
        let kinds = [
            "",
            "DirectoryOrCreate",
            "Directory",
            "FileOrCreate",
            "File",
            "Socket",
            "CharDevice",
            "BlockDevice",
        ];
        fields::one_of(errors, &path.child("type"), source.type_.as_deref(), &kinds);
    }
    if let Some(limit) = volume
        .empty_dir
        .as_ref()
        .and_then(|source| source.size_limit.as_ref())
    {
        let path = path.child("emptyDir").child("sizeLimit");
        match limit.0.parse::<crate::Quantity>() {
            Err(why) => errors.push(FieldError::invalid(path, &limit.0, why.to_string())),
            Ok(limit) if limit.is_negative() => {
                errors.push(FieldError::forbidden(
                    path,
                    "SizeLimit field must be a valid resource quantity",
                ));
            }
            Ok(_) => {}
        }
    }
}
