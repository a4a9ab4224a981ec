//! The server over loopback, as real clients see it.

mod access;
mod kubectl;
mod nodes;
mod support;
mod tokens;
mod wire;
