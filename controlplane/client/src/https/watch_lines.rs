//! Decodes a watch's body: one JSON event per line.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use futures::{Stream, stream};
use http_body::Body;
use http_body_util::BodyExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use serde::Deserialize;
use serde_json::value::RawValue;
use skep_api::ApiError;

use super::answer::revision;
use super::chain;
use crate::{RawObject, RawWatchEvent};

/// The longest event that is read. Objects are limited to a few MiB by the store.
const MAX_LINE_BYTES: usize = 16 << 20;

const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

struct State<B> {
    body: Option<B>,
    /// Events that are read and not yet taken.
    lines: VecDeque<Bytes>,
    /// The beginning of a line whose end has not come.
    rest: BytesMut,
    /// How much of `rest` is known to hold no line end.
    searched: usize,
    context: String,
}

/// The events of the body. `context` names server and request in errors.
pub(super) fn events<B>(body: B, context: String) -> impl Stream<Item = Result<RawWatchEvent, ApiError>>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: std::error::Error + 'static,
{
    let state = State {
        body: Some(body),
        lines: VecDeque::new(),
        rest: BytesMut::new(),
        searched: 0,
        context,
    };
    stream::unfold(state, |mut state| async move {
        let event = state.next().await?;
        if event.is_err() {
            state.body = None;
            state.lines.clear();
        }
        Some((event, state))
    })
}

impl<B> State<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + 'static,
{
    async fn next(&mut self) -> Option<Result<RawWatchEvent, ApiError>> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(self.event(&line));
            }
            let body = self.body.as_mut()?;
            match body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && let Err(error) = self.feed(&data)
                    {
                        return Some(Err(error));
                    }
                }
                Some(Err(error)) => return Some(Err(self.broken(&chain(&error)))),
                None if self.rest.is_empty() => return None,
                None => return Some(Err(self.broken("the stream ended inside an event"))),
            }
        }
    }

    fn feed(&mut self, data: &[u8]) -> Result<(), ApiError> {
        self.rest.extend_from_slice(data);
        while let Some(end) = self.rest[self.searched..].iter().position(|byte| *byte == b'\n') {
            let line = self.rest.split_to(self.searched + end + 1).freeze();
            self.searched = 0;
            if !line.iter().all(u8::is_ascii_whitespace) {
                self.lines.push_back(line);
            }
        }
        self.searched = self.rest.len();
        if self.rest.len() > MAX_LINE_BYTES {
            return Err(self.broken(&format!("an event is longer than {MAX_LINE_BYTES} bytes")));
        }
        Ok(())
    }

    fn event(&self, line: &Bytes) -> Result<RawWatchEvent, ApiError> {
        match decode(line) {
            Ok(Ok(event)) => Ok(event),
            Ok(Err(status)) => Err(ApiError::from_status(status)),
            Err(error) => Err(self.broken(&format!("an event cannot be read: {error}"))),
        }
    }

    fn broken(&self, problem: &str) -> ApiError {
        ApiError::connection(format!("{}: {problem}", self.context))
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Bookmark {
    metadata: BookmarkMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMeta {
    resource_version: String,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

/// The outer error is one of the encoding, the inner one the server's.
fn decode(line: &Bytes) -> Result<Result<RawWatchEvent, Status>, serde_json::Error> {
    let Line { r#type, object } = serde_json::from_slice(line)?;
    let raw = || RawObject::from_json(line.slice_ref(object.get().as_bytes()));
    Ok(Ok(match r#type {
        "ADDED" => RawWatchEvent::Added(raw()),
        "MODIFIED" => RawWatchEvent::Modified(raw()),
        "DELETED" => RawWatchEvent::Deleted(raw()),
        "BOOKMARK" => {
            let Bookmark { metadata } = serde_json::from_str(object.get())?;
            RawWatchEvent::Bookmark {
                revision: revision(&metadata.resource_version)?,
                initial_events_end: metadata
                    .annotations
                    .get(INITIAL_EVENTS_END)
                    .is_some_and(|end| end == "true"),
            }
        }
        "ERROR" => return serde_json::from_str(object.get()).map(Err),
        other => return Err(serde::de::Error::custom(format!("the type {other:?} is unknown"))),
    }))
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use http_body_util::{Full, StreamBody};
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = r#"{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"5"}}}
{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"7","annotations":{"k8s.io/initial-events-end":"true"}}}}

{"type":"DELETED","object":{"metadata":{"name":"a","resourceVersion":"8"}}}
"#;

    fn shape(event: Result<RawWatchEvent, ApiError>) -> String {
        let json = |object: RawObject| String::from_utf8(object.json.unwrap().to_vec()).unwrap();
        match event {
            Ok(RawWatchEvent::Added(object)) => format!("+{}", json(object)),
            Ok(RawWatchEvent::Modified(object)) => format!("~{}", json(object)),
            Ok(RawWatchEvent::Deleted(object)) => format!("-{}", json(object)),
            Ok(RawWatchEvent::Bookmark {
                revision,
                initial_events_end,
            }) => {
                format!("@{revision} {initial_events_end}")
            }
            Err(error) => format!("!{} {}", error.code, error.message),
        }
    }

    fn decode_in_pieces(text: &[u8], cuts: &[usize]) -> Vec<String> {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts
            .windows(2)
            .map(|window| {
                Ok(http_body::Frame::data(Bytes::copy_from_slice(
                    &text[window[0]..window[1]],
                )))
            })
            .collect();
        let body = StreamBody::new(stream::iter(pieces));
        let body: StreamBody<stream::Iter<std::vec::IntoIter<Result<_, std::convert::Infallible>>>> = body;
        futures::executor::block_on(
            events(body, "https://server: watch pods".to_owned())
                .map(shape)
                .collect(),
        )
    }

    proptest! {
        #[test]
        fn events_do_not_depend_on_where_the_body_is_cut(cuts in proptest::collection::vec(0usize..400, 0..12)) {
            prop_assert_eq!(decode_in_pieces(TEXT.as_bytes(), &cuts), [
                r#"+{"metadata":{"name":"a","resourceVersion":"5"}}"#,
                "@7 true",
                r#"-{"metadata":{"name":"a","resourceVersion":"8"}}"#,
            ]);
        }

        #[test]
        fn any_bytes_end_in_events_or_one_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let events = decode_in_pieces(&bytes, &[]);
            prop_assert!(events.iter().rev().skip(1).all(|event| !event.starts_with('!')));
        }
    }

    #[test]
    fn error_event_is_the_server_s_status_and_the_last() {
        let text = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}
{"type":"ADDED","object":{}}
"#;
        assert_eq!(decode_in_pieces(text.as_bytes(), &[]), ["!410 too old"]);
    }

    #[test]
    fn a_cut_event_is_an_error_that_names_the_request() {
        assert_eq!(
            decode_in_pieces(&TEXT.as_bytes()[..20], &[]),
            ["!0 https://server: watch pods: the stream ended inside an event"]
        );
    }

    #[test]
    fn an_endless_line_is_an_error() {
        let body = Full::new(Bytes::from(vec![b' '; MAX_LINE_BYTES + 1]));
        let events: Vec<_> = futures::executor::block_on(events(body, "w".to_owned()).map(shape).collect());
        assert_eq!(
            events,
            [format!("!0 w: an event is longer than {MAX_LINE_BYTES} bytes")]
        );
    }
}
