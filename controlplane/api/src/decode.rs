//! Decoding with an account of unknown and duplicate fields, as `fieldValidation` asks for.
//!
//! The typed decoder drops unknown fields silently; here their paths are collected on the way.

mod duplicates;

use serde::de::DeserializeOwned;
use serde_ignored::Path;
use serde_json::Value;

use crate::resource::DecodeError;

/// Upstream reports no more unknown fields than this.
const REPORT_LIMIT: usize = 100;

/// Unknown and duplicate fields, in upstream's words: `unknown field "spec.foo"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unknown {
    pub faults: Vec<String>,
}

impl Unknown {
    fn add(&mut self, fault: String) {
        if self.faults.len() < REPORT_LIMIT {
            self.faults.push(fault);
        }
    }
}

/// Decodes bytes. With `unknown`, collects unknown and duplicate fields.
pub fn from_slice<T: DeserializeOwned>(json: &[u8], unknown: Option<&mut Unknown>) -> Result<T, DecodeError> {
    let Some(unknown) = unknown else {
        return serde_json::from_slice(json).map_err(refuse);
    };
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let decoded = serde_ignored::deserialize(&mut deserializer, |path| {
        unknown.add(format!("unknown field \"{}\"", render(&path)));
    })
    .map_err(refuse)?;
    deserializer.end().map_err(refuse)?;
    for path in duplicates::find(json) {
        unknown.add(format!("duplicate field \"{path}\""));
    }
    Ok(decoded)
}

/// Decodes a value. With `unknown`, collects unknown fields.
pub fn from_value<T: DeserializeOwned>(
    value: Value,
    unknown: Option<&mut Unknown>,
) -> Result<T, DecodeError> {
    let Some(unknown) = unknown else {
        return serde_json::from_value(value).map_err(refuse);
    };
    serde_ignored::deserialize(value, |path| {
        unknown.add(format!("unknown field \"{}\"", render(&path)));
    })
    .map_err(refuse)
}

fn refuse(error: serde_json::Error) -> DecodeError {
    DecodeError(error.to_string())
}

/// `spec.containers[0].foo`.
fn render(path: &Path<'_>) -> String {
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", render(parent)),
        Path::Map { parent, key } => match render(parent) {
            parent if parent.is_empty() => key.clone(),
            parent => format!("{parent}.{key}"),
        },
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            render(parent)
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    fn faults(json: &str) -> Vec<String> {
        let mut unknown = Unknown::default();
        from_slice::<Pod>(json.as_bytes(), Some(&mut unknown)).unwrap();
        unknown.faults
    }

    #[test]
    fn unknown_and_duplicate_fields_are_named_by_path() {
        let json = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","bad":1,"labels":{"x":"y"}},
            "spec":{"foo":{"deep":1},"containers":[{"name":"c","imagee":"i","ports":[{"containerPort":1,"x":[]}]}],
            "nodeName":"a","nodeName":"b"}}"#;
        assert_eq!(
            faults(json),
            [
                r#"unknown field "metadata.bad""#,
                r#"unknown field "spec.foo""#,
                r#"unknown field "spec.containers[0].imagee""#,
                r#"unknown field "spec.containers[0].ports[0].x""#,
                r#"duplicate field "spec.nodeName""#,
            ]
        );
    }

    #[test]
    fn right_objects_have_no_faults() {
        let json = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","annotations":{"x":"y"}},"spec":{"containers":[]}}"#;
        assert_eq!(faults(json), Vec::<String>::new());
        let mut unknown = Unknown::default();
        from_value::<Pod>(serde_json::from_str(json).unwrap(), Some(&mut unknown)).unwrap();
        assert_eq!(unknown, Unknown::default());
    }
}
