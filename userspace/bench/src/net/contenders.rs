//! Ways from a client to a backend. A contender is one file.

mod direct;
mod iptables;
mod nftables;
mod skep;

use std::net::SocketAddrV4;

use crate::BenchError;
use crate::engine::interrupt::Interrupt;
use crate::engine::machine::Inside;
use crate::engine::services::Service;
use crate::net::topology::{NODE, Path, Topology, backends};

pub(super) use direct::Direct;
pub(super) use iptables::Iptables;
pub(super) use nftables::Nftables;
pub(super) use skep::Skep;

/// A kind of service proxy.
pub(super) trait Contender {
    /// Its name in reports.
    fn name(&self) -> &'static str;

    /// Makes the node of a topology translate these Services.
    ///
    /// # Errors
    /// When it refuses.
    fn install(
        &self,
        topology: &Topology,
        services: &[Service],
        interrupt: &Interrupt,
    ) -> Result<Box<dyn Installed>, BenchError>;
}

/// A contender that stands. What it took of the machine goes with it.
pub(super) trait Installed {
    /// What the client of a path dials for a Service.
    fn address(&self, path: Path, service: &Service) -> SocketAddrV4 {
        match path {
            Path::ClusterIp => service.frontend(),
            Path::NodePort => service
                .node_port
                .map_or(service.frontend(), |port| SocketAddrV4::new(NODE, port)),
        }
    }

    /// Makes sockets of this process those of a path's client, where a contender tells them apart by more than
    /// their namespace.
    ///
    /// # Errors
    /// [`BenchError::Io`].
    fn enter(&self, _path: Path) -> Result<Option<Inside>, BenchError> {
        Ok(None)
    }
}

/// The address of a backend itself.
fn backend() -> SocketAddrV4 {
    backends()[0]
}
