//! The caller's word on a write, once it is known what the write would make of what.

use skep_api::ApiError;
use skep_api::resource::DynObject;

/// Admits writes, or refuses them. Asked after defaulting and before validation; again when a race was lost.
pub trait Admission: Send + Sync {
    /// `old` is absent where the write creates.
    ///
    /// # Errors
    /// The refusal.
    fn admit(&self, new: &dyn DynObject, old: Option<&dyn DynObject>) -> Result<(), ApiError>;
}
