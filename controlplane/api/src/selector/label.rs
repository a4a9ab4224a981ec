//! [`LabelSelector`]: `app=web,tier in (a,b),!canary`, and the object form of meta/v1.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1;

use super::SelectorError;
use crate::validation::names;

/// How a requirement compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelRequirement {
    pub key: String,
    pub operator: Operator,
    pub values: Vec<String>,
}

impl LabelRequirement {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let actual = labels.get(&self.key);
        let compare = |holds: fn(i64, i64) -> bool| {
            let bound = self.values.first().and_then(|value| value.parse().ok());
            let number = actual.and_then(|value| value.parse().ok());
            number
                .zip(bound)
                .is_some_and(|(number, bound)| holds(number, bound))
        };
        match self.operator {
            Operator::In => actual.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => actual.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => actual.is_some(),
            Operator::DoesNotExist => actual.is_none(),
            Operator::GreaterThan => compare(|number, bound| number > bound),
            Operator::LessThan => compare(|number, bound| number < bound),
        }
    }
}

/// All requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    pub requirements: Vec<LabelRequirement>,
    nothing: bool,
}

impl LabelSelector {
    /// The empty selector: matches every object.
    pub fn everything() -> Self {
        Self::default()
    }

    /// What an absent meta/v1 selector means: matches no object.
    pub fn nothing() -> Self {
        Self {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    /// Exact values for all of `labels`, as in `Service.spec.selector`.
    pub fn from_map(labels: &BTreeMap<String, String>) -> Self {
        let requirement = |(key, value): (&String, &String)| LabelRequirement {
            key: key.clone(),
            operator: Operator::In,
            values: vec![value.clone()],
        };
        Self {
            requirements: labels.iter().map(requirement).collect(),
            nothing: false,
        }
    }

    /// The meaning of a meta/v1 selector: absent matches nothing, empty matches everything.
    pub fn from_meta(selector: Option<&v1::LabelSelector>) -> Result<Self, SelectorError> {
        let Some(selector) = selector else {
            return Ok(Self::nothing());
        };
        let mut out = Self::from_map(selector.match_labels.as_ref().unwrap_or(&BTreeMap::new()));
        for expression in selector.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(SelectorError(format!(
                        "{other:?} is not a valid label selector operator"
                    )));
                }
            };
            let values = expression.values.clone().unwrap_or_default();
            out.requirements.push(LabelRequirement {
                key: expression.key.clone(),
                operator,
                values,
            });
        }
        Ok(out)
    }

    /// Parses the query's form.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        Parser { rest: text }.selector().map_err(|error| match error {
            SelectorError(why) => SelectorError(format!("unable to parse requirement: {why}")),
        })
    }

    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty() && !self.nothing
    }

    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.nothing
            && self
                .requirements
                .iter()
                .all(|requirement| requirement.matches(labels))
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (
            index,
            LabelRequirement {
                key,
                operator,
                values,
            },
        ) in self.requirements.iter().enumerate()
        {
            if index > 0 {
                f.write_str(",")?;
            }
            match (operator, values.as_slice()) {
                (Operator::Exists, _) => write!(f, "{key}"),
                (Operator::DoesNotExist, _) => write!(f, "!{key}"),
                (Operator::In, [value]) => write!(f, "{key}={value}"),
                (Operator::NotIn, [value]) => write!(f, "{key}!={value}"),
                (Operator::GreaterThan, values) => write!(f, "{key}>{}", values.join(",")),
                (Operator::LessThan, values) => write!(f, "{key}<{}", values.join(",")),
                (Operator::In, values) => write!(f, "{key} in ({})", values.join(",")),
                (Operator::NotIn, values) => write!(f, "{key} notin ({})", values.join(",")),
            }?;
        }
        Ok(())
    }
}

struct Parser<'a> {
    rest: &'a str,
}

const SPECIAL: &[char] = &['!', '=', '<', '>', '(', ')', ','];

impl<'a> Parser<'a> {
    fn selector(mut self) -> Result<LabelSelector, SelectorError> {
        let mut requirements = Vec::new();
        self.skip_space();
        while !self.rest.is_empty() {
            let requirement = self.requirement()?;
            check(&requirement)?;
            requirements.push(requirement);
            if !self.rest.is_empty() && !self.eat(",") {
                return Err(self.unexpected("',' or 'end of string'"));
            }
            if self.rest.is_empty() {
                break;
            }
        }
        Ok(LabelSelector {
            requirements,
            nothing: false,
        })
    }

    fn requirement(&mut self) -> Result<LabelRequirement, SelectorError> {
        if self.eat("!") {
            let key = self.word().ok_or_else(|| self.unexpected("identifier"))?;
            return Ok(LabelRequirement {
                key: key.to_owned(),
                operator: Operator::DoesNotExist,
                values: Vec::new(),
            });
        }
        let key = self
            .word()
            .ok_or_else(|| self.unexpected("'!', identifier"))?
            .to_owned();
        let single = [
            ("!=", Operator::NotIn),
            ("==", Operator::In),
            ("=", Operator::In),
            (">", Operator::GreaterThan),
            ("<", Operator::LessThan),
        ];
        for (token, operator) in single {
            if self.eat(token) {
                let value = self.word().unwrap_or("").to_owned();
                return Ok(LabelRequirement {
                    key,
                    operator,
                    values: vec![value],
                });
            }
        }
        if self.rest.is_empty() || self.rest.starts_with(',') {
            return Ok(LabelRequirement {
                key,
                operator: Operator::Exists,
                values: Vec::new(),
            });
        }
        let operator = match self.word() {
            Some("in") => Operator::In,
            Some("notin") => Operator::NotIn,
            _ => return Err(self.unexpected("one of 'in', 'notin', '=', '==', '!=', '>', '<'")),
        };
        Ok(LabelRequirement {
            key,
            operator,
            values: self.set()?,
        })
    }

    fn set(&mut self) -> Result<Vec<String>, SelectorError> {
        if !self.eat("(") {
            return Err(self.unexpected("'('"));
        }
        let mut values = Vec::new();
        loop {
            values.push(self.word().unwrap_or("").to_owned());
            if self.eat(")") {
                values.sort();
                values.dedup();
                return Ok(values);
            }
            if !self.eat(",") {
                return Err(self.unexpected("',' or ')'"));
            }
        }
    }

    fn word(&mut self) -> Option<&'a str> {
        let end = self
            .rest
            .find(|c: char| c.is_whitespace() || SPECIAL.contains(&c))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        self.skip_space();
        (!word.is_empty()).then_some(word)
    }

    fn eat(&mut self, token: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(token) else {
            return false;
        };
        self.rest = rest;
        self.skip_space();
        true
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn unexpected(&self, expected: &str) -> SelectorError {
        SelectorError(format!("found '{}', expected: {expected}", self.rest))
    }
}

fn check(requirement: &LabelRequirement) -> Result<(), SelectorError> {
    let wrong = |field: &str, value: &str, why: String| {
        Err(SelectorError(format!("{field}: Invalid value: {value:?}: {why}")))
    };
    if let Some(why) = names::qualified_name(&requirement.key).into_iter().next() {
        return wrong("key", &requirement.key, why);
    }
    for (index, value) in requirement.values.iter().enumerate() {
        if let Some(why) = names::label_value(value).into_iter().next() {
            return wrong(&format!("values[{index}][{}]", requirement.key), value, why);
        }
        let numeric = matches!(requirement.operator, Operator::GreaterThan | Operator::LessThan);
        if numeric && value.parse::<i64>().is_err() {
            let why = "for 'Gt', 'Lt' operators, the value must be an integer".to_owned();
            return wrong(&format!("values[{index}]"), value, why);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn matching_table() {
        let object = labels(&[("app", "web"), ("tier", "a"), ("n", "5")]);
        let cases = [
            ("", true),
            ("app=web", true),
            ("app==web,tier=a", true),
            ("app!=web", false),
            ("absent!=web", true),
            ("app", true),
            ("!app", false),
            ("!absent", true),
            ("tier in (a, b)", true),
            ("tier notin (a,b)", false),
            ("absent notin (a)", true),
            ("absent in (a)", false),
            ("n>4,n<6", true),
            ("n>5", false),
            ("app=", false),
            ("in in (a)", false),
            (" app = web , tier = a ", true),
        ];
        for (selector, matches) in cases {
            assert_eq!(
                LabelSelector::parse(selector).unwrap().matches(&object),
                matches,
                "{selector}"
            );
        }
    }

    #[test]
    fn refused() {
        for bad in [
            "a b", "a in b", "a in (b", "=x", "a=b=c", "-a=b", "a=b c", "a>b", "a=-",
        ] {
            assert!(LabelSelector::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn text_round_trips() {
        for text in ["app=web,tier!=b", "a in (x,y),!b,c", "a notin (x,y)", "n>4,m<3"] {
            assert_eq!(LabelSelector::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn absent_meta_selector_matches_nothing_and_empty_everything() {
        assert!(!LabelSelector::from_meta(None).unwrap().matches(&labels(&[])));
        assert!(
            LabelSelector::from_meta(Some(&v1::LabelSelector::default()))
                .unwrap()
                .matches(&labels(&[]))
        );
    }
}
