//! Watches over HTTP: one JSON document per line.

use crate::http::Response;
use crate::http::negotiate::Encoding;
use crate::http::stream::{PIECE_BYTES, streamed};
use crate::metrics::Open;
use crate::view::Viewer;
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use skep_api::ApiError;
use skep_registry::{SharedObject, WatchEvent, WatchStream};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The streamed answer. It ends after `timeout`, at shutdown, and after an error.
pub(crate) fn answer(
    viewer: Viewer,
    events: WatchStream,
    timeout: Duration,
    shutdown: CancellationToken,
    open: Open,
) -> Response {
    let over = async move {
        tokio::select! {
            () = tokio::time::sleep(timeout) => {}
            () = shutdown.cancelled() => {}
        }
    };
    let mut lines = Lines {
        viewer,
        columns_sent: false,
    };
    let write = move |event, out: &mut Vec<u8>| lines.write(event, out);
    let bytes = pieces(events.take_until(Box::pin(over)), write).map(move |piece| {
        open.touch();
        Ok(piece)
    });
    streamed(Encoding::Json.content_type(), bytes)
}

/// Events that are there already go out in one write, unless it becomes large: how many are taken at once.
const BATCH: usize = 256;

/// Writes each event when the piece that it belongs to is asked for.
fn pieces<E>(
    events: impl Stream<Item = E> + Unpin,
    write: impl FnMut(E, &mut Vec<u8>),
) -> impl Stream<Item = Bytes> {
    let state = (events.ready_chunks(BATCH), Vec::new().into_iter(), write);
    stream::unfold(state, async |(mut batches, mut batch, mut write)| {
        if batch.as_slice().is_empty() {
            batch = batches.next().await?.into_iter();
        }
        let mut out = Vec::new();
        while out.len() < PIECE_BYTES
            && let Some(event) = batch.next()
        {
            write(event, &mut out);
        }
        Some((Bytes::from(out), (batches, batch, write)))
    })
}

struct Lines {
    viewer: Viewer,
    /// A Table describes its columns in the first event only.
    columns_sent: bool,
}

impl Lines {
    fn write(&mut self, event: Result<WatchEvent, ApiError>, out: &mut Vec<u8>) {
        match event {
            Ok(WatchEvent::Added(object)) => self.object("ADDED", &object, out),
            Ok(WatchEvent::Modified(object)) => self.object("MODIFIED", &object, out),
            Ok(WatchEvent::Deleted(object)) => self.object("DELETED", &object, out),
            Ok(WatchEvent::Bookmark {
                revision,
                initial_events_end,
            }) => {
                out.extend_from_slice(b"{\"type\":\"BOOKMARK\",\"object\":");
                self.viewer.bookmark(revision, initial_events_end, out);
                out.extend_from_slice(b"}\n");
            }
            Err(error) => {
                out.extend_from_slice(b"{\"type\":\"ERROR\",\"object\":");
                out.extend_from_slice(&serde_json::to_vec(&error.to_status()).unwrap_or_default());
                out.extend_from_slice(b"}\n");
            }
        }
    }

    fn object(&mut self, kind: &str, object: &SharedObject, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{{\"type\":\"{kind}\",\"object\":").as_bytes());
        self.viewer.refreshed().object(object, !self.columns_sent, out);
        self.columns_sent = true;
        out.extend_from_slice(b"}\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::pin::pin;

    #[tokio::test]
    async fn pieces_are_bounded_and_written_when_asked_for() {
        let written = Cell::new(0);
        let write = |size: usize, out: &mut Vec<u8>| {
            written.set(written.get() + 1);
            out.resize(out.len() + size, b'x');
        };
        let mut pieces = pin!(pieces(stream::iter([PIECE_BYTES / 2; 7]), write));
        for (size, so_far) in [
            (PIECE_BYTES, 2),
            (PIECE_BYTES, 4),
            (PIECE_BYTES, 6),
            (PIECE_BYTES / 2, 7),
        ] {
            assert_eq!(pieces.next().await.map(|piece| piece.len()), Some(size));
            assert_eq!(written.get(), so_far);
        }
        assert_eq!(pieces.next().await, None);
    }

    #[tokio::test]
    async fn small_events_go_out_together() {
        let write = |event: u8, out: &mut Vec<u8>| out.push(event);
        let pieces = pieces(stream::iter(*b"abc"), write);
        assert_eq!(pieces.collect::<Vec<_>>().await, ["abc"]);
    }
}
