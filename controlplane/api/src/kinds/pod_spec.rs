//! `PodSpec`, which pods and the templates of workloads share.

mod containers;
mod defaults;
mod template;
mod validate;
mod volumes;

pub(super) use defaults::{set_defaults, set_resource_requests};
pub(super) use template::{check_selector, set_template_defaults, validate_template};
pub(super) use validate::validate;
