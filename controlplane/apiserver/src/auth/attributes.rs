//! What is to be authorized, and the words of a refusal.

use crate::auth::user::User;
use crate::http::request_info::RequestInfo;
use skep_api::{ApiError, FieldSelector, GroupVersionResource};

/// One question to the authorizer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes<'a> {
    pub(crate) user: &'a User,
    pub(crate) verb: &'a str,
    pub(crate) target: Target<'a>,
    /// What a list or watch is narrowed to.
    pub(crate) fields: Option<&'a FieldSelector>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'a> {
    Resource {
        group: &'a str,
        resource: &'a str,
        subresource: &'a str,
        /// Empty: the whole cluster.
        namespace: &'a str,
        /// Empty: any.
        name: &'a str,
    },
    Path(&'a str),
}

impl<'a> Attributes<'a> {
    pub(crate) fn of(user: &'a User, info: &'a RequestInfo) -> Self {
        let target = match &info.resource {
            Some(path) => Target::Resource {
                group: &path.resource.group,
                resource: &path.resource.resource,
                subresource: &path.subresource,
                namespace: &path.namespace,
                name: &path.name,
            },
            None => Target::Path(&info.path),
        };
        Self {
            fields: Some(&info.fields),
            ..Self::new(user, info.verb, target)
        }
    }

    pub(crate) fn new(user: &'a User, verb: &'a str, target: Target<'a>) -> Self {
        Self {
            user,
            verb,
            target,
            fields: None,
        }
    }

    /// The refusal; `reason` is what the authorizer has to add, possibly nothing.
    pub(crate) fn forbidden(&self, reason: &str) -> ApiError {
        let mut why = self.refusal();
        if !reason.is_empty() {
            why.push_str(": ");
            why.push_str(reason);
        }
        match self.target {
            Target::Resource {
                group,
                resource,
                name,
                ..
            } => ApiError::forbidden(&GroupVersionResource::owned(group, "", resource), name, &why),
            Target::Path(_) => ApiError::forbidden(&GroupVersionResource::new("", "", ""), "", &why),
        }
    }

    fn refusal(&self) -> String {
        let (user, verb) = (&self.user.name, self.verb);
        match self.target {
            Target::Path(path) => format!("User {user:?} cannot {verb} path {path:?}"),
            Target::Resource {
                group,
                resource,
                subresource,
                namespace,
                ..
            } => {
                let slash = if subresource.is_empty() { "" } else { "/" };
                let what = format!("{resource}{slash}{subresource}");
                let scope = if namespace.is_empty() {
                    "at the cluster scope".to_owned()
                } else {
                    format!("in the namespace {namespace:?}")
                };
                format!("User {user:?} cannot {verb} resource {what:?} in API group {group:?} {scope}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_read_as_upstream() {
        let jane = User::new("jane", [] as [&str; 0]);
        let target = Target::Resource {
            group: "apps",
            resource: "deployments",
            subresource: "scale",
            namespace: "default",
            name: "web",
        };
        let error = Attributes::new(&jane, "patch", target).forbidden("");
        assert_eq!(
            error.message,
            r#"deployments.apps "web" is forbidden: User "jane" cannot patch resource "deployments/scale" in API group "apps" in the namespace "default""#
        );
        let error = Attributes::new(&jane, "get", Target::Path("/metrics")).forbidden("");
        assert_eq!(
            error.message,
            r#"forbidden: User "jane" cannot get path "/metrics""#
        );
    }
}
