//! The `continue` token of a limited list: which revision its pages show and where the next one begins.

use serde::{Deserialize, Serialize};
use skep_api::ApiError;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The version of the token's form; upstream's.
const VERSION: &str = "meta.k8s.io/v1";

/// The decoded token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContinueToken {
    v: String,
    /// The pages' revision; -1 for "whatever is current", which is what one gets after the revision was forgotten.
    rv: i64,
    /// The path of the last item given.
    start: String,
}

impl ContinueToken {
    pub(crate) fn new(revision: u64, after: &str) -> Self {
        let rv = i64::try_from(revision).unwrap_or(-1);
        Self {
            v: VERSION.to_owned(),
            rv,
            start: after.to_owned(),
        }
    }

    /// A token that goes on at the same place, in whatever state is then current.
    pub(crate) fn inconsistent(after: &str) -> Self {
        Self {
            v: VERSION.to_owned(),
            rv: -1,
            start: after.to_owned(),
        }
    }

    /// The pages' revision, unless any will do.
    pub(crate) fn revision(&self) -> Option<u64> {
        u64::try_from(self.rv).ok()
    }

    /// The path after which to go on.
    pub(crate) fn after(&self) -> &str {
        &self.start
    }

    pub(crate) fn encode(&self) -> String {
        // A struct of strings and a number always encodes.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// # Errors
    /// 400 for what this server did not make.
    pub(crate) fn decode(text: &str) -> Result<Self, ApiError> {
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok();
        let token: Option<Self> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        token
            .filter(|token| token.v == VERSION)
            .ok_or_else(|| ApiError::bad_request("continue key is not valid: incorrect encoding or version"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_client() {
        let token = ContinueToken::new(7, "default/a");
        assert_eq!(ContinueToken::decode(&token.encode()).unwrap(), token);
        assert_eq!(token.revision(), Some(7));
        assert_eq!(ContinueToken::inconsistent("a").revision(), None);
        for bad in ["", "x", "e30"] {
            assert_eq!(ContinueToken::decode(bad).unwrap_err().code, 400, "{bad}");
        }
    }
}
