//! Resources that are questions: may I, may they, who am I. Created, answered, never kept.

use crate::auth::attributes::{Attributes, Target};
use crate::auth::rbac::Authorizer;
use crate::auth::user::User;
use crate::http::request_info::ResourcePath;
use crate::ops::decode;
use k8s_openapi::Resource;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, SelfSubjectReviewStatus, UserInfo};
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, NonResourceAttributes, NonResourceRule, ResourceAttributes, ResourceRule,
    SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview, SubjectAccessReviewSpec,
    SubjectAccessReviewStatus, SubjectRulesReviewStatus,
};
use serde::Serialize;
use skep_api::{ApiError, gvr_of};

/// Whether the path names one of them.
pub(crate) fn is_review(path: &ResourcePath) -> bool {
    fn names<K: Resource>(path: &ResourcePath) -> bool {
        path.resource == gvr_of::<K>()
    }
    names::<SelfSubjectAccessReview>(path)
        || names::<SelfSubjectRulesReview>(path)
        || names::<SubjectAccessReview>(path)
        || names::<LocalSubjectAccessReview>(path)
        || names::<SelfSubjectReview>(path)
}

/// The question with its answer, as JSON.
///
/// # Errors
/// 400 where the body is not the question that the path names.
pub(crate) fn answer(
    authorizer: &Authorizer,
    user: &User,
    path: &ResourcePath,
    body: &[u8],
) -> Result<Vec<u8>, ApiError> {
    match path.resource.resource.as_ref() {
        "selfsubjectaccessreviews" => {
            let mut review: SelfSubjectAccessReview = decode(body, "SelfSubjectAccessReview")?;
            let spec = &review.spec;
            let status = ask(
                authorizer,
                user,
                spec.resource_attributes.as_ref(),
                spec.non_resource_attributes.as_ref(),
            )?;
            review.status = Some(status);
            encode(&review)
        }
        "subjectaccessreviews" => {
            let mut review: SubjectAccessReview = decode(body, "SubjectAccessReview")?;
            review.status = Some(ask_for(authorizer, &review.spec)?);
            encode(&review)
        }
        "localsubjectaccessreviews" => {
            let mut review: LocalSubjectAccessReview = decode(body, "LocalSubjectAccessReview")?;
            let attributes = review.spec.resource_attributes.as_ref();
            if attributes.and_then(|attributes| attributes.namespace.as_ref()) != Some(&path.namespace) {
                return Err(ApiError::bad_request(format!(
                    "spec.resourceAttributes.namespace must match namespace: {}",
                    path.namespace
                )));
            }
            review.status = Some(ask_for(authorizer, &review.spec)?);
            encode(&review)
        }
        "selfsubjectrulesreviews" => {
            let mut review: SelfSubjectRulesReview = decode(body, "SelfSubjectRulesReview")?;
            let namespace = review.spec.namespace.as_deref().unwrap_or_default();
            if namespace.is_empty() {
                return Err(ApiError::bad_request("no namespace on request"));
            }
            review.status = Some(rules(authorizer, user, namespace));
            encode(&review)
        }
        _ => {
            let mut review: SelfSubjectReview = decode(body, "SelfSubjectReview")?;
            let groups = Some(user.groups.clone());
            let user_info = UserInfo {
                username: Some(user.name.clone()),
                groups,
                ..UserInfo::default()
            };
            review.status = Some(SelfSubjectReviewStatus {
                user_info: Some(user_info),
            });
            encode(&review)
        }
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(value).map_err(ApiError::internal)
}

fn ask_for(
    authorizer: &Authorizer,
    spec: &SubjectAccessReviewSpec,
) -> Result<SubjectAccessReviewStatus, ApiError> {
    let user = User {
        name: spec.user.clone().unwrap_or_default(),
        groups: spec.groups.clone().unwrap_or_default(),
    };
    if user.name.is_empty() && user.groups.is_empty() {
        return Err(ApiError::bad_request(
            "at least one of user or group must be specified",
        ));
    }
    ask(
        authorizer,
        &user,
        spec.resource_attributes.as_ref(),
        spec.non_resource_attributes.as_ref(),
    )
}

fn ask(
    authorizer: &Authorizer,
    user: &User,
    resource: Option<&ResourceAttributes>,
    path: Option<&NonResourceAttributes>,
) -> Result<SubjectAccessReviewStatus, ApiError> {
    let text = |text: &'_ Option<String>| text.clone().unwrap_or_default();
    let allowed = match (resource, path) {
        (Some(asked), None) => {
            let (group, resource, subresource) = (
                text(&asked.group),
                text(&asked.resource),
                text(&asked.subresource),
            );
            let (namespace, name) = (text(&asked.namespace), text(&asked.name));
            let target = Target::Resource {
                group: &group,
                resource: &resource,
                subresource: &subresource,
                namespace: &namespace,
                name: &name,
            };
            authorizer
                .check(&Attributes::new(user, &text(&asked.verb), target))
                .is_ok()
        }
        (None, Some(asked)) => {
            let target = Target::Path(asked.path.as_deref().unwrap_or_default());
            authorizer
                .check(&Attributes::new(user, &text(&asked.verb), target))
                .is_ok()
        }
        _ => {
            return Err(ApiError::bad_request(
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            ));
        }
    };
    Ok(SubjectAccessReviewStatus {
        allowed,
        ..SubjectAccessReviewStatus::default()
    })
}

fn rules(authorizer: &Authorizer, user: &User, namespace: &str) -> SubjectRulesReviewStatus {
    let mut status = SubjectRulesReviewStatus::default();
    for rule in authorizer.policy().rules_for(user, namespace) {
        if rule
            .non_resource_urls
            .as_ref()
            .is_some_and(|urls| !urls.is_empty())
        {
            let non_resource_urls = rule.non_resource_urls;
            status.non_resource_rules.push(NonResourceRule {
                non_resource_urls,
                verbs: rule.verbs,
            });
        } else {
            status.resource_rules.push(ResourceRule {
                api_groups: rule.api_groups,
                resources: rule.resources,
                resource_names: rule.resource_names,
                verbs: rule.verbs,
            });
        }
    }
    status
}
