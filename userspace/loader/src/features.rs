//! What the kernel must be able to do, asked of the kernel itself.

use aya::maps::MapType;
use aya::programs::{ProgramError, ProgramType};
use aya::sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported};

use crate::LoadError;

/// One thing the dataplane needs of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// What it is, with the Linux version that brought it.
    pub name: &'static str,
    /// What does not work without it.
    pub purpose: &'static str,
    /// What was seen instead, when it is missing.
    pub missing: Option<String>,
}

enum Probe {
    Map(MapType),
    Program(ProgramType),
    Helper(ProgramType, BpfHelper),
}

const SOCKET: ProgramType = ProgramType::CgroupSockAddr;
const BIND: ProgramType = ProgramType::CgroupSock;
const PACKET: ProgramType = ProgramType::SchedClassifier;

const PROBES: &[(Probe, &str, &str)] = &[
    (Probe::Map(MapType::Hash), "hash maps (Linux 3.19)", "Services"),
    (
        Probe::Map(MapType::PerCpuArray),
        "per-CPU array maps (Linux 4.6)",
        "counters",
    ),
    (
        Probe::Map(MapType::LruHash),
        "LRU hash maps (Linux 4.10)",
        "connection tracking",
    ),
    (
        Probe::Map(MapType::LpmTrie),
        "longest-prefix maps (Linux 4.11)",
        "address ranges",
    ),
    (
        Probe::Program(SOCKET),
        "cgroup socket address programs (Linux 4.17)",
        "ClusterIP",
    ),
    (
        Probe::Helper(SOCKET, BpfHelper::BPF_FUNC_get_socket_cookie),
        "socket cookies in cgroup programs (Linux 4.18)",
        "the Service address in getpeername and recvmsg",
    ),
    (
        Probe::Helper(SOCKET, BpfHelper::BPF_FUNC_get_netns_cookie),
        "bpf_get_netns_cookie in cgroup programs (Linux 5.7)",
        "NodePort on the loopback address",
    ),
    (
        Probe::Helper(SOCKET, BpfHelper::BPF_FUNC_set_retval),
        "bpf_set_retval (Linux 5.18)",
        "ECONNREFUSED for Services without endpoints",
    ),
    (
        Probe::Program(BIND),
        "cgroup socket programs (Linux 4.10)",
        "node ports that no program of the node can take",
    ),
    (
        Probe::Helper(BIND, BpfHelper::BPF_FUNC_get_netns_cookie),
        "bpf_get_netns_cookie in cgroup socket programs (Linux 5.7)",
        "ports of pods, which may be anything",
    ),
    (
        Probe::Program(PACKET),
        "traffic control programs (Linux 4.1)",
        "NodePort and masquerade",
    ),
    (
        Probe::Helper(PACKET, BpfHelper::BPF_FUNC_ktime_get_coarse_ns),
        "bpf_ktime_get_coarse_ns (Linux 5.11)",
        "connection tracking",
    ),
    (
        Probe::Helper(PACKET, BpfHelper::BPF_FUNC_skb_change_tail),
        "bpf_skb_change_tail (Linux 4.9)",
        "RST and ICMP errors for addresses that are not the node's",
    ),
    (
        Probe::Helper(PACKET, BpfHelper::BPF_FUNC_fib_lookup),
        "bpf_fib_lookup (Linux 4.18)",
        "remote NodePort backends",
    ),
    (
        Probe::Helper(PACKET, BpfHelper::BPF_FUNC_redirect_neigh),
        "bpf_redirect_neigh (Linux 5.10)",
        "remote NodePort backends",
    ),
];

/// Probes every feature that can be probed without attaching anything. tcx links (Linux 6.6) show themselves
/// when the dataplane is opened.
///
/// # Errors
/// [`LoadError::NotPermitted`].
pub fn features() -> Result<Vec<Feature>, LoadError> {
    PROBES
        .iter()
        .map(|(probe, name, purpose)| {
            let missing = match run(probe) {
                Ok(true) => None,
                Ok(false) => Some("the kernel refused a probe of it".to_owned()),
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                    return Err(LoadError::NotPermitted);
                }
                Err(error) => Some(error.to_string()),
            };
            Ok(Feature {
                name,
                purpose,
                missing,
            })
        })
        .collect()
}

/// Fails with the first missing feature.
pub(crate) fn require() -> Result<(), LoadError> {
    match features()?.into_iter().find(|feature| feature.missing.is_some()) {
        None => Ok(()),
        Some(Feature {
            name,
            purpose,
            missing,
        }) => Err(LoadError::MissingFeature {
            feature: name,
            purpose,
            reason: missing.unwrap_or_default(),
        }),
    }
}

fn run(probe: &Probe) -> Result<bool, std::io::Error> {
    let program_error = |error| match error {
        ProgramError::SyscallError(error) => error.io_error,
        error => std::io::Error::other(error),
    };
    match *probe {
        Probe::Map(kind) => is_map_supported(kind).map_err(|error| error.io_error),
        Probe::Program(kind) => is_program_supported(kind).map_err(program_error),
        Probe::Helper(kind, helper) => is_helper_supported(kind, helper).map_err(program_error),
    }
}
