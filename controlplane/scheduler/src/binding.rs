//! What a cycle's result means to the API: a binding, or a condition that says why there is none.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use skep_api::ApiError;
use skep_client::{Client, Patch};

use crate::PodInfo;

/// Binds the pod, unless it is another one by now.
pub(crate) async fn bind(client: &Client, pod: &PodInfo, node: &str) -> Result<(), ApiError> {
    client.bind_pod(&pod.key, Some(pod.uid()), node).await
}

/// Says on the pod why it has no node. Nothing is written when the pod says so already.
pub(crate) async fn report(
    client: &Client,
    pod: &PodInfo,
    reason: &str,
    message: &str,
) -> Result<(), ApiError> {
    match condition_patch(&pod.pod, reason, message, Timestamp::now()) {
        Some(status) => {
            let patch = Patch::strategic(&status)?;
            client.patch_status::<Pod>(&pod.key, &patch).await.map(drop)
        }
        None => Ok(()),
    }
}

fn condition_patch(pod: &Pod, reason: &str, message: &str, now: Timestamp) -> Option<Value> {
    let known = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref())
        .and_then(|conditions| {
            conditions
                .iter()
                .find(|condition| condition.type_ == "PodScheduled")
        });
    let was_false = known.filter(|known| known.status == "False");
    let same = was_false.is_some_and(|known| {
        known.reason.as_deref() == Some(reason) && known.message.as_deref() == Some(message)
    });
    if same {
        return None;
    }
    // The time tells of the change of the status, not of the message.
    let since = was_false
        .and_then(|known| known.last_transition_time.clone())
        .unwrap_or(Time(now));
    let condition = PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(since),
        ..PodCondition::default()
    };
    let uid = pod.metadata.uid.as_deref();
    Some(json!({ "metadata": { "uid": uid }, "status": { "conditions": [condition] } }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn condition_is_written_when_it_says_something_new() {
        let now = Timestamp::UNIX_EPOCH;
        let later = Timestamp::from_second(60).unwrap();
        let mut pod = Pod::default();
        let patch = condition_patch(&pod, "Unschedulable", "no room", now).unwrap();
        let condition: PodCondition =
            serde_json::from_value(patch["status"]["conditions"][0].clone()).unwrap();
        pod.status.get_or_insert_default().conditions = Some(vec![condition]);
        assert_eq!(condition_patch(&pod, "Unschedulable", "no room", later), None);
        let patch = condition_patch(&pod, "Unschedulable", "still no room", later).unwrap();
        assert_eq!(
            patch["status"]["conditions"][0]["lastTransitionTime"],
            "1970-01-01T00:00:00Z"
        );
    }
}
