//! `skep up`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use skep_client::Client;
use skep_cluster::{Record, UpOptions};

use super::{Named, block_on};
use crate::output::Steps;

#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    cluster: Named,
    /// How many nodes
    #[arg(long, default_value_t = 1)]
    nodes: u16,
    /// The folder with the image archives pause.tar, demo.tar and busybox.tar [default: ../images beside this program]
    #[arg(long)]
    images: Option<PathBuf>,
    /// Leave out the demo
    #[arg(long)]
    no_demo: bool,
}

pub(super) fn run(options: Options) -> Result<()> {
    let skep = std::env::current_exe().context("find this program's path")?;
    let images = options.images.unwrap_or_else(|| beside(&skep, "images"));
    let cluster = options.cluster.cluster();
    let wanted = UpOptions {
        nodes: options.nodes,
        skep: skep.clone(),
        images,
        demo: !options.no_demo,
    };
    let mut steps = Steps::new();
    let record = block_on(cluster.up(&wanted, &mut steps))??;
    drop(steps);
    block_on(explain(&record, &skep, wanted.demo))?
}

/// `target/release/skep` has its images in `target/images`.
fn beside(program: &Path, folder: &str) -> PathBuf {
    let parent = program.parent().and_then(Path::parent).unwrap_or(Path::new("."));
    parent.join(folder)
}

async fn explain(record: &Record, skep: &Path, demo: bool) -> Result<()> {
    let plan = &record.plan;
    let name = match plan.name.as_str() {
        skep_cluster::plan::DEFAULT_NAME => String::new(),
        name => format!(" --name {name}"),
    };
    println!(
        "\nCluster {} runs: API server {}, {} node(s).\n",
        plan.name,
        plan.api_url(),
        plan.nodes.len()
    );
    println!("  export KUBECONFIG=$({} kubeconfig{name})", shown(skep));
    println!("  kubectl get nodes,pods,services -A -o wide");
    if demo {
        let client = Client::from_kubeconfig(plan.kubeconfig())?;
        let port = skep_cluster::demo_port(&client).await?;
        println!("  curl http://{}:{port}/", plan.nodes[0].address);
        println!(
            "  kubectl run c --rm -it --image=skep.local/busybox --restart=Never -- wget -qO- http://hello.default.svc.cluster.local"
        );
    }
    println!("  {} status{name}", shown(skep));
    println!("  {} down{name}", shown(skep));
    Ok(())
}

/// The program's path, as short as it works from here.
fn shown(program: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    program
        .strip_prefix(&here)
        .unwrap_or(program)
        .display()
        .to_string()
}
