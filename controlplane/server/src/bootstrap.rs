//! The objects that every cluster starts with, and that the server keeps as they must be.

mod dns_service;
mod ensure;
mod kubernetes_service;
mod namespaces;
mod rbac;

use crate::{ServerConfig, ServerError};
use skep_client::Client;

pub(crate) use kubernetes_service::KubernetesService;

/// Creates what is absent and completes what is there. Can be repeated.
///
/// # Errors
/// Which object could not be written, and why.
pub(crate) async fn run(client: &Client, config: &ServerConfig) -> Result<(), ServerError> {
    namespaces::run(client).await?;
    rbac::run(client).await?;
    KubernetesService::new(client.clone(), config).reconcile().await?;
    dns_service::run(client, config).await
}
