use super::ensure::{ensure, leave};
use crate::ServerError;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use skep_client::Client;

/// The namespaces that always exist.
const NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

pub(super) async fn run(client: &Client) -> Result<(), ServerError> {
    for name in NAMESPACES {
        let metadata = ObjectMeta {
            name: Some((*name).to_owned()),
            ..ObjectMeta::default()
        };
        ensure(
            client,
            &Namespace {
                metadata,
                ..Namespace::default()
            },
            leave,
        )
        .await?;
    }
    Ok(())
}
