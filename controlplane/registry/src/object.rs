//! [`SharedObject`]: one object at one revision, encoded once and decoded once, shared by everybody.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use skep_api::resource::DynObject;
use skep_api::{FieldSelector, Kind, LabelSelector, ObjectExt, ObjectKey, Revision};

/// One object at one revision. Cheap to clone.
#[derive(Clone)]
pub struct SharedObject(Arc<Inner>);

struct Inner {
    key: ObjectKey,
    revision: Revision,
    json: Bytes,
    object: Arc<dyn DynObject>,
}

impl SharedObject {
    /// `stored` is the object's JSON as it lies in the store, without `resourceVersion`; `object` the same decoded.
    /// Both get `revision`.
    pub(crate) fn new(stored: &[u8], mut object: Box<dyn DynObject>, revision: Revision) -> Self {
        object.meta_mut().resource_version = Some(revision.to_string());
        Self::assemble(splice_revision(stored, revision), object.into(), revision)
    }

    /// An object that is not stored under its own key and revision, such as a `Scale`, or one of a dry run.
    pub(crate) fn unstored(object: Box<dyn DynObject>) -> Result<Self, serde_json::Error> {
        let revision = object.resource_version().unwrap_or_default();
        let json = Bytes::from(object.to_json()?);
        Ok(Self::assemble(json, object.into(), revision))
    }

    fn assemble(json: Bytes, object: Arc<dyn DynObject>, revision: Revision) -> Self {
        let key = ObjectKey::of(object.object_meta());
        Self(Arc::new(Inner {
            key,
            revision,
            json,
            object,
        }))
    }

    /// The same object as of another revision: a deletion's event carries the deletion's revision.
    pub(crate) fn at(&self, revision: Revision) -> Self {
        Self::new(&self.0.json, self.0.object.clone_box(), revision)
    }

    pub fn key(&self) -> &ObjectKey {
        &self.0.key
    }

    pub fn uid(&self) -> &str {
        self.0.object.uid()
    }

    /// The revision that wrote this state; also `metadata.resourceVersion`.
    pub fn revision(&self) -> Revision {
        self.0.revision
    }

    /// The whole object as JSON, with `apiVersion`, `kind` and `metadata.resourceVersion`.
    pub fn json(&self) -> Bytes {
        self.0.json.clone()
    }

    /// The decoded object, whatever its kind.
    pub fn object(&self) -> &dyn DynObject {
        &*self.0.object
    }

    /// The decoded object, if it is a `K`.
    pub fn typed<K: Kind>(&self) -> Option<Arc<K>> {
        self.any().downcast().ok()
    }

    /// The decoded object for in-process clients that know its type.
    pub fn any(&self) -> Arc<dyn Any + Send + Sync> {
        Arc::clone(&self.0.object) as Arc<dyn Any + Send + Sync>
    }

    pub fn matches(&self, labels: &LabelSelector, fields: &FieldSelector) -> bool {
        self.0.object.matches(labels, fields)
    }
}

impl fmt::Debug for SharedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.0.key, self.0.revision)
    }
}

/// Makes `resourceVersion` the first field of the object's `metadata`, replacing the one put there before.
fn splice_revision(json: &[u8], revision: Revision) -> Bytes {
    const FIELD: &[u8] = b"\"resourceVersion\":\"";
    let Some(at) = metadata_start(json) else {
        return Bytes::copy_from_slice(json);
    };
    let (head, tail) = json.split_at(at);
    let tail = match tail
        .strip_prefix(FIELD)
        .map(|rest| (rest, rest.iter().position(|c| *c == b'"')))
    {
        Some((rest, Some(end))) => rest[end + 1..].strip_prefix(b",").unwrap_or(&rest[end + 1..]),
        _ => tail,
    };
    let comma = if tail.first() == Some(&b'}') { "" } else { "," };
    let field = format!("\"resourceVersion\":\"{revision}\"{comma}");
    [head, field.as_bytes(), tail].concat().into()
}

/// Where the inside of the top-level `"metadata":{` begins. The JSON is compact, as this crate's encoder writes it.
fn metadata_start(json: &[u8]) -> Option<usize> {
    const KEY: &[u8] = b"\"metadata\":{";
    let (mut at, mut depth) = (0, 0_u32);
    while at < json.len() {
        match json[at] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' if depth == 1 && json[at..].starts_with(KEY) => return Some(at + KEY.len()),
            b'"' => at = string_end(json, at)?,
            _ => {}
        }
        at += 1;
    }
    None
}

/// The closing quote of the string that opens at `at`.
fn string_end(json: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        match json.get(at)? {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use skep_api::k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    #[test]
    fn only_the_top_level_metadata_is_touched() {
        let stored = br#"{"data":{"x":"\"metadata\":{"},"spec":{"metadata":{"a":1}},"metadata":{}}"#;
        let spliced = splice_revision(stored, Revision(3));
        assert_eq!(
            &spliced[..],
            br#"{"data":{"x":"\"metadata\":{"},"spec":{"metadata":{"a":1}},"metadata":{"resourceVersion":"3"}}"#
        );
        assert_eq!(
            splice_revision(&splice_revision(stored, Revision(12)), Revision(3)),
            spliced
        );
    }

    #[test]
    fn json_and_object_say_the_same_revision() {
        let stored = br#"{"apiVersion":"v1","kind":"ConfigMap","data":{},"metadata":{"name":"a"}}"#;
        let decoded: ConfigMap = serde_json::from_slice(stored).unwrap();
        let shared = SharedObject::new(stored, Box::new(decoded), Revision(7));
        let from_json: ConfigMap = serde_json::from_slice(&shared.json()).unwrap();
        assert_eq!(from_json, *shared.typed::<ConfigMap>().unwrap());
        assert_eq!(from_json.resource_version(), Some(Revision(7)));
        assert_eq!(format!("{shared:?}"), "a@7");
        let later = shared.at(Revision(12));
        let from_json: ConfigMap = serde_json::from_slice(&later.json()).unwrap();
        assert_eq!(from_json.resource_version(), Some(Revision(12)));
    }
}
