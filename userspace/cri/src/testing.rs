//! What tests of the kubelet stand on: a runtime in memory, and a real containerd of one's own.
//!
//! [`FakeRuntime`] models the facts of a runtime that the kubelet relies on. Each of them is a check in
//! [`contract`], which runs against the fake in every test run and against containerd where there is
//! root (`cargo test -p skep-cri -- --ignored`).

pub mod contract;
mod fake;
mod harness;
mod image;

pub use fake::{ExecAnswer, FakeRuntime};
pub use harness::{TestContainerd, with_containerd};
pub use image::{BUSYBOX, PAUSE, write_image_archive};
