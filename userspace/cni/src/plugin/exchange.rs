//! One question to the agent.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::protocol::{Failure, LINE_LIMIT, Reply, Request, code};

/// How long the agent may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn ask(socket: &Path, request: &Request, netns: Option<&File>) -> Result<Reply, Failure> {
    let stream = UnixStream::connect(socket).map_err(|error| {
        let code = if *request == Request::Status {
            code::NOT_AVAILABLE
        } else {
            code::TRY_AGAIN_LATER
        };
        let msg = format!("the node's agent is not reached at {}", socket.display());
        Failure::new(code, msg).with_details(error.to_string())
    })?;
    converse(stream, request, netns).map_err(|error| {
        Failure::new(code::IO_FAILURE, "speaking to the node's agent failed").with_details(error.to_string())
    })
}

fn converse(mut stream: UnixStream, request: &Request, netns: Option<&File>) -> io::Result<Reply> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = netns.map(|netns| [netns.as_fd()]);
    if let Some(descriptors) = &descriptors
        && !control.push(SendAncillaryMessage::ScmRights(descriptors))
    {
        return Err(io::Error::other("no room for the network namespace"));
    }
    let sent = sendmsg(&stream, &[IoSlice::new(&line)], &mut control, SendFlags::NOSIGNAL)?;
    stream.write_all(&line[sent..])?;
    let mut reply = Vec::new();
    BufReader::new(stream)
        .take(LINE_LIMIT as u64)
        .read_until(b'\n', &mut reply)?;
    if reply.is_empty() {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it hung up"));
    }
    Ok(serde_json::from_slice(&reply)?)
}
