//! The pinned maps.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::path::Path;

use skep_abi::{LAYOUT_FINGERPRINT, MapSpec, maps};
use skep_bpf_maps::{KernelTable, MapError, RawMap, Table, sys};

use crate::{LoadError, MapSizes};

/// Folder of the links' pins, below the pin folder.
pub(crate) const LINKS: &str = "links";

/// Every map of the layout.
#[derive(Debug)]
pub(crate) struct PinnedMaps {
    maps: Vec<RawMap>,
}

impl PinnedMaps {
    /// Opens the maps of a folder, or creates and pins them when it holds none. What an interrupted first
    /// start left, which nothing can use yet, is replaced.
    ///
    /// # Errors
    /// [`LoadError::LayoutMismatch`], [`LoadError::MapMissing`].
    pub(crate) fn open_or_create(pin_dir: &Path, sizes: &MapSizes) -> Result<Self, LoadError> {
        if RawMap::open(&maps::LAYOUT, pin_dir)?.is_some() {
            let found = Self::open(pin_dir)?;
            found.warn_of_other_sizes(sizes);
            return Ok(found);
        }
        for spec in maps::ALL {
            remove_pin(&pin_dir.join(spec.name))?;
        }
        let mut created = Vec::with_capacity(maps::ALL.len());
        for spec in maps::ALL {
            let map = RawMap::create(spec, sizes.of(spec))?;
            if spec.name == maps::LAYOUT.name {
                KernelTable::<u32, u64>::new(map.try_clone()?)?.put(&0, &LAYOUT_FINGERPRINT)?;
            }
            map.pin(pin_dir)?;
            created.push(map);
        }
        Ok(Self { maps: created })
    }

    /// Opens the maps of a folder.
    ///
    /// # Errors
    /// As [`PinnedMaps::open_or_create`].
    pub(crate) fn open(pin_dir: &Path) -> Result<Self, LoadError> {
        let layout = RawMap::open(&maps::LAYOUT, pin_dir).map_err(denied)?;
        let layout = layout.ok_or_else(|| LoadError::NoDataplane {
            pin_dir: pin_dir.to_owned(),
        })?;
        let layout = KernelTable::<u32, u64>::new(layout)?;
        let found = layout.get(&0)?.unwrap_or(0);
        if found != LAYOUT_FINGERPRINT {
            return Err(LoadError::LayoutMismatch {
                pin_dir: pin_dir.to_owned(),
                found,
                expected: LAYOUT_FINGERPRINT,
            });
        }
        let open = |spec: &'static MapSpec| {
            let missing = || LoadError::MapMissing {
                map: spec.name,
                pin_dir: pin_dir.to_owned(),
            };
            RawMap::open(spec, pin_dir)?.ok_or_else(missing)
        };
        Ok(Self {
            maps: maps::ALL.into_iter().map(open).collect::<Result<_, _>>()?,
        })
    }

    /// A handle of one map.
    ///
    /// # Errors
    /// [`LoadError::Map`] when descriptors run out.
    pub(crate) fn handle(&self, spec: &'static MapSpec) -> Result<RawMap, LoadError> {
        let map = self.maps.iter().find(|map| map.spec().name == spec.name);
        let map = map.expect("maps::ALL holds every spec, and all of them were opened");
        Ok(map.try_clone()?)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &RawMap> {
        self.maps.iter()
    }

    fn warn_of_other_sizes(&self, sizes: &MapSizes) {
        for map in &self.maps {
            let configured = sizes.of(map.spec());
            if configured != map.capacity() {
                tracing::warn!(
                    map = map.spec().name,
                    capacity = map.capacity(),
                    configured,
                    "the pinned map keeps the capacity it was created with"
                );
            }
        }
    }
}

/// A pin that may not be opened is the whole dataplane's affair, not that of one map.
fn denied(error: MapError) -> LoadError {
    match error {
        MapError::Kernel { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            LoadError::NotPermitted
        }
        error => error.into(),
    }
}

/// Removes a pin, if it is there.
pub(crate) fn remove_pin(path: &Path) -> Result<(), LoadError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result.map_err(LoadError::io("remove pin", path)),
    }
}

/// Detaches the link of a pin, at once, and removes the pin.
pub(crate) fn remove_link(pin: &Path) -> Result<(), LoadError> {
    if let Some(link) = sys::object_get(pin).map_err(LoadError::io("open pin", pin))? {
        sys::link_detach(link.as_fd()).map_err(LoadError::io("detach the link of pin", pin))?;
    }
    remove_pin(pin)
}

/// Removes every pin: links first, so that no program outlives its maps' names.
pub(crate) fn remove_all(pin_dir: &Path) -> Result<(), LoadError> {
    let links = pin_dir.join(LINKS);
    for folder in [links.as_path(), pin_dir] {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.map_err(LoadError::io("list", folder))?,
        };
        for entry in entries {
            let pin = entry.map_err(LoadError::io("list", folder))?.path();
            if folder == links {
                remove_link(&pin)?
            } else {
                remove_pin(&pin)?
            }
        }
        fs::remove_dir(folder).map_err(LoadError::io("remove folder", folder))?;
    }
    Ok(())
}
