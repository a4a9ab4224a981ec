//! The proxy between an API in memory and maps in memory.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod counts;
mod drift;
mod health;
mod services;
mod support;
