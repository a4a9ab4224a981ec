//! TaintToleration: NoSchedule and NoExecute taints keep pods off that do not tolerate them; PreferNoSchedule taints make
//! a node less good.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use crate::framework::normalize_fewest;
use crate::{Cycle, FilterPlugin, NodeInfo, PodInfo, Rejection, ScorePlugin};

pub(super) struct TaintToleration;

/// Whether one of the tolerations covers the taint (core/v1 `ToleratesTaint`).
pub(super) fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations
        .iter()
        .any(|toleration| tolerates_taint(toleration, taint))
}

fn tolerates_taint(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (key, effect) = (text(&toleration.key), text(&toleration.effect));
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    let (wanted, actual) = (text(&toleration.value), text(&taint.value));
    let compare = |holds: fn(i64, i64) -> bool| match (actual.parse(), wanted.parse()) {
        (Ok(actual), Ok(wanted)) => holds(actual, wanted),
        _ => false,
    };
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => wanted == actual,
        "Exists" => true,
        "Lt" => compare(|actual, wanted| actual < wanted),
        "Gt" => compare(|actual, wanted| actual > wanted),
        _ => false,
    }
}

impl FilterPlugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let mut hard = node
            .taints()
            .iter()
            .filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"));
        if hard.all(|taint| tolerates(pod.tolerations(), taint)) {
            return Ok(());
        }
        Err(Rejection::because("node(s) had untolerated taint(s)"))
    }
}

impl ScorePlugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    /// How many soft taints the pod does not tolerate.
    fn score(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> i64 {
        let soft = node
            .taints()
            .iter()
            .filter(|taint| taint.effect == "PreferNoSchedule");
        let count = soft
            .filter(|taint| !tolerates(cycle.pod.tolerations(), taint))
            .count();
        i64::try_from(count).unwrap_or(i64::MAX)
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize_fewest(scores);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::Siblings;
    use crate::plugins::testing::{node, pod_with, reasons};

    fn case(taints: Value, tolerations: Value) -> (bool, i64) {
        let node = node(json!({ "metadata": { "name": "a" }, "spec": { "taints": taints } }));
        let pod = pod_with(json!({ "containers": [], "tolerations": tolerations }));
        let rejected = reasons(TaintToleration.filter(&pod, &node));
        assert!(rejected.is_empty() || rejected == ["node(s) had untolerated taint(s)"]);
        let score = TaintToleration.score(
            &Cycle {
                pod: &pod,
                siblings: Siblings::None,
            },
            &node,
        );
        (rejected.is_empty(), score)
    }

    #[test]
    fn tolerations_cover_taints_by_key_value_and_effect() {
        let hard = || json!([{ "key": "k", "value": "v", "effect": "NoSchedule" }]);
        for (tolerations, accepted) in [
            (json!([]), false),
            (json!([{ "key": "k", "value": "v" }]), true),
            (json!([{ "key": "k", "operator": "Equal", "value": "w" }]), false),
            (json!([{ "key": "k", "operator": "Exists" }]), true),
            (
                json!([{ "key": "k", "operator": "Exists", "effect": "NoExecute" }]),
                false,
            ),
            (
                json!([{ "key": "k", "value": "v", "effect": "NoSchedule" }]),
                true,
            ),
            (json!([{ "key": "other", "operator": "Exists" }]), false),
            (json!([{ "operator": "Exists" }]), true),
        ] {
            assert_eq!(case(hard(), tolerations.clone()).0, accepted, "{tolerations}");
        }
    }

    #[test]
    fn every_hard_taint_counts_and_soft_ones_only_lower_the_score() {
        let execute = json!([{ "key": "node.kubernetes.io/not-ready", "effect": "NoExecute" }]);
        assert_eq!(case(execute, json!([])), (false, 0));
        let soft = json!([
            { "key": "a", "effect": "PreferNoSchedule" },
            { "key": "b", "effect": "PreferNoSchedule" },
        ]);
        assert_eq!(
            case(soft, json!([{ "key": "a", "operator": "Exists" }])),
            (true, 1)
        );
        let numbers = || json!([{ "key": "sla", "value": "95", "effect": "NoSchedule" }]);
        assert!(
            case(
                numbers(),
                json!([{ "key": "sla", "operator": "Gt", "value": "90" }])
            )
            .0
        );
        assert!(
            !case(
                numbers(),
                json!([{ "key": "sla", "operator": "Lt", "value": "90" }])
            )
            .0
        );
    }
}
