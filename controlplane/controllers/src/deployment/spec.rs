//! A Deployment's settings with their defaults resolved: counts, surge, limits. Pure.

use jiff::SignedDuration;
use k8s_openapi::api::apps::v1::{Deployment, RollingUpdateDeployment};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

const DEFAULT_FENCEPOST: &str = "25%";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) replicas: i32,
    pub(crate) rolling: bool,
    /// Pods allowed above `replicas` (0 unless rolling).
    pub(crate) max_surge: i32,
    /// Pods allowed to lack of `replicas` (0 unless rolling).
    pub(crate) max_unavailable: i32,
    pub(crate) min_ready_seconds: i32,
    pub(crate) paused: bool,
    /// None: progress is not watched.
    pub(crate) progress_deadline: Option<SignedDuration>,
    /// None: old ReplicaSets are kept.
    pub(crate) history_limit: Option<usize>,
}

impl Settings {
    pub(crate) fn of(deployment: &Deployment) -> Self {
        let spec = &deployment.spec;
        let replicas = spec.replicas.unwrap_or(1);
        let strategy = spec.strategy.as_ref();
        let rolling = strategy.and_then(|strategy| strategy.type_.as_deref()) != Some("Recreate");
        let (max_surge, max_unavailable) = if rolling {
            fenceposts(
                strategy.and_then(|strategy| strategy.rolling_update.as_ref()),
                replicas,
            )
        } else {
            (0, 0)
        };
        Self {
            replicas,
            rolling,
            max_surge,
            max_unavailable,
            min_ready_seconds: spec.min_ready_seconds.unwrap_or(0),
            paused: spec.paused.unwrap_or(false),
            progress_deadline: spec
                .progress_deadline_seconds
                .filter(|seconds| *seconds != i32::MAX)
                .map(|seconds| SignedDuration::from_secs(i64::from(seconds))),
            history_limit: spec
                .revision_history_limit
                .filter(|limit| *limit != i32::MAX)
                .map(|limit| usize::try_from(limit).unwrap_or(0)),
        }
    }
}

/// Surge rounds up, unavailable rounds down; both zero would stop every rollout, so then one may lack.
fn fenceposts(rolling: Option<&RollingUpdateDeployment>, replicas: i32) -> (i32, i32) {
    let default = IntOrString::String(DEFAULT_FENCEPOST.to_owned());
    let surge = rolling
        .and_then(|rolling| rolling.max_surge.as_ref())
        .unwrap_or(&default);
    let unavailable = rolling
        .and_then(|rolling| rolling.max_unavailable.as_ref())
        .unwrap_or(&default);
    let surge = scaled(surge, replicas, true);
    let mut unavailable = scaled(unavailable, replicas, false);
    if surge == 0 && unavailable == 0 {
        unavailable = 1;
    }
    (surge, unavailable.min(replicas))
}

/// An absolute number, or a percentage of `total`. Validation has refused anything else; such a value
/// would count as 0.
fn scaled(value: &IntOrString, total: i32, round_up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: i64 = text
                .strip_suffix('%')
                .and_then(|digits| digits.parse().ok())
                .unwrap_or(0);
            let product = percent * i64::from(total);
            let rounded = if round_up {
                (product + 99) / 100
            } else {
                product / 100
            };
            i32::try_from(rounded).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn surge_rounds_up_and_unavailable_down() {
        let text = |text: &str| json!(text);
        for (replicas, surge, unavailable, expected) in [
            (10, text("25%"), text("25%"), (3, 2)),
            (3, text("25%"), text("25%"), (1, 0)),
            (1, text("0%"), text("25%"), (0, 1)),
            (10, json!(2), json!(0), (2, 0)),
            (10, json!(0), json!(0), (0, 1)),
            (2, json!(1), json!(5), (1, 2)),
            (0, text("25%"), text("25%"), (0, 0)),
        ] {
            let deployment: Deployment = serde_json::from_value(json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {},
                "spec": { "replicas": replicas, "selector": {}, "template": {},
                    "strategy": { "type": "RollingUpdate",
                        "rollingUpdate": { "maxSurge": surge, "maxUnavailable": unavailable } } }
            }))
            .unwrap();
            let settings = Settings::of(&deployment);
            assert_eq!(
                (settings.max_surge, settings.max_unavailable),
                expected,
                "{replicas}"
            );
        }
    }

    #[test]
    fn recreate_has_no_fenceposts() {
        let deployment: Deployment = serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {},
            "spec": { "selector": {}, "template": {}, "strategy": { "type": "Recreate" } }
        }))
        .unwrap();
        let settings = Settings::of(&deployment);
        assert_eq!(
            (settings.rolling, settings.max_surge, settings.max_unavailable),
            (false, 0, 0)
        );
        assert_eq!(settings.replicas, 1);
    }
}
