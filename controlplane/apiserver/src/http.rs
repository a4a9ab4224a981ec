//! HTTP as the API speaks it: request lines, queries, bodies, content negotiation and answers.

pub(crate) mod body;
pub(crate) mod negotiate;
pub(crate) mod protobuf;
pub(crate) mod query;
pub(crate) mod reply;
pub(crate) mod request_info;
pub(crate) mod stream;

/// The body of every answer.
pub(crate) type Body = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, std::io::Error>;

/// An answer.
pub(crate) type Response = http::Response<Body>;
