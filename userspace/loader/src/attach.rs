//! Links: attaching programs, and replacing the program behind a link that is pinned already.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use skep_bpf_maps::sys;

use crate::LoadError;
use crate::objects::ProgramSpec;
use crate::pins::{LINKS, remove_link, remove_pin};

/// What a program is attached to.
#[derive(Debug)]
pub(crate) enum Target {
    Cgroup {
        path: PathBuf,
        folder: fs::File,
        id: u64,
    },
    Device {
        name: String,
        ifindex: u32,
    },
}

impl Target {
    /// The node's cgroup.
    ///
    /// # Errors
    /// [`LoadError::Io`].
    pub(crate) fn cgroup(path: &Path) -> Result<Self, LoadError> {
        let folder = fs::File::open(path).map_err(LoadError::io("open the cgroup", path))?;
        let id = folder
            .metadata()
            .map_err(LoadError::io("read the cgroup", path))?
            .ino();
        Ok(Self::Cgroup {
            path: path.to_owned(),
            folder,
            id,
        })
    }

    /// A device of this network namespace.
    ///
    /// # Errors
    /// [`LoadError::NoDevice`].
    pub(crate) fn device(name: &str) -> Result<Self, LoadError> {
        match nix::net::if_::if_nametoindex(name) {
            Ok(ifindex) => Ok(Self::Device {
                name: name.to_owned(),
                ifindex,
            }),
            Err(_no_such_device) => Err(LoadError::NoDevice {
                name: name.to_owned(),
            }),
        }
    }

    /// The pin of a program's link to this target.
    pub(crate) fn pin(&self, pin_dir: &Path, spec: &ProgramSpec) -> PathBuf {
        pin_dir.join(LINKS).join(self.pin_name(spec.hook))
    }

    /// Name of the pin of a link from `hook` to this target. bpffs reserves dots, which device names may have.
    fn pin_name(&self, hook: &str) -> String {
        match self {
            Self::Cgroup { .. } => hook.to_owned(),
            Self::Device { name, .. } => format!("{hook}@{}", name.replace('.', "%")),
        }
    }

    /// Whether a link is attached here, not to something else, nor to something that is gone.
    fn holds(&self, info: &sys::LinkInfo) -> bool {
        match self {
            Self::Cgroup { id, .. } => info.cgroup_id() == *id,
            Self::Device { ifindex, .. } => info.ifindex() == *ifindex,
        }
    }

    fn raw(&self) -> u32 {
        match self {
            Self::Cgroup { folder, .. } => folder.as_raw_fd().cast_unsigned(),
            Self::Device { ifindex, .. } => *ifindex,
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Cgroup { path, .. } => format!("cgroup {}", path.display()),
            Self::Device { name, .. } => format!("device {name}"),
        }
    }
}

/// What was done to have a program attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attached {
    /// There was no link yet, or one to something that is gone.
    Created,
    /// The program behind the pinned link was replaced.
    Replaced,
}

/// The two ends of a link to be.
pub(crate) struct Attachment<'a> {
    pub(crate) spec: &'static ProgramSpec,
    pub(crate) program: BorrowedFd<'a>,
    pub(crate) target: &'a Target,
}

impl Attachment<'_> {
    /// Attaches the program, or puts it behind the link that is pinned already.
    ///
    /// # Errors
    /// [`LoadError::Attach`], [`LoadError::MissingFeature`].
    pub(crate) fn ensure(&self, pin_dir: &Path) -> Result<Attached, LoadError> {
        let pin = self.target.pin(pin_dir, self.spec);
        let pinned = sys::object_get(&pin).map_err(LoadError::io("open pin", &pin))?;
        if let Some(link) = &pinned {
            let info = sys::link_info(link.as_fd()).map_err(LoadError::io("read the link of pin", &pin))?;
            if self.target.holds(&info) {
                match sys::link_update(link.as_fd(), self.program) {
                    Ok(()) => return Ok(Attached::Replaced),
                    // What it was attached to went away just now.
                    Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
                    Err(error) => return Err(self.failed(error)),
                }
            }
            tracing::info!(pin = %pin.display(), "the pinned link's target is gone; attaching anew");
        }
        let link = sys::link_create(self.program, self.target.raw(), self.spec.attach_type)
            .map_err(|error| self.failed(error))?;
        remove_pin(&pin)?;
        sys::object_pin(link.as_fd(), &pin).map_err(LoadError::io("pin a link at", &pin))?;
        Ok(Attached::Created)
    }

    fn failed(&self, source: io::Error) -> LoadError {
        if let Target::Device { .. } = self.target
            && source.raw_os_error() == Some(libc::EINVAL)
        {
            return LoadError::MissingFeature {
                feature: "tcx links (Linux 6.6)",
                purpose: "NodePort and masquerade",
                reason: source.to_string(),
            };
        }
        LoadError::Attach {
            program: self.spec.name,
            target: self.target.describe(),
            source,
        }
    }
}

/// Removes links that none of the wanted attachments uses, such as those of a device that is no longer
/// configured.
pub(crate) fn remove_others(
    pin_dir: &Path,
    wanted: &[(&'static ProgramSpec, &Target, Attached)],
) -> Result<(), LoadError> {
    let folder = pin_dir.join(LINKS);
    let keep: Vec<String> = wanted
        .iter()
        .map(|(spec, target, _)| target.pin_name(spec.hook))
        .collect();
    for entry in fs::read_dir(&folder).map_err(LoadError::io("list", &folder))? {
        let entry = entry.map_err(LoadError::io("list", &folder))?;
        if !keep.iter().any(|name| entry.file_name() == name.as_str()) {
            tracing::info!(pin = %entry.path().display(), "detaching");
            remove_link(&entry.path())?;
        }
    }
    Ok(())
}
