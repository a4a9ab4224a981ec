//! `autoscaling/v1 Scale`: another view of the replicas of an object.

use skep_api::k8s_openapi::api::autoscaling::v1::{Scale, ScaleSpec, ScaleStatus};
use skep_api::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use skep_api::resource::DynObject;
use skep_api::{ApiError, FieldError, ObjectExt, Subresource, decode};

use super::Target;
use super::patch::Parsed;
use crate::body::Proposed;
use crate::registry::Inner;
use crate::{NewObject, SharedObject, WriteOptions, Written};

/// The scale of an object, for kinds that have one.
pub(crate) fn of(object: &dyn DynObject) -> Result<Scale, ApiError> {
    let view = object.scale().ok_or_else(ApiError::unknown_path)?;
    let meta = object.object_meta();
    Ok(Scale {
        metadata: ObjectMeta {
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            uid: meta.uid.clone(),
            resource_version: meta.resource_version.clone(),
            creation_timestamp: meta.creation_timestamp.clone(),
            ..ObjectMeta::default()
        },
        spec: Some(ScaleSpec {
            replicas: Some(view.replicas),
        }),
        status: Some(ScaleStatus {
            replicas: view.status_replicas,
            selector: Some(view.selector.to_string()),
        }),
    })
}

/// The scale as an answer.
pub(crate) fn shared(object: &dyn DynObject) -> Result<SharedObject, ApiError> {
    SharedObject::unstored(Box::new(of(object)?)).map_err(ApiError::internal)
}

/// The object with the replicas that the scale asks for.
fn rescaled(current: &SharedObject, scale: &Scale) -> Result<Proposed, ApiError> {
    let replicas = scale.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
    if replicas < 0 {
        let errors = vec![FieldError::invalid(
            "spec.replicas",
            replicas,
            "must be greater than or equal to 0",
        )];
        return Err(ApiError::invalid("autoscaling", "Scale", scale.name(), errors));
    }
    let mut object = current.object().clone_box();
    object.set_scale(replicas);
    object
        .meta_mut()
        .resource_version
        .clone_from(&scale.metadata.resource_version);
    if scale.metadata.uid.is_some() {
        object.meta_mut().uid.clone_from(&scale.metadata.uid);
    }
    Ok(Proposed {
        object,
        warnings: Vec::new(),
    })
}

impl Inner {
    pub(super) async fn update_scale(
        &self,
        target: &Target,
        object: &NewObject,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        let decoded = match object {
            NewObject::Json(json) => decode::from_slice(json, None),
            NewObject::Value(value) => decode::from_value(value.clone(), None),
        };
        let scale: Scale = decoded.map_err(refuse)?;
        let propose = |current: &SharedObject| rescaled(current, &scale);
        self.mutate_scale(target, options, &propose).await
    }

    pub(super) async fn patch_scale(
        &self,
        target: &Target,
        parsed: &Parsed,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        let propose = |current: &SharedObject| {
            let scale = of(current.object())?;
            let value = serde_json::to_value(&scale).map_err(ApiError::internal)?;
            let patched = parsed.apply(value, "autoscaling", "v1", "Scale")?;
            rescaled(current, &decode::from_value(patched, None).map_err(refuse)?)
        };
        self.mutate_scale(target, options, &propose).await
    }

    async fn mutate_scale(
        &self,
        target: &Target,
        options: &WriteOptions,
        propose: &super::update::Propose<'_>,
    ) -> Result<Written, ApiError> {
        let written = self
            .mutate(target, Some(Subresource::Scale), options, propose)
            .await?;
        Ok(Written {
            object: shared(written.object.object())?,
            ..written
        })
    }
}

fn refuse(error: skep_api::resource::DecodeError) -> ApiError {
    ApiError::bad_request(format!(
        "Scale in version \"autoscaling/v1\" cannot be handled as a Scale: {error}"
    ))
}
