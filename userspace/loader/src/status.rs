//! What the kernel holds of a dataplane.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use skep_abi::{Counter, MapKind, maps};
use skep_bpf_maps::sys;

use crate::pins::{LINKS, PinnedMaps};
use crate::{LoadError, mounts};

/// How deep below the cgroup2 mount a node's cgroup is looked for.
const CGROUP_DEPTH: u32 = 4;

/// State of a node's dataplane, as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataplaneStatus {
    /// One for each pinned link, by name of the pin.
    pub programs: Vec<ProgramStatus>,
    /// Every map.
    pub maps: Vec<MapStatus>,
    /// Every counter, zeroes included.
    pub counters: Vec<CounterStatus>,
}

impl DataplaneStatus {
    /// Links whose target is gone: what they did is not done any more.
    pub fn detached(&self) -> impl Iterator<Item = &ProgramStatus> {
        self.programs
            .iter()
            .filter(|program| program.target == LinkTarget::Gone)
    }

    /// The value of one counter.
    pub fn counter(&self, counter: Counter) -> u64 {
        let found = self.counters.iter().find(|status| status.counter == counter);
        found.map_or(0, |status| status.count)
    }
}

/// What a link is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkTarget {
    /// A cgroup; the path is absent when no cgroup of that number was found near the root.
    Cgroup {
        /// Its number.
        id: u64,
        /// Where it is.
        path: Option<PathBuf>,
    },
    /// A device.
    Device {
        /// Its name when the link was made.
        name: String,
        /// Its index in its network namespace.
        ifindex: u32,
    },
    /// Something that no longer exists.
    Gone,
}

/// A program and the link that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramStatus {
    /// Name of the hook, with the device if it is one of a device: `connect4`, `tcx_ingress@eth0`.
    pub hook: String,
    /// What it is attached to.
    pub target: LinkTarget,
    /// The program's name in the kernel.
    pub name: String,
    /// The program's number in the kernel.
    pub id: u32,
    /// Hash of its instructions.
    pub tag: String,
    /// Instructions that the verifier walked through.
    pub verified_instructions: u32,
    /// Bytes of machine code.
    pub jited_bytes: u32,
    /// Runs while kernel.bpf_stats_enabled was set.
    pub run_count: u64,
    /// Time spent in those runs.
    pub run_time: Duration,
}

impl ProgramStatus {
    /// Mean time of a run.
    pub fn mean_run_ns(&self) -> Option<u128> {
        (self.run_count > 0).then(|| self.run_time.as_nanos() / u128::from(self.run_count))
    }
}

/// A map and its fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapStatus {
    /// Name.
    pub name: &'static str,
    /// Kind.
    pub kind: MapKind,
    /// Bytes of a key.
    pub key_size: u32,
    /// Bytes of a value, for each CPU where there are several.
    pub value_size: u32,
    /// Entries; for arrays the elements that are not all zero.
    pub entries: u32,
    /// Most entries it can hold.
    pub capacity: u32,
    /// Bytes that the kernel has allocated for it.
    pub memory_bytes: u64,
}

/// A counter, summed over all CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterStatus {
    /// Which.
    pub counter: Counter,
    /// How often.
    pub count: u64,
}

/// Reads the state of the dataplane pinned in a folder.
pub(crate) fn read(pin_dir: &Path) -> Result<DataplaneStatus, LoadError> {
    let pinned = PinnedMaps::open(pin_dir)?;
    let mut map_states = Vec::new();
    for map in pinned.iter() {
        let spec = map.spec();
        map_states.push(MapStatus {
            name: spec.name,
            kind: spec.kind,
            key_size: spec.key_size,
            value_size: spec.value_size,
            entries: map.count()?,
            capacity: map.capacity(),
            memory_bytes: map.memory_bytes()?,
        });
    }
    let counters = pinned.handle(&maps::COUNTERS)?;
    let count = |counter: &Counter| {
        let values = counters.per_cpu_values(*counter as u32)?;
        Ok(CounterStatus {
            counter: *counter,
            count: values.iter().sum(),
        })
    };
    Ok(DataplaneStatus {
        programs: programs(&pin_dir.join(LINKS))?,
        maps: map_states,
        counters: Counter::ALL.iter().map(count).collect::<Result<_, LoadError>>()?,
    })
}

fn programs(folder: &Path) -> Result<Vec<ProgramStatus>, LoadError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(LoadError::io("list", folder))?,
    };
    let mut programs = Vec::new();
    for entry in entries {
        let pin = entry.map_err(LoadError::io("list", folder))?.path();
        programs.extend(program(&pin).map_err(LoadError::io("read the link of pin", &pin))?);
    }
    programs.sort_by(|a, b| a.hook.cmp(&b.hook));
    Ok(programs)
}

/// Reads one link; `None` when its pin was removed just now.
fn program(pin: &Path) -> std::io::Result<Option<ProgramStatus>> {
    let Some(link) = sys::object_get(pin)? else {
        return Ok(None);
    };
    let hook = pin
        .file_name()
        .unwrap_or(OsStr::new(""))
        .to_string_lossy()
        .replace('%', ".");
    let link = sys::link_info(link.as_fd())?;
    let program = sys::program_info(sys::program_by_id(link.program_id)?.as_fd())?;
    let name: Vec<u8> = program
        .name
        .iter()
        .copied()
        .take_while(|&byte| byte != 0)
        .collect();
    Ok(Some(ProgramStatus {
        target: target(&hook, &link),
        hook,
        name: String::from_utf8_lossy(&name).into_owned(),
        id: program.id,
        tag: program.tag.iter().map(|byte| format!("{byte:02x}")).collect(),
        verified_instructions: program.verified_instructions,
        jited_bytes: program.jited_length,
        run_count: program.run_count,
        run_time: Duration::from_nanos(program.run_time_ns),
    }))
}

fn target(hook: &str, link: &sys::LinkInfo) -> LinkTarget {
    match hook.split_once('@') {
        Some(_) if link.ifindex() == 0 => LinkTarget::Gone,
        Some((_, device)) => LinkTarget::Device {
            name: device.to_owned(),
            ifindex: link.ifindex(),
        },
        None if link.cgroup_id() == 0 => LinkTarget::Gone,
        None => {
            let id = link.cgroup_id();
            let path = mounts::cgroup2()
                .ok()
                .and_then(|mount| find_cgroup(&mount, id, CGROUP_DEPTH));
            LinkTarget::Cgroup { id, path }
        }
    }
}

/// The folder with this number, if it is near the root.
fn find_cgroup(folder: &Path, id: u64, depth: u32) -> Option<PathBuf> {
    if fs::metadata(folder).is_ok_and(|metadata| metadata.ino() == id) {
        return Some(folder.to_owned());
    }
    if depth == 0 {
        return None;
    }
    let entries = fs::read_dir(folder).ok()?.flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders
        .into_iter()
        .find_map(|entry| find_cgroup(&entry.path(), id, depth - 1))
}
