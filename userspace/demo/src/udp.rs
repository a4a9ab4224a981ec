//! The UDP side: every datagram is answered with the greeting.

use anyhow::Context as _;
use tokio::net::UdpSocket;

use crate::behaviour::State;

const MAX_DATAGRAM_BYTES: usize = 2048;

/// Answers datagrams until the socket fails.
pub(crate) async fn serve(socket: UdpSocket, state: &State) -> anyhow::Result<()> {
    let mut buffer = [0u8; MAX_DATAGRAM_BYTES];
    loop {
        let (_, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An ICMP error for an earlier answer: the socket itself is fine.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => continue,
            Err(error) => return Err(error).context("receive on UDP"),
        };
        // An answer that cannot be sent is lost, as any datagram may be.
        drop(socket.send_to(state.greeting(client).as_bytes(), client).await);
    }
}
