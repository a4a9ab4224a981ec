//! NodeAffinity: a pod's `nodeSelector` and required node affinity choose among the nodes; preferred terms make a node
//! better.

use k8s_openapi::api::core::v1::{NodeAffinity as Affinity, NodeSelectorRequirement, NodeSelectorTerm};
use skep_api::ObjectExt;

use crate::framework::MAX_SCORE;
use crate::{Cycle, FilterPlugin, NodeInfo, PodInfo, Rejection, ScorePlugin};

pub(super) struct NodeAffinity;

fn affinity(pod: &PodInfo) -> Option<&Affinity> {
    pod.pod.spec.as_ref()?.affinity.as_ref()?.node_affinity.as_ref()
}

/// All requirements of a term must hold; a term without any matches nothing.
fn term_matches(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    let labels = node.node.as_ref().map(|node| node.labels());
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    (!expressions.is_empty() || !fields.is_empty())
        && expressions.iter().all(|requirement| {
            let value = labels.and_then(|labels| labels.get(&requirement.key));
            holds(requirement, value.map(String::as_str))
        })
        && fields.iter().all(|requirement| {
            let value = (requirement.key == "metadata.name").then(|| node.name());
            holds(requirement, value)
        })
}

fn holds(requirement: &NodeSelectorRequirement, actual: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = |actual| values.iter().any(|value| value == actual);
    let compare = |holds: fn(i64, i64) -> bool| {
        let actual = actual.and_then(|actual| actual.parse().ok());
        let bound = values.first().and_then(|value| value.parse().ok());
        actual
            .zip(bound)
            .is_some_and(|(actual, bound)| holds(actual, bound))
    };
    match requirement.operator.as_str() {
        "In" => actual.is_some_and(listed),
        "NotIn" => !actual.is_some_and(listed),
        "Exists" => actual.is_some(),
        "DoesNotExist" => actual.is_none(),
        "Gt" => compare(|actual, bound| actual > bound),
        "Lt" => compare(|actual, bound| actual < bound),
        _ => false,
    }
}

impl FilterPlugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        let labels = node.node.as_ref().map(|node| node.labels());
        let mut selector = pod
            .pod
            .spec
            .iter()
            .flat_map(|spec| spec.node_selector.iter().flatten());
        let selected =
            selector.all(|(name, value)| labels.and_then(|labels| labels.get(name)) == Some(value));
        let required = affinity(pod).and_then(|affinity| {
            affinity
                .required_during_scheduling_ignored_during_execution
                .as_ref()
        });
        let wanted = required.is_none_or(|required| {
            required
                .node_selector_terms
                .iter()
                .any(|term| term_matches(term, node))
        });
        if selected && wanted {
            return Ok(());
        }
        Err(Rejection::because(
            "node(s) didn't match Pod's node affinity/selector",
        ))
    }
}

impl ScorePlugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    /// The weights of the preferred terms that match.
    fn score(&self, cycle: &Cycle<'_>, node: &NodeInfo) -> i64 {
        let preferred = affinity(cycle.pod).and_then(|affinity| {
            affinity
                .preferred_during_scheduling_ignored_during_execution
                .as_ref()
        });
        let matching = preferred
            .into_iter()
            .flatten()
            .filter(|term| term_matches(&term.preference, node));
        matching.map(|term| i64::from(term.weight)).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        let most = scores.iter().copied().max().unwrap_or(0);
        if most > 0 {
            for score in scores {
                *score = *score * MAX_SCORE / most;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::Siblings;
    use crate::plugins::testing::{node, pod_with};

    fn a_node() -> NodeInfo {
        node(json!({ "metadata": { "name": "a", "labels": { "zone": "z1", "cores": "8" } } }))
    }

    fn required(terms: Value) -> Value {
        let required = json!({ "nodeSelectorTerms": terms });
        json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": required } })
    }

    #[test]
    fn selector_and_one_required_term_must_match() {
        let expression = |operator: &str, key: &str, values: &[&str]| json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] });
        let named = json!({ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["a"] }] });
        for (selector, affinity, accepted) in [
            (json!({}), json!({}), true),
            (json!({ "zone": "z1" }), json!({}), true),
            (json!({ "zone": "z2" }), json!({}), false),
            (
                json!({}),
                required(json!([expression("In", "zone", &["z2", "z1"])])),
                true,
            ),
            (
                json!({}),
                required(json!([expression("NotIn", "zone", &["z1"])])),
                false,
            ),
            (
                json!({}),
                required(json!([expression("DoesNotExist", "gpu", &[])])),
                true,
            ),
            (
                json!({}),
                required(json!([expression("Exists", "gpu", &[])])),
                false,
            ),
            (
                json!({}),
                required(json!([expression("Gt", "cores", &["4"])])),
                true,
            ),
            (
                json!({}),
                required(json!([expression("Lt", "cores", &["4"])])),
                false,
            ),
            (
                json!({}),
                required(json!([expression("Exists", "gpu", &[]), named.clone()])),
                true,
            ),
            (json!({ "zone": "z2" }), required(json!([named])), false),
            (json!({}), required(json!([{}])), false),
        ] {
            let pod = pod_with(json!({ "containers": [], "nodeSelector": selector, "affinity": affinity }));
            assert_eq!(
                NodeAffinity.filter(&pod, &a_node()).is_ok(),
                accepted,
                "{selector} {affinity}"
            );
        }
    }

    #[test]
    fn preferred_terms_add_their_weights() {
        let term = |weight: i32, value: &str| {
            json!({ "weight": weight, "preference": {
                "matchExpressions": [{ "key": "zone", "operator": "In", "values": [value] }] } })
        };
        let terms = json!([term(7, "z1"), term(5, "z1"), term(50, "z2")]);
        let affinity =
            json!({ "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": terms } });
        let pod = pod_with(json!({ "containers": [], "affinity": affinity }));
        let cycle = Cycle {
            pod: &pod,
            siblings: Siblings::None,
        };
        assert_eq!(NodeAffinity.score(&cycle, &a_node()), 12);
        let mut scores = [12, 0, 6];
        NodeAffinity.normalize(&mut scores);
        assert_eq!(scores, [100, 0, 50]);
    }
}
