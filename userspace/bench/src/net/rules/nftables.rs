//! nftables, for `nft -f`.
//!
//! Layout: the table `ip kube-proxy` of kube-proxy's nftables mode (`pkg/proxy/nftables/proxier.go`), for Services of
//! one TCP port without affinity and policies.

use std::fmt::{self, Write};
use std::net::{Ipv4Addr, SocketAddrV4};

use super::MASQUERADE_MARK;
use super::names::hash;
use crate::engine::services::{NAMESPACE, POD_CIDR, SERVICE_CIDR, Service};

/// What is there whatever the Services are, after the maps and the Services' chains.
const BASE: &str = "\
\tchain filter-input {
		type filter hook input priority -110; policy accept
		ct state new jump nodeport-endpoints-check
		ct state new jump service-endpoints-check
	}
	chain filter-forward {
		type filter hook forward priority -110; policy accept
		ct state new jump service-endpoints-check
		ct state new jump cluster-ips-check
	}
	chain filter-output {
		type filter hook output priority -110; policy accept
		ct state new jump service-endpoints-check
	}
	chain filter-output-post-dnat {
		type filter hook output priority -90; policy accept
		ct state new jump cluster-ips-check
	}
	chain nat-prerouting {
		type nat hook prerouting priority dstnat; policy accept
		jump services
	}
	chain nat-output {
		type nat hook output priority -100; policy accept
		jump services
	}
	chain nat-postrouting {
		type nat hook postrouting priority srcnat; policy accept
		jump masquerading
	}
	chain reject-chain {
		reject
	}
	chain nodeport-endpoints-check {
		ip daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports
	}
	chain service-endpoints-check {
		ip daddr . meta l4proto . th dport vmap @no-endpoint-services
	}
	chain services {
		ip daddr . meta l4proto . th dport vmap @service-ips
		ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
	}
";

/// The whole text; node ports are those of these addresses.
pub(in crate::net) fn generate(services: &[Service], node_addresses: &[Ipv4Addr]) -> String {
    let mut text = String::new();
    write(&mut text, services, node_addresses).expect("writing to a string does not fail");
    text
}

fn write(text: &mut String, services: &[Service], node_addresses: &[Ipv4Addr]) -> fmt::Result {
    text.push_str("table ip kube-proxy {\n");
    masquerading(text)?;
    for service in services.iter().filter(|service| !service.endpoints.is_empty()) {
        chains(text, service)?;
    }
    collections(text, services, node_addresses)?;
    text.push_str(BASE);
    writeln!(text, "\tchain cluster-ips-check {{")?;
    writeln!(text, "\t\tip daddr @cluster-ips reject")?;
    writeln!(text, "\t\tip daddr {{ {SERVICE_CIDR} }} drop")?;
    text.push_str("\t}\n}\n");
    Ok(())
}

fn masquerading(text: &mut String) -> fmt::Result {
    writeln!(text, "\tchain mark-for-masquerade {{")?;
    writeln!(text, "\t\tmark set mark or {MASQUERADE_MARK}\n\t}}")?;
    writeln!(text, "\tchain masquerading {{")?;
    writeln!(text, "\t\tmark and {MASQUERADE_MARK} == 0 return")?;
    writeln!(text, "\t\tmark set mark xor {MASQUERADE_MARK}")?;
    writeln!(text, "\t\tmasquerade fully-random\n\t}}")
}

fn service_chain(kind: &str, service: &Service) -> String {
    let name = format!("{NAMESPACE}/{}/tcp/http", service.name);
    format!("{kind}-{}-{name}", hash(&name, 8))
}

fn endpoint_chain(service: &Service, endpoint: &SocketAddrV4) -> String {
    let name = format!(
        "{NAMESPACE}/{}/tcp/http__{}/{}",
        service.name,
        endpoint.ip(),
        endpoint.port()
    );
    format!("endpoint-{}-{name}", hash(&name, 8))
}

/// The chains of a Service: endpoints first, since what is jumped to must exist.
fn chains(text: &mut String, service: &Service) -> fmt::Result {
    for endpoint in &service.endpoints {
        writeln!(text, "\tchain {} {{", endpoint_chain(service, endpoint))?;
        writeln!(text, "\t\tip saddr {} jump mark-for-masquerade", endpoint.ip())?;
        writeln!(text, "\t\tmeta l4proto tcp dnat to {endpoint}\n\t}}")?;
    }
    let own = service_chain("service", service);
    let Service { cluster_ip, port, .. } = service;
    writeln!(text, "\tchain {own} {{")?;
    writeln!(
        text,
        "\t\tip daddr {cluster_ip} tcp dport {port} ip saddr != {POD_CIDR} jump mark-for-masquerade"
    )?;
    let choices: Vec<String> = (0..)
        .zip(&service.endpoints)
        .map(|(at, endpoint): (usize, _)| format!("{at} : goto {}", endpoint_chain(service, endpoint)))
        .collect();
    let count = service.endpoints.len();
    writeln!(
        text,
        "\t\tnumgen random mod {count} vmap {{ {} }}\n\t}}",
        choices.join(", ")
    )?;
    if service.node_port.is_some() {
        writeln!(text, "\tchain {} {{", service_chain("external", service))?;
        writeln!(text, "\t\tjump mark-for-masquerade\n\t\tgoto {own}\n\t}}")?;
    }
    Ok(())
}

/// The sets and maps.
fn collections(text: &mut String, services: &[Service], node_addresses: &[Ipv4Addr]) -> fmt::Result {
    let address_port = "ipv4_addr . inet_proto . inet_service : verdict";
    let port = "inet_proto . inet_service : verdict";
    let addresses = services.iter().map(|service| service.cluster_ip.to_string());
    collection(text, "set", "cluster-ips", "ipv4_addr", addresses)?;
    let addresses = node_addresses.iter().map(ToString::to_string);
    collection(text, "set", "nodeport-ips", "ipv4_addr", addresses)?;
    let (full, empty): (Vec<_>, Vec<_>) = services.iter().partition(|service| !service.endpoints.is_empty());
    let key = |service: &Service| format!("{} . tcp . {}", service.cluster_ip, service.port);
    let ips = full
        .iter()
        .map(|service| format!("{} : goto {}", key(service), service_chain("service", service)));
    collection(text, "map", "service-ips", address_port, ips)?;
    let rejected = |key: String| format!("{key} : goto reject-chain");
    let ips = empty.iter().map(|service| rejected(key(service)));
    collection(text, "map", "no-endpoint-services", address_port, ips)?;
    let exposed = |services: &[&Service]| -> Vec<(String, String)> {
        let exposed = services
            .iter()
            .filter_map(|service| Some((service.node_port?, service)));
        exposed
            .map(|(port, service)| (format!("tcp . {port}"), service_chain("external", service)))
            .collect()
    };
    let ports = exposed(&full).into_iter();
    let ports = ports.map(|(key, chain)| format!("{key} : goto {chain}"));
    collection(text, "map", "service-nodeports", port, ports)?;
    let ports = exposed(&empty).into_iter().map(|(key, _)| rejected(key));
    collection(text, "map", "no-endpoint-nodeports", port, ports)
}

fn collection(
    text: &mut String,
    kind: &str,
    name: &str,
    types: &str,
    elements: impl Iterator<Item = String>,
) -> fmt::Result {
    writeln!(text, "\t{kind} {name} {{\n\t\ttype {types}")?;
    let elements: Vec<String> = elements.collect();
    if !elements.is_empty() {
        writeln!(text, "\t\telements = {{ {} }}", elements.join(", "))?;
    }
    text.push_str("\t}\n");
    Ok(())
}
