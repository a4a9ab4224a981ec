//! iptables, as kube-proxy lays its rules out.
//!
//! The one that is older than nftables and walks rules by itself: it loads and walks long chains faster than the
//! one that speaks to nftables, so that iptables is shown at its best.

use super::{Contender, Installed};
use crate::BenchError;
use crate::engine::command;
use crate::engine::interrupt::Interrupt;
use crate::engine::services::Service;
use crate::net::rules::iptables::generate;
use crate::net::topology::Topology;

pub(in crate::net) struct Iptables;

/// The rules go with the namespace.
struct Rules;

impl Contender for Iptables {
    fn name(&self) -> &'static str {
        "iptables"
    }

    fn install(
        &self,
        topology: &Topology,
        services: &[Service],
        _: &Interrupt,
    ) -> Result<Box<dyn Installed>, BenchError> {
        let rules = generate(services);
        let options = ["--noflush", "--counters"];
        topology
            .node
            .run(|| command::run("iptables-legacy-restore", &options, &rules))?;
        Ok(Box::new(Rules))
    }
}

impl Installed for Rules {}
