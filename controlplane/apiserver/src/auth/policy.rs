//! The RBAC objects of the cluster as one table: subject → rules. Pure; made anew when an object changes.

use crate::auth::attributes::{Attributes, Target};
use crate::auth::rules;
use crate::auth::user::User;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Members may do everything, whatever the objects say: the way back from a broken policy.
const MASTERS: &str = "system:masters";

/// The objects that a policy is made from.
#[derive(Default)]
pub(crate) struct Objects {
    pub(crate) cluster_roles: Vec<Arc<ClusterRole>>,
    pub(crate) cluster_role_bindings: Vec<Arc<ClusterRoleBinding>>,
    pub(crate) roles: Vec<Arc<Role>>,
    pub(crate) role_bindings: Vec<Arc<RoleBinding>>,
}

/// Rules that a binding gives, in one namespace or (empty) in all.
#[derive(Clone)]
struct Grant {
    namespace: String,
    rules: Rules,
}

type Rules = Arc<[PolicyRule]>;

/// Who may do what.
#[derive(Default)]
pub(crate) struct Policy {
    users: HashMap<String, Vec<Grant>>,
    groups: HashMap<String, Vec<Grant>>,
}

impl Policy {
    pub(crate) fn new(objects: &Objects) -> Self {
        let cluster_roles: HashMap<&str, Rules> = objects
            .cluster_roles
            .iter()
            .map(|role| (name(&role.metadata.name), shared(role.rules.as_deref())))
            .collect();
        let roles: HashMap<(&str, &str), Rules> = objects
            .roles
            .iter()
            .map(|role| {
                (
                    (name(&role.metadata.namespace), name(&role.metadata.name)),
                    shared(role.rules.as_deref()),
                )
            })
            .collect();
        let mut policy = Self::default();
        for binding in &objects.cluster_role_bindings {
            if let Some(rules) = cluster_roles.get(binding.role_ref.name.as_str()) {
                policy.bind(binding.subjects.as_deref(), "", rules);
            }
        }
        for binding in &objects.role_bindings {
            let namespace = name(&binding.metadata.namespace);
            let rules = match &binding.role_ref {
                RoleRef { kind, name, .. } if kind == "ClusterRole" => cluster_roles.get(name.as_str()),
                RoleRef { name, .. } => roles.get(&(namespace, name.as_str())),
            };
            if let Some(rules) = rules {
                policy.bind(binding.subjects.as_deref(), namespace, rules);
            }
        }
        policy
    }

    fn bind(&mut self, subjects: Option<&[Subject]>, namespace: &str, rules: &Rules) {
        for subject in subjects.unwrap_or_default() {
            let grant = Grant {
                namespace: namespace.to_owned(),
                rules: rules.clone(),
            };
            match subject.kind.as_str() {
                "User" => self.users.entry(subject.name.clone()).or_default().push(grant),
                "Group" => self.groups.entry(subject.name.clone()).or_default().push(grant),
                "ServiceAccount" => {
                    let of = subject.namespace.as_deref().unwrap_or(namespace);
                    let user = format!("system:serviceaccount:{of}:{}", subject.name);
                    self.users.entry(user).or_default().push(grant);
                }
                _ => {}
            }
        }
    }

    pub(crate) fn allows(&self, attributes: &Attributes<'_>) -> bool {
        if is_master(attributes.user) {
            return true;
        }
        let namespace = match attributes.target {
            Target::Resource { namespace, .. } => namespace,
            Target::Path(_) => "",
        };
        self.grants(attributes.user, namespace)
            .any(|grant| grant.rules.iter().any(|rule| rules::allows(rule, attributes)))
    }

    /// Every rule that holds for the user in a namespace, in no particular order.
    pub(crate) fn rules_for(&self, user: &User, namespace: &str) -> Vec<PolicyRule> {
        let mut rules: Vec<PolicyRule> = self
            .grants(user, namespace)
            .flat_map(|grant| grant.rules.iter().cloned())
            .collect();
        if is_master(user) {
            rules.extend(everything());
        }
        rules
    }

    fn grants<'a>(&'a self, user: &'a User, namespace: &'a str) -> impl Iterator<Item = &'a Grant> + 'a {
        let groups: BTreeSet<&String> = user.groups.iter().collect();
        let own = self.users.get(&user.name).into_iter();
        own.chain(groups.into_iter().filter_map(|group| self.groups.get(group)))
            .flatten()
            .filter(move |grant| grant.namespace.is_empty() || grant.namespace == namespace)
    }
}

/// The rules that allow everything.
pub(crate) fn everything() -> [PolicyRule; 2] {
    let all = || vec!["*".to_owned()];
    let resources = PolicyRule {
        api_groups: Some(all()),
        resources: Some(all()),
        verbs: all(),
        ..PolicyRule::default()
    };
    let paths = PolicyRule {
        non_resource_urls: Some(all()),
        verbs: all(),
        ..PolicyRule::default()
    };
    [resources, paths]
}

fn is_master(user: &User) -> bool {
    user.is_in(MASTERS)
}

fn name(name: &Option<String>) -> &str {
    name.as_deref().unwrap_or_default()
}

fn shared(rules: Option<&[PolicyRule]>) -> Rules {
    Arc::from(rules.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    fn object<K: DeserializeOwned>(value: Value) -> Arc<K> {
        Arc::new(serde_json::from_value(value).expect("object"))
    }

    fn policy() -> Policy {
        let rules = json!([{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}]);
        let role_ref =
            |kind: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "reader"});
        Policy::new(&Objects {
            cluster_roles: vec![object(json!({"metadata": {"name": "reader"}, "rules": rules}))],
            roles: vec![],
            cluster_role_bindings: vec![object(json!({
                "metadata": {"name": "all"}, "roleRef": role_ref("ClusterRole"),
                "subjects": [{"kind": "Group", "name": "auditors"}]
            }))],
            role_bindings: vec![
                object(json!({
                    "metadata": {"name": "one", "namespace": "a"}, "roleRef": role_ref("ClusterRole"),
                    "subjects": [{"kind": "User", "name": "jane"}, {"kind": "ServiceAccount", "name": "bot"}]
                })),
                object(json!({
                    "metadata": {"name": "dangling", "namespace": "b"}, "roleRef": role_ref("Role"),
                    "subjects": [{"kind": "User", "name": "jane"}]
                })),
            ],
        })
    }

    fn may(policy: &Policy, user: &User, verb: &str, namespace: &str) -> bool {
        let target = Target::Resource {
            group: "",
            resource: "pods",
            subresource: "",
            namespace,
            name: "",
        };
        policy.allows(&Attributes::new(user, verb, target))
    }

    #[test]
    fn bindings_reach_as_far_as_their_scope() {
        let policy = policy();
        let none: [&str; 0] = [];
        let jane = User::new("jane", none);
        assert!(may(&policy, &jane, "get", "a"));
        assert!(!may(&policy, &jane, "delete", "a"));
        assert!(!may(&policy, &jane, "get", "b"));
        assert!(!may(&policy, &jane, "list", ""));
        let auditor = User::new("kim", ["auditors"]);
        assert!(may(&policy, &auditor, "get", "b") && may(&policy, &auditor, "list", ""));
        assert!(may(
            &policy,
            &User::new("system:serviceaccount:a:bot", none),
            "get",
            "a"
        ));
        assert!(may(&policy, &User::new("root", [MASTERS]), "delete", ""));
        assert_eq!(policy.rules_for(&jane, "a").len(), 1);
        assert_eq!(policy.rules_for(&jane, "b").len(), 0);
    }
}
