//! What bits and numbers are called.

use std::net::SocketAddr;

use skep_abi::{
    Address, BackendFlags, BackendValue, Counter, FrontendFlags, FrontendKey, FrontendValue, PortBe,
    PrefixKey, Scope, ServiceName,
};

/// `address:port`, with brackets where the address has colons.
pub(super) fn end(address: &Address, port: PortBe) -> String {
    SocketAddr::new(address.to_ip(), port.to_host()).to_string()
}

/// `address/length`.
pub(super) fn prefix(prefix: &PrefixKey) -> String {
    let base = if prefix.address.is_ipv4() { 96 } else { 0 };
    format!("{}/{}", prefix.address, prefix.prefix_length.saturating_sub(base))
}

/// What kind of address a frontend has.
pub(super) fn kind(value: &FrontendValue) -> &'static str {
    let kinds = [
        (FrontendFlags::CLUSTER_IP, "ClusterIP"),
        (FrontendFlags::NODE_PORT, "NodePort"),
        (FrontendFlags::EXTERNAL_IP, "ExternalIP"),
        (FrontendFlags::LOAD_BALANCER, "LoadBalancer"),
    ];
    let found = kinds.into_iter().find(|(kind, _)| value.flags.contains(*kind));
    found.map_or("unknown", |(_, name)| name)
}

/// Whom a frontend is for.
pub(super) fn clients(key: &FrontendKey, value: &FrontendValue) -> &'static str {
    let inside = FrontendFlags::CLUSTER_IP.with(FrontendFlags::SPLIT);
    if key.scope == Scope::EXTERNAL {
        "outside"
    } else if value.flags.intersects(inside) {
        "inside"
    } else {
        "all"
    }
}

/// Which backends a service port is made of.
pub(super) fn reach(name: Option<&ServiceName>) -> &'static str {
    match name {
        Some(name) if name.local != 0 => "this node",
        _ => "cluster",
    }
}

/// What is to be known of a backend.
pub(super) fn state(backend: &BackendValue) -> Vec<&'static str> {
    let states = [
        (BackendFlags::LOCAL, "local"),
        (BackendFlags::TERMINATING, "terminating"),
        (BackendFlags::DEAD, "dead"),
        (BackendFlags::HOST_NETWORK, "host network"),
    ];
    let set = states
        .into_iter()
        .filter(|(flag, _)| backend.flags.contains(*flag));
    set.map(|(_, name)| name).collect()
}

/// As [`state`], in a column.
pub(super) fn state_column(backend: &BackendValue) -> String {
    let states = state(backend);
    if states.is_empty() {
        "-".to_owned()
    } else {
        states.join(", ")
    }
}

/// `namespace/name`.
pub(super) fn service(name: Option<&ServiceName>) -> String {
    name.map_or_else(
        || "?".to_owned(),
        |name| format!("{}/{}", name.namespace, name.name),
    )
}

/// The name of a port, `-` if it has none.
pub(super) fn port(name: Option<&ServiceName>) -> &str {
    name.map(|name| name.port.as_str())
        .filter(|port| !port.is_empty())
        .unwrap_or("-")
}

/// Why a connection comes to nothing, as a sentence's second half. Counters without words of their own show their
/// name in `skep status`.
pub(super) fn reason(counter: Counter) -> &'static str {
    match counter {
        Counter::SocketNoBackend
        | Counter::PacketNoBackend
        | Counter::PacketReset
        | Counter::PacketUnreachable => "the Service has no ready endpoint",
        Counter::DropNoBackend => {
            "the Service has no ready endpoint, and the address is not the node's own: nobody else could refuse"
        }
        Counter::SocketNoService => {
            "the address is in a range of services, but no frontend has it with this port"
        }
        Counter::DropNoService => {
            "packets may not use this address: it is a ClusterIP, or in a range of services without being a frontend"
        }
        Counter::SocketSourceRange | Counter::DropSourceRange => {
            "the client is in none of the Service's loadBalancerSourceRanges"
        }
        Counter::PacketMartian => {
            "no wire leads from such a source: loopback, multicast, or the node's own address (a martian)"
        }
        Counter::SocketTableHole | Counter::DropTableHole => {
            "the maps point to nothing: the agent repairs that within a minute"
        }
        Counter::DropNoNodeAddress => "the node has no address of that family to translate to",
        Counter::DropSourcePortsExhausted => "no source port is free towards that backend",
        other => other.name(),
    }
}
