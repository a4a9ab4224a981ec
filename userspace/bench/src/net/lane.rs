//! A contender with so many Services, on machines of its own.

use std::time::{Duration, Instant};

use super::contenders::{Contender, Installed};
use super::group::Kind;
use super::topology::{Path, Topology, backends};
use super::workloads::{CORE, Measured, Workload};
use crate::BenchError;
use crate::engine::interrupt::Interrupt;
use crate::engine::machine::pin_to_core;
use crate::engine::services::{Position, Service, Shape, counted};

/// Endpoints of each Service.
const ENDPOINTS: usize = 2;

pub(super) struct Lane {
    contender: &'static str,
    services: Vec<Service>,
    /// What it took to install the contender with all Services.
    pub(super) load_time: Duration,
    // The contender goes before the machines it is on.
    installed: Box<dyn Installed>,
    topology: Topology,
}

/// One cell of a round.
pub(super) struct Cell<'a> {
    pub(super) path: Path,
    pub(super) position: Position,
    pub(super) workload: &'a dyn Workload,
}

impl Cell<'_> {
    pub(super) fn kind(&self) -> Kind {
        Kind {
            path: self.path,
            position: self.position,
            workload: self.workload.name(),
            unit: self.workload.unit(),
        }
    }
}

impl Lane {
    pub(super) fn new(
        contender: &dyn Contender,
        services: usize,
        interrupt: &Interrupt,
    ) -> Result<Self, BenchError> {
        let topology = Topology::new()?;
        let shape = Shape {
            services,
            endpoints: ENDPOINTS,
            node_ports: true,
            real: backends(),
        };
        let services = shape.services();
        let started = Instant::now();
        let installed = contender.install(&topology, &services, interrupt)?;
        Ok(Self {
            contender: contender.name(),
            services,
            load_time: started.elapsed(),
            installed,
            topology,
        })
    }

    /// Contender and number of Services.
    pub(super) fn name(&self) -> String {
        format!("{}, {}", self.contender, counted(self.services.len()))
    }

    /// Measures one cell.
    ///
    /// # Errors
    /// [`BenchError::Io`] when the server does not answer.
    pub(super) fn measure(
        &self,
        cell: &Cell<'_>,
        warm_up: Duration,
        time: Duration,
    ) -> Result<Measured, BenchError> {
        let service = &self.services[cell.position.of(self.services.len())];
        let to = self.installed.address(cell.path, service);
        let what = format!(
            "{} by {} over {}",
            cell.workload.name(),
            self.name(),
            cell.path.name()
        );
        let _inside = self.installed.enter(cell.path)?;
        self.topology.client(cell.path).run(|| {
            pin_to_core(CORE)?;
            cell.workload.run(to, warm_up, time).map_err(BenchError::io(what))
        })
    }
}
