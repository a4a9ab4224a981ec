//! What a user does with a running cluster: one cluster of two nodes, every behaviour a trial on it.

mod dns;
mod explain;
mod kubectl;
mod nodeport;
mod resilience;
mod services;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use libtest_mimic::{Arguments, Failed, Trial};
use skep_tests::{TestCluster, kubectl_versions, require_root};

const NAME: &str = "e2e";
const NODES: u16 = 2;

type Behaviour = fn(&TestCluster) -> Result<()>;

/// Every behaviour, in the order in which they run.
const BEHAVIOURS: &[(&str, Behaviour)] = &[
    ("objects_are_listed_as_upstream_prints_them", kubectl::lists),
    ("a_watch_shows_changes_as_they_happen", kubectl::watches),
    ("errors_read_as_upstream", kubectl::errors),
    (
        "a_service_name_answers_from_all_replicas",
        services::name_answers_from_all_replicas,
    ),
    (
        "the_translation_happens_at_the_socket",
        services::translated_at_the_socket,
    ),
    (
        "a_service_without_endpoints_refuses_at_once",
        services::refuses_without_endpoints,
    ),
    ("udp_services_answer", services::udp_answers),
    ("names_and_addresses_resolve", dns::resolves),
    ("a_headless_service_resolves_to_its_pods", dns::headless),
    ("services_are_shown_as_the_kernel_has_them", explain::list_and_get),
    ("a_connection_is_explained_as_it_goes", explain::explain),
    ("every_map_can_be_read", explain::maps),
    (
        "every_node_answers_at_the_node_port",
        nodeport::every_node_answers,
    ),
    (
        "a_node_port_reaches_a_backend_on_the_other_node",
        nodeport::remote_backend,
    ),
    (
        "deleting_a_backend_under_load_fails_no_request",
        resilience::delete_backend,
    ),
    ("killing_the_agent_breaks_no_connection", resilience::kill_agent),
    (
        "a_restarted_agent_leaves_containers_alone",
        resilience::containers_survive,
    ),
    ("killing_the_server_loses_no_object", resilience::kill_server),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(None)).exit_code();
    }
    let cluster = match require_root().and_then(|()| TestCluster::start(NAME, NODES)) {
        Ok(cluster) => Arc::new(cluster),
        Err(error) => {
            eprintln!("the cluster could not be started: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let conclusion = libtest_mimic::run(&arguments, trials(Some(&cluster)));
    // Every trial has ended and dropped its handle.
    let stopped = Arc::into_inner(cluster)
        .context("a trial still holds the cluster")
        .and_then(TestCluster::stop);
    match stopped {
        Ok(()) => conclusion.exit_code(),
        Err(error) => {
            eprintln!("the cluster could not be taken down: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn trials(cluster: Option<&Arc<TestCluster>>) -> Vec<Trial> {
    let behaviours = BEHAVIOURS.iter().map(|(name, behaviour)| {
        let cluster = cluster.cloned();
        trial((*name).to_owned(), cluster, *behaviour)
    });
    let versions = kubectl_versions().into_iter().map(|program| {
        let cluster = cluster.cloned();
        let name = program
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        trial(
            format!("{name}_behaves_as_with_upstream"),
            cluster,
            move |cluster: &TestCluster| kubectl::session(cluster, &program),
        )
    });
    behaviours.chain(versions).collect()
}

fn trial(
    name: String,
    cluster: Option<Arc<TestCluster>>,
    behaviour: impl Fn(&TestCluster) -> Result<()> + Send + 'static,
) -> Trial {
    Trial::test(name, move || {
        let Some(cluster) = cluster else { return Ok(()) };
        behaviour(&cluster).map_err(|error| Failed::from(format!("{error:#}")))
    })
}
