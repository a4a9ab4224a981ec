//! The roles that every cluster has, under upstream's names where upstream has them, and who has them.
//!
//! At every start missing rules and subjects are added again, as upstream does; an object annotated
//! `rbac.authorization.kubernetes.io/autoupdate: "false"` is the user's.

mod components;
mod people;
mod rules;

use super::ensure::ensure;
use crate::ServerError;
use k8s_openapi::Resource;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use skep_api::ObjectKey;
use skep_client::{Client, DeleteOptions};

const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const RBAC: &str = "rbac.authorization.k8s.io";

/// A role by name, with its rules.
type NamedRole = (&'static str, Vec<PolicyRule>);

/// A role and one of those who have it.
type Grant = (&'static str, Holder);

#[derive(Clone, Copy)]
enum Holder {
    User(&'static str),
    Group(&'static str),
}

/// What earlier versions bound to every node: everybody's secrets among other things.
const RETIRED: &str = "system:node";

pub(super) async fn run(client: &Client) -> Result<(), ServerError> {
    retire(client).await?;
    for (name, rules) in people::roles().into_iter().chain(components::roles()) {
        let role = ClusterRole {
            metadata: meta(name),
            rules: Some(rules),
            ..ClusterRole::default()
        };
        ensure(client, &role, complete_role).await?;
    }
    for (role, subjects) in bindings() {
        let binding = ClusterRoleBinding {
            metadata: meta(role),
            role_ref: RoleRef {
                api_group: Some(RBAC.into()),
                kind: "ClusterRole".into(),
                name: role.into(),
            },
            subjects: Some(subjects),
        };
        ensure(client, &binding, complete_binding).await?;
    }
    Ok(())
}

async fn retire(client: &Client) -> Result<(), ServerError> {
    let key = ObjectKey::cluster(RETIRED);
    let failed = |error| ServerError::Bootstrap {
        kind: ClusterRoleBinding::KIND,
        key: key.to_string(),
        source: Box::new(error),
    };
    let standing = client.find::<ClusterRoleBinding>(&key).await.map_err(failed)?;
    if !standing.is_some_and(|binding| is_ours(&binding.metadata)) {
        return Ok(());
    }
    match client
        .delete::<ClusterRoleBinding>(&key, &DeleteOptions::default())
        .await
    {
        Err(error) if !error.is_not_found() => Err(failed(error)),
        _ => Ok(()),
    }
}

/// One binding per role, named as the role.
fn bindings() -> Vec<(&'static str, Vec<Subject>)> {
    let mut bindings: Vec<(&'static str, Vec<Subject>)> = Vec::new();
    for (role, holder) in people::GRANTS.iter().chain(components::GRANTS) {
        let (kind, name) = match holder {
            Holder::User(name) => ("User", name),
            Holder::Group(name) => ("Group", name),
        };
        let subject = Subject {
            api_group: Some(RBAC.into()),
            kind: kind.into(),
            name: (*name).into(),
            ..Subject::default()
        };
        match bindings.iter_mut().find(|(known, _)| known == role) {
            Some((_, subjects)) => subjects.push(subject),
            None => bindings.push((role, vec![subject])),
        }
    }
    bindings
}

fn meta(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        annotations: Some([(AUTOUPDATE.to_owned(), "true".to_owned())].into()),
        labels: Some(
            [(
                "kubernetes.io/bootstrapping".to_owned(),
                "rbac-defaults".to_owned(),
            )]
            .into(),
        ),
        ..ObjectMeta::default()
    }
}

fn is_ours(meta: &ObjectMeta) -> bool {
    meta.annotations
        .as_ref()
        .and_then(|annotations| annotations.get(AUTOUPDATE))
        .is_some_and(|v| v == "true")
}

fn complete_role(standing: &ClusterRole, desired: &ClusterRole) -> Option<ClusterRole> {
    let rules = missing(standing.rules.as_deref(), desired.rules.as_deref());
    if !is_ours(&standing.metadata) || rules.is_empty() {
        return None;
    }
    let mut completed = standing.clone();
    completed.rules.get_or_insert_default().extend(rules);
    Some(completed)
}

fn complete_binding(
    standing: &ClusterRoleBinding,
    desired: &ClusterRoleBinding,
) -> Option<ClusterRoleBinding> {
    let subjects = missing(standing.subjects.as_deref(), desired.subjects.as_deref());
    if !is_ours(&standing.metadata) || subjects.is_empty() {
        return None;
    }
    let mut completed = standing.clone();
    completed.subjects.get_or_insert_default().extend(subjects);
    Some(completed)
}

fn missing<T: Clone + PartialEq>(standing: Option<&[T]>, desired: Option<&[T]>) -> Vec<T> {
    let standing = standing.unwrap_or_default();
    desired
        .unwrap_or_default()
        .iter()
        .filter(|wanted| !standing.contains(wanted))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_binding_leads_to_a_role() {
        let roles: Vec<&str> = people::roles()
            .into_iter()
            .chain(components::roles())
            .map(|(name, _)| name)
            .collect();
        for (role, subjects) in bindings() {
            assert!(roles.contains(&role), "{role}");
            assert!(!subjects.is_empty());
        }
        let mut unique = roles.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), roles.len());
    }

    #[test]
    fn standing_roles_are_completed_unless_they_are_the_users() {
        let desired = ClusterRole {
            metadata: meta("r"),
            rules: Some(vec![
                rules::rule("get", "", "pods"),
                rules::rule("list", "", "pods"),
            ]),
            ..ClusterRole::default()
        };
        let mut standing = desired.clone();
        assert_eq!(complete_role(&standing, &desired), None);
        standing.rules = Some(vec![
            rules::rule("get", "", "pods"),
            rules::rule("watch", "", "nodes"),
        ]);
        let completed = complete_role(&standing, &desired).expect("a rule is missing");
        assert_eq!(completed.rules.expect("rules").len(), 3);
        standing.metadata.annotations = Some([(AUTOUPDATE.to_owned(), "false".to_owned())].into());
        assert_eq!(complete_role(&standing, &desired), None);
    }
}
