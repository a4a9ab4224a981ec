//! Creation.

use skep_api::k8s_openapi::api::core::v1::Namespace;
use skep_api::resource::DynObject;
use skep_api::validation;
use skep_api::{ApiError, FieldError, GroupVersionResource, ObjectExt, ObjectKey, Revision, gvr_of};

use super::{encode, metadata, names};
use crate::body::{self, Proposed};
use crate::registry::Inner;
use crate::{NewObject, SharedObject, WriteOptions, Written};

/// How many names are tried for one `generateName`.
const NAME_ATTEMPTS: usize = 8;

impl Inner {
    pub(crate) async fn create(
        &self,
        resource: &GroupVersionResource,
        namespace: &str,
        object: &NewObject,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        let (info, _) = self.resource(resource)?;
        let proposed = body::decode(&info, object, options.field_validation)?;
        self.create_decoded(resource, namespace, proposed, options).await
    }

    pub(super) async fn create_decoded(
        &self,
        resource: &GroupVersionResource,
        namespace: &str,
        proposed: Proposed,
        options: &WriteOptions,
    ) -> Result<Written, ApiError> {
        let (info, slot) = self.resource(resource)?;
        let Proposed { mut object, warnings } = proposed;
        metadata::begin(object.meta_mut(), &info, namespace)?;
        // Freed addresses and ended namespaces must be seen.
        self.fresh(resource).await?;
        object.set_defaults();
        object.prepare_create();
        if object.spec_changed(&*object).is_some() {
            object.meta_mut().generation = Some(1);
        }
        let prefix = object.meta_mut().generate_name.clone().unwrap_or_default();
        let generated = object.name().is_empty() && !prefix.is_empty();
        let attempts = if generated { NAME_ATTEMPTS } else { 1 };
        let mut last = ApiError::generate_name_conflict(resource, &prefix);
        for _ in 0..attempts {
            if generated {
                object.meta_mut().name = Some(names::generate(&prefix));
                // Defaults may copy the name.
                object.set_defaults();
            }
            self.admit(resource, namespace, object.name())?;
            options.admit(&*object, None)?;
            if let Some(why) = object.refuse_create() {
                return Err(ApiError::forbidden(resource, object.name(), &why));
            }
            let errors = validate(&info, &*object);
            if !errors.is_empty() {
                return Err(ApiError::invalid(
                    &info.gvr.group,
                    &info.kind,
                    object.name(),
                    errors,
                ));
            }
            let key = ObjectKey::of(object.object_meta());
            if self.cache.get(slot, &key).is_some() {
                last = ApiError::already_exists(resource, &key.name);
                continue;
            }
            match self.insert(&info, object.clone_box(), options).await {
                Ok(object) => {
                    return Ok(Written {
                        object,
                        warnings,
                        created: true,
                    });
                }
                Err(error) if error.is_already_exists() => last = error,
                Err(error) => return Err(error),
            }
        }
        Err(if generated {
            ApiError::generate_name_conflict(resource, &prefix)
        } else {
            last
        })
    }

    /// Claims what the object needs and writes it.
    async fn insert(
        &self,
        info: &skep_api::ResourceInfo,
        mut object: Box<dyn DynObject>,
        options: &WriteOptions,
    ) -> Result<SharedObject, ApiError> {
        let target = self.target(&info.gvr, &ObjectKey::of(object.object_meta()))?;
        let strategy = self.strategies.of(info);
        let wanted = object.clone_box();
        let claim = || {
            object = wanted.clone_box();
            strategy.claim(&mut *object, None)
        };
        let claims = self.claim(&target, options, claim).await?;
        if options.dry_run {
            return SharedObject::unstored(object).map_err(ApiError::internal);
        }
        let value = encode(&mut *object)?;
        let created = self.store.create(&target.store_key, value.clone()).await;
        self.settle(claims, created.as_ref().err()).await;
        let revision = created.map_err(|failure| target.failure(failure))?;
        Ok(SharedObject::new(&value, object, Revision(revision)))
    }

    /// Refuses new objects in namespaces that do not exist or are being deleted.
    fn admit(&self, resource: &GroupVersionResource, namespace: &str, name: &str) -> Result<(), ApiError> {
        if namespace.is_empty() {
            return Ok(());
        }
        let namespaces = gvr_of::<Namespace>();
        let slot = self.cache.slot(&namespaces).ok_or_else(ApiError::unknown_path)?;
        let Some(found) = self.cache.get(slot, &ObjectKey::cluster(namespace)) else {
            return Err(ApiError::not_found(&namespaces, namespace));
        };
        if !found.object().is_terminating() {
            return Ok(());
        }
        let why =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        Err(ApiError::forbidden(resource, name, &why).with_cause(
            "NamespaceTerminating",
            &format!("namespace {namespace} is being terminated"),
            "metadata.namespace",
        ))
    }
}

/// Everything that is wrong with an object on its own.
pub(super) fn validate(info: &skep_api::ResourceInfo, object: &dyn DynObject) -> Vec<FieldError> {
    let mut errors = validation::meta::validate(object.object_meta(), info.namespaced, info.name_check);
    errors.extend(object.validate());
    errors
}
