use skep_api::ApiError;
use skep_apiserver::ServeError;
use skep_controllers::ControllersError;
use skep_pki::PkiError;
use skep_registry::RegistryError;
use skep_store::StoreError;

/// Why a server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("the cluster's certificates cannot be prepared")]
    Pki(#[from] PkiError),

    #[error("the data folder cannot be used: choose one that belongs to this user")]
    DataDir(#[source] PkiError),

    #[error("the store cannot be opened")]
    Store(#[from] StoreError),

    #[error("the registry cannot be opened")]
    Registry(#[from] RegistryError),

    #[error("the API cannot be served")]
    Serve(#[from] ServeError),

    #[error("{kind} {key}, which every cluster has, cannot be written")]
    Bootstrap {
        kind: &'static str,
        key: String,
        source: Box<ApiError>,
    },

    #[error("the controllers failed")]
    Controllers(#[from] ControllersError),

    #[error("a part of the server ended in a panic")]
    Panicked(#[from] tokio::task::JoinError),
}
