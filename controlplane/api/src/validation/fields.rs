//! Checks of single fields.

use std::collections::{BTreeMap, HashSet};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;

use crate::Quantity;
use crate::error::{FieldError, FieldPath};

/// Adds an error per fault.
pub fn faults(errors: &mut Vec<FieldError>, path: &FieldPath, value: &str, faults: Vec<String>) {
    errors.extend(
        faults
            .into_iter()
            .map(|why| FieldError::invalid(path, value, why)),
    );
}

/// A number that must not be negative.
pub fn not_negative(errors: &mut Vec<FieldError>, path: &FieldPath, value: Option<i64>) {
    at_least(errors, path, value, 0);
}

/// A number that must not be below `least`.
pub fn at_least(errors: &mut Vec<FieldError>, path: &FieldPath, value: Option<i64>, least: i64) {
    if let Some(value) = value.filter(|value| *value < least) {
        errors.push(FieldError::invalid(
            path,
            value,
            format!("must be greater than or equal to {least}"),
        ));
    }
}

/// A text that, when present, must be one of a few.
pub fn one_of(errors: &mut Vec<FieldError>, path: &FieldPath, value: Option<&str>, supported: &[&str]) {
    if let Some(value) = value.filter(|value| !supported.contains(value)) {
        errors.push(FieldError::not_supported(path, value, supported));
    }
}

/// Values that must differ from one another; remembers them in `seen`.
pub fn unique<'a>(
    errors: &mut Vec<FieldError>,
    path: &FieldPath,
    value: &'a str,
    seen: &mut HashSet<&'a str>,
) {
    if !seen.insert(value) {
        errors.push(FieldError::duplicate(path, value));
    }
}

/// Amounts of resources: right quantities, none negative.
pub fn quantities(
    errors: &mut Vec<FieldError>,
    path: &FieldPath,
    amounts: Option<&BTreeMap<String, WireQuantity>>,
) {
    for (name, amount) in amounts.into_iter().flatten() {
        let path = path.key(name);
        match Quantity::try_from(amount) {
            Err(why) => errors.push(FieldError::invalid(path, &amount.0, why.to_string())),
            Ok(quantity) if quantity.is_negative() => {
                errors.push(FieldError::invalid(
                    path,
                    &amount.0,
                    "must be greater than or equal to 0",
                ));
            }
            Ok(_) => {}
        }
    }
}

/// Brings amounts in canonical form, as upstream stores them; wrong ones stay for validation to find.
pub fn canonicalize(amounts: Option<&mut BTreeMap<String, WireQuantity>>) {
    for amount in amounts.into_iter().flat_map(BTreeMap::values_mut) {
        if let Ok(quantity) = Quantity::try_from(&*amount) {
            *amount = quantity.to_wire();
        }
    }
}
