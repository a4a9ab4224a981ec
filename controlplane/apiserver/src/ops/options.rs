//! Query parameters (and the body of a deletion) as the registry's options.

use super::decode;
use crate::http::query::Query;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions as DeleteBody;
use skep_api::{ApiError, FieldError, FieldSelector, LabelSelector};
use skep_registry::{
    DeleteOptions, FieldValidation, ListOptions, Propagation, ReadVersion, WatchOptions, WriteOptions,
    parse_revision,
};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A watch without `timeoutSeconds` ends after this or up to twice as long, so that watches spread over
/// the servers and not all end at once; upstream's `--min-request-timeout`.
const MIN_WATCH: Duration = Duration::from_secs(1800);

pub(super) fn read_version(query: &Query, limited: bool) -> Result<ReadVersion, ApiError> {
    ReadVersion::from_query(
        query.get("resourceVersion"),
        query.get("resourceVersionMatch"),
        limited,
    )
}

pub(super) fn list(query: &Query) -> Result<ListOptions, ApiError> {
    let limit = query
        .integer("limit")?
        .and_then(|limit| usize::try_from(limit).ok())
        .filter(|limit| *limit > 0);
    let continue_token = query.get("continue").map(str::to_owned);
    if continue_token.is_some() && query.get("resourceVersionMatch").is_some() {
        return Err(ApiError::bad_request(
            "resourceVersionMatch is forbidden when continue is provided",
        ));
    }
    Ok(ListOptions {
        version: match continue_token {
            // The token says which revision.
            Some(_) => ReadVersion::Latest,
            None => read_version(query, limit.is_some())?,
        },
        labels: labels(query)?,
        fields: fields(query)?,
        limit,
        continue_token,
    })
}

pub(super) fn watch(query: &Query) -> Result<WatchOptions, ApiError> {
    let send_initial_events = query.optional_flag("sendInitialEvents");
    match (send_initial_events, query.get("resourceVersionMatch")) {
        (Some(_), Some("NotOlderThan")) | (None, None) => {}
        (Some(_), _) => {
            return Err(ApiError::bad_request(
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
        }
        (None, Some(_)) => {
            return Err(ApiError::bad_request(
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
    }
    Ok(WatchOptions {
        labels: labels(query)?,
        fields: fields(query)?,
        resource_version: query.get("resourceVersion").map(parse_revision).transpose()?,
        bookmarks: query.flag("allowWatchBookmarks"),
        send_initial_events,
    })
}

/// How long a watch lasts.
///
/// # Errors
/// 400 where `timeoutSeconds` is not a number.
pub(crate) fn watch_timeout(query: &Query) -> Result<Duration, ApiError> {
    let asked = query
        .integer("timeoutSeconds")?
        .and_then(|seconds| u64::try_from(seconds).ok());
    let spread = RandomState::new().hash_one(()) % MIN_WATCH.as_secs();
    Ok(match asked.filter(|seconds| *seconds > 0) {
        Some(seconds) => Duration::from_secs(seconds),
        None => MIN_WATCH + Duration::from_secs(spread),
    })
}

/// `kind` names the options in errors.
pub(super) fn write(query: &Query, kind: &str) -> Result<WriteOptions, ApiError> {
    Ok(WriteOptions {
        dry_run: dry_run(query.all("dryRun"), kind)?,
        field_validation: FieldValidation::parse(query.get("fieldValidation").unwrap_or_default())?,
        admission: None,
    })
}

/// A body of options, or, without one, the query.
pub(super) fn delete(query: &Query, body: &[u8]) -> Result<DeleteOptions, ApiError> {
    let mut options = if body.is_empty() {
        from_query(query)?
    } else {
        decode(body, "DeleteOptions")?
    };
    let dry_runs = options.dry_run.get_or_insert_default();
    dry_runs.extend(query.all("dryRun").map(str::to_owned));
    let dry_run = dry_run(dry_runs.iter().map(String::as_str), "DeleteOptions")?;
    let preconditions = options.preconditions.unwrap_or_default();
    Ok(DeleteOptions {
        dry_run,
        grace_period_seconds: options.grace_period_seconds,
        uid: preconditions.uid,
        resource_version: preconditions
            .resource_version
            .as_deref()
            .map(parse_revision)
            .transpose()?,
        propagation: propagation(options.orphan_dependents, options.propagation_policy.as_deref())?,
    })
}

fn from_query(query: &Query) -> Result<DeleteBody, ApiError> {
    Ok(DeleteBody {
        grace_period_seconds: query.integer("gracePeriodSeconds")?,
        orphan_dependents: query.optional_flag("orphanDependents"),
        propagation_policy: query.get("propagationPolicy").map(str::to_owned),
        ..DeleteBody::default()
    })
}

fn propagation(orphan: Option<bool>, policy: Option<&str>) -> Result<Option<Propagation>, ApiError> {
    let refuse = |error| Err(ApiError::invalid("meta.k8s.io", "DeleteOptions", "", vec![error]));
    match (orphan, policy) {
        (Some(_), Some(_)) => refuse(FieldError::invalid(
            "propagationPolicy",
            policy,
            "orphanDependents and deletionPropagation cannot be both set",
        )),
        (Some(true), None) | (None, Some("Orphan")) => Ok(Some(Propagation::Orphan)),
        (Some(false), None) | (None, Some("Background")) => Ok(Some(Propagation::Background)),
        (None, Some("Foreground")) => Ok(Some(Propagation::Foreground)),
        (None, None | Some("")) => Ok(None),
        (None, Some(other)) => refuse(FieldError::not_supported(
            "propagationPolicy",
            other,
            &["Foreground", "Background", "Orphan"],
        )),
    }
}

fn dry_run<'a>(values: impl Iterator<Item = &'a str>, kind: &str) -> Result<bool, ApiError> {
    let mut dry = false;
    for value in values.filter(|value| !value.is_empty()) {
        if value != "All" {
            let error = FieldError::not_supported("dryRun", value, &["All"]);
            return Err(ApiError::invalid("meta.k8s.io", kind, "", vec![error]));
        }
        dry = true;
    }
    Ok(dry)
}

fn labels(query: &Query) -> Result<LabelSelector, ApiError> {
    LabelSelector::parse(query.get("labelSelector").unwrap_or_default())
        .map_err(|error| ApiError::bad_request(error.to_string()))
}

fn fields(query: &Query) -> Result<FieldSelector, ApiError> {
    FieldSelector::parse(query.get("fieldSelector").unwrap_or_default())
        .map_err(|error| ApiError::bad_request(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dry_run_takes_all_and_nothing_else() {
        assert!(
            write(&Query::parse("dryRun=All"), "CreateOptions")
                .expect("valid")
                .dry_run
        );
        let error = write(&Query::parse("dryRun=Some"), "CreateOptions")
            .map(drop)
            .expect_err("invalid");
        assert_eq!(error.code, 422);
        assert_eq!(
            error.message,
            r#"CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: "Some": supported values: "All""#
        );
    }

    #[test]
    fn deletions_take_options_from_body_or_query() {
        let body = br#"{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0,"propagationPolicy":"Foreground","preconditions":{"uid":"u"}}"#;
        let options = delete(&Query::default(), body).expect("valid");
        assert_eq!(options.grace_period_seconds, Some(0));
        assert_eq!(options.propagation, Some(Propagation::Foreground));
        assert_eq!(options.uid.as_deref(), Some("u"));
        let options = delete(
            &Query::parse("gracePeriodSeconds=5&propagationPolicy=Orphan"),
            b"",
        )
        .expect("valid");
        assert_eq!(
            (options.grace_period_seconds, options.propagation),
            (Some(5), Some(Propagation::Orphan))
        );
        assert_eq!(
            delete(&Query::parse("propagationPolicy=No"), b"")
                .expect_err("invalid")
                .code,
            422
        );
    }

    #[test]
    fn initial_events_come_with_a_version_match() {
        let good =
            Query::parse("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=1");
        assert_eq!(watch(&good).expect("valid").send_initial_events, Some(true));
        assert!(watch(&Query::parse("sendInitialEvents=true")).is_err());
        assert!(watch(&Query::parse("resourceVersionMatch=NotOlderThan")).is_err());
    }
}
