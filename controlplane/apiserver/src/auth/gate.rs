//! What a write must satisfy beyond its path, once it is known what it makes: the right to create where it creates,
//! no more rights given away than held, and the limits of a node.

use crate::auth::attributes::{Attributes, Target};
use crate::auth::rbac::Authorizer;
use crate::auth::user::User;
use crate::auth::{escalation, node};
use crate::http::request_info::ResourcePath;
use skep_api::{ApiError, DynObject};
use skep_registry::Admission;
use std::sync::Arc;

/// Judges the writes of one request.
pub(crate) struct Gate {
    authorizer: Arc<Authorizer>,
    user: Arc<User>,
    path: ResourcePath,
}

impl Gate {
    pub(crate) fn new(authorizer: &Arc<Authorizer>, user: &Arc<User>, path: &ResourcePath) -> Self {
        Self {
            authorizer: authorizer.clone(),
            user: user.clone(),
            path: path.clone(),
        }
    }

    /// A creation by PUT was authorized as an update, one by POST without a name.
    fn check_creation(&self, name: &str) -> Result<(), ApiError> {
        let target = Target::Resource {
            group: &self.path.resource.group,
            resource: &self.path.resource.resource,
            subresource: "",
            namespace: &self.path.namespace,
            name,
        };
        self.authorizer
            .check(&Attributes::new(&self.user, "create", target))
    }
}

impl Admission for Gate {
    fn admit(&self, new: &dyn DynObject, old: Option<&dyn DynObject>) -> Result<(), ApiError> {
        let meta = new.object_meta();
        if old.is_none() {
            self.check_creation(meta.name.as_deref().unwrap_or_default())?;
        }
        if let Some(node) = node::name_of(&self.user) {
            let name = meta.name.as_deref().unwrap_or_default();
            node::check_write(node, new, old)
                .map_err(|why| ApiError::forbidden(&self.path.resource, name, &why))?;
        }
        escalation::check(&self.authorizer, &self.user, new, old)
    }
}
