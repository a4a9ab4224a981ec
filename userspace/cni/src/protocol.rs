//! What plugin and agent say to each other: one JSON line each way; the pod's network namespace comes along with the
//! first byte of the request (SCM_RIGHTS).

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// Longest line that either side takes.
pub(crate) const LINE_LIMIT: usize = 1 << 20;

/// CNI error codes (specification 1.1, section "Error") that are used here; from 100 on they are ours.
pub(crate) mod code {
    pub(crate) const INCOMPATIBLE_VERSION: u32 = 1;
    pub(crate) const UNKNOWN_CONTAINER: u32 = 3;
    pub(crate) const INVALID_ENVIRONMENT: u32 = 4;
    pub(crate) const IO_FAILURE: u32 = 5;
    pub(crate) const UNDECODABLE: u32 = 6;
    pub(crate) const INVALID_CONFIG: u32 = 7;
    pub(crate) const TRY_AGAIN_LATER: u32 = 11;
    pub(crate) const NOT_AVAILABLE: u32 = 50;
    pub(crate) const NETWORK: u32 = 100;
    pub(crate) const DIFFERS: u32 = 101;
}

/// One interface of one container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Attachment {
    #[serde(rename = "containerID")]
    pub(crate) container: String,
    #[serde(rename = "ifname")]
    pub(crate) interface: String,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase")]
pub(crate) enum Request {
    Add {
        #[serde(flatten)]
        attachment: Attachment,
    },
    Del {
        #[serde(flatten)]
        attachment: Attachment,
    },
    Check {
        #[serde(flatten)]
        attachment: Attachment,
        /// Addresses that the runtime knows from ADD, with their prefix lengths.
        known: Vec<String>,
    },
    Gc {
        valid: Vec<Attachment>,
    },
    Status,
}

/// What ADD made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attached {
    pub(crate) host_interface: String,
    pub(crate) host_mac: String,
    pub(crate) mac: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) mtu: u32,
}

/// A CNI error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) code: u32,
    pub(crate) msg: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) details: String,
}

impl Failure {
    pub(crate) fn new(code: u32, msg: impl Into<String>) -> Self {
        Self {
            code,
            msg: msg.into(),
            details: String::new(),
        }
    }

    pub(crate) fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reply {
    Attached(Attached),
    Done,
    Failed(Failure),
}
