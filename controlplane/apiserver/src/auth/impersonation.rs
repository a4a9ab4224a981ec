//! Acting as another user, for those who may (`kubectl --as`).

use crate::auth::attributes::{Attributes, Target};
use crate::auth::rbac::Authorizer;
use crate::auth::user::User;
use http::HeaderMap;
use skep_api::ApiError;
use skep_api::validation::names;
use std::sync::Arc;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const PREFIX: &str = "impersonate-";

/// The user that the request acts as: `user`, or the one its headers name.
///
/// # Errors
/// 403 for who may not; 400 and 403 for headers that are not understood, since to ignore one would act
/// with other rights than were asked for.
pub(crate) fn acting_user(
    authorizer: &Authorizer,
    user: &Arc<User>,
    headers: &HeaderMap,
) -> Result<Arc<User>, ApiError> {
    let mut asked = headers
        .keys()
        .map(http::HeaderName::as_str)
        .filter(|name| name.starts_with(PREFIX))
        .peekable();
    if asked.peek().is_none() {
        return Ok(user.clone());
    }
    if let Some(other) = asked.find(|name| *name != USER && *name != GROUP) {
        return Err(ApiError::bad_request(format!(
            "impersonation by {other:?} is not supported"
        )));
    }
    let values = |name: &str| -> Vec<String> {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .map(str::to_owned)
            .collect()
    };
    let Some(name) = values(USER).into_iter().next().filter(|name| !name.is_empty()) else {
        return Err(ApiError::bad_request(
            "requested groups to impersonate without impersonating a user",
        ));
    };
    let mut groups = values(GROUP);
    for group in &groups {
        may(authorizer, user, "groups", "", group)?;
    }
    match service_account(&name) {
        None => may(authorizer, user, "users", "", &name)?,
        Some((namespace, account)) => {
            may(authorizer, user, "serviceaccounts", namespace, account)?;
            if groups.is_empty() {
                groups.push("system:serviceaccounts".to_owned());
                groups.push(format!("system:serviceaccounts:{namespace}"));
            }
        }
    }
    Ok(Arc::new(User::new(name, groups)))
}

/// Namespace and name of the service account that acts under this user name.
fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    let valid = names::dns1123_label(namespace).is_empty() && names::dns1123_subdomain(name).is_empty();
    valid.then_some((namespace, name))
}

fn may(
    authorizer: &Authorizer,
    user: &User,
    resource: &str,
    namespace: &str,
    name: &str,
) -> Result<(), ApiError> {
    let target = Target::Resource {
        group: "",
        resource,
        subresource: "",
        namespace,
        name,
    };
    authorizer.check(&Attributes::new(user, "impersonate", target))
}
