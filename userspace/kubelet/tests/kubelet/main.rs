//! The whole kubelet between an API in memory and a runtime: a fake one always, a real containerd where there is root
//! (`cargo test -p skep-kubelet -- --ignored`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]
#![expect(
    clippy::result_large_err,
    reason = "what was seen last is shown when a test fails"
)]
#![expect(
    clippy::print_stdout,
    reason = "measured times are for the reader of the test's output"
)]

mod beside;
mod faked;
mod harness;
mod real;
