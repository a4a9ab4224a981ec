//! Tokens of service accounts: JSON Web Tokens (RFC 7519) that this cluster signs, and believes while their account and
//! what they are bound to exist.
//!
//! Claims are upstream's (`pkg/serviceaccount/claims.go`), so that tools that read them work. Nothing is kept: a token is
//! taken back by deleting its account or the object that it is bound to.

mod key;
mod request;

use crate::ServeError;
use crate::auth::user::User;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use key::SigningKey;
use serde::{Deserialize, Serialize};
use skep_api::{ApiError, Kind, ObjectKey, gvr_of};
use skep_registry::{GetOptions, ReadVersion, Registry};
use std::sync::Arc;

pub(crate) use request::is_request;

/// A deleted object counts so much longer than its grace period, as upstream, for clocks that differ.
const LEEWAY_SECONDS: i64 = 60;

/// How service accounts' tokens are signed.
#[derive(Clone)]
pub struct TokenConfig {
    /// A P-256 key, PKCS #8 as PEM.
    pub key: String,
    /// Who signs, as a URL; also whom tokens are for when nothing else is asked.
    pub issuer: String,
}

/// Issues tokens and believes them.
pub(crate) struct Tokens {
    key: SigningKey,
    issuer: String,
    registry: Registry,
}

/// What a token says.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    aud: Vec<String>,
    exp: i64,
    iat: i64,
    iss: String,
    nbf: i64,
    sub: String,
    #[serde(rename = "kubernetes.io")]
    bound: Bound,
}

/// What a token is bound to: its account, and at most one object beside it.
#[derive(Debug, Serialize, Deserialize)]
struct Bound {
    namespace: String,
    serviceaccount: Ref,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<Ref>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<Ref>,
}

/// One object in the course of time: others may have its name later.
#[derive(Debug, Serialize, Deserialize)]
struct Ref {
    name: String,
    uid: String,
}

impl Tokens {
    /// # Errors
    /// When the key is none.
    pub(crate) fn new(registry: Registry, config: &TokenConfig) -> Result<Self, ServeError> {
        Ok(Self {
            key: SigningKey::from_pem(&config.key)?,
            issuer: config.issuer.clone(),
            registry,
        })
    }

    /// Whose token this is; none where it is not to be believed.
    ///
    /// # Errors
    /// When the registry cannot be read.
    pub(crate) async fn user(&self, token: &str, now: Timestamp) -> Result<Option<Arc<User>>, ApiError> {
        let Some(claims) = self.key.verify::<Claims>(token) else {
            return Ok(None);
        };
        let second = now.as_second();
        let in_time = claims.nbf <= second && second < claims.exp;
        if !in_time || claims.iss != self.issuer || !claims.aud.contains(&self.issuer) {
            return Ok(None);
        }
        let bound = &claims.bound;
        let namespace = &bound.namespace;
        let alive = self
            .is_alive::<ServiceAccount>(namespace, Some(&bound.serviceaccount), now)
            .await?
            && self.is_alive::<Pod>(namespace, bound.pod.as_ref(), now).await?
            && self
                .is_alive::<Secret>(namespace, bound.secret.as_ref(), now)
                .await?;
        let groups = [
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
        ];
        Ok(alive.then(|| {
            Arc::new(User::new(
                user_name(namespace, &bound.serviceaccount.name),
                groups,
            ))
        }))
    }

    /// Whether the object that is meant still exists, and not only for its finalizers.
    async fn is_alive<K: Kind>(
        &self,
        namespace: &str,
        wanted: Option<&Ref>,
        now: Timestamp,
    ) -> Result<bool, ApiError> {
        let Some(wanted) = wanted else {
            return Ok(true);
        };
        let object = match self.get::<K>(namespace, &wanted.name).await {
            Err(error) if error.is_not_found() => return Ok(false),
            found => found?,
        };
        let meta = object.metadata();
        let end = meta.deletion_timestamp.as_ref().map(|end| end.0.as_second());
        let ended = end.is_some_and(|end| end.saturating_add(LEEWAY_SECONDS) < now.as_second());
        Ok(!ended && meta.uid.as_ref() == Some(&wanted.uid))
    }

    async fn get<K: Kind>(&self, namespace: &str, name: &str) -> Result<Arc<K>, ApiError> {
        let latest = GetOptions {
            version: ReadVersion::Latest,
        };
        let key = ObjectKey::new(namespace, name);
        let object = self.registry.get(&gvr_of::<K>(), &key, &latest).await?;
        object
            .typed::<K>()
            .ok_or_else(|| ApiError::internal("an object is not of its kind"))
    }
}

/// The name of a service account as a user.
fn user_name(namespace: &str, account: &str) -> String {
    format!("system:serviceaccount:{namespace}:{account}")
}

/// The token of an `Authorization` header (RFC 6750).
pub(crate) fn bearer(headers: &http::HeaderMap) -> Option<&str> {
    let value = headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
