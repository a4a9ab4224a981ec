//! `skep server`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use ipnet::IpNet;
use skep_server::{ServerConfig, StoreConfig};

use super::block_on;
use super::service::shutdown_on_signal;

#[derive(Args)]
pub(crate) struct Options {
    /// Holds the certificates and the embedded store
    #[arg(long, default_value = "/var/lib/skep/server")]
    data_dir: PathBuf,
    /// Address and port of the HTTPS API
    #[arg(long, default_value = "127.0.0.1:6443")]
    bind: SocketAddr,
    /// The address under which nodes reach the API [default: that of --bind]
    #[arg(long)]
    advertise_address: Option<IpAddr>,
    /// Further names and addresses for the serving certificate
    #[arg(long = "tls-san")]
    tls_sans: Vec<String>,
    /// Names the cluster in kubeconfigs
    #[arg(long, default_value = "skep")]
    cluster_name: String,
    /// Services' addresses
    #[arg(long, default_value = "10.96.0.0/16")]
    service_cidr: IpNet,
    /// Pods' addresses, handed out to nodes
    #[arg(long, default_value = "10.244.0.0/16")]
    cluster_cidr: IpNet,
    /// The cluster DNS Service's address [default: the tenth of --service-cidr]
    #[arg(long)]
    cluster_dns: Option<IpAddr>,
    /// The domain of cluster names
    #[arg(long, default_value = "cluster.local")]
    cluster_domain: String,
    /// Keep objects in this etcd instead of the embedded store (may be given several times)
    #[arg(long = "etcd-server")]
    etcd_servers: Vec<String>,
    /// Prefix of all keys in etcd
    #[arg(long, default_value = "/registry")]
    etcd_prefix: String,
    /// PEM file of etcd's authority
    #[arg(long)]
    etcd_ca: Option<PathBuf>,
    /// PEM file of our certificate for etcd
    #[arg(long, requires = "etcd_key")]
    etcd_cert: Option<PathBuf>,
    /// PEM file of its key
    #[arg(long, requires = "etcd_cert")]
    etcd_key: Option<PathBuf>,
}

pub(super) fn run(options: Options) -> Result<()> {
    let config = config(options)?;
    block_on(async {
        let shutdown = shutdown_on_signal()?;
        Ok(skep_server::run(config, shutdown).await?)
    })?
}

fn config(options: Options) -> Result<ServerConfig> {
    let mut config = ServerConfig::new(
        options.data_dir,
        options.bind,
        options.service_cidr,
        options.cluster_cidr,
    );
    if let Some(dns) = options.cluster_dns {
        if !options.service_cidr.contains(&dns) {
            bail!(
                "--cluster-dns {dns} is not within --service-cidr {}",
                options.service_cidr
            );
        }
        config.cluster_dns = dns;
    }
    if let Some(address) = options.advertise_address {
        config.advertise = address;
    } else if options.bind.ip().is_unspecified() {
        bail!(
            "--bind {} has no address that nodes could reach: give --advertise-address too",
            options.bind
        );
    }
    config.cluster_name = options.cluster_name;
    config.serving_names = options.tls_sans;
    config.cluster_domain = options.cluster_domain;
    if !options.etcd_servers.is_empty() {
        config.store = StoreConfig::Etcd {
            endpoints: options.etcd_servers,
            prefix: options.etcd_prefix,
            ca: options.etcd_ca,
            client: options.etcd_cert.zip(options.etcd_key),
        };
    }
    Ok(config)
}
