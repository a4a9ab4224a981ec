//! Node ports that a program of the node had before: the Service takes the port's packets from it.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use k8s_openapi::api::core::v1::Service;
use skep_abi::Protocol;
use skep_abi::node_port::node_ports_of;
use skep_bpf_maps::{MapError, ServiceMaps};
use skep_service_table::MapOp;

/// A protocol and a port of it.
pub(crate) type NodePort = (Protocol, u16);

/// Of the ports that `ops` are about to take, those that somebody has. To be asked before they are written: then
/// nobody may bind them.
pub(crate) fn taken_from_others(maps: &dyn ServiceMaps, ops: &[MapOp]) -> Result<Vec<NodePort>, MapError> {
    let mut taken = Vec::new();
    for op in ops {
        if let MapOp::PutNodePorts(word, bits) = *op {
            let held = maps.node_ports().get(&word)?.unwrap_or(0);
            let new = node_ports_of(word, bits & !held);
            taken.extend(new.filter(|(protocol, port)| is_bound(*protocol, *port)));
        }
    }
    Ok(taken)
}

/// Whether a program of this network namespace has the port, on whatever address; of SCTP it is not known.
fn is_bound(protocol: Protocol, port: u16) -> bool {
    let all: [SocketAddr; 2] = [
        (Ipv4Addr::UNSPECIFIED, port).into(),
        (Ipv6Addr::UNSPECIFIED, port).into(),
    ];
    all.into_iter().any(|address| {
        let result = match protocol {
            Protocol::TCP => TcpListener::bind(address).map(drop),
            Protocol::UDP => UdpSocket::bind(address).map(drop),
            _ => Ok(()),
        };
        result.is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
    })
}

/// Whether the Service has this node port.
pub(crate) fn has(service: &Service, (protocol, number): NodePort) -> bool {
    let spec = service.spec.as_ref();
    let ports = spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports.into_iter().any(|port| {
        port.node_port == Some(i32::from(number))
            && port.protocol.as_deref().unwrap_or("TCP") == protocol.to_string()
    })
}
