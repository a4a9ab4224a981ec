//! Answers that are written while they are sent: long lists and watches.

use crate::http::negotiate::{Encoding, Form, accepts_gzip};
use crate::http::{Response, reply};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use http::header::{CONTENT_ENCODING, VARY};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::io::{self, Write};

/// Lists and watches are written in pieces of about this size; shorter ones go out in one.
pub(crate) const PIECE_BYTES: usize = 256 * 1024;

/// A list as the pieces of its JSON text.
pub(crate) struct Pieces<T, W> {
    head: Option<Vec<u8>>,
    items: std::iter::Peekable<std::vec::IntoIter<T>>,
    write: W,
    ended: bool,
}

impl<T, W: FnMut(&T, &mut Vec<u8>)> Pieces<T, W> {
    /// `head` ends with the opening bracket of the items' array.
    pub(crate) fn new(head: Vec<u8>, items: Vec<T>, write: W) -> Self {
        Self {
            head: Some(head),
            items: items.into_iter().peekable(),
            write,
            ended: false,
        }
    }
}

impl<T, W: FnMut(&T, &mut Vec<u8>)> Iterator for Pieces<T, W> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.ended {
            return None;
        }
        let mut piece = self.head.take().unwrap_or_default();
        while let Some(item) = self.items.next() {
            (self.write)(&item, &mut piece);
            if self.items.peek().is_some() {
                piece.push(b',');
            }
            if piece.len() >= PIECE_BYTES {
                return Some(piece);
            }
        }
        piece.extend_from_slice(b"]}\n");
        self.ended = true;
        Some(piece)
    }
}

/// The answer to a list.
pub(crate) fn list<T, W>(form: Form, headers: &HeaderMap, pretty: bool, mut pieces: Pieces<T, W>) -> Response
where
    T: Send + 'static,
    W: FnMut(&T, &mut Vec<u8>) + Send + 'static,
{
    let Some(first) = pieces.next() else {
        return reply::answer(StatusCode::OK, form.encoding.content_type(), "");
    };
    if pieces.ended || pretty || form.encoding == Encoding::Yaml {
        let whole = pieces.fold(first, |mut whole, piece| {
            whole.extend_from_slice(&piece);
            whole
        });
        return reply::encoded(StatusCode::OK, form, headers, pretty, whole.into());
    }
    let rest = std::iter::once(first).chain(pieces);
    let gzip = accepts_gzip(headers);
    let mut response = match gzip {
        true => streamed(form.encoding.content_type(), stream::iter(Compressed::new(rest))),
        false => streamed(
            form.encoding.content_type(),
            stream::iter(rest.map(|piece| Ok(Bytes::from(piece)))),
        ),
    };
    if gzip {
        response
            .headers_mut()
            .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response
            .headers_mut()
            .insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    response
}

/// An answer whose body is a stream.
pub(crate) fn streamed(
    content_type: &str,
    pieces: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> Response {
    reply::answer(StatusCode::OK, content_type, "")
        .map(|_empty| StreamBody::new(pieces.map_ok(Frame::data).boxed()).boxed_unsync())
}

/// Pieces compressed one by one into one gzip stream.
struct Compressed<I> {
    pieces: I,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl<I> Compressed<I> {
    fn new(pieces: I) -> Self {
        Self {
            pieces,
            encoder: Some(GzEncoder::new(Vec::new(), Compression::fast())),
        }
    }
}

impl<I: Iterator<Item = Vec<u8>>> Iterator for Compressed<I> {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut encoder = self.encoder.take()?;
        let Some(piece) = self.pieces.next() else {
            return Some(encoder.finish().map(Bytes::from));
        };
        if let Err(error) = encoder.write_all(&piece) {
            return Some(Err(error));
        }
        let written = std::mem::take(encoder.get_mut());
        self.encoder = Some(encoder);
        Some(Ok(written.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use http::header::ACCEPT_ENCODING;
    use std::io::Read;

    async fn text(items: usize, gzip: bool) -> (bool, String) {
        let mut headers = HeaderMap::new();
        if gzip {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let items: Vec<usize> = (0..items).collect();
        let pieces = Pieces::new(
            b"{\"items\":[".to_vec(),
            items,
            |item: &usize, out: &mut Vec<u8>| {
                out.extend_from_slice(format!("{item:0100}").as_bytes());
            },
        );
        let response = list(Form::JSON, &headers, false, pieces);
        let compressed = response.headers().contains_key(CONTENT_ENCODING);
        let body = response.into_body().collect().await.expect("body").to_bytes();
        let mut text = String::new();
        match compressed {
            true => GzDecoder::new(&body[..]).read_to_string(&mut text).expect("gzip"),
            false => (&body[..]).read_to_string(&mut text).expect("text"),
        };
        (compressed, text)
    }

    #[tokio::test]
    async fn lists_are_whole_in_any_number_of_pieces() {
        for items in [0, 1, 2, 10_000] {
            let (compressed, plain) = text(items, false).await;
            assert!(!compressed && plain.ends_with("]}\n"));
            assert_eq!(plain.matches(',').count(), items.saturating_sub(1), "{items}");
            let (compressed, unpacked) = text(items, true).await;
            assert_eq!(compressed, items == 10_000);
            assert_eq!(plain, unpacked);
        }
    }
}
