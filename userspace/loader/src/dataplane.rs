//! Opening, inspecting and removing the dataplane of a node.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use aya::programs::Program;
use aya::{Ebpf, EbpfLoader};
use ipnet::IpNet;
use skep_abi::{Address, NodeConfig, Plain, PodRange, PrefixKey, maps};
use skep_bpf_maps::{KernelMaps, KernelTable, ServiceMaps, Table};

use crate::attach::{Attached, Attachment, Target, remove_others};
use crate::lock::NodeLock;
use crate::objects::{HookKind, OBJECTS, ObjectSpec, ProgramSpec};
use crate::pins::{self, LINKS, PinnedMaps};
use crate::pods::{self, Pods};
use crate::status::{self, DataplaneStatus};
use crate::{DataplaneConfig, LoadError, features, mounts};

/// The running dataplane of this node. Dropping it releases the lock and leaves everything attached.
#[derive(Debug)]
pub struct Dataplane {
    config: DataplaneConfig,
    service_maps: Arc<KernelMaps>,
    pod_ranges: KernelTable<PrefixKey, PodRange>,
    pods: Pods,
    _lock: NodeLock,
}

impl Dataplane {
    /// Brings the dataplane up, or takes over the one that a previous agent left running: connections and
    /// packets meanwhile meet either the old program or the new one. Must be called in the node's network
    /// namespace.
    ///
    /// # Errors
    /// See [`LoadError`]; what was attached before stays attached.
    pub fn open(config: DataplaneConfig) -> Result<Self, LoadError> {
        let objects = OBJECTS.iter().map(|object| Ok((object, object.bytes()?)));
        let objects = objects.collect::<Result<Vec<_>, LoadError>>()?;
        let lock = NodeLock::take(&config.lock_path)?;
        raise_memory_lock_limit();
        features::require()?;
        mounts::check_cgroup2(&config.cgroup)?;
        mounts::create_pin_dir(&config.pin_dir)?;
        let pinned = PinnedMaps::open_or_create(&config.pin_dir, &config.map_sizes)?;
        let service_maps = Arc::new(KernelMaps::gather(|spec| pinned.handle(spec))?);
        let pod_ranges = KernelTable::new(pinned.handle(&maps::POD_RANGES)?)?;
        write_pod_ranges(&pod_ranges, &config.cluster_pod_cidrs, &config.pod_cidrs)?;
        write_node(&config, &pinned)?;
        let pods = Pods(KernelTable::new(pinned.handle(&maps::POD_NETWORKS)?)?);
        let targets = targets(&config)?;
        let mut loaded = Vec::with_capacity(objects.len());
        for (object, bytes) in objects {
            loaded.push((object, load(object, bytes, &config.pin_dir)?));
        }
        attach(&config.pin_dir, &loaded, &targets)?;
        Ok(Self {
            config,
            service_maps,
            pod_ranges,
            pods,
            _lock: lock,
        })
    }

    /// The maps that hold Services.
    pub fn service_maps(&self) -> Arc<dyn ServiceMaps> {
        Arc::<KernelMaps>::clone(&self.service_maps)
    }

    /// This node's pods have these addresses, from now on.
    ///
    /// # Errors
    /// [`LoadError::Map`].
    pub fn set_pod_cidrs(&self, pod_cidrs: &[IpNet]) -> Result<(), LoadError> {
        write_pod_ranges(&self.pod_ranges, &self.config.cluster_pod_cidrs, pod_cidrs)
    }

    /// A pod has this address in this network namespace: what its sockets dial is the dialling of that client.
    ///
    /// # Errors
    /// [`LoadError::Map`], [`LoadError::Io`] when the namespace cannot be entered.
    pub fn add_pod(&self, netns: BorrowedFd<'_>, address: IpAddr) -> Result<(), LoadError> {
        self.pods.add(netns, address)
    }

    /// No pod has this address any more; fine when none had.
    ///
    /// # Errors
    /// [`LoadError::Map`].
    pub fn remove_pod(&self, address: IpAddr) -> Result<(), LoadError> {
        Ok(self.pods.remove(address)?)
    }

    /// What the kernel holds.
    ///
    /// # Errors
    /// [`LoadError::MapMissing`] and the like when somebody removed pins.
    pub fn status(&self) -> Result<DataplaneStatus, LoadError> {
        Self::inspect(&self.config.pin_dir)
    }

    /// What the kernel holds, for whoever is not the agent. Takes no lock and changes nothing.
    ///
    /// # Errors
    /// [`LoadError::NoDataplane`] when there is none.
    pub fn inspect(pin_dir: &Path) -> Result<DataplaneStatus, LoadError> {
        status::read(pin_dir)
    }
}

/// Removes every pin of a node, which detaches its programs and frees its maps. No agent may run. What is not
/// there is no error.
///
/// # Errors
/// [`LoadError::Io`].
pub fn detach(pin_dir: &Path) -> Result<(), LoadError> {
    pins::remove_all(pin_dir)
}

/// Kernels before 5.11 charge maps to this limit. Raising it needs a privilege that newer ones do not ask
/// for, so a failure says nothing.
fn raise_memory_lock_limit() {
    let unlimited = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: the argument is a live rlimit.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const unlimited) } != 0 {
        tracing::debug!(error = %std::io::Error::last_os_error(), "RLIMIT_MEMLOCK stays as it is");
    }
}

/// Writes what the programs know of their node.
fn write_node(config: &DataplaneConfig, pinned: &PinnedMaps) -> Result<(), LoadError> {
    let first = |v4: bool| {
        let address = config
            .node_addresses
            .iter()
            .find(|address| address.is_ipv4() == v4);
        address.map_or(Address::UNSPECIFIED, |address: &IpAddr| (*address).into())
    };
    let node = NodeConfig {
        netns_cookie: pods::netns_cookie()?,
        ipv4: first(true),
        ipv6: first(false),
        source_port_first: config.source_ports.0,
        source_port_last: config.source_ports.1.max(config.source_ports.0),
        reserved: 0,
    };
    let own = config.node_addresses.iter().map(|address| IpNet::from(*address));
    let keep_source = config.keep_source_cidrs.iter().chain(&config.cluster_pod_cidrs);
    let keep_source = keep_source.copied().chain(own);
    for (spec, prefixes) in [
        (&maps::NON_MASQUERADE, keep_source.collect()),
        (&maps::SERVICE_RANGES, config.service_cidrs.clone()),
    ] {
        let table = KernelTable::<PrefixKey, u32>::new(pinned.handle(spec)?)?;
        write_prefixes(
            &table,
            &prefixes.iter().map(|prefix| (prefix_key(prefix), 1)).collect(),
        )?;
    }
    KernelTable::<u32, NodeConfig>::new(pinned.handle(&maps::CONFIG)?)?.put(&0, &node)?;
    Ok(())
}

fn write_pod_ranges(
    table: &KernelTable<PrefixKey, PodRange>,
    cluster: &[IpNet],
    node: &[IpNet],
) -> Result<(), LoadError> {
    let all = PodRange::CLUSTER;
    let cluster = cluster.iter().map(|prefix| (prefix_key(prefix), all));
    // They may be the same; then this node's counts.
    let node = node
        .iter()
        .map(|prefix| (prefix_key(prefix), all.with(PodRange::NODE)));
    write_prefixes(table, &cluster.chain(node).collect())
}

fn prefix_key(prefix: &IpNet) -> PrefixKey {
    PrefixKey::new(prefix.network(), prefix.prefix_len())
}

/// Makes a map hold exactly these prefixes.
fn write_prefixes<V: Plain>(
    table: &KernelTable<PrefixKey, V>,
    wanted: &BTreeMap<PrefixKey, V>,
) -> Result<(), LoadError> {
    for (key, value) in wanted {
        table.put(key, value)?;
    }
    for (key, _) in table.entries()? {
        if !wanted.contains_key(&key) {
            table.delete(&key)?;
        }
    }
    Ok(())
}

fn targets(config: &DataplaneConfig) -> Result<Vec<(HookKind, Target)>, LoadError> {
    let mut targets = vec![(HookKind::Cgroup, Target::cgroup(&config.cgroup)?)];
    for name in &config.devices {
        targets.push((HookKind::Device, Target::device(name)?));
    }
    Ok(targets)
}

/// Loads an object over the pinned maps, and every program of it into the kernel.
fn load(object: &'static ObjectSpec, bytes: &[u8], pin_dir: &Path) -> Result<Ebpf, LoadError> {
    let mut loaded = EbpfLoader::new()
        .default_map_pin_directory(pin_dir)
        .load(bytes)
        .map_err(|source| LoadError::Object {
            object: object.name,
            source: Box::new(source),
        })?;
    for spec in object.programs {
        let program = loaded.program_mut(spec.name);
        let program = program.expect("the object was built with every program that objects.rs lists");
        let result = match program {
            Program::CgroupSock(program) => program.load(),
            Program::CgroupSockAddr(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            _ => Err(aya::programs::ProgramError::UnexpectedProgramType),
        };
        result.map_err(|source| LoadError::Program {
            program: spec.name,
            source: Box::new(source),
        })?;
    }
    Ok(loaded)
}

/// Attaches every program to each of its targets, in the order of the objects. Should one not attach, those that
/// were not attached before are taken back: the node is as it was, not half of what it was to become.
fn attach(
    pin_dir: &Path,
    loaded: &[(&'static ObjectSpec, Ebpf)],
    targets: &[(HookKind, Target)],
) -> Result<(), LoadError> {
    let links = pin_dir.join(LINKS);
    fs::create_dir_all(&links).map_err(LoadError::io("create folder", &links))?;
    let mut done = Vec::new();
    if let Err(error) = attach_all(pin_dir, loaded, targets, &mut done) {
        for (spec, target, _) in done.iter().filter(|(.., how)| *how == Attached::Created) {
            let pin = target.pin(pin_dir, spec);
            if let Err(error) = pins::remove_link(&pin) {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, pin = %pin.display(), "a link of the failed start stays attached");
            }
        }
        return Err(error);
    }
    remove_others(pin_dir, &done)?;
    let replaced = done.iter().filter(|(.., how)| *how == Attached::Replaced).count();
    tracing::info!(programs = done.len(), replaced, "dataplane attached");
    Ok(())
}

/// Attaches, and notes each link in `done`.
fn attach_all<'a>(
    pin_dir: &Path,
    loaded: &[(&'static ObjectSpec, Ebpf)],
    targets: &'a [(HookKind, Target)],
    done: &mut Vec<(&'static ProgramSpec, &'a Target, Attached)>,
) -> Result<(), LoadError> {
    for (object, ebpf) in loaded {
        for spec in object.programs {
            let program = ebpf.program(spec.name).expect("load() has found it");
            let fd = program.fd().map_err(|source| LoadError::Program {
                program: spec.name,
                source: Box::new(source),
            })?;
            use std::os::fd::AsFd as _;
            for (_, target) in targets.iter().filter(|(kind, _)| *kind == spec.kind) {
                let attachment = Attachment {
                    spec,
                    program: fd.as_fd(),
                    target,
                };
                done.push((spec, target, attachment.ensure(pin_dir)?));
            }
        }
    }
    Ok(())
}
