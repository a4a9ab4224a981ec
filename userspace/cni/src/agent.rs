//! The agent's side: serves the plugin over a unix socket.
//!
//! [`open`] reads the journal of addresses; [`serve`] answers until cancelled; [`AgentHandle::retain`] is how the
//! kubelet says which containers there still are. Pods' networks stay as they are while no agent runs.

mod attachments;
mod conversation;

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::Ipv4Net;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::CniError;
use attachments::Attachments;

/// Plugins that are served at once; further ones wait to be accepted.
const CONVERSATIONS: usize = 64;

/// Where and how a node's pods get their network.
#[derive(Clone, Debug)]
pub struct CniConfig {
    /// The unix socket to serve the plugin on; its folder is made.
    pub socket: PathBuf,
    /// Where the node's pods have their addresses from (`node.spec.podCIDR`).
    pub pod_cidr: Ipv4Net,
    /// MTU of both ends of a pod's link.
    pub mtu: u32,
    /// Folder for the journal of addresses; it is made.
    pub state_dir: PathBuf,
    /// Who is told of them.
    pub observer: Arc<dyn Observer>,
}

/// Is told of pods' networks as they come and go.
pub trait Observer: fmt::Debug + Send + Sync {
    /// A pod has this address in this network namespace, in which nothing runs yet. Told again for the same address
    /// when the attachment is made anew.
    ///
    /// # Errors
    /// Fails the ADD.
    fn connected(&self, netns: BorrowedFd<'_>, address: IpAddr) -> Result<(), ObserverError>;

    /// The address is no pod's any more. Told also of addresses of which [`Observer::connected`] was not.
    ///
    /// # Errors
    /// Fails the DEL.
    fn disconnected(&self, address: IpAddr) -> Result<(), ObserverError>;
}

/// Why an [`Observer`] did not take note.
pub type ObserverError = Box<dyn std::error::Error + Send + Sync>;

/// A node's pod networks. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct AgentHandle {
    attachments: Arc<Attachments>,
    socket: PathBuf,
}

impl AgentHandle {
    /// Takes away what belongs to containers (sandboxes, by the runtime's ids) other than these, except what was added
    /// within the last minute: the list may be older. Gives the number of attachments that were removed.
    ///
    /// # Errors
    /// The first failure; the rest is tried all the same.
    pub async fn retain(&self, containers: &HashSet<String>) -> Result<usize, CniError> {
        self.attachments
            .retain(|owner| containers.contains(&owner.container))
            .await
    }
}

/// Reads the journal and connects to the kernel. The calling thread must be in the node's network namespace, and so
/// must the runtime's other threads.
///
/// # Errors
/// When the journal is damaged or used by another process, or its folder cannot be made.
pub async fn open(config: CniConfig) -> Result<AgentHandle, CniError> {
    make_folder(&config.state_dir)?;
    if let Some(folder) = config.socket.parent() {
        make_folder(folder)?;
    }
    let socket = config.socket.clone();
    Ok(AgentHandle {
        attachments: Arc::new(Attachments::open(config).await?),
        socket,
    })
}

/// Serves the plugin until cancelled; then finishes what has begun.
///
/// # Errors
/// When the socket cannot be made, or another agent serves it.
pub async fn serve(agent: AgentHandle, shutdown: CancellationToken) -> Result<(), CniError> {
    let listener = bind(&agent.socket).await?;
    tracing::info!(socket = %agent.socket.display(), "serving the CNI plugin");
    let mut conversations = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(ended) = conversations.join_next() => report(ended),
            accepted = listener.accept(), if conversations.len() < CONVERSATIONS => match accepted {
                Ok((stream, _)) => {
                    conversations.spawn(conversation::answer(stream, agent.attachments.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a plugin failed");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            },
        }
    }
    drop(listener);
    while let Some(ended) = conversations.join_next().await {
        report(ended);
    }
    match std::fs::remove_file(&agent.socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(on(&agent.socket, "remove")(error)),
        _ => Ok(()),
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "answering a plugin failed");
    }
}

/// Listens on the socket; one that a killed agent left is replaced.
async fn bind(socket: &Path) -> Result<UnixListener, CniError> {
    if UnixStream::connect(socket).await.is_ok() {
        return Err(CniError::InUse {
            path: socket.to_owned(),
        });
    }
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(on(socket, "replace")(error)),
        _ => {}
    }
    let listener = UnixListener::bind(socket).map_err(on(socket, "listen on"))?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))
        .map_err(on(socket, "protect"))?;
    Ok(listener)
}

fn make_folder(folder: &Path) -> Result<(), CniError> {
    std::fs::create_dir_all(folder).map_err(on(folder, "make the folder"))
}

fn on(path: &Path, during: &'static str) -> impl FnOnce(io::Error) -> CniError {
    let path = path.to_owned();
    move |source| CniError::Io { during, path, source }
}
