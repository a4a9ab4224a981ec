//! iptables, for `iptables-restore --noflush --counters`.
//!
//! Layout: the tables nat and filter of kube-proxy's iptables mode (`pkg/proxy/iptables/proxier.go`,
//! `writeServiceToEndpointRules` and around it), for Services of one TCP port without affinity and policies.

use std::fmt::{self, Write};
use std::net::SocketAddrV4;

use super::MASQUERADE_MARK;
use super::names::hash;
use crate::engine::services::{POD_CIDR, Service};

/// The whole text.
pub(in crate::net) fn generate(services: &[Service]) -> String {
    let mut text = String::new();
    write(&mut text, services).expect("writing to a string does not fail");
    text
}

fn write(text: &mut String, services: &[Service]) -> fmt::Result {
    filter(text, services)?;
    nat(text, services)
}

fn chain(prefix: &str, hashed: &str) -> String {
    format!("KUBE-{prefix}-{}", hash(hashed, 16))
}

fn service_chain(prefix: &str, service: &Service) -> String {
    chain(prefix, &format!("{}tcp", service.port_name()))
}

fn endpoint_chain(service: &Service, endpoint: &SocketAddrV4) -> String {
    chain("SEP", &format!("{}tcp{endpoint}", service.port_name()))
}

fn filter(text: &mut String, services: &[Service]) -> fmt::Result {
    text.push_str("*filter\n");
    for name in ["EXTERNAL-SERVICES", "FORWARD", "NODEPORTS", "SERVICES"] {
        writeln!(text, ":KUBE-{name} - [0:0]")?;
    }
    let new = "-m conntrack --ctstate NEW -m comment --comment";
    for (from, to, why) in [
        ("INPUT", "NODEPORTS", "kubernetes health check service ports"),
        (
            "INPUT",
            "EXTERNAL-SERVICES",
            "kubernetes externally-visible service portals",
        ),
        (
            "FORWARD",
            "EXTERNAL-SERVICES",
            "kubernetes externally-visible service portals",
        ),
        ("FORWARD", "SERVICES", "kubernetes service portals"),
        ("OUTPUT", "SERVICES", "kubernetes service portals"),
    ] {
        if to == "NODEPORTS" {
            writeln!(text, "-A {from} -m comment --comment \"{why}\" -j KUBE-{to}")?;
        } else {
            writeln!(text, "-A {from} {new} \"{why}\" -j KUBE-{to}")?;
        }
    }
    text.push_str("-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD\n");
    for service in services.iter().filter(|service| service.endpoints.is_empty()) {
        let Service { cluster_ip, port, .. } = service;
        let why = format!("{} has no endpoints", service.port_name());
        writeln!(
            text,
            "-A KUBE-SERVICES -m comment --comment \"{why}\" -m tcp -p tcp -d {cluster_ip} --dport {port} -j REJECT"
        )?;
        if let Some(node_port) = service.node_port {
            writeln!(
                text,
                "-A KUBE-EXTERNAL-SERVICES -m comment --comment \"{why}\" -m addrtype --dst-type LOCAL \
                 -m tcp -p tcp --dport {node_port} -j REJECT"
            )?;
        }
    }
    text.push_str("-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP\n");
    writeln!(
        text,
        "-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" \
         -m mark --mark {MASQUERADE_MARK}/{MASQUERADE_MARK} -j ACCEPT"
    )?;
    text.push_str(
        "-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding conntrack rule\" \
         -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n",
    );
    text.push_str("COMMIT\n");
    Ok(())
}

fn nat(text: &mut String, services: &[Service]) -> fmt::Result {
    text.push_str("*nat\n");
    for name in ["SERVICES", "NODEPORTS", "POSTROUTING", "MARK-MASQ"] {
        writeln!(text, ":KUBE-{name} - [0:0]")?;
    }
    let with_endpoints = || services.iter().filter(|service| !service.endpoints.is_empty());
    for service in with_endpoints() {
        writeln!(text, ":{} - [0:0]", service_chain("SVC", service))?;
        if service.node_port.is_some() {
            writeln!(text, ":{} - [0:0]", service_chain("EXT", service))?;
        }
        for endpoint in &service.endpoints {
            writeln!(text, ":{} - [0:0]", endpoint_chain(service, endpoint))?;
        }
    }
    for hook in ["PREROUTING", "OUTPUT"] {
        writeln!(
            text,
            "-A {hook} -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES"
        )?;
    }
    let why = "-m comment --comment \"kubernetes postrouting rules\"";
    writeln!(text, "-A POSTROUTING {why} -j KUBE-POSTROUTING")?;
    writeln!(
        text,
        "-A KUBE-POSTROUTING -m mark ! --mark {MASQUERADE_MARK}/{MASQUERADE_MARK} -j RETURN"
    )?;
    writeln!(text, "-A KUBE-POSTROUTING -j MARK --xor-mark {MASQUERADE_MARK}")?;
    text.push_str(
        "-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" \
         -j MASQUERADE --random-fully\n",
    );
    writeln!(text, "-A KUBE-MARK-MASQ -j MARK --or-mark {MASQUERADE_MARK}")?;
    for service in with_endpoints() {
        frontends(text, service)?;
        endpoints(text, service)?;
    }
    text.push_str(
        "-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in \
         this chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\n",
    );
    text.push_str("COMMIT\n");
    Ok(())
}

/// What leads into a Service.
fn frontends(text: &mut String, service: &Service) -> fmt::Result {
    let (svc, ext) = (service_chain("SVC", service), service_chain("EXT", service));
    let Service { cluster_ip, port, .. } = service;
    let name = service.port_name();
    writeln!(
        text,
        "-A KUBE-SERVICES -m comment --comment \"{name} cluster IP\" -m tcp -p tcp -d {cluster_ip} --dport {port} \
         -j {svc}"
    )?;
    if let Some(node_port) = service.node_port {
        writeln!(
            text,
            "-A KUBE-NODEPORTS -m comment --comment {name} -m tcp -p tcp --dport {node_port} -j {ext}"
        )?;
        writeln!(
            text,
            "-A {ext} -m comment --comment \"masquerade traffic for {name} external destinations\" -j KUBE-MARK-MASQ"
        )?;
        writeln!(text, "-A {ext} -j {svc}")?;
    }
    writeln!(
        text,
        "-A {svc} -m comment --comment \"{name} cluster IP\" -m tcp -p tcp -d {cluster_ip} --dport {port} \
         ! -s {POD_CIDR} -j KUBE-MARK-MASQ"
    )
}

/// The choice of an endpoint, and the translation to each.
fn endpoints(text: &mut String, service: &Service) -> fmt::Result {
    let (svc, name) = (service_chain("SVC", service), service.port_name());
    let count = service.endpoints.len();
    for (at, endpoint) in service.endpoints.iter().enumerate() {
        let sep = endpoint_chain(service, endpoint);
        write!(text, "-A {svc} -m comment --comment \"{name} -> {endpoint}\"")?;
        let left = count - at;
        if left > 1 {
            let probability = 1.0 / left as f64;
            write!(
                text,
                " -m statistic --mode random --probability {probability:.10}"
            )?;
        }
        writeln!(text, " -j {sep}")?;
        let address = endpoint.ip();
        writeln!(
            text,
            "-A {sep} -m comment --comment {name} -s {address} -j KUBE-MARK-MASQ"
        )?;
        writeln!(
            text,
            "-A {sep} -m comment --comment {name} -m tcp -p tcp -j DNAT --to-destination {endpoint}"
        )?;
    }
    Ok(())
}
