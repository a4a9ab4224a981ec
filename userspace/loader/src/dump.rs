//! What a map holds, in words. The types of the layout describe themselves: a new map is shown without a line here.

use std::fmt;
use std::path::Path;

use skep_abi::{Counter, MapSpec, Plain, Scribe, maps};

use crate::LoadError;
use crate::pins::PinnedMaps;

/// A key or value, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// A number.
    Number(u64),
    /// Something with a notation of its own, such as an address.
    Text(String),
    /// Names of the bits that are set.
    Set(Vec<String>),
    /// Parts with names, in their order.
    Struct(Vec<(&'static str, Shown)>),
    /// Parts without names.
    List(Vec<Shown>),
}

/// One entry of a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: Shown,
    /// Its value; of a map with a value for each CPU, the sum.
    pub value: Shown,
}

/// Everything that a map holds, by key; of arrays, the elements that are not all zero.
///
/// # Errors
/// [`LoadError::NoSuchMap`], and as for [`crate::Dataplane::inspect`].
pub fn dump(pin_dir: &Path, name: &str) -> Result<Vec<Entry>, LoadError> {
    let spec = maps::ALL
        .into_iter()
        .find(|spec| spec.name.eq_ignore_ascii_case(name));
    let spec = spec.ok_or_else(|| LoadError::NoSuchMap {
        name: name.to_owned(),
        known: maps::ALL.iter().map(|spec| spec.name).collect(),
    })?;
    let map = PinnedMaps::open(pin_dir)?.handle(spec)?;
    let mut raw = Vec::new();
    map.visit(|key, value| {
        if !spec.kind.is_array() || value.iter().any(|byte| *byte != 0) {
            raw.push((key.to_vec(), value.to_vec()));
        }
    })?;
    let mut entries: Vec<Entry> = raw
        .iter()
        .map(|(key, value)| Entry::of(spec, key, value))
        .collect();
    entries.sort_by(|a, b| a.key.order(&b.key));
    Ok(entries)
}

impl Entry {
    fn of(spec: &MapSpec, key: &[u8], value: &[u8]) -> Self {
        let mut shown = Self {
            key: Shown::describe(spec.describe_key, key),
            value: Shown::describe(spec.describe_value, value),
        };
        let number = u32::from_bytes(key).filter(|_| spec.name == maps::COUNTERS.name);
        if let Some(counter) = Counter::ALL
            .iter()
            .find(|counter| Some(**counter as u32) == number)
        {
            shown.key = Shown::Text(counter.name().to_owned());
        }
        shown
    }
}

impl Shown {
    fn describe(describe: maps::Describe, bytes: &[u8]) -> Self {
        let mut collector = Collector(None);
        describe(bytes, &mut collector);
        collector.0.unwrap_or(Self::List(Vec::new()))
    }

    /// The order of numbers among numbers; else that of texts.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        match (self, other) {
            (Self::Number(mine), Self::Number(theirs)) => mine.cmp(theirs),
            _ => self.to_string().cmp(&other.to_string()),
        }
    }

    fn is_zero(&self) -> bool {
        match self {
            Self::Number(number) => *number == 0,
            Self::Text(text) => text.is_empty(),
            Self::Set(names) => names.is_empty(),
            Self::Struct(parts) => parts.iter().all(|(_, part)| part.is_zero()),
            Self::List(parts) => parts.iter().all(Self::is_zero),
        }
    }
}

impl fmt::Display for Shown {
    /// On one line; parts that are zero or empty are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
            Self::Set(names) => f.write_str(&names.join("|")),
            Self::Struct(parts) => {
                if self.is_zero() {
                    return f.write_str("all zero");
                }
                let parts = parts.iter().filter(|(_, part)| !part.is_zero());
                let parts: Vec<_> = parts.map(|(name, part)| format!("{name}={part}")).collect();
                f.write_str(&parts.join(" "))
            }
            Self::List(parts) => {
                let parts: Vec<_> = parts.iter().map(Self::to_string).collect();
                write!(f, "[{}]", parts.join(" "))
            }
        }
    }
}

/// Builds a [`Shown`] from what a value says.
struct Collector(Option<Shown>);

impl Collector {
    fn part(describe: &dyn Fn(&mut dyn Scribe)) -> Shown {
        let mut part = Self(None);
        describe(&mut part);
        part.0.unwrap_or(Shown::List(Vec::new()))
    }
}

impl Scribe for Collector {
    fn number(&mut self, number: u64) {
        self.0 = Some(Shown::Number(number));
    }

    fn text(&mut self, text: &dyn fmt::Display) {
        self.0 = Some(Shown::Text(text.to_string()));
    }

    fn set(&mut self, names: &mut dyn Iterator<Item = &'static str>, rest: u64) {
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        if rest != 0 {
            names.push(format!("{rest:#x}"));
        }
        self.0 = Some(Shown::Set(names));
    }

    fn field(&mut self, name: &'static str, describe: &dyn Fn(&mut dyn Scribe)) {
        let part = Self::part(describe);
        match &mut self.0 {
            Some(Shown::Struct(parts)) => parts.push((name, part)),
            other => *other = Some(Shown::Struct(vec![(name, part)])),
        }
    }

    fn element(&mut self, describe: &dyn Fn(&mut dyn Scribe)) {
        let part = Self::part(describe);
        match &mut self.0 {
            Some(Shown::List(parts)) => parts.push(part),
            other => *other = Some(Shown::List(vec![part])),
        }
    }
}

#[cfg(test)]
mod tests {
    use skep_abi::{Address, FrontendFlags, FrontendKey, FrontendValue, PortBe, Protocol, ServiceId};

    use super::*;

    #[test]
    fn entries_read_as_what_they_mean() {
        let key = FrontendKey {
            address: Address::from(std::net::Ipv4Addr::new(10, 96, 0, 1)),
            port: PortBe::from_host(443),
            protocol: Protocol::TCP,
            ..FrontendKey::default()
        };
        let value = FrontendValue {
            service: ServiceId(7),
            flags: FrontendFlags(FrontendFlags::NODE_PORT.0 | FrontendFlags::SPLIT.0 | 1 << 30),
        };
        let entry = Entry::of(&maps::FRONTENDS, key.as_bytes(), value.as_bytes());
        assert_eq!(entry.key.to_string(), "address=10.96.0.1 port=443 protocol=TCP");
        assert_eq!(
            entry.value.to_string(),
            "service=7 flags=NODE_PORT|SPLIT|0x40000000"
        );
        let zeroes = Entry::of(
            &maps::FRONTENDS,
            key.as_bytes(),
            FrontendValue::default().as_bytes(),
        );
        assert_eq!(zeroes.value.to_string(), "all zero");
        let counter = Entry::of(&maps::COUNTERS, 1_u32.as_bytes(), 5_u64.as_bytes());
        assert_eq!(
            (counter.key.to_string(), counter.value.to_string()),
            ("socket_send".to_owned(), "5".to_owned())
        );
    }

    #[test]
    fn every_map_has_words_for_its_zeroes() {
        for spec in maps::ALL {
            let zeroes = |size: u32| vec![0; size as usize];
            let entry = Entry::of(spec, &zeroes(spec.key_size), &zeroes(spec.value_size));
            assert!(entry.value != Shown::List(Vec::new()), "{}: {entry:?}", spec.name);
        }
    }
}
