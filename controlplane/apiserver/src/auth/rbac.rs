//! Decides by RBAC and, for nodes, by the Node authorizer. Keeps the [`Policy`] equal to the cluster's RBAC objects,
//! by watches on the registry.

use crate::auth::attributes::Attributes;
use crate::auth::node;
use crate::auth::policy::{Objects, Policy};
use arc_swap::ArcSwap;
use futures::{StreamExt, stream};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use skep_api::{ApiError, GroupVersionResource, Kind, ObjectKey, gvr_of};
use skep_registry::{Registry, Scope, SharedObject, WatchEvent, WatchOptions};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Pause before the watches are opened again after a failure.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// Changes that are taken together into one new policy.
const BATCH: usize = 1024;

/// Decides what users may do.
pub(crate) struct Authorizer {
    registry: Registry,
    policy: ArcSwap<Policy>,
    synced: watch::Sender<bool>,
}

type Known = BTreeMap<(GroupVersionResource, ObjectKey), SharedObject>;

impl Authorizer {
    pub(crate) fn new(registry: Registry) -> Self {
        Self {
            registry,
            policy: ArcSwap::from_pointee(Policy::default()),
            synced: watch::Sender::new(false),
        }
    }

    /// Whether the request may go on, by what every server of the cluster knows.
    ///
    /// # Errors
    /// 403 in upstream's words.
    pub(crate) async fn authorize(&self, attributes: &Attributes<'_>) -> Result<(), ApiError> {
        let known = self.check(attributes);
        if known.is_err() && node::name_of(attributes.user).is_some() {
            // The node may have learned of its pod from a server that is ahead of this one.
            self.registry.fresh().await?;
            return self.check(attributes);
        }
        known
    }

    /// The same, by what this server knows now.
    pub(crate) fn check(&self, attributes: &Attributes<'_>) -> Result<(), ApiError> {
        if self.policy.load().allows(attributes) {
            return Ok(());
        }
        match node::name_of(attributes.user) {
            Some(node) => {
                node::decide(&self.registry, node, attributes).map_err(|why| attributes.forbidden(&why))
            }
            None => Err(attributes.forbidden("")),
        }
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// Returns once the policy is the one of the store.
    pub(crate) async fn synced(&self) {
        // The sender lives as long as `self`: waiting cannot fail.
        drop(self.synced.subscribe().wait_for(|synced| *synced).await);
    }

    /// Follows the RBAC objects until `shutdown`.
    pub(crate) async fn run(&self, shutdown: &CancellationToken) {
        let follow = async {
            loop {
                let ended = self.follow().await;
                tracing::warn!(
                    error = ended.err().map(tracing::field::display),
                    "the access rules' watch ended, opening it again"
                );
                tokio::time::sleep(RETRY_AFTER).await;
            }
        };
        shutdown.run_until_cancelled(follow).await;
    }

    /// Follows until a watch ends. The last policy stays in force.
    async fn follow(&self) -> Result<(), ApiError> {
        let kinds = [
            gvr_of::<ClusterRole>(),
            gvr_of::<ClusterRoleBinding>(),
            gvr_of::<Role>(),
            gvr_of::<RoleBinding>(),
        ];
        let options = WatchOptions {
            bookmarks: true,
            send_initial_events: Some(true),
            ..WatchOptions::default()
        };
        let mut missing = kinds.len();
        let mut streams = Vec::new();
        for kind in kinds {
            let events = self.registry.watch(&kind, &Scope::All, &options).await?;
            let ended = stream::once(async { Err(ApiError::service_unavailable("the watch ended")) });
            streams.push(
                events
                    .chain(ended)
                    .map(move |event| event.map(|event| (kind.clone(), event)))
                    .boxed(),
            );
        }
        let mut batches = stream::select_all(streams).ready_chunks(BATCH);
        let mut known = Known::new();
        while let Some(batch) = batches.next().await {
            for event in batch {
                let (kind, event) = event?;
                missing -= usize::from(note(&mut known, kind, event));
            }
            if missing == 0 {
                self.policy.store(Arc::new(Policy::new(&objects(&known))));
                self.synced.send_replace(true);
            }
        }
        Ok(())
    }
}

/// Takes an event in; whether it ends the initial state of its kind.
fn note(known: &mut Known, kind: GroupVersionResource, event: WatchEvent) -> bool {
    match event {
        WatchEvent::Added(object) | WatchEvent::Modified(object) => {
            known.insert((kind, object.key().clone()), object);
            false
        }
        WatchEvent::Deleted(object) => {
            known.remove(&(kind, object.key().clone()));
            false
        }
        WatchEvent::Bookmark {
            initial_events_end, ..
        } => initial_events_end,
    }
}

fn objects(known: &Known) -> Objects {
    Objects {
        cluster_roles: of::<ClusterRole>(known),
        cluster_role_bindings: of::<ClusterRoleBinding>(known),
        roles: of::<Role>(known),
        role_bindings: of::<RoleBinding>(known),
    }
}

fn of<K: Kind>(known: &Known) -> Vec<Arc<K>> {
    let kind = gvr_of::<K>();
    known
        .iter()
        .filter(|((of, _), _)| *of == kind)
        .filter_map(|(_, object)| object.typed())
        .collect()
}
