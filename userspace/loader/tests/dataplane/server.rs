//! Servers that say who they are and whom they see.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::machine::Netns;

const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(50);

/// A TCP and a UDP server on one address that answer each line or datagram with "<name> <client>", and echo
/// lines that begin with "echo". Stopped when dropped.
pub(crate) struct Server {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(netns: &Netns, name: &str, address: SocketAddr) -> Self {
        let (listener, socket) = netns.run(|| {
            let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
            let socket = UdpSocket::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
            (listener, socket)
        });
        listener.set_nonblocking(true).unwrap();
        socket.set_read_timeout(Some(POLL)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (tcp_stop, tcp_name) = (Arc::clone(&stop), name.to_owned());
        let tcp = std::thread::spawn(move || serve_tcp(&listener, &tcp_name, &tcp_stop));
        let (udp_stop, udp_name) = (Arc::clone(&stop), name.to_owned());
        let udp = std::thread::spawn(move || serve_udp(&socket, &udp_name, &udp_stop));
        Self {
            stop,
            threads: vec![tcp, udp],
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("a server panicked");
            }
        }
    }
}

fn serve_tcp(listener: &TcpListener, name: &str, stop: &Arc<AtomicBool>) {
    let mut connections = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, client)) => {
                let (name, stop) = (name.to_owned(), Arc::clone(stop));
                connections.push(std::thread::spawn(move || {
                    converse(&stream, &name, client, &stop)
                }));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_micros(200));
            }
            Err(error) => panic!("accept: {error}"),
        }
        connections.retain(|connection| !connection.is_finished());
    }
    for connection in connections {
        connection.join().unwrap();
    }
}

/// Answers one connection's lines until it ends.
fn converse(stream: &TcpStream, name: &str, client: SocketAddr, stop: &AtomicBool) {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(POLL)).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) if line.starts_with(b"echo") => {
                if (&*stream).write_all(&line).is_err() {
                    return;
                }
                line.clear();
            }
            Ok(_) => {
                if (&*stream)
                    .write_all(format!("{name} {client}\n").as_bytes())
                    .is_err()
                {
                    return;
                }
                line.clear();
            }
            // What was read so far stays in `line`.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

fn serve_udp(socket: &UdpSocket, name: &str, stop: &AtomicBool) {
    let mut buffer = [0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv_from(&mut buffer) {
            Ok((length, client)) if buffer.starts_with(b"echo") => {
                socket.send_to(&buffer[..length], client).unwrap();
            }
            Ok((_, client)) => {
                socket
                    .send_to(format!("{name} {client}").as_bytes(), client)
                    .unwrap();
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("receive: {error}"),
        }
    }
}

/// What a server said: its name and the client it saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) server: String,
    pub(crate) client: SocketAddr,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (server, client) = text
            .trim()
            .split_once(' ')
            .unwrap_or_else(|| panic!("answer: {text:?}"));
        Self {
            server: server.to_owned(),
            client: client.parse().unwrap(),
        }
    }
}

/// Connects, with a limit on the time.
pub(crate) fn dial(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One question over an open connection.
pub(crate) fn ask_stream(stream: &TcpStream) -> io::Result<Answer> {
    (&*stream).write_all(b"who\n")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(Answer::parse(&line))
}

/// One question over a connection of its own.
pub(crate) fn ask_tcp(to: SocketAddr) -> io::Result<Answer> {
    ask_stream(&dial(to)?)
}

/// An unconnected UDP socket of the family of `to`, with a limit on the time.
pub(crate) fn udp_socket(to: SocketAddr) -> UdpSocket {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// One question by sendto and recvfrom; also returns where the answer came from.
pub(crate) fn ask_udp(socket: &UdpSocket, to: SocketAddr) -> io::Result<(Answer, SocketAddr)> {
    socket.send_to(b"who", to)?;
    let mut buffer = [0; 256];
    let (length, from) = socket.recv_from(&mut buffer)?;
    Ok((Answer::parse(&String::from_utf8_lossy(&buffer[..length])), from))
}
