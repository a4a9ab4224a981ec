//! nftables, as kube-proxy lays its rules out.

use super::{Contender, Installed};
use crate::BenchError;
use crate::engine::command;
use crate::engine::interrupt::Interrupt;
use crate::engine::services::Service;
use crate::net::rules::nftables::generate;
use crate::net::topology::{NODE, Topology};

pub(in crate::net) struct Nftables;

/// The rules go with the namespace.
struct Rules;

impl Contender for Nftables {
    fn name(&self) -> &'static str {
        "nftables"
    }

    fn install(
        &self,
        topology: &Topology,
        services: &[Service],
        _: &Interrupt,
    ) -> Result<Box<dyn Installed>, BenchError> {
        let rules = generate(services, &[NODE]);
        topology.node.run(|| command::run("nft", &["-f", "-"], &rules))?;
        Ok(Box::new(Rules))
    }
}

impl Installed for Rules {}
