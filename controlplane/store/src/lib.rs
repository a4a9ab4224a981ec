//! The store under the API: bytes in, bytes out, one global revision.
//!
//! This crate owns the [`Store`] trait, the embedded engine ([`EmbeddedStore`], one redb file, group commit), the
//! engine over an etcd cluster ([`EtcdStore`]), and the contract suite that both must pass (`contract`, behind the
//! `testing` feature). It knows nothing of kinds, encodings or requests: only `skep-registry` may use it.

#[cfg(feature = "testing")]
#[expect(
    clippy::unwrap_used,
    reason = "a contract case is a test: it panics when the contract is broken"
)]
pub mod contract;
mod embedded;
mod entry;
mod error;
mod etcd;
mod hub;
mod store;
mod watch;

pub use embedded::{EmbeddedConfig, EmbeddedStore};
pub use entry::{Entry, Event, Listing};
pub use error::StoreError;
pub use etcd::{EtcdConfig, EtcdStore, EtcdTls};
pub use store::{MAX_ENTRY_BYTES, Store};
pub use watch::{Watch, WatchBatch};
