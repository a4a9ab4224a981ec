//! Amounts of resources in the units that scheduling counts in.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;
use skep_api::Quantity;

/// What a pod without a CPU or memory request counts as when nodes are compared, so that many such pods do not all land
/// on one node. As upstream's DefaultMilliCPURequest and DefaultMemoryRequest.
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY_BYTES: i64 = 200 << 20;

/// A list of resources as the API has it.
type ResourceList = BTreeMap<String, WireQuantity>;

/// Amounts by resource; what is absent is zero. Sums saturate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory_bytes: i64,
    pub ephemeral_bytes: i64,
    /// Everything else (huge pages, extended resources) by name, in units.
    pub others: BTreeMap<String, i64>,
}

impl Resources {
    /// From the API's list. `pods` is no amount of this kind and left out. An amount that cannot be read (the API
    /// refuses such objects) becomes `unreadable`.
    #[must_use]
    pub fn from_list(list: &BTreeMap<String, WireQuantity>, unreadable: i64) -> Self {
        let mut resources = Self::default();
        for (name, quantity) in list {
            let read = |scale: fn(Quantity) -> i64| Quantity::try_from(quantity).map_or(unreadable, scale);
            match name.as_str() {
                "cpu" => resources.milli_cpu = read(Quantity::milli_value),
                "memory" => resources.memory_bytes = read(Quantity::value),
                "ephemeral-storage" => resources.ephemeral_bytes = read(Quantity::value),
                "pods" => {}
                other => drop(resources.others.insert(other.to_owned(), read(Quantity::value))),
            }
        }
        resources
    }

    fn combine(&mut self, other: &Self, combine: fn(i64, i64) -> i64) {
        self.milli_cpu = combine(self.milli_cpu, other.milli_cpu);
        self.memory_bytes = combine(self.memory_bytes, other.memory_bytes);
        self.ephemeral_bytes = combine(self.ephemeral_bytes, other.ephemeral_bytes);
        for (name, amount) in &other.others {
            let mine = self.others.entry(name.clone()).or_default();
            *mine = combine(*mine, *amount);
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, i64::saturating_sub);
        self.others.retain(|_, amount| *amount != 0);
    }

    /// At least as much of everything as the other.
    pub fn raise_to(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    /// Overwrites the amounts that `list` names.
    fn override_by(&mut self, list: &ResourceList, unreadable: i64) {
        let other = Self::from_list(list, unreadable);
        for name in list.keys() {
            match name.as_str() {
                "cpu" => self.milli_cpu = other.milli_cpu,
                "memory" => self.memory_bytes = other.memory_bytes,
                _ => {}
            }
        }
    }
}

/// A pod's requests: what it needs to run, and what it counts as when nodes are compared.
pub(crate) struct PodRequests {
    pub(crate) needed: Resources,
    pub(crate) compared: Resources,
}

/// What a pod asks for: the most of what its containers need together and what any moment of its initialization needs,
/// plus the overhead. Restartable init containers (sidecars) run on beside everything that starts after them.
/// As upstream's `resourcehelper.PodRequests`.
pub(crate) fn pod_requests(spec: &PodSpec) -> PodRequests {
    PodRequests {
        needed: total(spec, |requests| Resources::from_list(requests, i64::MAX)),
        compared: total(spec, |requests| {
            let mut resources = Resources::from_list(requests, i64::MAX);
            if !requests.contains_key("cpu") {
                resources.milli_cpu = DEFAULT_MILLI_CPU;
            }
            if !requests.contains_key("memory") {
                resources.memory_bytes = DEFAULT_MEMORY_BYTES;
            }
            resources
        }),
    }
}

fn total(spec: &PodSpec, of: impl Fn(&ResourceList) -> Resources) -> Resources {
    static NOTHING: ResourceList = ResourceList::new();
    let requests = |requirements: Option<&ResourceRequirements>| {
        of(requirements
            .and_then(|requirements| requirements.requests.as_ref())
            .unwrap_or(&NOTHING))
    };
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&requests(container.resources.as_ref()));
    }
    let mut sidecars = Resources::default();
    let mut initializing = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let mut now = requests(container.resources.as_ref());
        if container.restart_policy.as_deref() == Some("Always") {
            running.add(&now);
            sidecars.add(&now);
            now = sidecars.clone();
        } else {
            now.add(&sidecars);
        }
        initializing.raise_to(&now);
    }
    running.raise_to(&initializing);
    // Requests of the pod as a whole stand for those of its containers.
    if let Some(whole) = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref())
    {
        running.override_by(whole, i64::MAX);
    }
    if let Some(overhead) = &spec.overhead {
        running.add(&Resources::from_list(overhead, i64::MAX));
    }
    running
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn requests(spec: serde_json::Value) -> PodRequests {
        pod_requests(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn containers_add_up_and_init_containers_count_by_the_largest() {
        let container = |cpu: &str, memory: &str| json!({ "name": "c", "resources": { "requests": { "cpu": cpu, "memory": memory } } });
        let requests = requests(json!({
            "containers": [container("100m", "64Mi"), container("0.2", "64Mi")],
            "initContainers": [container("1", "16Mi"), container("500m", "32Mi")],
            "overhead": { "cpu": "10m" },
        }));
        assert_eq!(requests.needed.milli_cpu, 1010);
        assert_eq!(requests.needed.memory_bytes, 128 << 20);
    }

    #[test]
    fn sidecars_run_beside_what_starts_after_them() {
        let init = |cpu: &str, policy: Option<&str>| json!({ "name": "i", "restartPolicy": policy, "resources": { "requests": { "cpu": cpu } } });
        let requests = requests(json!({
            "containers": [{ "name": "c", "resources": { "requests": { "cpu": "1" } } }],
            "initContainers": [init("4", None), init("2", Some("Always")), init("3", None)],
        }));
        assert_eq!(requests.needed.milli_cpu, 5000);
    }

    #[test]
    fn requests_of_the_whole_pod_stand_for_its_containers() {
        let requests = requests(json!({
            "containers": [{ "name": "c", "resources": { "requests": { "cpu": "1", "example.com/gpu": 2 } } }],
            "resources": { "requests": { "cpu": "3" } },
        }));
        assert_eq!(requests.needed.milli_cpu, 3000);
        assert_eq!(requests.needed.others["example.com/gpu"], 2);
    }

    #[test]
    fn a_container_without_requests_needs_nothing_but_counts() {
        let requests = requests(json!({ "containers": [{ "name": "a" }, { "name": "b" }] }));
        assert_eq!(requests.needed, Resources::default());
        assert_eq!(requests.compared.milli_cpu, 2 * DEFAULT_MILLI_CPU);
        assert_eq!(requests.compared.memory_bytes, 2 * DEFAULT_MEMORY_BYTES);
    }
}
