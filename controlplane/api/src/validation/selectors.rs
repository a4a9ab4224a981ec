//! meta/v1 label selectors inside objects.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{meta, names};
use crate::error::{FieldError, FieldPath};

/// Checks a selector that is present.
pub fn validate(selector: &LabelSelector, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = meta::labels(selector.match_labels.as_ref(), &path.child("matchLabels"));
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let path = path.child("matchExpressions").index(index);
        let values = expression.values.as_deref().unwrap_or_default();
        match expression.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                path.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
                path.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "Exists" | "DoesNotExist" => {}
            other => {
                errors.push(FieldError::invalid(
                    path.child("operator"),
                    other,
                    "not a valid selector operator",
                ));
            }
        }
        let wrong = names::qualified_name(&expression.key);
        errors.extend(
            wrong
                .into_iter()
                .map(|why| FieldError::invalid(path.child("key"), &expression.key, why)),
        );
        for (index, value) in values.iter().enumerate() {
            let wrong = names::label_value(value);
            errors.extend(
                wrong
                    .into_iter()
                    .map(|why| FieldError::invalid(path.child("values").index(index), value, why)),
            );
        }
    }
    errors
}
