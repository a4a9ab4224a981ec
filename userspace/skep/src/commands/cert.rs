//! `skep cert`.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use skep_cluster::issue_node_credentials;
use skep_pki::{Pki, PkiOptions, write_private};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// A node's credentials: kubeconfigs of its parts, the kubelet's serving certificate, the authority
    Node {
        /// The server's data folder
        #[arg(long)]
        data_dir: PathBuf,
        /// The API server's URL, as the node reaches it
        #[arg(long)]
        server: String,
        /// The Node's name
        #[arg(long)]
        node_name: String,
        /// The node's address
        #[arg(long)]
        node_ip: IpAddr,
        /// Where the files go
        #[arg(long)]
        out: PathBuf,
    },
    /// A user's kubeconfig
    User {
        /// The server's data folder
        #[arg(long)]
        data_dir: PathBuf,
        /// The API server's URL, as the user reaches it
        #[arg(long)]
        server: String,
        /// The user's name
        #[arg(long)]
        user: String,
        /// Groups of the user
        #[arg(long = "group")]
        groups: Vec<String>,
        /// The kubeconfig's path
        #[arg(long)]
        out: PathBuf,
    },
}

pub(super) fn run(command: Command) -> Result<()> {
    match command {
        Command::Node {
            data_dir,
            server,
            node_name,
            node_ip,
            out,
        } => {
            let pki = open(data_dir)?;
            issue_node_credentials(&pki, &server, &node_name, &node_ip.to_string(), &out)?;
            println!("{}", out.display());
        }
        Command::User {
            data_dir,
            server,
            user,
            groups,
            out,
        } => {
            let pki = open(data_dir)?;
            let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
            let identity = pki.issue_client(&user, &groups)?;
            write_private(&out, pki.kubeconfig(&server, &identity).as_bytes())?;
            println!("{}", out.display());
        }
    }
    Ok(())
}

fn open(data_dir: PathBuf) -> Result<Pki> {
    Ok(Pki::open(
        data_dir.join("pki"),
        PkiOptions::new(skep_cluster::plan::DEFAULT_NAME),
    )?)
}
