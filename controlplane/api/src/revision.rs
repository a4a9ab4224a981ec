//! [`Revision`]: the store's global revision as clients see it, `metadata.resourceVersion`.

use std::fmt;
use std::str::FromStr;

/// A revision of the store. Rises with every write; its wire form is a decimal string.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A `resourceVersion` that is not a decimal number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid resource version {0:?}")]
pub struct InvalidRevision(pub String);

impl FromStr for Revision {
    type Err = InvalidRevision;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(revision) if digits => Ok(Self(revision)),
            _ => Err(InvalidRevision(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_only_decimal_digits() {
        assert_eq!("42".parse(), Ok(Revision(42)));
        for bad in ["", "-1", "+1", "0x1", "1 ", "a"] {
            assert!(bad.parse::<Revision>().is_err(), "{bad:?}");
        }
    }
}
