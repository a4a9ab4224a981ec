//! Claims of one write: made here, reserved against other servers, and settled by the write's outcome.

use std::time::Duration;

use jiff::Timestamp;
use skep_api::{ApiError, FieldError};
use skep_store::StoreError;

use super::Target;
use crate::alloc::{Claims, Reservation};
use crate::registry::Inner;
use crate::{WriteOptions, error};

/// How often something else is claimed, or waited for, when another server was faster.
const CLAIM_ATTEMPTS: u32 = 16;
/// Before the first new attempt; it grows with each.
const CLAIM_PAUSE: Duration = Duration::from_millis(5);

impl Inner {
    /// What `claim` claims, once no other server has it nor is about to. A dry run claims for the moment only.
    pub(super) async fn claim(
        &self,
        target: &Target,
        options: &WriteOptions,
        mut claim: impl FnMut() -> Result<Option<Claims>, Vec<FieldError>>,
    ) -> Result<Option<Claims>, ApiError> {
        for attempt in 1..=CLAIM_ATTEMPTS {
            let Some(claims) = claim()
                .map_err(|errors| target.invalid(errors))?
                .filter(|claims| !claims.taken.is_empty())
            else {
                return Ok(None);
            };
            if options.dry_run {
                return Ok(None);
            }
            if let Some(claims) = self.reserve(target, claims).await? {
                return Ok(Some(claims));
            }
            tokio::time::sleep(CLAIM_PAUSE * attempt).await;
        }
        Err(ApiError::service_unavailable(
            "another server is allocating the same addresses or ports, try again",
        ))
    }

    async fn reserve(&self, target: &Target, mut claims: Claims) -> Result<Option<Claims>, ApiError> {
        let store = self.store.as_ref();
        let reserved = Reservation::make(store, &claims.taken, Timestamp::now()).await;
        let Some(reservation) = reserved.map_err(|error| target.failure(error))? else {
            return Ok(None);
        };
        claims.reservation = reservation;
        let fresh = self.fresh(target.resource()).await;
        let free = fresh.is_ok() && !self.is_held_elsewhere(target, &claims);
        if free {
            return Ok(Some(claims));
        }
        claims.release_reservation(store).await;
        fresh?;
        // The cache shows it with another object, whose mark stays.
        claims.keep();
        Ok(None)
    }

    fn is_held_elsewhere(&self, target: &Target, claims: &Claims) -> bool {
        let strategy = self.strategies.of(&target.info);
        let objects = self.cache.snapshot(target.slot).objects;
        objects
            .values()
            .any(|object| *object.key() != target.key && strategy.holds(object, &claims.taken))
    }

    /// Gives back the claims of a write that is not made.
    pub(super) async fn give_back(&self, claims: Option<Claims>) {
        if let Some(mut claims) = claims {
            claims.release_reservation(self.store.as_ref()).await;
        }
    }

    /// Keeps the claims of a write that succeeded and gives back those of one that failed. A write that may have
    /// happened keeps claims and reservation: nobody else may get them.
    pub(super) async fn settle(&self, claims: Option<Claims>, failure: Option<&StoreError>) {
        let Some(mut claims) = claims else { return };
        let ambiguous = failure.is_some_and(error::is_ambiguous);
        if !ambiguous {
            claims.release_reservation(self.store.as_ref()).await;
        }
        if ambiguous || failure.is_none() {
            claims.keep();
        }
    }
}
