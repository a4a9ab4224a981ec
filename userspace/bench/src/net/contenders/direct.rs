//! No Service at all: the client dials the backend.

use std::net::SocketAddrV4;

use super::{Contender, Installed, backend};
use crate::BenchError;
use crate::engine::interrupt::Interrupt;
use crate::engine::services::Service;
use crate::net::topology::{Path, Topology};

/// With another name for the control: the same again, which shows how much is noise.
pub(in crate::net) struct Direct(pub(in crate::net) &'static str);

struct Nothing;

impl Contender for Direct {
    fn name(&self) -> &'static str {
        self.0
    }

    fn install(&self, _: &Topology, _: &[Service], _: &Interrupt) -> Result<Box<dyn Installed>, BenchError> {
        Ok(Box::new(Nothing))
    }
}

impl Installed for Nothing {
    fn address(&self, _: Path, _: &Service) -> SocketAddrV4 {
        backend()
    }
}
