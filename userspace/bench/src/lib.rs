//! The measuring programs of the service dataplane.
//!
//! Owns how something is measured: where it runs, in which order, for how long, and what may be concluded from it.
//! Asserts nothing about the dataplane; that is the tests'.
//!
//! - `engine`: what every suite needs. Namespaces, cgroups and pins that go away by themselves, Services in any
//!   number, an API in memory, statistics that know when they say nothing, the report.
//! - `bpf`, `net`, `table`: the suites, one folder each, beside a file that says what the suite is made of.
//!
//! A new suite is a module with a function from [`Context`] to a report, and a variant of [`Suite`].

#![forbid(unsafe_code)]

mod bpf;
mod engine;
mod error;
mod net;
mod options;
mod table;

pub use engine::interrupt::Interrupt;
pub use engine::report::{Conclusion, Report, Row, Target};
pub use engine::statistics::Estimate;
pub use error::BenchError;
pub use options::{Context, Effort, Options, Suite, run};
