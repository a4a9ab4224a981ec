//! Which pod has which address.
//!
//! [`Pool`] decides (pure), [`journal`] is the form in which assignments are written down (pure), [`Ledger`] keeps a
//! pool and its journal file together, so that an address that was given out survives a crash. Knows nothing of
//! network devices; the CNI agent is its user.

pub mod journal;
mod ledger;
mod pool;

pub use ledger::{Ledger, LedgerError};
pub use pool::{Exhausted, Owner, Pool};
