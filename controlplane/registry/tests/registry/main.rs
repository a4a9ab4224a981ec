//! The registry as its callers see it, over the embedded store and etcd.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod contract;
mod etcd;
mod harness;
mod lists;
mod objects;
mod pods;
mod restart;
mod services;
mod watches;
