//! [`FieldSelector`]: `status.phase=Running,spec.nodeName!=`.

use std::fmt;

use super::SelectorError;

/// One `field=value` or `field!=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    pub field: String,
    pub value: String,
    /// Whether the value must be equal (or must differ).
    pub equal: bool,
}

/// All requirements must hold. The empty selector matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    pub requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    /// Parses the query's form; `\`, `,` and `=` in values are escaped by `\`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for term in split_unescaped(text, ',') {
            if term.is_empty() {
                continue;
            }
            requirements.push(parse_term(&term)?);
        }
        Ok(Self { requirements })
    }

    /// The selector for exactly one value of one field.
    pub fn equals(field: &str, value: &str) -> Self {
        Self {
            requirements: vec![FieldRequirement {
                field: field.to_owned(),
                value: value.to_owned(),
                equal: true,
            }],
        }
    }

    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The value that the field must be equal to, if there is one.
    pub fn value_of(&self, field: &str) -> Option<&str> {
        let mut equal = self.requirements.iter().filter(|requirement| requirement.equal);
        equal
            .find(|requirement| requirement.field == field)
            .map(|requirement| requirement.value.as_str())
    }

    /// Whether an object matches whose fields `get` looks up; an absent field is the empty string.
    pub fn matches<'a>(&self, get: impl Fn(&str) -> Option<std::borrow::Cow<'a, str>>) -> bool {
        self.requirements.iter().all(|requirement| {
            let actual = get(&requirement.field).unwrap_or_default();
            (actual == requirement.value.as_str()) == requirement.equal
        })
    }
}

/// Splits at `separator` where it is not escaped, keeping the escapes.
fn split_unescaped(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut escaped = false;
    for c in text.chars() {
        if c == separator && !escaped {
            parts.push(String::new());
            continue;
        }
        escaped = c == '\\' && !escaped;
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts
}

fn parse_term(term: &str) -> Result<FieldRequirement, SelectorError> {
    let bytes = term.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let (operator, equal) = match &bytes[at..] {
            [b'\\', _, ..] => {
                at += 2;
                continue;
            }
            [b'!', b'=', ..] => ("!=", false),
            [b'=', b'=', ..] => ("==", true),
            [b'=', ..] => ("=", true),
            _ => {
                at += 1;
                continue;
            }
        };
        let value = unescape(&term[at + operator.len()..])?;
        return Ok(FieldRequirement {
            field: term[..at].trim().to_owned(),
            value,
            equal,
        });
    }
    Err(SelectorError(format!(
        "invalid selector: '{term}'; can't understand '{term}'"
    )))
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => out.push(escaped),
                other => {
                    let sequence: String = std::iter::once('\\').chain(other).collect();
                    return Err(SelectorError(format!(
                        "invalid field selector: invalid escape sequence: {sequence}"
                    )));
                }
            },
            '=' => {
                return Err(SelectorError(format!(
                    "invalid field selector: unescaped character in value: {c}"
                )));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            let value = requirement
                .value
                .replace('\\', "\\\\")
                .replace(',', "\\,")
                .replace('=', "\\=");
            write!(
                f,
                "{}{}{value}",
                requirement.field,
                if requirement.equal { "=" } else { "!=" }
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn matches(selector: &str, fields: &[(&str, &'static str)]) -> bool {
        FieldSelector::parse(selector).unwrap().matches(|field| {
            fields
                .iter()
                .find(|(name, _)| *name == field)
                .map(|(_, value)| Cow::Borrowed(*value))
        })
    }

    #[test]
    fn equal_and_not_equal() {
        let fields = [("spec.nodeName", "n1"), ("status.phase", "Running")];
        assert!(matches("", &fields));
        assert!(matches("spec.nodeName=n1,status.phase==Running", &fields));
        let selector = FieldSelector::parse("status.phase!=Failed,spec.nodeName=n1").expect("valid");
        assert_eq!(selector.value_of("spec.nodeName"), Some("n1"));
        assert_eq!(selector.value_of("status.phase"), None);
        assert!(matches("spec.nodeName!=n2", &fields));
        assert!(!matches("spec.nodeName!=n1", &fields));
        assert!(matches("spec.absent=", &fields));
    }

    #[test]
    fn escapes_round_trip() {
        let selector = FieldSelector::equals("a", r"x,y=z\");
        assert_eq!(FieldSelector::parse(&selector.to_string()), Ok(selector));
        assert!(FieldSelector::parse("abc").is_err());
        assert!(FieldSelector::parse(r"a=b\c").is_err());
    }
}
