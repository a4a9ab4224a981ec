//! 10,000 Services of 10 endpoints in the kernel, and a proxy that follows an API in memory.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use skep_abi::{FrontendKey, PortBe, Protocol, Scope, ServiceId};
use skep_bpf_maps::ServiceMaps;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep};

use crate::BenchError;
use crate::engine::api::MemoryApi;
use crate::engine::fill::{RunningProxy, runtime};
use crate::engine::machine::Netns;
use crate::engine::node::{Node, NodeShape};
use crate::engine::services::{Objects, Service, Shape};
use crate::options::Context;

const SERVICES: usize = 10_000;
pub(super) const ENDPOINTS: usize = 10;
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(1);

pub(super) struct Bed {
    pub(super) runtime: Runtime,
    pub(super) api: MemoryApi,
    pub(super) services: Vec<Service>,
    pub(super) maps: Arc<dyn ServiceMaps>,
    proxy: RunningProxy,
    _node: Node,
}

/// The Services of the bed and of the server's.
pub(super) fn services(context: &Context) -> Vec<Service> {
    let shape = Shape {
        services: context.effort.pick(100, SERVICES, SERVICES),
        endpoints: ENDPOINTS,
        node_ports: false,
        real: Vec::new(),
    };
    shape.services()
}

impl Bed {
    pub(super) fn new(context: &Context) -> Result<Self, BenchError> {
        let netns = Netns::new()?;
        let node = Node::open(&netns, NodeShape::default())?;
        let services = services(context);
        let api = MemoryApi::new(Objects::of(&services)?);
        let (runtime, maps) = (runtime()?, node.maps());
        let proxy = runtime.block_on(async {
            let proxy = RunningProxy::start(api.client(), Arc::clone(&maps), &[]);
            proxy.in_step(&context.interrupt).await?;
            watched(&api).await.map(|()| proxy)
        })?;
        Ok(Self {
            runtime,
            api,
            services,
            maps,
            proxy,
            _node: node,
        })
    }

    pub(super) fn end(self) -> Result<(), BenchError> {
        self.runtime.block_on(self.proxy.stop())
    }
}

/// Waits until the proxy would hear of a change.
async fn watched(api: &MemoryApi) -> Result<(), BenchError> {
    let deadline = Instant::now() + PATIENCE;
    while !api.is_watched() {
        if Instant::now() > deadline {
            return Err(BenchError::Never("the service proxy watched its API".to_owned()));
        }
        sleep(POLL).await;
    }
    Ok(())
}

/// The element of SERVICES that a Service has.
pub(super) fn id(maps: &dyn ServiceMaps, service: &Service) -> Result<ServiceId, BenchError> {
    let key = FrontendKey {
        address: std::net::IpAddr::from(service.cluster_ip).into(),
        port: PortBe::from_host(service.port),
        protocol: Protocol::TCP,
        scope: Scope::ANY,
    };
    let found = maps.frontends().get(&key)?;
    let found = found.ok_or_else(|| BenchError::Never(format!("{} was in the maps", service.name)))?;
    Ok(found.service)
}

/// How many endpoints new connections to a Service may get, as a program would see it now.
pub(super) fn slot_count(maps: &dyn ServiceMaps, id: ServiceId) -> Result<usize, BenchError> {
    let value = maps.services().get(&id)?.unwrap_or_default();
    Ok(value.slots().1 as usize)
}

/// The one endpoint that changes becomes unready, or ready again: what its slice is then, and how many endpoints
/// the Service has.
pub(super) fn flip(service: &Service, ready: bool) -> Result<(EndpointSlice, usize), BenchError> {
    let unready = usize::from(!ready);
    Ok((service.slice(unready)?, service.endpoints.len() - unready))
}
