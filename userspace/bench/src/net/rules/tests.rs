//! The shapes of both baselines, word for word.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::{iptables, nftables};
use crate::engine::services::Service;

fn services() -> Vec<Service> {
    let endpoint = |host| SocketAddrV4::new(Ipv4Addr::new(10, 200, 2, host), 8080);
    let service = |at: u8, node_port, endpoints| Service {
        name: format!("service-{at}"),
        cluster_ip: Ipv4Addr::new(10, 96, 0, at),
        port: 80,
        node_port,
        endpoints,
    };
    vec![
        service(1, None, vec![endpoint(2)]),
        service(2, Some(30_000), vec![endpoint(2), endpoint(3), endpoint(4)]),
        service(3, Some(30_001), vec![]),
    ]
}

#[test]
fn iptables_rules_have_the_layout_of_kube_proxy() {
    insta::assert_snapshot!(iptables::generate(&services()));
}

#[test]
fn nftables_rules_have_the_layout_of_kube_proxy() {
    insta::assert_snapshot!(nftables::generate(&services(), &[Ipv4Addr::new(172, 31, 0, 11)]));
}
