//! Whether a node's DNS server answers, asked from inside the node.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::plan::{CLUSTER_DOMAIN, NodePlan};
use crate::supervise::NODE_DNS;
use crate::{ClusterError, network};

const PORT: u16 = 53;
const TIMEOUT: Duration = Duration::from_secs(1);
const MAX_ANSWER_BYTES: usize = 512;
const QUERY_ID: [u8; 2] = [0x5b, 0xee];
const HEADER_BYTES: usize = 12;
/// The fixed part of an A record behind its name (RFC 1035, 3.2.1), and its data.
const RECORD_DATA_BYTES: usize = 4;

/// The address of the API server's Service, as the node's DNS server answers it.
///
/// # Errors
/// When the node cannot be entered, or there is no answer or a wrong one.
pub(crate) fn kubernetes_service(node: &NodePlan) -> Result<Ipv4Addr, ClusterError> {
    let node = node.clone();
    let name = format!("kubernetes.default.svc.{CLUSTER_DOMAIN}");
    // A thread of its own moves into the node's network namespace and ends there.
    let asked = std::thread::spawn(move || {
        network::enter(&node)?;
        ask(&name).map_err(|why| ClusterError::Machine {
            what: format!("the DNS server of {} {why}", node.name),
            remedy: "see its agent's log".to_owned(),
        })
    });
    asked.join().unwrap_or_else(|_panic| {
        Err(ClusterError::Machine {
            what: "the query failed".to_owned(),
            remedy: "try again".to_owned(),
        })
    })
}

fn ask(name: &str) -> Result<Ipv4Addr, String> {
    let exchange = || -> std::io::Result<Vec<u8>> {
        let server: SocketAddr = format!("{NODE_DNS}:{PORT}")
            .parse()
            .map_err(std::io::Error::other)?;
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        socket.connect(server)?;
        socket.send(&query(name))?;
        let mut buffer = vec![0; MAX_ANSWER_BYTES];
        let length = socket.recv(&mut buffer)?;
        buffer.truncate(length);
        Ok(buffer)
    };
    let answer = exchange().map_err(|error| format!("does not answer: {error}"))?;
    first_address(&answer)
}

/// A query for A (RFC 1035, 4.1).
fn query(name: &str) -> Vec<u8> {
    let mut message = QUERY_ID.to_vec();
    // Recursion desired; one question.
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or_default());
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// The address of an answer that ends with its one A record, as ours do without EDNS.
fn first_address(answer: &[u8]) -> Result<Ipv4Addr, String> {
    if answer.len() < HEADER_BYTES || answer[..2] != QUERY_ID {
        return Err("answers nonsense".to_owned());
    }
    let (code, records) = (answer[3] & 0x0f, u16::from_be_bytes([answer[6], answer[7]]));
    match answer.last_chunk::<RECORD_DATA_BYTES>() {
        Some(data) if code == 0 && records == 1 => Ok(Ipv4Addr::from(*data)),
        _ => Err(format!("answers with code {code} and {records} records")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_back_as_its_own_refusal() {
        let mut message = query("a.bc");
        assert_eq!(&message[HEADER_BYTES..], b"\x01a\x02bc\x00\x00\x01\x00\x01");
        message[3] = 3;
        assert!(first_address(&message).is_err());
    }
}
