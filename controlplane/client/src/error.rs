//! Failures that no server answered.

use skep_api::ApiError;

/// Whether the request got no answer ([`ApiError::connection`]): whether it was carried out is unknown.
#[must_use]
pub fn is_unreachable(error: &ApiError) -> bool {
    error.code == 0
}
