//! Strategic merge: lists merge by their keys, with directives for deletion, replacement, order and unions.
//!
//! Source: upstream's documentation of strategic merge patch (sig-api-machinery's strategic-merge-patch.md). Directives: `$patch`
//! (replace, delete, merge), `$retainKeys`, `$deleteFromPrimitiveList/<field>`, `$setElementOrder/<field>`.

use serde_json::{Map, Value};

use super::PatchError;
use super::facts::{Field, Schema};
use super::order::{arrange, same};

type Object = Map<String, Value>;

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

fn malformed<T>(why: impl Into<String>) -> Result<T, PatchError> {
    Err(PatchError::Malformed(why.into()))
}

/// Merges a patch into an object of a type.
pub(super) fn merge_objects(
    mut original: Object,
    patch: &Object,
    schema: Schema,
) -> Result<Object, PatchError> {
    match directive(patch)? {
        Some("replace") => {
            return Ok(without_directives(patch.iter().filter(|(key, _)| *key != PATCH)));
        }
        Some("delete") => return Ok(Object::new()),
        _ => {}
    }
    retain_keys(&mut original, patch)?;
    for (key, change) in patch {
        if key == PATCH || key == RETAIN_KEYS || key.starts_with(SET_ORDER) {
            continue;
        }
        if let Some(field) = key.strip_prefix(DELETE_FROM) {
            delete_from_list(&mut original, field, change)?;
            continue;
        }
        let before = original.get(key).cloned();
        if let Some(merged) = merge_field(key, before, change, patch, schema)? {
            original.insert(key.clone(), merged);
        } else {
            original.remove(key);
        }
    }
    // An order may come without changes to the list itself.
    for (key, order) in patch {
        if let Some(field) = key.strip_prefix(SET_ORDER)
            && !patch.contains_key(field)
            && let Some(Value::Array(items)) = original.get_mut(field)
        {
            let server = items.clone();
            let merge_key = merge_key(schema.field(field));
            *items = arrange(std::mem::take(items), list(order)?, &server, merge_key);
        }
    }
    Ok(original)
}

/// The field after the patch; nothing when the patch removes it.
fn merge_field(
    key: &str,
    before: Option<Value>,
    change: &Value,
    patch: &Object,
    schema: Schema,
) -> Result<Option<Value>, PatchError> {
    let field = schema.field(key);
    Ok(match (before, change) {
        (_, Value::Null) => None,
        (Some(Value::Object(before)), Value::Object(change)) => {
            if field.is_some_and(|field| field.has("replace")) {
                Some(clean(&Value::Object(change.clone())))
            } else {
                let merged = merge_objects(before, change, schema.inside(key))?;
                // A whole object that is deleted is gone, not empty.
                (directive(change)? != Some("delete")).then_some(Value::Object(merged))
            }
        }
        (None, Value::Object(change)) if directive(change)? == Some("delete") => None,
        (Some(Value::Array(before)), Value::Array(change))
            if field.is_some_and(|field| field.has("merge")) =>
        {
            let order = patch.get(&format!("{SET_ORDER}{key}")).map(list).transpose()?;
            Some(Value::Array(merge_lists(
                before,
                change,
                order,
                merge_key(field),
                schema.inside(key),
            )?))
        }
        (_, change) => Some(clean(change)),
    })
}

fn merge_key(field: Option<&'static Field>) -> Option<&'static str> {
    field.and_then(|field| field.merge_key.as_deref())
}

fn directive(patch: &Object) -> Result<Option<&str>, PatchError> {
    match patch.get(PATCH) {
        None => Ok(None),
        Some(Value::String(text)) if matches!(text.as_str(), "replace" | "delete" | "merge") => {
            Ok(Some(text))
        }
        Some(other) => malformed(format!("unknown patch type found: {other}")),
    }
}

fn list(value: &Value) -> Result<&[Value], PatchError> {
    value
        .as_array()
        .map(Vec::as_slice)
        .ok_or_else(|| PatchError::Malformed("expected a list".to_owned()))
}

/// Drops the original's keys that a union's patch does not retain.
fn retain_keys(original: &mut Object, patch: &Object) -> Result<(), PatchError> {
    let Some(retained) = patch.get(RETAIN_KEYS) else {
        return Ok(());
    };
    let retained: Vec<&str> = list(retained)?.iter().filter_map(Value::as_str).collect();
    if let Some(key) = patch
        .keys()
        .find(|key| !key.starts_with('$') && !retained.contains(&key.as_str()))
        && !patch[key].is_null()
    {
        return malformed(format!(
            "{key:?} is in the patch but not in its {RETAIN_KEYS} list"
        ));
    }
    original.retain(|key, _| retained.contains(&key.as_str()));
    Ok(())
}

fn delete_from_list(original: &mut Object, field: &str, deleted: &Value) -> Result<(), PatchError> {
    let deleted = list(deleted)?;
    if let Some(Value::Array(items)) = original.get_mut(field) {
        items.retain(|item| !deleted.contains(item));
    }
    Ok(())
}

fn merge_lists(
    original: Vec<Value>,
    patch: &[Value],
    order: Option<&[Value]>,
    merge_key: Option<&str>,
    schema: Schema,
) -> Result<Vec<Value>, PatchError> {
    let Some(key) = merge_key else {
        let mut merged = original.clone();
        for item in patch {
            if !merged.contains(item) {
                merged.push(item.clone());
            }
        }
        return Ok(arrange(merged, order.unwrap_or(patch), &original, None));
    };
    let mut merged = original.clone();
    let mut replace = false;
    let mut kept = Vec::new();
    for item in patch {
        let Value::Object(object) = item else {
            return malformed(format!(
                "expected objects in a list that merges by {key:?}, found {item}"
            ));
        };
        match directive(object)? {
            Some("replace") if object.len() == 1 => replace = true,
            Some("delete") => {
                require_key(object, key)?;
                merged.retain(|candidate| !same(candidate, item, Some(key)));
            }
            _ => {
                require_key(object, key)?;
                kept.push(item.clone());
                merge_item(&mut merged, object, key, schema)?;
            }
        }
    }
    if replace {
        return Ok(kept.iter().map(clean).collect());
    }
    Ok(arrange(merged, order.unwrap_or(&kept), &original, Some(key)))
}

fn require_key(item: &Object, key: &str) -> Result<(), PatchError> {
    if item.contains_key(key) {
        return Ok(());
    }
    malformed(format!(
        "map: {} does not contain declared merge key: {key}",
        Value::Object(item.clone())
    ))
}

fn merge_item(merged: &mut Vec<Value>, item: &Object, key: &str, schema: Schema) -> Result<(), PatchError> {
    let found = merged
        .iter_mut()
        .find(|candidate| candidate.get(key) == item.get(key));
    match found {
        Some(Value::Object(before)) => *before = merge_objects(std::mem::take(before), item, schema)?,
        _ => merged.push(clean(&Value::Object(item.clone()))),
    }
    Ok(())
}

/// A patch's value as it stands where there was nothing: without directives, deletions and nulls.
fn clean(value: &Value) -> Value {
    match value {
        Value::Object(object) => Value::Object(without_directives(object)),
        Value::Array(items) => {
            let deleted = |item: &&Value| {
                let directive = item.get(PATCH).and_then(Value::as_str);
                directive == Some("delete")
                    || (directive.is_some() && item.as_object().is_some_and(|item| item.len() == 1))
            };
            Value::Array(items.iter().filter(|item| !deleted(item)).map(clean).collect())
        }
        other => other.clone(),
    }
}

fn without_directives<'a>(fields: impl IntoIterator<Item = (&'a String, &'a Value)>) -> Object {
    let directive = |key: &str| {
        key == PATCH || key == RETAIN_KEYS || key.starts_with(DELETE_FROM) || key.starts_with(SET_ORDER)
    };
    fields
        .into_iter()
        .filter(|(key, value)| !directive(key) && !value.is_null())
        .map(|(key, value)| (key.clone(), clean(value)))
        .collect()
}
