//! The plugin and the agent on the real kernel, in network namespaces made here. Needs root.
//!
//! Each test is a node: a thread in a new namespace with a runtime of its own. Pods are further namespaces. None has a
//! name: they go with the threads and descriptors that hold them, also when a test fails.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail by panicking")]

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Node;
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::{Value, json};
use skep_api::ObjectKey;
use skep_client::testing::FakeTransport;
use skep_cni::agent::{self, AgentHandle, CniConfig, Observer, ObserverError};
use skep_cni::{CniError, node_routes, sysctl};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const MTU: u32 = 1450;

/// Runs a test in a new network namespace, whose `lo` is up and has the node's address.
fn on_node<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests make network namespaces: run them as root"
    );
    let node = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let network = Network::here();
            network.set_up("lo").await;
            network
                .add_address("lo", "172.29.0.11".parse().unwrap(), 32)
                .await;
            test().await;
        });
    });
    if let Err(panic) = node.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A look at, and simple changes of, the namespace of the calling thread.
struct Network {
    handle: rtnetlink::Handle,
    connection: JoinHandle<()>,
}

impl Drop for Network {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Network {
    fn here() -> Self {
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        Self {
            handle,
            connection: tokio::spawn(connection),
        }
    }

    async fn index(&self, name: &str) -> u32 {
        let links = self.handle.link().get().match_name(name.to_owned()).execute();
        std::pin::pin!(links)
            .try_next()
            .await
            .unwrap()
            .unwrap()
            .header
            .index
    }

    async fn set_up(&self, name: &str) {
        let message = rtnetlink::LinkMessageBuilder::<rtnetlink::LinkUnspec>::new()
            .index(self.index(name).await)
            .up();
        self.handle.link().set(message.build()).execute().await.unwrap();
    }

    async fn add_address(&self, name: &str, address: Ipv4Addr, prefix: u8) {
        let index = self.index(name).await;
        self.handle
            .address()
            .add(index, address.into(), prefix)
            .execute()
            .await
            .unwrap();
    }
}

/// A network namespace to put a pod's end into.
struct Pod {
    netns: std::fs::File,
}

impl Pod {
    fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            std::fs::File::open("/proc/thread-self/ns/net").unwrap()
        };
        Self {
            netns: std::thread::spawn(make).join().unwrap(),
        }
    }

    /// A path by which other processes find the namespace.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.netns.as_raw_fd())
    }

    /// Does something within.
    fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let netns = self.netns.try_clone().unwrap();
        let enter = move || {
            setns(netns.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        std::thread::spawn(enter).join().unwrap()
    }

    fn listen(&self, address: IpAddr) -> TcpListener {
        self.within(move || TcpListener::bind((address, 8080)).unwrap())
    }

    /// A file of `/proc/net` within.
    fn proc_net(&self, name: &'static str) -> String {
        self.within(move || std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap())
    }
}

/// An agent that serves, with its files in a folder of its own.
struct Agent {
    folder: tempfile::TempDir,
    handle: AgentHandle,
    heard: Arc<Heard>,
    serving: JoinHandle<Result<(), CniError>>,
    shutdown: CancellationToken,
}

impl Agent {
    async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    async fn start_in(folder: tempfile::TempDir) -> Self {
        let heard = Arc::new(Heard::default());
        let config_of_agent = CniConfig {
            observer: Arc::<Heard>::clone(&heard),
            ..config(&folder)
        };
        let handle = agent::open(config_of_agent).await.unwrap();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(agent::serve(handle.clone(), shutdown.clone()));
        let socket = config(&folder).socket;
        while tokio::net::UnixStream::connect(&socket).await.is_err() {
            assert!(!serving.is_finished());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Self {
            folder,
            handle,
            heard,
            serving,
            shutdown,
        }
    }

    async fn stop(self) -> tempfile::TempDir {
        self.shutdown.cancel();
        self.serving.await.unwrap().unwrap();
        assert!(!config(&self.folder).socket.exists());
        self.folder
    }

    /// Runs the plugin; the result, or the error's code.
    async fn plugin(&self, command: &str, container: &str, netns: &str) -> Result<Value, u64> {
        self.plugin_with(command, container, "eth0", netns, json!({}))
            .await
    }

    async fn plugin_with(
        &self,
        command: &str,
        container: &str,
        interface: &str,
        netns: &str,
        more: Value,
    ) -> Result<Value, u64> {
        let mut stdin = json!({
            "cniVersion": "1.1.0", "name": "skep", "type": "skep-cni", "socket": config(&self.folder).socket,
        });
        stdin
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let environment = [
            ("CNI_COMMAND", command.to_owned()),
            ("CNI_CONTAINERID", container.to_owned()),
            ("CNI_IFNAME", interface.to_owned()),
            ("CNI_NETNS", netns.to_owned()),
        ];
        tokio::task::spawn_blocking(move || run_plugin(environment, &stdin))
            .await
            .unwrap()
    }
}

/// What the agent told of its pods: an address, and the namespace's inode while it is connected.
#[derive(Debug, Default)]
struct Heard(Mutex<Vec<(IpAddr, Option<u64>)>>);

impl Heard {
    fn take(&self) -> Vec<(IpAddr, Option<u64>)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Observer for Heard {
    fn connected(&self, netns: BorrowedFd<'_>, address: IpAddr) -> Result<(), ObserverError> {
        let inode = nix::sys::stat::fstat(netns)?.st_ino;
        self.0.lock().unwrap().push((address, Some(inode)));
        Ok(())
    }

    fn disconnected(&self, address: IpAddr) -> Result<(), ObserverError> {
        self.0.lock().unwrap().push((address, None));
        Ok(())
    }
}

fn run_plugin(environment: [(&str, String); 4], stdin: &Value) -> Result<Value, u64> {
    let mut plugin = Command::new(env!("CARGO_BIN_EXE_skep-cni"))
        .env_clear()
        .envs(environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    plugin
        .stdin
        .take()
        .unwrap()
        .write_all(stdin.to_string().as_bytes())
        .unwrap();
    let output = plugin.wait_with_output().unwrap();
    let answer: Value = match &output.stdout[..] {
        [] => Value::Null,
        json => serde_json::from_slice(json).unwrap(),
    };
    if output.status.success() {
        return Ok(answer);
    }
    println!("the plugin says: {answer}");
    Err(answer["code"].as_u64().unwrap())
}

fn config(folder: &tempfile::TempDir) -> CniConfig {
    CniConfig {
        socket: folder.path().join("run/cni.sock"),
        pod_cidr: "10.200.7.0/24".parse().unwrap(),
        mtu: MTU,
        state_dir: folder.path().join("state"),
        observer: Arc::new(Heard::default()),
    }
}

fn address_of(result: &Value) -> IpAddr {
    result["ips"][0]["address"]
        .as_str()
        .unwrap()
        .strip_suffix("/32")
        .unwrap()
        .parse()
        .unwrap()
}

/// Names of the devices of the calling thread's namespace.
fn devices() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let mut names: Vec<_> = table
        .lines()
        .skip(2)
        .map(|line| line.split(':').next().unwrap().trim().to_owned())
        .collect();
    names.retain(|name| name != "lo");
    names
}

/// Destinations of the IPv4 routes of the calling thread's namespace, as the kernel prints them: hex, little endian.
fn routes() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/thread-self/net/route").unwrap();
    table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().nth(1).unwrap().to_owned())
        .collect()
}

fn hex(address: IpAddr) -> String {
    let IpAddr::V4(address) = address else {
        panic!("{address} is not IPv4")
    };
    format!("{:08X}", u32::from_le_bytes(address.octets()))
}

/// Connects, and gives who the server thinks the client is.
fn ask(server: &TcpListener, connect: impl FnOnce(SocketAddr) -> TcpStream) -> IpAddr {
    let mut client = connect(server.local_addr().unwrap());
    let (mut accepted, from) = server.accept().unwrap();
    accepted.write_all(b"hello").unwrap();
    drop(accepted);
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    from.ip()
}

fn dial(address: SocketAddr) -> TcpStream {
    TcpStream::connect_timeout(&address, Duration::from_secs(5)).unwrap()
}

#[test]
fn pods_reach_each_other_and_the_node_until_removed() {
    on_node(|| async {
        sysctl::prepare_node().unwrap();
        let agent = Agent::start().await;
        let pods = [Pod::new(), Pod::new()];
        let mut addresses = Vec::new();
        for (index, pod) in pods.iter().enumerate() {
            let result = agent
                .plugin("ADD", &format!("c{index}"), &pod.path())
                .await
                .unwrap();
            assert_eq!(result["interfaces"][1]["sandbox"], pod.path().as_str());
            assert_eq!(result["interfaces"][1]["mtu"], MTU);
            addresses.push(address_of(&result));
            let device = result["interfaces"][0]["name"].as_str().unwrap().to_owned();
            assert!(devices().contains(&device));
            assert_eq!(
                std::fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{device}/rp_filter")).unwrap(),
                "0\n"
            );
            // A permanent neighbour (flags 0x6) with the host end's address; nothing is to be asked for.
            let mac = result["interfaces"][0]["mac"].as_str().unwrap();
            let neighbours = pod.proc_net("arp");
            let line = neighbours
                .lines()
                .find(|line| line.starts_with("169.254.1.1 "))
                .unwrap();
            assert!(line.contains(" 0x6 ") && line.contains(mac), "{line}");
        }
        assert_ne!(addresses[0], addresses[1]);
        let servers = [pods[0].listen(addresses[0]), pods[1].listen(addresses[1])];
        let from_pod = |pod: &Pod| {
            let netns = pod.netns.try_clone().unwrap();
            move |to| {
                let enter = move || {
                    setns(netns.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
                    dial(to)
                };
                std::thread::spawn(enter).join().unwrap()
            }
        };
        assert_eq!(ask(&servers[1], from_pod(&pods[0])), addresses[0]);
        assert_eq!(ask(&servers[0], from_pod(&pods[1])), addresses[1]);
        assert_eq!(ask(&servers[0], dial), "172.29.0.11".parse::<IpAddr>().unwrap());
        let node = TcpListener::bind("172.29.0.11:8080").unwrap();
        assert_eq!(ask(&node, from_pod(&pods[0])), addresses[0]);
        for (index, pod) in pods.iter().enumerate() {
            let (container, path) = (format!("c{index}"), pod.path());
            let known =
                json!({ "prevResult": { "ips": [{ "address": format!("{}/32", addresses[index]) }] } });
            agent
                .plugin_with("CHECK", &container, "eth0", &path, known)
                .await
                .unwrap();
            let other = json!({ "prevResult": { "ips": [{ "address": "10.9.9.9/32" }] } });
            assert_eq!(
                agent.plugin_with("CHECK", &container, "eth0", &path, other).await,
                Err(101)
            );
            for _ in 0..2 {
                assert_eq!(agent.plugin("DEL", &container, &path).await, Ok(Value::Null));
            }
            assert_eq!(agent.plugin("CHECK", &container, &path).await, Err(101));
        }
        assert_eq!(devices(), Vec::<String>::new());
        assert_eq!(routes(), Vec::<String>::new());
        agent.stop().await;
    });
}

#[test]
fn a_restarted_agent_knows_its_pods() {
    on_node(|| async {
        let agent = Agent::start().await;
        let (old, new) = (Pod::new(), Pod::new());
        let first = address_of(&agent.plugin("ADD", "old", &old.path()).await.unwrap());
        let agent = Agent::start_in(agent.stop().await).await;
        agent.plugin("CHECK", "old", &old.path()).await.unwrap();
        let second = address_of(&agent.plugin("ADD", "new", &new.path()).await.unwrap());
        assert_ne!(first, second);
        // What was just added is not collected, what was there before the restart is.
        assert_eq!(
            agent
                .handle
                .retain(&HashSet::from(["old".to_owned()]))
                .await
                .unwrap(),
            0
        );
        assert_eq!(devices().len(), 2);
        assert_eq!(agent.handle.retain(&HashSet::new()).await.unwrap(), 1);
        assert_eq!(routes(), [hex(second)]);
        assert_eq!(devices().len(), 1);
        agent.stop().await;
    });
}

#[test]
fn who_asked_is_told_which_namespace_has_which_address() {
    on_node(|| async {
        let agent = Agent::start().await;
        let pod = Pod::new();
        let inode = std::os::unix::fs::MetadataExt::ino(&pod.netns.metadata().unwrap());
        let address = address_of(&agent.plugin("ADD", "c", &pod.path()).await.unwrap());
        assert_eq!(agent.heard.take(), [(address, Some(inode))]);
        agent.plugin("DEL", "c", &pod.path()).await.unwrap();
        agent.plugin("DEL", "c", &pod.path()).await.unwrap();
        assert_eq!(agent.heard.take(), [(address, None)], "once");
        agent.plugin("ADD", "c", &pod.path()).await.unwrap();
        let agent = Agent::start_in(agent.stop().await).await;
        assert_eq!(agent.handle.retain(&HashSet::new()).await.unwrap(), 1);
        let heard = agent.heard.take();
        assert!(
            matches!(heard[..], [(_, None)]),
            "also of what a dead agent connected: {heard:?}"
        );
        agent.stop().await;
    });
}

#[test]
fn gc_removes_what_the_runtime_no_longer_has() {
    on_node(|| async {
        let agent = Agent::start().await;
        let (stays, goes) = (Pod::new(), Pod::new());
        let kept = address_of(&agent.plugin("ADD", "stays", &stays.path()).await.unwrap());
        agent.plugin("ADD", "goes", &goes.path()).await.unwrap();
        let agent = Agent::start_in(agent.stop().await).await;
        let valid = json!({ "cni.dev/valid-attachments": [{ "containerID": "stays", "ifname": "eth0" }] });
        agent.plugin_with("GC", "", "", "", valid).await.unwrap();
        assert_eq!(routes(), [hex(kept)]);
        agent.plugin("STATUS", "", "").await.unwrap();
        agent.stop().await;
    });
}

#[test]
fn a_failed_add_leaves_nothing() {
    on_node(|| async {
        let agent = Agent::start().await;
        let pod = Pod::new();
        // The name is taken within the pod.
        assert_eq!(
            agent.plugin_with("ADD", "c", "lo", &pod.path(), json!({})).await,
            Err(100)
        );
        assert_eq!(devices(), Vec::<String>::new());
        // Not a network namespace.
        assert_eq!(agent.plugin("ADD", "c", "/dev/null").await, Err(100));
        assert_eq!(devices(), Vec::<String>::new());
        let journal =
            std::fs::read_to_string(config(&agent.folder).state_dir.join("addresses.journal")).unwrap();
        assert!(journal.lines().last().unwrap().contains("release"));
        agent.stop().await;
    });
}

#[test]
fn a_repeated_add_keeps_the_address() {
    on_node(|| async {
        let agent = Agent::start().await;
        let pod = Pod::new();
        let first = address_of(&agent.plugin("ADD", "c", &pod.path()).await.unwrap());
        let again = address_of(&agent.plugin("ADD", "c", &pod.path()).await.unwrap());
        assert_eq!(first, again);
        agent.plugin("CHECK", "c", &pod.path()).await.unwrap();
        assert_eq!(devices().len(), 1);
        // The pod's namespace is gone before DEL: its devices are too.
        drop(pod);
        agent.plugin("DEL", "c", "").await.unwrap();
        assert_eq!(routes(), Vec::<String>::new());
        agent.stop().await;
    });
}

#[test]
fn a_socket_is_served_once_and_taken_over_from_the_dead() {
    on_node(|| async {
        let agent = Agent::start().await;
        let other = tempfile::tempdir().unwrap();
        let config = CniConfig {
            state_dir: other.path().to_owned(),
            ..config(&agent.folder)
        };
        let second = agent::open(config).await.unwrap();
        let refused = agent::serve(second, CancellationToken::new()).await;
        assert!(matches!(refused, Err(CniError::InUse { .. })), "{refused:?}");
        let Agent {
            folder,
            handle,
            serving,
            ..
        } = agent;
        // Killed: the socket's file stays.
        serving.abort();
        drop(serving.await);
        drop(handle);
        assert!(self::config(&folder).socket.exists());
        Agent::start_in(folder).await.stop().await;
    });
}

#[test]
fn the_loopback_plugin_brings_lo_up() {
    on_node(|| async {
        let pod = Pod::new();
        let environment = |command: &str| {
            [
                ("CNI_COMMAND", command.to_owned()),
                ("CNI_CONTAINERID", "c".to_owned()),
                ("CNI_IFNAME", "lo".to_owned()),
                ("CNI_NETNS", pod.path()),
            ]
        };
        let config = |version| json!({ "cniVersion": version, "name": "cni-loopback", "type": "loopback" });
        assert_eq!(run_plugin(environment("CHECK"), &config("1.0.0")), Err(101));
        let result = run_plugin(environment("ADD"), &config("0.3.1")).unwrap();
        assert_eq!(
            result["ips"][0],
            json!({ "version": "4", "address": "127.0.0.1/8", "interface": 0 })
        );
        run_plugin(environment("CHECK"), &config("1.0.0")).unwrap();
        let server = pod.listen(Ipv4Addr::LOCALHOST.into());
        let to = server.local_addr().unwrap();
        drop(pod.within(move || dial(to)));
        run_plugin(environment("DEL"), &config("0.3.1")).unwrap();
    });
}

fn node(name: &str, range: &str, address: &str) -> Node {
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": name },
        "spec": { "podCIDR": range, "podCIDRs": [range] },
        "status": { "addresses": [{ "type": "InternalIP", "address": address }] },
    });
    serde_json::from_value(node).unwrap()
}

async fn routes_become(wanted: &[&str]) {
    let wanted: Vec<_> = wanted
        .iter()
        .map(|destination| hex(destination.parse().unwrap()))
        .collect();
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let mut present = routes();
        // The underlay's own.
        present.retain(|destination| *destination != hex("172.29.0.0".parse().unwrap()));
        present.sort();
        if present == wanted {
            return;
        }
        assert!(
            tokio::time::Instant::now() < until,
            "{present:?} do not become {wanted:?}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn other_nodes_pods_are_routed_over_their_nodes() {
    on_node(|| async {
        let network = Network::here();
        let pair = rtnetlink::LinkVeth::new("eth0", "peer0").build();
        network.handle.link().add(pair).execute().await.unwrap();
        network.set_up("eth0").await;
        network.set_up("peer0").await;
        network
            .add_address("eth0", "172.29.0.11".parse().unwrap(), 24)
            .await;
        let api = FakeTransport::new();
        api.put(&node("me", "10.200.0.0/24", "172.29.0.11"));
        api.put(&node("one", "10.200.1.0/24", "172.29.0.12"));
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(node_routes::run(api.client(), "me".to_owned(), shutdown.clone()));
        routes_become(&["10.200.1.0"]).await;
        api.put(&node("two", "10.200.2.0/24", "172.29.0.13"));
        routes_become(&["10.200.1.0", "10.200.2.0"]).await;
        api.remove::<Node>(&ObjectKey {
            namespace: String::new(),
            name: "one".to_owned(),
        });
        routes_become(&["10.200.2.0"]).await;
        shutdown.cancel();
        running.await.unwrap().unwrap();
        routes_become(&["10.200.2.0"]).await;
    });
}

#[test]
fn a_node_is_prepared_for_forwarding() {
    on_node(|| async {
        let read = |name: &str| std::fs::read_to_string(PathBuf::from("/proc/sys/net").join(name)).unwrap();
        std::fs::write("/proc/sys/net/ipv4/conf/lo/rp_filter", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/lo/accept_ra", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/default/accept_ra", "0").unwrap();
        for _ in 0..2 {
            sysctl::prepare_node().unwrap();
            for (name, value) in [
                ("ipv4/ip_forward", "1\n"),
                ("ipv4/conf/all/rp_filter", "0\n"),
                ("ipv4/conf/default/rp_filter", "0\n"),
                ("ipv4/conf/lo/rp_filter", "0\n"),
                ("ipv4/conf/all/send_redirects", "0\n"),
                ("ipv6/conf/all/forwarding", "1\n"),
                ("ipv6/conf/lo/forwarding", "1\n"),
                ("ipv6/conf/default/forwarding", "1\n"),
                ("ipv6/conf/lo/accept_ra", "2\n"),
                ("ipv6/conf/default/accept_ra", "0\n"),
            ] {
                assert_eq!(read(name), value, "{name}");
            }
        }
    });
}
