//! A proxy that starts with empty maps and very many Services.

use std::time::Instant;

use serde_json::json;

use super::Part;
use crate::BenchError;
use crate::engine::api::MemoryApi;
use crate::engine::fill::{RunningProxy, runtime};
use crate::engine::machine::Netns;
use crate::engine::node::{Node, NodeShape};
use crate::engine::report::{Row, Target};
use crate::engine::services::{Objects, Shape, counted};
use crate::engine::statistics::Estimate;
use crate::options::Context;

const SERVICES: usize = 44_000;
const ENDPOINTS: usize = 2;
const TARGET_S: f64 = 5.0;

pub(super) fn run(context: &Context) -> Result<Part, BenchError> {
    let services = context.effort.pick(440, SERVICES, SERVICES);
    let (mut whole_s, mut write_s) = (Vec::new(), Vec::new());
    for _ in 0..context.effort.pick(1, 3, 7) {
        context.interrupt.check()?;
        let (whole, write) = once(services, context)?;
        whole_s.push(whole);
        write_s.push(write);
    }
    let name = |what| {
        format!(
            "cold sync of {} with {ENDPOINTS} endpoints: {what}",
            counted(services)
        )
    };
    let whole = Estimate::of(&whole_s).map(|value| {
        Row::figure(name("from start to in step"), value, "s").against(Target::AtMost(TARGET_S))
    });
    let write =
        Estimate::of(&write_s).map(|value| Row::figure(name("compiling and writing alone"), value, "s"));
    let rows = whole.into_iter().chain(write).collect();
    Ok((rows, json!({"wholeSeconds": whole_s, "writeSeconds": write_s})))
}

/// Seconds until everything is in the maps, and those of compiling and writing among them.
fn once(services: usize, context: &Context) -> Result<(f64, f64), BenchError> {
    let netns = Netns::new()?;
    let node = Node::open(&netns, NodeShape::default())?;
    let shape = Shape {
        services,
        endpoints: ENDPOINTS,
        node_ports: false,
        real: Vec::new(),
    };
    let api = MemoryApi::new(Objects::of(&shape.services())?);
    let (whole, write) = runtime()?.block_on(async {
        let started = Instant::now();
        let proxy = RunningProxy::start(api.client(), node.maps(), &[]);
        let result = proxy.in_step(&context.interrupt).await;
        let whole = started.elapsed().as_secs_f64();
        let write = proxy.metric("kubeproxy_sync_full_proxy_rules_duration_seconds_sum");
        proxy.stop().await?;
        result.map(|()| (whole, write))
    })?;
    let found = node.maps().frontends().entries()?.len();
    if found != services {
        return Err(BenchError::Never(format!(
            "{services} frontends were written: there are {found}"
        )));
    }
    Ok((whole, write))
}
