//! One round of deleting a namespace's content.

use super::conditions::Outcome;
use crate::garbage::metadata::PartialObject;
use bytes::Bytes;
use k8s_openapi::api::core::v1::Pod;
use skep_api::{ApiError, GroupVersionResource, gvr_of};
use skep_client::{ApiRequest, ApiResponse, Client, DeleteOptions, Propagation, Verb};
use std::time::Duration;

/// Objects are counted in pages of this size.
const PAGE_LIMIT: usize = 500;

/// Deletes all objects of the kinds, the first kind (pods) before any other, and counts what remains.
pub(crate) async fn delete_all(client: &Client, namespace: &str, kinds: &[GroupVersionResource]) -> Outcome {
    let mut outcome = Outcome::default();
    for kind in kinds {
        if let Err(error) = delete_kind(client, namespace, kind, &mut outcome).await {
            tracing::warn!(namespace, resource = %kind, %error, "content not deleted");
            outcome.failures.push(error);
        }
        if *kind == gvr_of::<Pod>() && !outcome.is_done() {
            break;
        }
    }
    outcome
}

async fn delete_kind(
    client: &Client,
    namespace: &str,
    kind: &GroupVersionResource,
    outcome: &mut Outcome,
) -> Result<(), ApiError> {
    if count(client, namespace, kind, &mut Outcome::default()).await? == 0 {
        return Ok(());
    }
    let options = DeleteOptions {
        propagation_policy: Some(Propagation::Background),
        ..Default::default()
    };
    let body = serde_json::to_vec(&options).map_err(ApiError::internal)?;
    let request = ApiRequest::new(Verb::DeleteCollection, kind.clone()).namespace(namespace);
    client.raw(request.body(Bytes::from(body))).await?;
    let left = count(client, namespace, kind, outcome).await?;
    if left > 0 {
        outcome.remaining.insert(kind.clone(), left);
    }
    Ok(())
}

/// How many objects there are; notes their finalizers and the pods' grace.
async fn count(
    client: &Client,
    namespace: &str,
    kind: &GroupVersionResource,
    outcome: &mut Outcome,
) -> Result<usize, ApiError> {
    let mut count = 0;
    let mut token: Option<String> = None;
    loop {
        let mut request = ApiRequest::new(Verb::List, kind.clone())
            .namespace(namespace)
            .query("limit", PAGE_LIMIT.to_string());
        if let Some(token) = token.take() {
            request = request.query("continue", token);
        }
        let ApiResponse::List {
            items,
            continue_token,
            ..
        } = client.raw(request).await?
        else {
            return Err(ApiError::internal(format!(
                "{kind}: the server did not answer with a list"
            )));
        };
        count += items.len();
        for item in items {
            let meta = PartialObject::decode(&item)?.metadata;
            for finalizer in meta.finalizers.into_iter().flatten() {
                *outcome.finalizers.entry(finalizer).or_default() += 1;
            }
            let grace = meta
                .deletion_grace_period_seconds
                .and_then(|seconds| u64::try_from(seconds).ok());
            outcome.grace = outcome.grace.max(grace.map(Duration::from_secs));
        }
        match continue_token {
            Some(next) => token = Some(next),
            None => return Ok(count),
        }
    }
}
