//! Whether one RBAC rule covers one request.

use crate::auth::attributes::{Attributes, Target};
use k8s_openapi::api::rbac::v1::PolicyRule;

/// Whether the rule allows what is asked, its namespace aside.
pub(crate) fn allows(rule: &PolicyRule, attributes: &Attributes<'_>) -> bool {
    if !matches(&rule.verbs, attributes.verb) {
        return false;
    }
    match attributes.target {
        Target::Resource {
            group,
            resource,
            subresource,
            name,
            ..
        } => {
            list(&rule.api_groups)
                .iter()
                .any(|allowed| allowed == "*" || allowed == group)
                && list(&rule.resources)
                    .iter()
                    .any(|allowed| covers(allowed, resource, subresource))
                && (list(&rule.resource_names).is_empty()
                    || list(&rule.resource_names).iter().any(|allowed| allowed == name))
        }
        Target::Path(path) => list(&rule.non_resource_urls)
            .iter()
            .any(|allowed| covers_path(allowed, path)),
    }
}

pub(super) fn list(values: &Option<Vec<String>>) -> &[String] {
    values.as_deref().unwrap_or_default()
}

pub(super) fn matches(allowed: &[String], asked: &str) -> bool {
    allowed.iter().any(|allowed| allowed == "*" || allowed == asked)
}

/// `*`, `pods`, `pods/log`, or `*/scale`.
pub(super) fn covers(allowed: &str, resource: &str, subresource: &str) -> bool {
    if allowed == "*" {
        return true;
    }
    match allowed.split_once('/') {
        None => subresource.is_empty() && allowed == resource,
        Some((of, sub)) => !subresource.is_empty() && sub == subresource && (of == "*" || of == resource),
    }
}

/// An exact path, or a prefix that ends in `*`.
pub(super) fn covers_path(allowed: &str, path: &str) -> bool {
    match allowed.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix.trim_end_matches('*')),
        None => allowed == path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::user::User;

    fn strings(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    fn allowed(rule: &PolicyRule, verb: &str, group: &str, what: &str, name: &str) -> bool {
        let (resource, subresource) = what.split_once('/').unwrap_or((what, ""));
        let target = Target::Resource {
            group,
            resource,
            subresource,
            namespace: "default",
            name,
        };
        allows(
            rule,
            &Attributes::new(&User::new("u", [] as [&str; 0]), verb, target),
        )
    }

    #[test]
    fn resources_subresources_and_names() {
        let rule = PolicyRule {
            verbs: strings(&["get", "patch"]),
            api_groups: Some(strings(&["", "apps"])),
            resources: Some(strings(&["pods", "*/scale"])),
            ..PolicyRule::default()
        };
        assert!(allowed(&rule, "get", "", "pods", "a"));
        assert!(!allowed(&rule, "get", "", "pods/log", "a"));
        assert!(allowed(&rule, "patch", "apps", "deployments/scale", "a"));
        assert!(!allowed(&rule, "delete", "", "pods", "a"));
        assert!(!allowed(&rule, "get", "batch", "pods", "a"));
        let named = PolicyRule {
            resource_names: Some(strings(&["a"])),
            ..rule
        };
        assert!(allowed(&named, "get", "", "pods", "a"));
        assert!(!allowed(&named, "get", "", "pods", "b"));
        assert!(!allowed(&named, "get", "", "pods", ""));
    }

    #[test]
    fn paths_match_exactly_or_by_prefix() {
        let rule = PolicyRule {
            verbs: strings(&["get"]),
            non_resource_urls: Some(strings(&["/healthz", "/openapi/*"])),
            ..PolicyRule::default()
        };
        let user = User::new("u", [] as [&str; 0]);
        let check = |path| allows(&rule, &Attributes::new(&user, "get", Target::Path(path)));
        assert!(check("/healthz") && check("/openapi/v3"));
        assert!(!check("/healthz/x") && !check("/openapi") && !check("/metrics"));
    }
}
