//! Nobody gives away rights that they do not have: writes of roles and bindings need the rules that they hand out, or
//! the verb `escalate` on the role, `bind` on the role that is bound.
//! <https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping>

use crate::auth::attributes::{Attributes, Target};
use crate::auth::policy::everything;
use crate::auth::rbac::Authorizer;
use crate::auth::rules;
use crate::auth::user::User;
use k8s_openapi::Resource;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef};
use skep_api::{ApiError, DynObject, GroupVersionResource, Kind, ObjectExt, ObjectKey, gvr_of};
use std::collections::{BTreeMap, BTreeSet};

/// Rights that one write may give away, spelled out one by one; a role that gives more is refused.
const MAX_RIGHTS: usize = 1 << 16;

/// # Errors
/// 403 in upstream's words; 404 where the role that is bound does not exist.
pub(super) fn check(
    authorizer: &Authorizer,
    user: &User,
    new: &dyn DynObject,
    old: Option<&dyn DynObject>,
) -> Result<(), ApiError> {
    let writer = Writer { authorizer, user };
    if old.is_some_and(|old| only_housekeeping(new, old)) {
        Ok(())
    } else if let Some(role) = new.downcast_ref::<ClusterRole>() {
        let mut rules = role.rules.clone().unwrap_or_default();
        if role.aggregation_rule.is_some() {
            // It will have the rules of whatever role is labelled so.
            rules.extend(everything());
        }
        writer.check_role(role, &rules)
    } else if let Some(role) = new.downcast_ref::<Role>() {
        writer.check_role(role, role.rules.as_deref().unwrap_or_default())
    } else if let Some(binding) = new.downcast_ref::<ClusterRoleBinding>() {
        writer.check_binding(binding, &binding.role_ref)
    } else if let Some(binding) = new.downcast_ref::<RoleBinding>() {
        writer.check_binding(binding, &binding.role_ref)
    } else {
        Ok(())
    }
}

/// Whether only that changes which garbage collection needs to change.
fn only_housekeeping(new: &dyn DynObject, old: &dyn DynObject) -> bool {
    let (mut new, old_meta) = (new.clone_box(), old.object_meta());
    let meta = new.meta_mut();
    meta.owner_references.clone_from(&old_meta.owner_references);
    meta.finalizers.clone_from(&old_meta.finalizers);
    new.equals(old)
}

struct Writer<'a> {
    authorizer: &'a Authorizer,
    user: &'a User,
}

impl Writer<'_> {
    fn check_role<K: Kind>(&self, role: &K, rules: &[PolicyRule]) -> Result<(), ApiError> {
        let resource = gvr_of::<K>();
        if self.may("escalate", &resource, role.namespace(), role.name()) {
            return Ok(());
        }
        self.check_rules(role, rules)
    }

    fn check_binding<K: Kind>(&self, binding: &K, role: &RoleRef) -> Result<(), ApiError> {
        let (namespace, name) = (binding.namespace(), role.name.as_str());
        let registry = self.authorizer.registry();
        let (resource, rules) = if role.kind == ClusterRole::KIND {
            let role = registry.cached::<ClusterRole>(&ObjectKey::cluster(name));
            (gvr_of::<ClusterRole>(), role.map(|role| role.rules.clone()))
        } else {
            let role = registry.cached::<Role>(&ObjectKey::new(namespace, name));
            (gvr_of::<Role>(), role.map(|role| role.rules.clone()))
        };
        if self.may("bind", &resource, namespace, name) {
            return Ok(());
        }
        let rules = rules.ok_or_else(|| ApiError::not_found(&resource, name))?;
        self.check_rules(binding, &rules.unwrap_or_default())
    }

    fn may(&self, verb: &str, resource: &GroupVersionResource, namespace: &str, name: &str) -> bool {
        let target = Target::Resource {
            group: &resource.group,
            resource: &resource.resource,
            subresource: "",
            namespace,
            name,
        };
        let asked = Attributes::new(self.user, verb, target);
        self.authorizer.check(&asked).is_ok()
    }

    fn check_rules<K: Kind>(&self, object: &K, rules: &[PolicyRule]) -> Result<(), ApiError> {
        let held = self.authorizer.policy().rules_for(self.user, object.namespace());
        let missing = missing(&held, rules);
        if missing.is_empty() {
            return Ok(());
        }
        let why = format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            self.user.name,
            quoted(&self.user.groups),
            Vec::from_iter(missing).join("\n")
        );
        Err(ApiError::forbidden(&gvr_of::<K>(), object.name(), &why))
    }
}

/// What one right is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Object<'a> {
    Resource {
        group: &'a str,
        /// As a rule names it: `pods`, `pods/log`, `*/scale`, `*`.
        resource: &'a str,
        /// `None`: every object.
        name: Option<&'a str>,
    },
    Path(&'a str),
}

/// Which of the wanted rights no single held rule covers, in upstream's form; too many to look at are not held.
fn missing(held: &[PolicyRule], wanted: &[PolicyRule]) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    let mut verbs_of: BTreeMap<Object<'_>, Vec<&str>> = BTreeMap::new();
    for (count, (object, verb)) in wanted.iter().flat_map(rights).enumerate() {
        let beyond = count >= MAX_RIGHTS;
        if beyond || !held.iter().any(|rule| covers(rule, object, verb)) {
            match object {
                Object::Path(_) => drop(lines.insert(describe(object, &[verb]))),
                Object::Resource { .. } => {
                    let verbs = verbs_of.entry(object).or_default();
                    if !verbs.contains(&verb) {
                        verbs.push(verb);
                    }
                }
            }
        }
        if beyond {
            break;
        }
    }
    lines.extend(
        verbs_of
            .into_iter()
            .map(|(object, verbs)| describe(object, &verbs)),
    );
    lines
}

fn rights(rule: &PolicyRule) -> impl Iterator<Item = (Object<'_>, &str)> {
    let names = rules::list(&rule.resource_names);
    let any = names.is_empty().then_some(None);
    let resources = rules::list(&rule.api_groups).iter().flat_map(move |group| {
        rules::list(&rule.resources).iter().flat_map(move |resource| {
            let names = names.iter().map(|name| Some(name.as_str())).chain(any);
            names.map(move |name| Object::Resource {
                group,
                resource,
                name,
            })
        })
    });
    let paths = rules::list(&rule.non_resource_urls)
        .iter()
        .map(|path| Object::Path(path));
    resources
        .chain(paths)
        .flat_map(|object| rule.verbs.iter().map(move |verb| (object, verb.as_str())))
}

fn covers(rule: &PolicyRule, object: Object<'_>, verb: &str) -> bool {
    rules::matches(&rule.verbs, verb)
        && match object {
            Object::Resource {
                group,
                resource,
                name,
            } => {
                let (of, subresource) = resource.split_once('/').unwrap_or((resource, ""));
                let names = rules::list(&rule.resource_names);
                rules::matches(rules::list(&rule.api_groups), group)
                    && rules::list(&rule.resources)
                        .iter()
                        .any(|allowed| rules::covers(allowed, of, subresource))
                    && (names.is_empty()
                        || name.is_some_and(|name| names.iter().any(|allowed| allowed == name)))
            }
            Object::Path(path) => rules::list(&rule.non_resource_urls)
                .iter()
                .any(|allowed| rules::covers_path(allowed, path)),
        }
}

fn describe(object: Object<'_>, verbs: &[&str]) -> String {
    let what = match object {
        Object::Resource {
            group,
            resource,
            name,
        } => {
            let name = name.map(|name| format!(", ResourceNames:{}", quoted(&[name])));
            format!(
                "APIGroups:{}, Resources:{}{}",
                quoted(&[group]),
                quoted(&[resource]),
                name.unwrap_or_default()
            )
        }
        Object::Path(path) => format!("NonResourceURLs:{}", quoted(&[path])),
    };
    format!("{{{what}, Verbs:{}}}", quoted(verbs))
}

/// A list as Go's `%q` prints it.
fn quoted<T: AsRef<str>>(words: &[T]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("{:?}", word.as_ref())).collect();
    format!("[{}]", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn rule(value: Value) -> PolicyRule {
        serde_json::from_value(value).expect("rule")
    }

    fn resources(verbs: Value, resources: Value, names: Value) -> PolicyRule {
        rule(json!({"verbs": verbs, "apiGroups": [""], "resources": resources, "resourceNames": names}))
    }

    fn lacks(held: &PolicyRule, wanted: &PolicyRule) -> Vec<String> {
        Vec::from_iter(missing(std::slice::from_ref(held), std::slice::from_ref(wanted)))
    }

    #[test]
    fn what_is_missing_reads_as_upstream() {
        let held = resources(json!(["get"]), json!(["pods"]), json!([]));
        let wanted = resources(
            json!(["get", "list", "watch"]),
            json!(["pods", "secrets"]),
            json!([]),
        );
        assert_eq!(
            lacks(&held, &wanted),
            [
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["list" "watch"]}"#,
                r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list" "watch"]}"#,
            ]
        );
        let named = resources(json!(["delete"]), json!(["pods"]), json!(["a"]));
        assert_eq!(
            lacks(&held, &named),
            [r#"{APIGroups:[""], Resources:["pods"], ResourceNames:["a"], Verbs:["delete"]}"#]
        );
        let paths = rule(json!({"verbs": ["get"], "nonResourceURLs": ["/metrics"]}));
        assert_eq!(
            lacks(&held, &paths),
            [r#"{NonResourceURLs:["/metrics"], Verbs:["get"]}"#]
        );
    }

    #[test]
    fn covering_table() {
        let all = resources(json!(["*"]), json!(["*"]), json!([]));
        let pods = resources(json!(["get"]), json!(["pods"]), json!([]));
        let named = resources(json!(["get"]), json!(["pods"]), json!(["a", "b"]));
        let nameless = resources(json!(["get"]), json!(["pods"]), json!([""]));
        let one = resources(json!(["get"]), json!(["pods"]), json!(["a"]));
        let log = resources(json!(["get"]), json!(["pods/log"]), json!([]));
        let logs = resources(json!(["get"]), json!(["*/log"]), json!([]));
        let path = |path: &str| rule(json!({"verbs": ["get"], "nonResourceURLs": [path]}));
        let cases = [
            (&all, &pods, true),
            (&all, &log, true),
            (&pods, &all, false),
            (&pods, &named, true),
            (&named, &pods, false),
            (&nameless, &pods, false),
            (&named, &one, true),
            (&one, &named, false),
            (&pods, &log, false),
            (&logs, &log, true),
            (&log, &logs, false),
            (&path("/a/*"), &path("/a/b"), true),
            (&path("/a/*"), &path("/a/*"), true),
            (&path("/a/b"), &path("/a/*"), false),
            (&path("*"), &path("/a/*"), true),
            (&path("*"), &pods, false),
            (&all, &path("/a"), false),
        ];
        for (held, wanted, covered) in cases {
            assert_eq!(lacks(held, wanted).is_empty(), covered, "{held:?} {wanted:?}");
        }
    }

    #[test]
    fn a_role_too_large_to_look_at_is_not_covered() {
        let names: Vec<String> = (0..300).map(|index| index.to_string()).collect();
        let huge = resources(json!(["get"]), json!(names), json!(names));
        let all = resources(json!(["*"]), json!(["*"]), json!([]));
        assert_eq!(lacks(&all, &huge).len(), 1);
    }
}
