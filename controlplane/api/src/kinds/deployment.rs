//! `Deployment`.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;

use super::pod_spec;
use super::replica_set::{CONTAINERS, IMAGES, SELECTOR, workload_cells};
use crate::error::{FieldError, FieldPath};
use crate::resource::{Column, Kind, Row, ScaleView, Subresource};
use crate::validation::{fields, meta};
use crate::{LabelSelector, ObjectExt, int_or_string, print};

const REVISION_HISTORY_LIMIT: i32 = 10;
const PROGRESS_DEADLINE_SECONDS: i32 = 600;

impl Kind for Deployment {
    const ROW: Row = Row {
        singular: "deployment",
        short_names: &["deploy"],
        categories: &["all"],
        subresources: &[Subresource::Status, Subresource::Scale],
        columns: &[
            Column::NAME,
            Column::string("Ready", "Number of the pod with ready state"),
            Column::integer(
                "Up-to-date",
                "Total number of non-terminated pods targeted by this deployment that have the desired template spec.",
            ),
            Column::integer(
                "Available",
                "Total number of available pods (ready for at least minReadySeconds) targeted by this deployment.",
            ),
            Column::AGE,
            CONTAINERS,
            IMAGES,
            SELECTOR,
        ],
        ..Row::DEFAULT
    };

    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(REVISION_HISTORY_LIMIT);
        spec.progress_deadline_seconds
            .get_or_insert(PROGRESS_DEADLINE_SECONDS);
        set_strategy_defaults(spec.strategy.get_or_insert_default());
        pod_spec::set_template_defaults(&mut spec.template);
    }

    fn prepare_create(&mut self) {
        self.status = Some(Default::default());
    }

    fn prepare_update(&mut self, old: &Self) {
        self.status.clone_from(&old.status);
    }

    fn prepare_status_update(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
        self.metadata.labels.clone_from(&old.metadata.labels);
    }

    fn spec_changed(&self, old: &Self) -> Option<bool> {
        let annotations = |object: &Self| object.metadata.annotations.clone().unwrap_or_default();
        Some(self.spec != old.spec || annotations(self) != annotations(old))
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        validate_spec(&mut errors, &self.spec, &FieldPath::new("spec"));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let path = FieldPath::new("spec.selector");
        meta::immutable(&mut errors, &path, &self.spec.selector, &old.spec.selector);
        errors
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let spec = &self.spec;
        let status = self.status.clone().unwrap_or_default();
        let ready = status.ready_replicas.unwrap_or(0);
        let [containers, images, selector] = workload_cells(Some(&spec.template), &spec.selector);
        vec![
            self.name().into(),
            format!("{ready}/{}", spec.replicas.unwrap_or(0)).into(),
            status.updated_replicas.unwrap_or(0).into(),
            status.available_replicas.unwrap_or(0).into(),
            print::age(&self.metadata, now),
            containers,
            images,
            selector,
        ]
    }

    fn scale(&self) -> Option<ScaleView> {
        let spec = &self.spec;
        Some(ScaleView {
            replicas: spec.replicas.unwrap_or(1),
            status_replicas: self
                .status
                .as_ref()
                .and_then(|status| status.replicas)
                .unwrap_or(0),
            selector: LabelSelector::from_meta(Some(&spec.selector)).ok()?,
        })
    }

    fn set_scale(&mut self, replicas: i32) {
        self.spec.replicas = Some(replicas);
    }
}

fn set_strategy_defaults(strategy: &mut DeploymentStrategy) {
    let kind = strategy.type_.get_or_insert_with(|| "RollingUpdate".to_owned());
    if kind == "RollingUpdate" {
        let quarter = || IntOrString::String("25%".to_owned());
        let rolling = strategy.rolling_update.get_or_insert_default();
        rolling.max_surge.get_or_insert_with(quarter);
        rolling.max_unavailable.get_or_insert_with(quarter);
    }
}

fn validate_spec(errors: &mut Vec<FieldError>, spec: &DeploymentSpec, path: &FieldPath) {
    let numbers = [
        ("replicas", spec.replicas),
        ("minReadySeconds", spec.min_ready_seconds),
        ("revisionHistoryLimit", spec.revision_history_limit),
        ("progressDeadlineSeconds", spec.progress_deadline_seconds),
    ];
    for (name, number) in numbers {
        fields::not_negative(errors, &path.child(name), number.map(i64::from));
    }
    if let Some(deadline) = spec.progress_deadline_seconds
        && deadline <= spec.min_ready_seconds.unwrap_or(0)
    {
        let why = "must be greater than minReadySeconds";
        errors.push(FieldError::invalid(
            path.child("progressDeadlineSeconds"),
            deadline,
            why,
        ));
    }
    pod_spec::check_selector(errors, &spec.selector, Some(&spec.template), path);
    pod_spec::validate_template(errors, &spec.template, &path.child("template"));
    if let Some(strategy) = &spec.strategy {
        validate_strategy(errors, strategy, &path.child("strategy"));
    }
}

fn validate_strategy(errors: &mut Vec<FieldError>, strategy: &DeploymentStrategy, path: &FieldPath) {
    let rolling = path.child("rollingUpdate");
    match (strategy.type_.as_deref(), &strategy.rolling_update) {
        (Some("Recreate"), Some(_)) => {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(FieldError::forbidden(rolling, why));
        }
        (Some("RollingUpdate"), Some(update)) => {
            let mut zero = true;
            for (name, value) in [
                ("maxUnavailable", &update.max_unavailable),
                ("maxSurge", &update.max_surge),
            ] {
                let Some(value) = value else { continue };
                let path = rolling.child(name);
                let plain =
                    |text: &String| int_or_string::percent(&IntOrString::String(text.clone())).is_none();
                match value {
                    IntOrString::Int(number) => fields::not_negative(errors, &path, Some(i64::from(*number))),
                    IntOrString::String(text) if plain(text) => {
                        let why = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
                        errors.push(FieldError::invalid(path, text, why));
                    }
                    IntOrString::String(_) => {}
                }
                zero &= int_or_string::scaled(value, 100, true) == Some(0);
            }
            if zero {
                let why = "may not be 0 when `maxSurge` is 0";
                errors.push(FieldError::invalid(
                    rolling.child("maxUnavailable"),
                    &update.max_unavailable,
                    why,
                ));
            }
        }
        (kind, _) => fields::one_of(errors, &path.child("type"), kind, &["Recreate", "RollingUpdate"]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(change: impl FnOnce(&mut Value)) -> Deployment {
        let mut value = json!({"metadata": {"name": "web"}, "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "nginx:1"}]}},
        }});
        change(&mut value["spec"]);
        let mut deployment: Deployment = serde_json::from_value(value).unwrap();
        deployment.set_defaults();
        deployment.prepare_create();
        deployment
    }

    #[test]
    fn defaults_are_what_kubectl_shows() {
        let value = serde_json::to_value(deployment(|_| {})).unwrap();
        assert_eq!(
            value["spec"],
            json!({
                "replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
                "selector": {"matchLabels": {"app": "web"}},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
                    "containers": [{
                        "name": "c", "image": "nginx:1", "imagePullPolicy": "IfNotPresent", "resources": {},
                        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                    }],
                    "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
                    "terminationGracePeriodSeconds": 30, "securityContext": {},
                }},
            })
        );
        assert_eq!(value["status"], json!({}));
    }

    #[test]
    fn what_users_get_wrong_is_told_as_upstream() {
        type Change = fn(&mut Value);
        let cases: &[(Change, &[&str])] = &[
            (|_| {}, &[]),
            (
                |spec| spec["selector"] = json!({"matchLabels": {"app": "other"}}),
                &[
                    r#"spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`"#,
                ],
            ),
            (
                |spec| spec["selector"] = json!({}),
                &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
            ),
            (
                |spec| spec["replicas"] = json!(-1),
                &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                |spec| spec["template"]["spec"]["restartPolicy"] = json!("Never"),
                &[
                    r#"spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always""#,
                ],
            ),
            (
                |spec| spec["strategy"] = json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}),
                &[
                    r#"spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "0%": may not be 0 when `maxSurge` is 0"#,
                ],
            ),
            (
                |spec| spec["strategy"] = json!({"type": "Recreate", "rollingUpdate": {}}),
                &[
                    "spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'",
                ],
            ),
        ];
        for (change, expected) in cases {
            let errors = Kind::validate(&deployment(change));
            assert_eq!(
                errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
                *expected
            );
        }
    }

    #[test]
    fn selectors_are_immutable_and_scale_scales() {
        let old = deployment(|_| {});
        let mut new = deployment(|spec| spec["selector"] = json!({"matchLabels": {"app": "web", "x": "y"}}));
        assert_eq!(Kind::validate_update(&new, &old)[0].path, "spec.selector");
        Kind::set_scale(&mut new, 5);
        assert_eq!(Kind::scale(&new).unwrap().replicas, 5);
        assert_eq!(Kind::spec_changed(&new, &old), Some(true));
        let cells = new.cells(Timestamp::UNIX_EPOCH);
        assert_eq!(
            Value::Array(cells),
            json!(["web", "0/5", 0, 0, "<unknown>", "c", "nginx:1", "app=web,x=y"])
        );
    }
}
