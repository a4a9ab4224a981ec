//! `TokenRequest`, the `token` subresource of service accounts: a token for whoever may ask for it.

use super::{Bound, Claims, Ref, Tokens, user_name};
use crate::auth::user::User;
use crate::http::request_info::ResourcePath;
use crate::ops::decode;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestStatus};
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use skep_api::{ApiError, FieldError, Kind, gvr_of};

const DEFAULT_SECONDS: i64 = 3600;
const LEAST_SECONDS: i64 = 600;
const MOST_SECONDS: i64 = 1 << 32;

const NODES: &str = "system:nodes";
const NODE_PREFIX: &str = "system:node:";

/// Whether the path names the subresource.
pub(crate) fn is_request(path: &ResourcePath) -> bool {
    path.subresource == "token" && path.resource == gvr_of::<ServiceAccount>()
}

impl Tokens {
    /// The request with its token.
    ///
    /// # Errors
    /// 422 for a time that is not given, 404 and 409 where what it is to be bound to is another or none, 403 for nodes
    /// that ask for more than their own pods need.
    pub(crate) async fn issue(
        &self,
        user: &User,
        path: &ResourcePath,
        body: &[u8],
        now: Timestamp,
    ) -> Result<TokenRequest, ApiError> {
        let mut request: TokenRequest = decode(body, "TokenRequest")?;
        let spec = request.spec.get_or_insert_default();
        let seconds = *spec.expiration_seconds.get_or_insert(DEFAULT_SECONDS);
        check_seconds(seconds)?;
        let audiences = spec.audiences.get_or_insert_default();
        if audiences.is_empty() {
            audiences.push(self.issuer.clone());
        }
        let account = self.get::<ServiceAccount>(&path.namespace, &path.name).await?;
        let mut bound = Bound {
            namespace: path.namespace.clone(),
            serviceaccount: of(&*account),
            pod: None,
            secret: None,
        };
        self.bind(user, path, spec.bound_object_ref.as_ref(), &mut bound)
            .await?;
        let end = now
            .saturating_add(SignedDuration::from_secs(seconds))
            .map_err(ApiError::internal)?;
        let token = self.key.sign(&Claims {
            aud: audiences.clone(),
            exp: end.as_second(),
            iat: now.as_second(),
            iss: self.issuer.clone(),
            nbf: now.as_second(),
            sub: user_name(&path.namespace, &path.name),
            bound,
        })?;
        request.metadata.name = Some(path.name.clone());
        request.metadata.namespace = Some(path.namespace.clone());
        request.metadata.creation_timestamp = Some(Time(now));
        request.status = Some(TokenRequestStatus {
            expiration_timestamp: Some(Time(end)),
            token: Some(token),
        });
        Ok(request)
    }

    async fn bind(
        &self,
        user: &User,
        path: &ResourcePath,
        wanted: Option<&BoundObjectReference>,
        bound: &mut Bound,
    ) -> Result<(), ApiError> {
        let kind = wanted.map(|wanted| wanted.kind.as_deref().unwrap_or_default());
        let name = wanted
            .and_then(|wanted| wanted.name.as_deref())
            .unwrap_or_default();
        let mut node = None;
        match kind {
            None => {}
            Some("Pod") => {
                let pod = self.get::<Pod>(&path.namespace, name).await?;
                let spec = pod.spec.clone().unwrap_or_default();
                if spec.service_account_name.as_deref() != Some(&path.name) {
                    return Err(ApiError::bad_request(format!(
                        "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                        path.name
                    )));
                }
                node = spec.node_name;
                bound.pod = Some(checked(&*pod, wanted)?);
            }
            Some("Secret") => {
                let secret = self.get::<Secret>(&path.namespace, name).await?;
                bound.secret = Some(checked(&*secret, wanted)?);
            }
            Some(other) => {
                let message = format!("cannot bind token to object of type {other:?}");
                return Err(ApiError::bad_request(message));
            }
        }
        let own = user.name.strip_prefix(NODE_PREFIX);
        if user.groups.iter().any(|group| group == NODES) && (own.is_none() || own != node.as_deref()) {
            let why = "a node gets tokens for its own pods, bound to them";
            return Err(ApiError::forbidden(&path.resource, &path.name, why));
        }
        Ok(())
    }
}

fn of<K: Kind>(object: &K) -> Ref {
    let meta = object.metadata();
    Ref {
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
    }
}

/// The object, if it is the one that is meant.
fn checked<K: Kind>(object: &K, wanted: Option<&BoundObjectReference>) -> Result<Ref, ApiError> {
    let found = of(object);
    match wanted.and_then(|wanted| wanted.uid.as_deref()) {
        Some(uid) if !uid.is_empty() && uid != found.uid => {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            );
            Err(ApiError::conflict(&gvr_of::<K>(), &found.name, &why))
        }
        _ => Ok(found),
    }
}

fn check_seconds(seconds: i64) -> Result<(), ApiError> {
    let detail = match seconds {
        ..LEAST_SECONDS => "may not specify a duration less than 10 minutes",
        LEAST_SECONDS..=MOST_SECONDS => return Ok(()),
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    let error = FieldError::invalid("spec.expirationSeconds", seconds, detail);
    Err(ApiError::invalid(
        "authentication.k8s.io",
        "TokenRequest",
        "",
        vec![error],
    ))
}
