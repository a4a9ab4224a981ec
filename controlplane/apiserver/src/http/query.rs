//! A request's query parameters.

use percent_encoding::percent_decode_str;
use skep_api::ApiError;

/// Decoded query parameters, in order; a name may occur more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(raw: &str) -> Self {
        let pairs = raw.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Self(pairs.collect())
    }

    /// The first value of `name`; an empty value is none.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next().filter(|value| !value.is_empty())
    }

    /// Every value of `name`, empty ones too.
    pub(crate) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Upstream's reading of booleans: absent, empty, `0` and `false` are no, anything else is yes.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| value != "0" && !value.eq_ignore_ascii_case("false"))
    }

    /// As [`Self::flag`], where absence means something of its own.
    pub(crate) fn optional_flag(&self, name: &str) -> Option<bool> {
        self.get(name).map(|_| self.flag(name))
    }

    /// # Errors
    /// 400 where the value is not a number.
    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let parse = |value: &str| {
            value.parse().map_err(|_not_a_number: std::num::ParseIntError| {
                ApiError::bad_request(format!("strconv.ParseInt: parsing {value:?}: invalid syntax"))
            })
        };
        self.get(name).map(parse).transpose()
    }
}

impl From<Vec<(String, String)>> for Query {
    fn from(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }
}

fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " "))
        .decode_utf8_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_booleans_read_as_upstream() {
        let query =
            Query::parse("labelSelector=a%3Db%2Cc&watch&follow=0&x=TRUE&fieldSelector=a+b&n=12&bad=1x");
        assert_eq!(query.get("labelSelector"), Some("a=b,c"));
        assert_eq!(query.get("fieldSelector"), Some("a b"));
        assert!(!query.flag("watch") && !query.flag("follow") && query.flag("x") && !query.flag("absent"));
        assert_eq!(query.integer("n").expect("number"), Some(12));
        assert_eq!(query.integer("bad").expect_err("no number").code, 400);
    }
}
