//! The files of volumes that are made from objects: configMap, secret, downwardAPI, projected. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{DownwardAPIVolumeFile, KeyToPath, Volume, VolumeProjection};

use crate::env::{self, PodFacts, Referenced, ValueError};

const DEFAULT_MODE: i32 = 0o644;

/// One file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    pub(crate) mode: u32,
}

/// Files by path relative to the volume.
pub(crate) type Files = BTreeMap<String, File>;

/// A volume's contents.
pub(super) struct Payload {
    /// How upstream names the folder of such volumes.
    pub(super) kind: &'static str,
    /// Whether the files may lie on a disk: only config maps hold no secrets.
    pub(super) on_disk: bool,
    pub(super) files: Files,
}

/// The contents of a volume of these kinds; none for others.
pub(super) fn of(
    facts: &PodFacts<'_>,
    referenced: &Referenced,
    volume: &Volume,
) -> Option<Result<Payload, ValueError>> {
    let mut files = Files::new();
    let (kind, result) = if let Some(source) = &volume.config_map {
        let data = referenced.config_map_data(&source.name);
        let items = (source.items.as_deref(), source.optional);
        (
            "configmap",
            add_object(
                facts,
                &mut files,
                ("configmap", &source.name),
                data,
                items,
                source.default_mode,
            ),
        )
    } else if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        let items = (source.items.as_deref(), source.optional);
        let data = referenced.secret_data(name);
        (
            "secret",
            add_object(
                facts,
                &mut files,
                ("secret", name),
                data,
                items,
                source.default_mode,
            ),
        )
    } else if let Some(source) = &volume.downward_api {
        let items = source.items.as_deref().unwrap_or_default();
        (
            "downward-api",
            add_fields(facts, &mut files, items, source.default_mode),
        )
    } else if let Some(source) = &volume.projected {
        let mut sources = source.sources.iter().flatten();
        let result = sources
            .try_for_each(|part| add_projection(facts, referenced, &mut files, part, source.default_mode));
        ("projected", result)
    } else {
        return None;
    };
    Some(result.map(|()| Payload {
        kind,
        on_disk: volume.config_map.is_some(),
        files,
    }))
}

fn add_projection(
    facts: &PodFacts<'_>,
    referenced: &Referenced,
    files: &mut Files,
    part: &VolumeProjection,
    mode: Option<i32>,
) -> Result<(), ValueError> {
    if let Some(source) = &part.config_map {
        let items = (source.items.as_deref(), source.optional);
        let data = referenced.config_map_data(&source.name);
        add_object(facts, files, ("configmap", &source.name), data, items, mode)
    } else if let Some(source) = &part.secret {
        let items = (source.items.as_deref(), source.optional);
        let data = referenced.secret_data(&source.name);
        add_object(facts, files, ("secret", &source.name), data, items, mode)
    } else if let Some(source) = &part.downward_api {
        add_fields(facts, files, source.items.as_deref().unwrap_or_default(), mode)
    } else {
        let what = if part.service_account_token.is_some() {
            "serviceAccountToken"
        } else {
            "this source"
        };
        Err(ValueError::UnknownField {
            path: format!("projected volumes: {what}"),
        })
    }
}

type Items<'a> = (Option<&'a [KeyToPath]>, Option<bool>);

fn add_object(
    facts: &PodFacts<'_>,
    files: &mut Files,
    (kind, name): (&'static str, &str),
    data: Result<BTreeMap<String, Vec<u8>>, ValueError>,
    (items, optional): Items<'_>,
    mode: Option<i32>,
) -> Result<(), ValueError> {
    let optional = optional == Some(true);
    let mut data = match data {
        Ok(data) => data,
        Err(_) if optional => return Ok(()),
        Err(error) => return Err(error),
    };
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        for (key, bytes) in data {
            files.insert(
                key,
                File {
                    bytes,
                    mode: file_mode(None, mode),
                },
            );
        }
        return Ok(());
    };
    for item in items {
        match data.remove(&item.key) {
            Some(bytes) => {
                files.insert(
                    relative(&item.path)?,
                    File {
                        bytes,
                        mode: file_mode(item.mode, mode),
                    },
                );
            }
            None if optional => {}
            None => {
                return Err(ValueError::KeyMissing {
                    kind,
                    namespace: facts.pod.metadata.namespace.clone().unwrap_or_default(),
                    name: name.to_owned(),
                    key: item.key.clone(),
                });
            }
        }
    }
    Ok(())
}

fn add_fields(
    facts: &PodFacts<'_>,
    files: &mut Files,
    items: &[DownwardAPIVolumeFile],
    mode: Option<i32>,
) -> Result<(), ValueError> {
    for item in items {
        let value = match (&item.field_ref, &item.resource_field_ref) {
            (Some(selector), _) => env::field(facts, selector)?,
            (None, Some(selector)) => env::resource(facts, None, selector)?,
            (None, None) => continue,
        };
        let file = File {
            bytes: value.into_bytes(),
            mode: file_mode(item.mode, mode),
        };
        files.insert(relative(&item.path)?, file);
    }
    Ok(())
}

/// A path that stays inside the volume.
fn relative(path: &str) -> Result<String, ValueError> {
    let bad = path.is_empty()
        || path.starts_with('/')
        || path.split('/').any(|part| part == ".." || part.is_empty());
    if bad || path.starts_with("..") {
        return Err(ValueError::UnknownField {
            path: format!("volume path {path:?}"),
        });
    }
    Ok(path.to_owned())
}

fn file_mode(own: Option<i32>, default: Option<i32>) -> u32 {
    u32::try_from(own.or(default).unwrap_or(DEFAULT_MODE)).unwrap_or(0o644) & 0o777
}
