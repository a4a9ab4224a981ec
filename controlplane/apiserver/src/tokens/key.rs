//! The key that tokens are signed with: ES256 (RFC 7518), in the compact form of RFC 7515.

use crate::ServeError;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use skep_api::ApiError;

const ALGORITHM: &str = "ES256";

pub(super) struct SigningKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    id: String,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    kid: String,
}

impl SigningKey {
    pub(super) fn from_pem(pem: &str) -> Result<Self, ServeError> {
        let der =
            PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| ServeError::TokenKey {
                source: error.to_string().into(),
            })?;
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, der.secret_pkcs8_der(), &random);
        let pair = pair.map_err(|error| ServeError::TokenKey {
            source: error.to_string().into(),
        })?;
        let digest = ring::digest::digest(&ring::digest::SHA256, pair.public_key().as_ref());
        Ok(Self {
            id: BASE64.encode(digest),
            pair,
            random,
        })
    }

    pub(super) fn sign(&self, claims: &impl Serialize) -> Result<String, ApiError> {
        let header = Header {
            alg: ALGORITHM.to_owned(),
            kid: self.id.clone(),
        };
        let part =
            |json: Result<Vec<u8>, _>| json.map(|json| BASE64.encode(json)).map_err(ApiError::internal);
        let header = part(serde_json::to_vec(&header))?;
        let signed = format!("{header}.{}", part(serde_json::to_vec(claims))?);
        let signature = self.pair.sign(&self.random, signed.as_bytes());
        let signature = signature.map_err(|_unspecified| ApiError::internal("a token was not signed"))?;
        Ok(format!("{signed}.{}", BASE64.encode(signature)))
    }

    /// The claims of a token that this key has signed.
    pub(super) fn verify<T: DeserializeOwned>(&self, token: &str) -> Option<T> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Header = serde_json::from_slice(&BASE64.decode(header).ok()?).ok()?;
        if header.alg != ALGORITHM || header.kid != self.id {
            return None;
        }
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref());
        let signature = BASE64.decode(signature).ok()?;
        public.verify(signed.as_bytes(), &signature).ok()?;
        serde_json::from_slice(&BASE64.decode(claims).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key_is_refused() {
        for pem in [
            "",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            assert!(matches!(
                SigningKey::from_pem(pem),
                Err(ServeError::TokenKey { .. })
            ));
        }
    }
}
