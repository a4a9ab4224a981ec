//! Answering `/containerLogs`.

use std::io::SeekFrom;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncSeekExt as _, BufReader};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::follow::Changes;
use super::route::{LogOptions, Since, Target};
use super::{Answer, Context, not_found, text};
use crate::cri_log::{Line, start_of_tail};

/// How many pieces of a log wait for a slow client.
const PIECES: usize = 16;
/// A piece is sent when it is at least this long, or when no more is there.
const PIECE_BYTES: usize = 32 * 1024;
/// A line longer than this is cut into several; the runtime writes at most 16 KiB of content a line.
const MAX_LINE_BYTES: u64 = 64 * 1024;
/// The end of a file is searched for its last lines in steps of this size.
const TAIL_STEP_BYTES: u64 = 64 * 1024;

/// Streams a container's log.
pub(super) async fn answer(context: &Arc<Context>, target: &Target, options: LogOptions) -> Answer {
    let found = context.pods.container(
        &target.namespace,
        &target.pod,
        target.container.as_deref(),
        options.previous,
    );
    let container = match found {
        Ok(container) => container,
        Err(error) => return not_found(&error),
    };
    let file = match File::open(&container.log_path).await {
        Ok(file) => file,
        Err(error) => {
            let path = container.log_path.display();
            return text(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("failed to open log file {path}: {error}\n"),
            );
        }
    };
    let (sender, receiver) = mpsc::channel(PIECES);
    let shared = Arc::clone(context);
    context.tunnels.spawn(async move {
        let mut sending = Sending {
            sender,
            options,
            sent: 0,
            piece: Vec::new(),
        };
        let copying = copy(&shared, &container.id, &container.log_path, file, &mut sending);
        let result = tokio::select! {
            () = shared.shutdown.cancelled() => Ok(()),
            result = copying => result,
        };
        if let Err(error) = result {
            tracing::debug!(%error, container = container.id, "log stream ended");
        }
    });
    let frames = ReceiverStream::new(receiver).map(|piece| piece.map(Frame::data));
    Response::new(StreamBody::new(frames).boxed_unsync())
}

/// Why a log is not copied any further.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error("the client went away")]
    ClientGone,
    #[error("the byte limit is reached")]
    Limit,
    #[error("reading the log failed")]
    Read(#[from] std::io::Error),
}

/// What goes to the client.
struct Sending {
    sender: mpsc::Sender<Result<Bytes, std::io::Error>>,
    options: LogOptions,
    sent: u64,
    piece: Vec<u8>,
}

impl Sending {
    async fn line(&mut self, line: &Line<'_>) -> Result<(), Stopped> {
        line.render(self.options.timestamps, &mut self.piece);
        if self.piece.len() >= PIECE_BYTES {
            self.flush().await
        } else {
            Ok(())
        }
    }

    async fn flush(&mut self) -> Result<(), Stopped> {
        let mut piece = std::mem::take(&mut self.piece);
        let left = self
            .options
            .limit_bytes
            .map(|limit| limit.saturating_sub(self.sent));
        let limited = left
            .and_then(|left| usize::try_from(left).ok())
            .filter(|left| *left <= piece.len());
        if let Some(left) = limited {
            piece.truncate(left);
        }
        if !piece.is_empty() {
            self.sent += piece.len() as u64;
            self.sender
                .send(Ok(Bytes::from(piece)))
                .await
                .map_err(|_closed| Stopped::ClientGone)?;
        }
        if limited.is_some() {
            Err(Stopped::Limit)
        } else {
            Ok(())
        }
    }
}

async fn copy(
    context: &Context,
    id: &str,
    path: &Path,
    file: File,
    sending: &mut Sending,
) -> Result<(), Stopped> {
    let since = match &sending.options.since {
        Some(Since::Time(time)) => Some(*time),
        Some(Since::Ago(ago)) => {
            let ago = SignedDuration::try_from(*ago).unwrap_or(SignedDuration::MAX);
            Timestamp::now().checked_sub(ago).ok()
        }
        None => None,
    };
    let mut changes = if sending.options.follow {
        Some(Changes::of(path)?)
    } else {
        None
    };
    let mut reader = BufReader::new(file);
    if let Some(lines) = sending.options.tail_lines {
        seek_tail(&mut reader, lines).await?;
    }
    let mut line = Vec::new();
    loop {
        // Before reading: what is written after this is either read below or announced.
        let running = changes.is_some() && context.pods.is_running(id);
        read_lines(&mut reader, &mut line, since, sending).await?;
        sending.flush().await?;
        let Some(changes) = &mut changes else {
            return Ok(());
        };
        if let Some(next) = changes.rotated(reader.get_ref()).await? {
            // The old file is read to its end; the rest of the log is in the new one.
            reader = BufReader::new(next);
        } else if running {
            tokio::select! {
                result = changes.wait() => result?,
                () = sending.sender.closed() => return Err(Stopped::ClientGone),
            }
        } else {
            return Ok(());
        }
    }
}

/// Sends every whole line up to the end of the file; an unfinished one stays in `line`.
async fn read_lines(
    reader: &mut BufReader<File>,
    line: &mut Vec<u8>,
    since: Option<Timestamp>,
    sending: &mut Sending,
) -> Result<(), Stopped> {
    loop {
        let room = MAX_LINE_BYTES.saturating_sub(line.len() as u64);
        let read = (&mut *reader).take(room).read_until(b'\n', line).await?;
        let whole = line.ends_with(b"\n") || line.len() as u64 >= MAX_LINE_BYTES;
        if whole && let Some(parsed) = Line::parse(line) {
            let wanted = since.is_none_or(|since| parsed.time().is_none_or(|time| time >= since));
            if wanted {
                sending.line(&parsed).await?;
            }
        }
        if whole {
            line.clear();
        } else if read == 0 {
            return Ok(());
        }
    }
}

/// Moves to the start of the last lines.
async fn seek_tail(reader: &mut BufReader<File>, lines: u64) -> std::io::Result<()> {
    let length = reader.get_ref().metadata().await?.len();
    let mut window = TAIL_STEP_BYTES;
    loop {
        let from = length.saturating_sub(window);
        reader.seek(SeekFrom::Start(from)).await?;
        let mut end = Vec::new();
        (&mut *reader).take(length - from).read_to_end(&mut end).await?;
        let start = match start_of_tail(&end, lines) {
            Some(start) => from + start as u64,
            None if from == 0 => 0,
            None => {
                window *= 2;
                continue;
            }
        };
        reader.seek(SeekFrom::Start(start)).await?;
        return Ok(());
    }
}
