//! Health, for load balancers: `/healthz` and `/livez` of the node, and the healthCheckNodePort of each Service of
//! type LoadBalancer with externalTrafficPolicy Local. The one thing that listens without authentication: it tells
//! nothing but counts.
//!
//! The proxy writes what it knows into [`Health`] after it has written the maps, so that no load balancer learns of
//! an endpoint that the kernel does not know yet. [`listeners::run`] keeps a listener for each port that it names.
//!
//! Semantics: upstream's `pkg/proxy/healthcheck`, KEP-3836.

mod answer;
mod listeners;
mod state;

pub(crate) use listeners::{Context, run};
pub(crate) use state::{Health, health_check_port};
