//! `skep status`: what the processes, the API server and the kernel say, not what was configured.

use anyhow::Result;
use k8s_openapi::api::core::v1::Node;
use skep_client::{Client, ListOptions};
use skep_cluster::{NodePlan, Record, node_is_ready};
use skep_loader::{Dataplane, DataplaneStatus, LinkTarget, ProgramStatus};

use super::place::Pinned;
use super::{Named, block_on};
use crate::output::{bad, bold, bytes, good, print, table};

pub(super) fn run(named: &Named) -> Result<()> {
    let record = named.cluster().record()?;
    block_on(server(&record))??;
    for node in &record.plan.nodes {
        print(&format!("\n{}\n", bold(&format!("Node {}", node.name))))?;
        dataplane(node)?;
        dns(&record, node)?;
    }
    Ok(())
}

async fn server(record: &Record) -> Result<()> {
    let plan = &record.plan;
    let client = Client::from_kubeconfig(plan.kubeconfig())?;
    print(&format!("{}\n", bold(&format!("Cluster {}", plan.name))))?;
    print(&format!(
        "  API server  {}  {}\n",
        plan.api_url(),
        process(record, "server")
    ))?;
    match client.get_raw("/readyz").await {
        Ok(_) => print(&format!("  ready       {}\n", good("yes")))?,
        Err(error) => {
            print(&format!("  ready       {}\n", bad(&format!("no: {error}"))))?;
            return Ok(());
        }
    }
    let nodes = client.list::<Node>(None, &ListOptions::default()).await?;
    let mut table = table(&["NODE", "STATUS", "ADDRESS", "PODS", "AGENT", "CONTAINERD"], &[]);
    for node in &plan.nodes {
        let object = nodes
            .items
            .iter()
            .find(|object| object.metadata.name.as_deref() == Some(&node.name));
        let ready = match object {
            Some(object) if node_is_ready(object) => "Ready",
            Some(_) => "NotReady",
            None => "not registered",
        };
        let pods = object
            .and_then(|object| object.spec.as_ref()?.pod_cidr.clone())
            .unwrap_or_default();
        table.add_row([
            node.name.clone(),
            ready.to_owned(),
            node.address.to_string(),
            pods,
            process(record, &format!("agent-{}", node.name)),
            process(record, &format!("containerd-{}", node.name)),
        ]);
    }
    print(&format!("{table}\n"))?;
    Ok(())
}

fn dataplane(node: &NodePlan) -> Result<()> {
    match Dataplane::inspect(&Pinned::of(node).pin_dir) {
        Ok(status) => show(&status),
        Err(error) => Ok(print(&format!("  dataplane  {}\n", bad(&error.to_string())))?),
    }
}

fn show(status: &DataplaneStatus) -> Result<()> {
    // The kernel counts runs only while it is asked to; a column of zeroes would say that nothing runs.
    let counted = status.programs.iter().any(|program| program.run_count > 0);
    let header = ["PROGRAM", "ATTACHED TO", "VERIFIED", "RUNS", "NS/RUN"];
    let (shown, numbers): (&[_], &[_]) = if counted {
        (&header, &[2, 3, 4])
    } else {
        (&header[..3], &[2])
    };
    let mut programs = table(shown, numbers);
    for program in &status.programs {
        let mut row = vec![
            program.hook.clone(),
            target(program),
            program.verified_instructions.to_string(),
        ];
        if counted {
            let mean = program.mean_run_ns().map(|nanoseconds| nanoseconds.to_string());
            row.extend([
                program.run_count.to_string(),
                mean.unwrap_or_else(|| "-".to_owned()),
            ]);
        }
        programs.add_row(row);
    }
    print(&format!("{programs}\n"))?;
    if !counted {
        print("  (sysctl kernel.bpf_stats_enabled=1 makes the kernel count runs and their time)\n")?;
    }
    let mut maps = table(&["MAP", "ENTRIES", "CAPACITY", "FILL", "MEMORY"], &[1, 2, 3, 4]);
    for map in &status.maps {
        let fill = f64::from(map.entries) * 100.0 / f64::from(map.capacity.max(1));
        maps.add_row([
            map.name.to_owned(),
            map.entries.to_string(),
            map.capacity.to_string(),
            format!("{fill:.1} %"),
            bytes(map.memory_bytes),
        ]);
    }
    print(&format!("{maps}\n"))?;
    let mut counters = table(&["COUNTER", "COUNT"], &[1]);
    for counter in status.counters.iter().filter(|counter| counter.count > 0) {
        counters.add_row([counter.counter.name().to_owned(), counter.count.to_string()]);
    }
    if !counters.is_empty() {
        print(&format!("{counters}\n"))?;
    }
    Ok(())
}

fn target(program: &ProgramStatus) -> String {
    match &program.target {
        LinkTarget::Cgroup { path: Some(path), .. } => path.display().to_string(),
        LinkTarget::Cgroup { id, path: None } => format!("cgroup {id}"),
        LinkTarget::Device { name, ifindex } => format!("{name} (index {ifindex})"),
        LinkTarget::Gone => bad("nothing: its target is gone"),
    }
}

fn dns(record: &Record, node: &NodePlan) -> Result<()> {
    let answer = match record.ask_dns(node) {
        Ok(address) => good(&format!("kubernetes.default.svc is {address}")),
        Err(error) => bad(&error.to_string()),
    };
    Ok(print(&format!("  DNS        {answer}\n"))?)
}

fn process(record: &Record, name: &str) -> String {
    record
        .process(name)
        .map_or_else(|| bad("not running"), |id| format!("process {id}"))
}
