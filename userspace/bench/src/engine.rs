//! What every suite needs.

pub(crate) mod api;
pub(crate) mod command;
pub(crate) mod fill;
pub(crate) mod interrupt;
pub(crate) mod leftovers;
pub(crate) mod machine;
pub(crate) mod node;
pub(crate) mod report;
pub(crate) mod services;
pub(crate) mod statistics;
