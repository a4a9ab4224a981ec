//! One plugin's question, answered.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use skep_ipam::{LedgerError, Owner};

use super::attachments::Attachments;
use crate::CniError;
use crate::protocol::{Attachment, Failure, LINE_LIMIT, Reply, Request, code};

/// A plugin sends its request at once.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn answer(stream: tokio::net::UnixStream, attachments: Arc<Attachments>) {
    if let Err(error) = converse(stream, &attachments).await {
        tracing::warn!(%error, "a plugin hung up or sent nonsense");
    }
}

async fn converse(stream: tokio::net::UnixStream, attachments: &Attachments) -> io::Result<()> {
    let stream = stream.into_std()?;
    let (stream, request, netns) = tokio::task::spawn_blocking(move || receive(stream)).await??;
    let begun = Instant::now();
    let reply = match request {
        Ok(request) => {
            let result = perform(attachments, &request, netns).await;
            log(&request, &result, begun.elapsed());
            result.unwrap_or_else(|error| Reply::Failed(failure(&error)))
        }
        Err(error) => Reply::Failed(
            Failure::new(
                code::UNDECODABLE,
                "the agent does not understand the plugin: are they of one version?",
            )
            .with_details(error.to_string()),
        ),
    };
    tokio::task::spawn_blocking(move || send(stream, &reply)).await?
}

type Received = (UnixStream, Result<Request, serde_json::Error>, Option<OwnedFd>);

fn receive(mut stream: UnixStream) -> io::Result<Received> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut piece = [0; 8192];
    let received = recvmsg(
        &stream,
        &mut [IoSliceMut::new(&mut piece)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let netns = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        })
        .next();
    let mut line = piece[..received.bytes].to_vec();
    while line.last() != Some(&b'\n') {
        let length = stream.read(&mut piece)?;
        if length == 0 || line.len() > LINE_LIMIT {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the request has no end",
            ));
        }
        line.extend_from_slice(&piece[..length]);
    }
    Ok((stream, serde_json::from_slice(&line), netns))
}

fn send(mut stream: UnixStream, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    stream.write_all(&line)
}

async fn perform(
    attachments: &Attachments,
    request: &Request,
    netns: Option<OwnedFd>,
) -> Result<Reply, CniError> {
    let needed = || CniError::Request {
        what: "the plugin sent no network namespace".to_owned(),
    };
    match request {
        Request::Add { attachment } => {
            let netns = netns.ok_or_else(needed)?;
            return Ok(Reply::Attached(
                attachments.add(&owner(attachment), &netns).await?,
            ));
        }
        Request::Del { attachment } => attachments.del(&owner(attachment)).await?,
        Request::Check { attachment, known } => {
            let netns = netns.ok_or_else(needed)?;
            attachments.check(&owner(attachment), known, &netns).await?;
        }
        Request::Gc { valid } => {
            let valid: BTreeSet<Owner> = valid.iter().map(owner).collect();
            attachments.retain(|owner| valid.contains(owner)).await?;
        }
        Request::Status => {}
    }
    Ok(Reply::Done)
}

fn owner(attachment: &Attachment) -> Owner {
    Owner {
        container: attachment.container.clone(),
        interface: attachment.interface.clone(),
    }
}

fn log(request: &Request, result: &Result<Reply, CniError>, took: Duration) {
    match (request, result) {
        (_, Err(error)) => {
            tracing::warn!(?request, error = error as &dyn Error, "a CNI request failed");
        }
        (Request::Add { attachment }, Ok(Reply::Attached(attached))) => tracing::info!(
            container = attachment.container,
            address = %attached.address,
            interface = attached.host_interface,
            ?took,
            "connected a pod"
        ),
        (Request::Del { attachment }, Ok(_)) => {
            tracing::info!(container = attachment.container, ?took, "disconnected a pod");
        }
        _ => tracing::debug!(?request, ?took, "answered a CNI request"),
    }
}

fn failure(error: &CniError) -> Failure {
    let code = match error {
        CniError::Addresses(LedgerError::Exhausted(_)) => code::TRY_AGAIN_LATER,
        CniError::Addresses(_) | CniError::Io { .. } => code::IO_FAILURE,
        CniError::Differs { .. } | CniError::NoDevice { .. } => code::DIFFERS,
        CniError::Request { .. } => code::INVALID_ENVIRONMENT,
        _ => code::NETWORK,
    };
    let (mut details, mut source) = (Vec::new(), error.source());
    while let Some(error) = source {
        details.push(error.to_string());
        source = error.source();
    }
    Failure::new(code, error.to_string()).with_details(details.join(": "))
}
