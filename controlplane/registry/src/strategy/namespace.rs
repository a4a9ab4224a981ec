//! Namespaces: held back from deletion by `spec.finalizers`, some never deleted.

use skep_api::k8s_openapi::api::core::v1::Namespace;
use skep_api::resource::DynObject;
use skep_api::{ApiError, ObjectExt, gvr_of};

use super::Strategy;

/// Namespaces that are always there.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) struct NamespaceStrategy;

impl Strategy for NamespaceStrategy {
    fn check_delete(&self, object: &dyn DynObject) -> Result<(), ApiError> {
        if IMMORTAL.contains(&object.name()) {
            let why = "this namespace may not be deleted";
            return Err(ApiError::forbidden(&gvr_of::<Namespace>(), object.name(), why));
        }
        Ok(())
    }

    fn is_held(&self, object: &dyn DynObject) -> bool {
        let spec = object
            .downcast_ref::<Namespace>()
            .and_then(|namespace| namespace.spec.as_ref());
        spec.and_then(|spec| spec.finalizers.as_ref())
            .is_some_and(|finalizers| !finalizers.is_empty())
    }

    fn mark_deleting(&self, object: &mut dyn DynObject) {
        if let Some(namespace) = object.downcast_mut::<Namespace>() {
            namespace.status.get_or_insert_default().phase = Some("Terminating".to_owned());
        }
    }
}
