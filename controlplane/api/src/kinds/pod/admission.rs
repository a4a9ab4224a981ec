//! What upstream's default admission plugins add to a new pod: ServiceAccount, Priority and
//! DefaultTolerationSeconds.

use k8s_openapi::api::core::v1::{PodSpec, Toleration};

const DEFAULT_ACCOUNT: &str = "default";
/// How long a pod stays on a node that is lost.
const TOLERATION_SECONDS: i64 = 300;
/// That of every class that there is.
const PREEMPTION_POLICY: &str = "PreemptLowerPriority";
const NODE_TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub(super) fn complete(spec: &mut PodSpec) {
    if spec.service_account_name.as_deref().unwrap_or("").is_empty() {
        spec.service_account_name = Some(DEFAULT_ACCOUNT.to_owned());
        spec.service_account = Some(DEFAULT_ACCOUNT.to_owned());
    }
    let priority = class_priority(spec);
    spec.priority.get_or_insert(priority.unwrap_or(0));
    spec.preemption_policy
        .get_or_insert_with(|| PREEMPTION_POLICY.to_owned());
    let tolerations = spec.tolerations.get_or_insert_default();
    for taint in NODE_TAINTS {
        if !tolerations.iter().any(|toleration| tolerates(toleration, taint)) {
            tolerations.push(Toleration {
                key: Some(taint.to_owned()),
                operator: Some("Exists".to_owned()),
                effect: Some("NoExecute".to_owned()),
                toleration_seconds: Some(TOLERATION_SECONDS),
                value: None,
            });
        }
    }
}

/// The priority of the pod's class; `None` for a class that there is not. Classes of users' own are not served.
fn class_priority(spec: &PodSpec) -> Option<i32> {
    match spec.priority_class_name.as_deref().unwrap_or("") {
        "" => Some(0),
        "system-cluster-critical" => Some(2_000_000_000),
        "system-node-critical" => Some(2_000_001_000),
        _ => None,
    }
}

/// Why a complete spec is not admitted: nobody takes a priority that is not their class's.
pub(super) fn refuse(spec: &PodSpec) -> Option<String> {
    let Some(computed) = class_priority(spec) else {
        let name = spec.priority_class_name.as_deref().unwrap_or("");
        return Some(format!("no PriorityClass with name {name} was found"));
    };
    let given = spec.priority.unwrap_or(computed);
    if given != computed {
        return Some(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {computed} from the given PriorityClass name"
        ));
    }
    let policy = spec.preemption_policy.as_deref().unwrap_or(PREEMPTION_POLICY);
    (policy != PREEMPTION_POLICY).then(|| {
        format!(
            "the string value of PreemptionPolicy ({policy}) must not be provided in pod spec; priority admission controller computed {PREEMPTION_POLICY} from the given PriorityClass name"
        )
    })
}

fn tolerates(toleration: &Toleration, taint: &str) -> bool {
    let key = toleration.key.as_deref().unwrap_or("");
    let effect = toleration.effect.as_deref().unwrap_or("");
    (key.is_empty() || key == taint) && matches!(effect, "" | "NoExecute")
}
