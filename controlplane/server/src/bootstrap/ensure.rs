//! Creating an object, or bringing the standing one to what it must be.

use crate::ServerError;
use skep_api::{Object, ObjectExt};
use skep_client::Client;

/// Another writer may be faster this many times in a row.
const ATTEMPTS: usize = 5;

/// Creates `desired` where it is absent; else `complete` says what the standing object should become,
/// or nothing.
pub(super) async fn ensure<K: Object>(
    client: &Client,
    desired: &K,
    complete: impl Fn(&K, &K) -> Option<K>,
) -> Result<(), ServerError> {
    let key = desired.key();
    let failed = |error| ServerError::Bootstrap {
        kind: K::KIND,
        key: key.to_string(),
        source: Box::new(error),
    };
    let mut attempt = 1;
    loop {
        let written = match client.find::<K>(&key).await.map_err(failed)? {
            None => client.create(desired).await.map(drop),
            Some(standing) => match complete(&standing, desired) {
                None => Ok(()),
                Some(completed) => client.update(&completed).await.map(drop),
            },
        };
        match written {
            Ok(()) => return Ok(()),
            Err(error) if attempt < ATTEMPTS && (error.is_conflict() || error.is_already_exists()) => {
                attempt += 1
            }
            Err(error) => return Err(failed(error)),
        }
    }
}

/// For objects that are the user's once they stand.
pub(super) fn leave<K>(_standing: &K, _desired: &K) -> Option<K> {
    None
}
