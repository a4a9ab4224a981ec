//! Who asks, and whether they may: client certificates, RBAC and the Node authorizer.

pub(crate) mod attributes;
pub(crate) mod certificate;
mod escalation;
pub(crate) mod gate;
pub(crate) mod impersonation;
mod node;
pub(crate) mod policy;
pub(crate) mod rbac;
pub(crate) mod rules;
pub(crate) mod user;
