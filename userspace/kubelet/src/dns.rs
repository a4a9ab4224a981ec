//! What a pod is called and whom it asks for names: resolv.conf, hostname and hosts file. Pure.
//!
//! Source: upstream's `pkg/kubelet/network/dns/dns.go` and `pkg/kubelet/kubelet_pods.go` (managed hosts file).

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::{HostAlias, Pod};
use skep_api::ObjectExt;
use skep_cri::v1;

use crate::config::KubeletConfig;
use crate::spec::spec;

/// A host name may not be longer (RFC 1035).
const MAX_HOSTNAME: usize = 63;

/// The host's resolv.conf.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HostResolver {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl HostResolver {
    /// Reads the text of a resolv.conf; the last `search` line holds.
    pub(crate) fn parse(text: &str) -> Self {
        let mut host = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => host.servers.extend(words.next()),
                Some("search") => host.searches = words.filter(|word| word != ".").collect(),
                Some("options") => host.options = words.collect(),
                _ => {}
            }
        }
        host
    }
}

/// The pod's resolver.
pub(crate) fn resolver(pod: &Pod, config: &KubeletConfig, host: &HostResolver) -> v1::DnsConfig {
    let spec = spec(pod);
    let policy = spec
        .get()
        .and_then(|spec| spec.dns_policy.as_deref())
        .unwrap_or("ClusterFirst");
    let cluster = match policy {
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" => !spec.host_network(),
        _ => false,
    };
    let mut dns = if policy == "None" {
        v1::DnsConfig::default()
    } else if cluster && !config.cluster_dns.is_empty() {
        let domain = &config.cluster_domain;
        let mut searches = vec![
            format!("{}.svc.{domain}", pod.namespace()),
            format!("svc.{domain}"),
            domain.clone(),
        ];
        extend_new(&mut searches, &host.searches);
        v1::DnsConfig {
            servers: config.cluster_dns.iter().map(ToString::to_string).collect(),
            searches,
            options: vec!["ndots:5".to_owned()],
        }
    } else {
        v1::DnsConfig {
            servers: host.servers.clone(),
            searches: host.searches.clone(),
            options: host.options.clone(),
        }
    };
    let own = spec
        .get()
        .and_then(|spec| spec.dns_config.clone())
        .unwrap_or_default();
    extend_new(&mut dns.servers, own.nameservers.as_deref().unwrap_or_default());
    extend_new(&mut dns.searches, own.searches.as_deref().unwrap_or_default());
    for option in own.options.into_iter().flatten() {
        let name = option.name.unwrap_or_default();
        dns.options.retain(|known| known.split(':').next() != Some(&name));
        dns.options.push(match option.value {
            Some(value) if !value.is_empty() => format!("{name}:{value}"),
            _ => name,
        });
    }
    dns
}

fn extend_new(list: &mut Vec<String>, more: &[String]) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

/// The pod's host name, and its domain name if it has a subdomain.
pub(crate) fn hostname(pod: &Pod, cluster_domain: &str) -> (String, Option<String>) {
    let spec = spec(pod).get();
    let text = |value: Option<&String>| value.filter(|value| !value.is_empty()).cloned();
    if let Some(name) = text(spec.and_then(|spec| spec.hostname_override.as_ref())) {
        return (name, None);
    }
    let own = text(spec.and_then(|spec| spec.hostname.as_ref()));
    let mut name = own.unwrap_or_else(|| pod.name().to_owned());
    if name.len() > MAX_HOSTNAME {
        name.truncate(MAX_HOSTNAME);
        name.truncate(name.trim_end_matches(['-', '.']).len());
    }
    let subdomain = text(spec.and_then(|spec| spec.subdomain.as_ref()));
    let domain = subdomain.map(|sub| format!("{sub}.{}.svc.{cluster_domain}", pod.namespace()));
    let full = spec.and_then(|spec| spec.set_hostname_as_fqdn).unwrap_or(false);
    match (&domain, full) {
        (Some(domain), true) => (format!("{name}.{domain}"), Some(domain.clone())),
        _ => (name, domain),
    }
}

/// The pod's hosts file. `host_file` is the host's own, for pods in its network.
pub(crate) fn hosts_file(pod: &Pod, ips: &[String], cluster_domain: &str, host_file: &str) -> String {
    let mut text = String::new();
    if spec(pod).host_network() {
        text.push_str("# Kubernetes-managed hosts file (host network).\n");
        text.push_str(host_file);
    } else {
        text.push_str(
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        let (name, domain) = hostname(pod, cluster_domain);
        let names = match domain {
            Some(domain) if name.ends_with(&domain) => name,
            Some(domain) => format!("{name}.{domain}\t{name}"),
            None => name,
        };
        for ip in ips {
            writeln!(text, "{ip}\t{names}").expect("a String takes all");
        }
    }
    let aliases = spec(pod)
        .get()
        .and_then(|spec| spec.host_aliases.as_deref())
        .unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for HostAlias { ip, hostnames } in aliases {
            let names = hostnames.as_deref().unwrap_or_default().join("\t");
            writeln!(text, "{ip}\t{names}").expect("a String takes all");
        }
    }
    text
}
