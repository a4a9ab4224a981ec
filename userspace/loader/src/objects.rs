//! The eBPF objects and the programs in them.

use crate::LoadError;

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/objects.rs"));
}

/// Where a program goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HookKind {
    /// The node's cgroup.
    Cgroup,
    /// Each of the node's devices.
    Device,
}

/// One program of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProgramSpec {
    /// Name in the object.
    pub(crate) name: &'static str,
    /// Name of the link's pin.
    pub(crate) hook: &'static str,
    pub(crate) kind: HookKind,
    /// `enum bpf_attach_type`.
    pub(crate) attach_type: u32,
}

/// One object file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ObjectSpec {
    pub(crate) name: &'static str,
    bytes: Option<&'static [u8]>,
    pub(crate) programs: &'static [ProgramSpec],
}

impl ObjectSpec {
    /// The object's content.
    ///
    /// # Errors
    /// [`LoadError::NoPrograms`] when this binary was built without it.
    pub(crate) fn bytes(&self) -> Result<&'static [u8], LoadError> {
        self.bytes.ok_or(LoadError::NoPrograms)
    }
}

const fn cgroup(name: &'static str, hook: &'static str, attach_type: u32) -> ProgramSpec {
    ProgramSpec {
        name,
        hook,
        kind: HookKind::Cgroup,
        attach_type,
    }
}

const fn device(name: &'static str, hook: &'static str, attach_type: u32) -> ProgramSpec {
    ProgramSpec {
        name,
        hook,
        kind: HookKind::Device,
        attach_type,
    }
}

/// All objects. The order is that of attaching: what shows a backend's address as the Service's comes before
/// what sends to a backend, and what translates answers before what translates requests.
pub(crate) const OBJECTS: [ObjectSpec; 2] = [
    ObjectSpec {
        name: "skep-cgroup-sock.o",
        bytes: embedded::CGROUP_SOCK,
        programs: &[
            cgroup("skep_post_bind4", "post_bind4", 12),
            cgroup("skep_post_bind6", "post_bind6", 13),
            cgroup("skep_recvmsg4", "recvmsg4", 19),
            cgroup("skep_recvmsg6", "recvmsg6", 20),
            cgroup("skep_getpeer4", "getpeername4", 29),
            cgroup("skep_getpeer6", "getpeername6", 30),
            cgroup("skep_sendmsg4", "sendmsg4", 14),
            cgroup("skep_sendmsg6", "sendmsg6", 15),
            cgroup("skep_connect4", "connect4", 10),
            cgroup("skep_connect6", "connect6", 11),
        ],
    },
    ObjectSpec {
        name: "skep-tc.o",
        bytes: embedded::TC,
        programs: &[
            device("skep_egress", "tcx_egress", 47),
            device("skep_ingress", "tcx_ingress", 46),
        ],
    },
];
