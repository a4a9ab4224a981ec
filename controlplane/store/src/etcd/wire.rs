//! Requests, and the translation between etcd's messages and the store's types.

use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::{Entry, Event, StoreError};

/// The generated messages and clients.
pub(super) mod generated {
    pub(in crate::etcd) mod etcdserverpb {
        #![allow(
            unreachable_pub,
            unused_qualifications,
            clippy::all,
            clippy::restriction,
            reason = "generated"
        )]
        tonic::include_proto!("etcdserverpb");
    }
    pub(in crate::etcd) mod mvccpb {
        #![allow(
            unreachable_pub,
            unused_qualifications,
            clippy::all,
            clippy::restriction,
            reason = "generated"
        )]
        tonic::include_proto!("mvccpb");
    }
}

pub(super) use generated::etcdserverpb as pb;
pub(super) use generated::mvccpb;

use pb::kv_client::KvClient;
use pb::watch_client::WatchClient;

/// Largest answer that is taken: a page of the largest entries.
const MAX_ANSWER_BYTES: usize = 1 << 30;

/// One cluster, one prefix.
#[derive(Clone)]
pub(super) struct Wire {
    kv: KvClient<Channel>,
    watch: WatchClient<Channel>,
    /// What every key of the store begins with, data or not.
    root: String,
    timeout: Duration,
}

/// What a watch over the root received.
pub(super) enum Received {
    /// Changes under the root, all of their revisions; `revision` is the last of them.
    Changes { events: Vec<Event>, revision: u64 },
    /// The watch cannot begin that early.
    Compacted { floor: u64 },
}

impl Wire {
    pub(super) fn new(channel: Channel, root: String, timeout: Duration) -> Self {
        Self {
            kv: KvClient::new(channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES),
            watch: WatchClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES),
            root,
            timeout,
        }
    }

    pub(super) fn key(&self, key: &str) -> Bytes {
        Bytes::from(format!("{}data/{key}", self.root))
    }

    /// The first possible key after `key`.
    pub(super) fn after(&self, key: &str) -> Bytes {
        Bytes::from(format!("{}data/{key}\0", self.root))
    }

    /// The end of the keys that begin with `prefix`.
    pub(super) fn end(&self, prefix: &str) -> Bytes {
        prefix_end(self.key(prefix).into())
    }

    pub(super) fn entry(&self, kv: mvccpb::KeyValue) -> Result<Entry, StoreError> {
        let key = self
            .data_key(&kv.key)?
            .ok_or_else(|| unexpected("a key outside of the prefix"))?;
        Ok(Entry {
            key,
            value: kv.value,
            create_revision: unsigned(kv.create_revision)?,
            mod_revision: unsigned(kv.mod_revision)?,
        })
    }

    /// The store's key; `None` for keys that are not data.
    fn data_key(&self, key: &[u8]) -> Result<Option<String>, StoreError> {
        let Some(key) = key
            .strip_prefix(self.root.as_bytes())
            .and_then(|key| key.strip_prefix(b"data/"))
        else {
            return Ok(None);
        };
        match std::str::from_utf8(key) {
            Ok(key) => Ok(Some(key.to_owned())),
            Err(error) => Err(StoreError::Corrupt {
                what: format!("a key that is not UTF-8: {error}"),
            }),
        }
    }

    pub(super) async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, StoreError> {
        self.call("reading from etcd", self.kv.clone().range(request))
            .await
    }

    pub(super) async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, StoreError> {
        self.call("writing to etcd", self.kv.clone().txn(request)).await
    }

    pub(super) async fn compact(&self, revision: u64) -> Result<(), StoreError> {
        let request = pb::CompactionRequest {
            revision: signed(revision)?,
        };
        self.call("compacting etcd", self.kv.clone().compact(request))
            .await?;
        Ok(())
    }

    /// The current revision, linearizable.
    pub(super) async fn revision(&self) -> Result<u64, StoreError> {
        let request = pb::RangeRequest {
            key: self.progress_key(),
            ..Default::default()
        };
        revision_of(self.range(request).await?.header.as_ref())
    }

    /// Writes the one key that is not data, so that a change under the root has the current revision.
    pub(super) async fn mark(&self) -> Result<u64, StoreError> {
        let request = pb::PutRequest {
            key: self.progress_key(),
            value: Bytes::new(),
        };
        let response = self.call("writing to etcd", self.kv.clone().put(request)).await?;
        revision_of(response.header.as_ref())
    }

    fn progress_key(&self) -> Bytes {
        Bytes::from(format!("{}progress", self.root))
    }

    /// The revision that etcd has been compacted to.
    pub(super) async fn floor(&self) -> Result<u64, StoreError> {
        let first = async {
            let mut changes = std::pin::pin!(self.changes(1).await?);
            changes.next().await.unwrap_or(Err(StoreError::Closed))
        };
        match tokio::time::timeout(self.timeout, first).await {
            Ok(Ok(Received::Compacted { floor })) => Ok(floor),
            Ok(Ok(Received::Changes { .. })) => Ok(0),
            Ok(Err(error)) => Err(error),
            Err(elapsed) => Err(StoreError::unavailable("watching etcd", elapsed)),
        }
    }

    /// Changes under the root after `from`. Ends with an error, also when the connection is lost.
    pub(super) async fn changes(
        &self,
        from: u64,
    ) -> Result<impl Stream<Item = Result<Received, StoreError>> + Send + use<>, StoreError> {
        // From inclusive, so that etcd refuses exactly the watches from before its floor.
        let from = from.max(1);
        let root = Bytes::from(self.root.clone());
        let create = pb::WatchCreateRequest {
            key: if root.is_empty() {
                Bytes::from_static(b"\0")
            } else {
                root
            },
            range_end: prefix_end(self.root.clone().into_bytes()),
            start_revision: signed(from)?,
            prev_kv: true,
        };
        let create = pb::watch_request::RequestUnion::CreateRequest(create);
        let request = pb::WatchRequest {
            request_union: Some(create),
        };
        // The request stream stays open as long as the watch is wanted.
        let requests = futures::stream::once(async { request }).chain(futures::stream::pending());
        let mut client = self.watch.clone();
        let responses = self.call("watching etcd", client.watch(requests)).await?;
        let wire = self.clone();
        Ok(responses.filter_map(move |response| {
            let received = match response {
                Ok(response) => wire.received(response, from).transpose(),
                Err(status) => Some(Err(unavailable("watching etcd", status))),
            };
            std::future::ready(received)
        }))
    }

    fn received(&self, response: pb::WatchResponse, from: u64) -> Result<Option<Received>, StoreError> {
        if response.canceled {
            if response.compact_revision > 0 {
                return Ok(Some(Received::Compacted {
                    floor: unsigned(response.compact_revision)?,
                }));
            }
            return Err(StoreError::unavailable("watching etcd", response.cancel_reason));
        }
        let mut events = Vec::with_capacity(response.events.len());
        let mut last = 0;
        for event in response.events {
            let kv = event
                .kv
                .as_ref()
                .ok_or_else(|| unexpected("an event without its key"))?;
            let revision = unsigned(kv.mod_revision)?;
            if revision > from {
                last = revision;
                events.extend(self.event(event)?);
            }
        }
        Ok((last > 0).then_some(Received::Changes {
            events,
            revision: last,
        }))
    }

    /// The store's event; `None` when it is not about data.
    fn event(&self, event: mvccpb::Event) -> Result<Option<Event>, StoreError> {
        let deleted = event.r#type() == mvccpb::event::EventType::Delete;
        let kv = event.kv.ok_or_else(|| unexpected("an event without its key"))?;
        let Some(key) = self.data_key(&kv.key)? else {
            return Ok(None);
        };
        let previous = event.prev_kv.map(|kv| self.entry(kv)).transpose()?;
        let revision = unsigned(kv.mod_revision)?;
        let created = !deleted && kv.version == 1;
        if !created && previous.is_none() {
            // Compacted while the event was on its way.
            return Err(StoreError::Compacted { floor: revision });
        }
        Ok(Some(match previous {
            Some(previous) if deleted => Event::Delete {
                key,
                revision,
                previous,
            },
            previous => {
                let previous = previous.map(|entry| entry.value);
                Event::Put {
                    entry: self.entry(kv)?,
                    created,
                    previous,
                }
            }
        }))
    }

    async fn call<T>(
        &self,
        during: &'static str,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(unavailable(during, status)),
            Err(elapsed) => Err(StoreError::unavailable(during, elapsed)),
        }
    }
}

/// Conditions of a transaction.
pub(super) mod compare {
    use bytes::Bytes;

    use super::pb::Compare;
    use super::pb::compare::{CompareResult, CompareTarget, TargetUnion};
    use super::signed;
    use crate::StoreError;

    pub(in crate::etcd) fn missing(key: Bytes) -> Compare {
        Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Create.into(),
            key,
            target_union: Some(TargetUnion::CreateRevision(0)),
        }
    }

    pub(in crate::etcd) fn exists(key: Bytes) -> Compare {
        Compare {
            result: CompareResult::Greater.into(),
            target: CompareTarget::Version.into(),
            key,
            target_union: Some(TargetUnion::Version(0)),
        }
    }

    /// The key exists (a missing one counts as revision 0) and was last written at `revision`.
    pub(in crate::etcd) fn at_revision(key: &Bytes, revision: u64) -> Result<Vec<Compare>, StoreError> {
        let at = Compare {
            result: CompareResult::Equal.into(),
            target: CompareTarget::Mod.into(),
            key: key.clone(),
            target_union: Some(TargetUnion::ModRevision(signed(revision)?)),
        };
        Ok(vec![exists(key.clone()), at])
    }
}

/// Steps of a transaction.
pub(super) mod operation {
    use bytes::Bytes;

    use super::pb::request_op::Request;
    use super::pb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp};

    pub(in crate::etcd) fn range(request: RangeRequest) -> RequestOp {
        RequestOp {
            request: Some(Request::RequestRange(request)),
        }
    }

    pub(in crate::etcd) fn put(key: Bytes, value: Bytes) -> RequestOp {
        RequestOp {
            request: Some(Request::RequestPut(PutRequest { key, value })),
        }
    }

    pub(in crate::etcd) fn delete(key: Bytes) -> RequestOp {
        RequestOp {
            request: Some(Request::RequestDeleteRange(DeleteRangeRequest {
                key,
                prev_kv: true,
            })),
        }
    }
}

pub(super) fn first_response(response: pb::TxnResponse) -> Option<pb::response_op::Response> {
    response.responses.into_iter().next()?.response
}

pub(super) fn revision_of(header: Option<&pb::ResponseHeader>) -> Result<u64, StoreError> {
    unsigned(
        header
            .ok_or_else(|| unexpected("an answer without a header"))?
            .revision,
    )
}

pub(super) fn unexpected(what: &str) -> StoreError {
    StoreError::Corrupt {
        what: format!("etcd sent {what}"),
    }
}

pub(super) fn signed(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|error| StoreError::unavailable("naming a revision to etcd", error))
}

fn unsigned(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|error| StoreError::Corrupt {
        what: format!("etcd sent a negative number: {error}"),
    })
}

fn unavailable(during: &'static str, status: Status) -> StoreError {
    StoreError::unavailable(during, status)
}

/// Whether etcd said that a revision is before its floor or ahead of it.
pub(super) fn is_out_of_range(error: &StoreError) -> bool {
    match error {
        StoreError::Unavailable { source, .. } => source
            .downcast_ref::<Status>()
            .is_some_and(|status| status.code() == Code::OutOfRange),
        _ => false,
    }
}

/// The first key that does not begin with `prefix`, in etcd's form: a zero byte stands for no end.
fn prefix_end(mut prefix: Vec<u8>) -> Bytes {
    while let Some(last) = prefix.pop() {
        if last < 0xff {
            prefix.push(last + 1);
            return prefix.into();
        }
    }
    Bytes::from_static(b"\0")
}

#[cfg(test)]
mod tests {
    use super::prefix_end;

    #[test]
    fn the_end_of_a_prefix_is_the_next_key_without_it() {
        assert_eq!(&prefix_end(b"/a/".to_vec())[..], b"/a0");
        assert_eq!(&prefix_end(b"a\xff\xff".to_vec())[..], b"b");
        assert_eq!(&prefix_end(b"\xff".to_vec())[..], b"\0");
        assert_eq!(&prefix_end(Vec::new())[..], b"\0");
    }
}
