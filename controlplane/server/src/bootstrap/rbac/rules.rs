//! Rules in short form: words separated by blanks.

use k8s_openapi::api::rbac::v1::PolicyRule;

pub(super) const READ: &str = "get list watch";
pub(super) const WRITE: &str = "create delete deletecollection patch update";
/// How upstream's components record events.
pub(super) const RECORD: &str = "create patch update";

/// `group` is one API group, the core one being empty.
pub(super) fn rule(verbs: &str, group: &str, resources: &str) -> PolicyRule {
    PolicyRule {
        verbs: words(verbs),
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(words(resources)),
        ..PolicyRule::default()
    }
}

pub(super) fn paths(verbs: &str, urls: &str) -> PolicyRule {
    PolicyRule {
        verbs: words(verbs),
        non_resource_urls: Some(words(urls)),
        ..PolicyRule::default()
    }
}

/// Events of both groups.
pub(super) fn events() -> [PolicyRule; 2] {
    [
        rule(RECORD, "", "events"),
        rule(RECORD, "events.k8s.io", "events"),
    ]
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}
