//! What a proxy and its maps take, by the number of Services.
//!
//! Each size is measured in a process of its own: an allocator keeps what was freed.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};
use skep_abi::maps;
use skep_bpf_maps::RawMap;

use super::Part;
use super::bed::ENDPOINTS;
use crate::BenchError;
use crate::engine::api::MemoryApi;
use crate::engine::fill::{RunningProxy, runtime};
use crate::engine::machine::Netns;
use crate::engine::node::{Node, NodeShape};
use crate::engine::report::Row;
use crate::engine::services::{Objects, Shape, counted};
use crate::engine::statistics::Estimate;
use crate::options::Context;

const SIZES: [usize; 3] = [1_000, 10_000, 30_000];
const MIB: f64 = 1_048_576.0;

/// Bytes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Memory {
    services: usize,
    /// What the process has grown by: the informers' objects, the table, the runtime.
    proxy_rss: u64,
    /// What the kernel says of all maps.
    maps: u64,
}

pub(super) fn run(context: &Context) -> Result<Part, BenchError> {
    let sizes: &[usize] = context.effort.pick(&[100], &SIZES, &SIZES);
    let mut rows = Vec::new();
    let mut all = Vec::new();
    for &services in sizes {
        context.interrupt.check()?;
        let memory = of_child(services, context)?;
        for (what, bytes) in [
            ("resident set of the proxy", memory.proxy_rss),
            ("maps", memory.maps),
        ] {
            let name = format!("memory, {} of {ENDPOINTS}: {what}", counted(services));
            rows.push(Row::figure(name, Estimate::exact(bytes as f64 / MIB), "MiB"));
        }
        all.push(memory);
    }
    Ok((rows, serde_json::to_value(all)?))
}

/// Starts this program again for one size. In a smoke run there is no such program: the test's own process serves.
fn of_child(services: usize, context: &Context) -> Result<Memory, BenchError> {
    if context.effort == crate::Effort::Smoke {
        return measure(services, context);
    }
    let failed = || BenchError::io("start this program again");
    let program = std::env::current_exe().map_err(failed())?;
    let output = Command::new(program)
        .args(std::env::args_os().skip(1))
        .args(["--memory-of", &services.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .map_err(failed())?;
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What the process started by [`of_child`] does.
///
/// # Errors
/// Those of the proxy and the dataplane.
#[expect(
    clippy::print_stdout,
    reason = "the answer to the process that started this one"
)]
pub(crate) fn print(services: usize, context: &Context) -> Result<(), BenchError> {
    println!("{}", serde_json::to_string(&measure(services, context)?)?);
    Ok(())
}

fn measure(services: usize, context: &Context) -> Result<Memory, BenchError> {
    let netns = Netns::new()?;
    let node = Node::open(&netns, NodeShape::default())?;
    let before = resident()?;
    let shape = Shape {
        services,
        endpoints: ENDPOINTS,
        node_ports: false,
        real: Vec::new(),
    };
    let api = MemoryApi::new(Objects::of(&shape.services())?);
    let runtime = runtime()?;
    let after = runtime.block_on(async {
        let proxy = RunningProxy::start(api.client(), node.maps(), &[]);
        let result = proxy.in_step(&context.interrupt).await;
        let after = resident();
        proxy.stop().await?;
        result.and(after)
    })?;
    Ok(Memory {
        services,
        proxy_rss: after.saturating_sub(before),
        maps: map_bytes(&node)?,
    })
}

/// Resident bytes of this process.
fn resident() -> Result<u64, BenchError> {
    let path = "/proc/self/status";
    let text = fs::read_to_string(path).map_err(BenchError::io(format!("read {path}")))?;
    let kibibytes = text.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?
            .trim()
            .strip_suffix(" kB")?
            .parse::<u64>()
            .ok()
    });
    Ok(kibibytes.unwrap_or(0) * 1_024)
}

/// What the kernel says that the maps of a node take now.
fn map_bytes(node: &Node) -> Result<u64, BenchError> {
    let mut bytes = 0;
    for spec in maps::ALL {
        if let Some(map) = RawMap::open(spec, node.pin_dir())? {
            let path = format!("/proc/self/fdinfo/{}", map.as_fd().as_raw_fd());
            let text = fs::read_to_string(&path).map_err(BenchError::io(format!("read {path}")))?;
            let of_map = text
                .lines()
                .find_map(|line| line.strip_prefix("memlock:")?.trim().parse::<u64>().ok());
            bytes += of_map.unwrap_or(0);
        }
    }
    Ok(bytes)
}
