//! What a ReplicaSet needs: pods to create or delete. Pure.

use crate::pods;
use crate::replicaset::rank;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::sync::Arc;

/// The most pods created or deleted by one reconcile.
pub(crate) const BURST_REPLICAS: usize = 500;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Plan {
    Nothing,
    Create(usize),
    Delete(Vec<Arc<Pod>>),
}

pub(crate) fn wanted(replica_set: &ReplicaSet) -> i32 {
    replica_set.spec.replicas.unwrap_or(1)
}

/// `pods` are the active pods that the ReplicaSet owns; `related` see [`rank::pods_to_delete`].
pub(crate) fn plan(
    replica_set: &ReplicaSet,
    pods: &[Arc<Pod>],
    related: &[Arc<Pod>],
    now: Timestamp,
) -> Plan {
    if replica_set.metadata.deletion_timestamp.is_some() {
        return Plan::Nothing;
    }
    let wanted = usize::try_from(wanted(replica_set)).unwrap_or(0);
    if pods.len() < wanted {
        Plan::Create((wanted - pods.len()).min(BURST_REPLICAS))
    } else if pods.len() > wanted {
        let count = (pods.len() - wanted).min(BURST_REPLICAS);
        Plan::Delete(rank::pods_to_delete(pods.to_vec(), related, count, now))
    } else {
        Plan::Nothing
    }
}

/// The pod that the ReplicaSet creates; the server completes its name.
pub(crate) fn new_pod(replica_set: &ReplicaSet) -> Pod {
    let template = replica_set.spec.template.as_ref();
    let template_meta = template.and_then(|template| template.metadata.as_ref());
    Pod {
        metadata: ObjectMeta {
            namespace: replica_set.metadata.namespace.clone(),
            generate_name: Some(format!(
                "{}-",
                replica_set.metadata.name.as_deref().unwrap_or_default()
            )),
            labels: template_meta.and_then(|meta| meta.labels.clone()),
            annotations: template_meta.and_then(|meta| meta.annotations.clone()),
            finalizers: template_meta.and_then(|meta| meta.finalizers.clone()),
            owner_references: Some(vec![crate::owner::controller_ref::<ReplicaSet>(
                &replica_set.metadata,
            )]),
            ..Default::default()
        },
        spec: Some(
            template
                .and_then(|template| template.spec.clone())
                .unwrap_or_default(),
        ),
        status: None,
    }
}

/// When the next of the ready pods becomes available, if any waits for `minReadySeconds`.
pub(crate) fn next_available(pods: &[Arc<Pod>], min_ready: i32, now: Timestamp) -> Option<Timestamp> {
    pods.iter()
        .filter_map(|pod| match pods::availability(pod, min_ready, now) {
            pods::Availability::From(at) => Some(at),
            _ => None,
        })
        .min()
}
