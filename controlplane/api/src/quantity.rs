//! [`Quantity`]: amounts of resources, with exact arithmetic and upstream's canonical text.
//!
//! Source: apimachinery's `resource.Quantity`: `<number><suffix>`, suffixes binary (`Ki`…`Ei`), decimal
//! (`n`, `u`, `m`, none, `k`…`E`) or exponent (`e3`).

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as WireQuantity;

const NANOS: i128 = 1_000_000_000;
/// Upstream's cap: 2^63 - 1.
const MAX_NANOS: i128 = i64::MAX as i128 * NANOS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Binary,
    Decimal,
    Exponent,
}

/// An amount in billionths, with the suffix family that it was written in. Compares by amount alone.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// A text that is no quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
pub struct InvalidQuantity;

impl Quantity {
    pub const ZERO: Self = Self {
        nanos: 0,
        format: Format::Decimal,
    };

    pub const fn from_units(units: i64) -> Self {
        Self {
            nanos: units as i128 * NANOS,
            format: Format::Decimal,
        }
    }

    pub const fn from_milli(milli: i64) -> Self {
        Self {
            nanos: milli as i128 * (NANOS / 1000),
            format: Format::Decimal,
        }
    }

    /// An amount that is written with binary suffixes, such as bytes of memory.
    pub const fn from_bytes(bytes: i64) -> Self {
        Self {
            nanos: bytes as i128 * NANOS,
            format: Format::Binary,
        }
    }

    /// The amount in whole units, rounded away from zero.
    pub fn value(self) -> i64 {
        self.scaled(NANOS)
    }

    /// The amount in thousandths, rounded away from zero.
    pub fn milli_value(self) -> i64 {
        self.scaled(NANOS / 1000)
    }

    fn scaled(self, unit: i128) -> i64 {
        let units = round_away(self.nanos, unit);
        i64::try_from(units).unwrap_or(if units < 0 { i64::MIN } else { i64::MAX })
    }

    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Whether the amount is a whole number of units.
    pub fn is_whole(self) -> bool {
        self.nanos % NANOS == 0
    }

    pub fn to_wire(self) -> WireQuantity {
        WireQuantity(self.to_string())
    }
}

fn round_away(nanos: i128, unit: i128) -> i128 {
    let whole = nanos / unit;
    whole + (nanos % unit).signum()
}

impl TryFrom<&WireQuantity> for Quantity {
    type Error = InvalidQuantity;

    fn try_from(wire: &WireQuantity) -> Result<Self, InvalidQuantity> {
        wire.0.parse()
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Default for Quantity {
    fn default() -> Self {
        Self::ZERO
    }
}

/// The sum keeps the left side's suffix family, or the right one's where the left is zero.
impl Add for Quantity {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self {
            nanos: clamp(self.nanos.saturating_add(other.nanos)),
            format,
        }
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Neg for Quantity {
    type Output = Self;

    fn neg(self) -> Self {
        Self {
            nanos: -self.nanos,
            ..self
        }
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

fn clamp(nanos: i128) -> i128 {
    nanos.clamp(-MAX_NANOS, MAX_NANOS)
}

const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// Powers of a thousand from 10^-9.
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

impl FromStr for Quantity {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = unsigned
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(InvalidQuantity);
        }
        let (format, base, exponent) = parse_suffix(suffix)?;
        let nanos = clamp(scale(whole, fraction, base, exponent));
        Ok(Self {
            nanos: if negative { -nanos } else { nanos },
            format,
        })
    }
}

/// Suffix family, base (2 or 10) and exponent.
fn parse_suffix(suffix: &str) -> Result<(Format, u32, i32), InvalidQuantity> {
    let small = |index: usize| i32::try_from(index).ok().ok_or(InvalidQuantity);
    if let Some(index) = DECIMAL.iter().position(|known| *known == suffix) {
        return Ok((Format::Decimal, 10, small(index)? * 3 - 9));
    }
    if let Some(index) = BINARY.iter().position(|known| *known == suffix) {
        return Ok((Format::Binary, 2, small(index)? * 10));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(InvalidQuantity)?;
    let exponent: i32 = exponent.parse().ok().ok_or(InvalidQuantity)?;
    Ok((Format::Exponent, 10, exponent))
}

/// `whole.fraction × base^exponent` in billionths, rounded up, saturating.
fn scale(whole: &str, fraction: &str, base: u32, exponent: i32) -> i128 {
    let digits = format!("{whole}{fraction}");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return 0;
    }
    let Ok(fraction_digits) = i32::try_from(fraction.len()) else {
        return 0;
    };
    let ten_power = 9 - fraction_digits + if base == 10 { exponent.clamp(-100, 100) } else { 0 };
    let two_power = if base == 2 { exponent } else { 0 };
    // 38 digits are the most that surely fit; more means either far past the cap or a long fraction.
    let (kept, dropped) = digits.split_at(digits.len().min(30));
    let Ok(mantissa) = kept.parse::<i128>() else {
        return MAX_NANOS;
    };
    let inexact = dropped.bytes().any(|digit| digit != b'0');
    let power = ten_power.saturating_add(i32::try_from(dropped.len()).unwrap_or(i32::MAX));
    let Some(mantissa) = mantissa.checked_mul(1_i128 << two_power) else {
        return MAX_NANOS;
    };
    let step = 10_i128.checked_pow(power.unsigned_abs());
    match (power >= 0, step) {
        (true, Some(step)) => mantissa
            .checked_mul(step)
            .unwrap_or(MAX_NANOS)
            .saturating_add(i128::from(inexact)),
        (true, None) => MAX_NANOS,
        (false, Some(step)) => round_away(mantissa, step) + i128::from(inexact && mantissa % step == 0),
        (false, None) => 1,
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let units = self.nanos / NANOS;
        if self.format == Format::Binary && self.is_whole() && units.abs() >= 1024 {
            let (mut mantissa, mut power) = (units, 0);
            while mantissa % 1024 == 0 && power + 1 < BINARY.len() {
                mantissa /= 1024;
                power += 1;
            }
            return write!(f, "{mantissa}{}", BINARY[power]);
        }
        let (mut mantissa, mut power) = (self.nanos, 0);
        while mantissa % 1000 == 0 && power + 1 < DECIMAL.len() {
            mantissa /= 1000;
            power += 1;
        }
        if self.format == Format::Exponent {
            return match power {
                3 => write!(f, "{mantissa}"),
                // At most ten powers: no overflow.
                _ => write!(f, "{mantissa}e{}", power as i64 * 3 - 9),
            };
        }
        write!(f, "{mantissa}{}", DECIMAL[power])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Quantity {
        text.parse().unwrap()
    }

    #[test]
    fn canonical_text() {
        let cases = [
            ("0", "0"),
            ("0Ki", "0"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1500m", "1500m"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1023", "1023"),
            ("1Ki", "1Ki"),
            ("1000Ki", "1000Ki"),
            ("100k", "100k"),
            ("1000k", "1M"),
            ("0.1m", "100u"),
            ("1e3", "1e3"),
            ("12e6", "12e6"),
            ("1E", "1E"),
            ("-5", "-5"),
            ("+5", "5"),
            (".5", "500m"),
            ("5.", "5"),
            ("0.5Ki", "512"),
            ("0.0000000001", "1n"),
            ("1000", "1k"),
            ("110", "110"),
            ("1234567", "1234567"),
        ];
        for (text, canonical) in cases {
            assert_eq!(parse(text).to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn refused() {
        for bad in ["", "-", "a", "1x", "1KB", "1.2.3", "1e", ".", "1 ", " 1", "1mi"] {
            assert!(bad.parse::<Quantity>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn values_round_up() {
        assert_eq!(parse("1100m").value(), 2);
        assert_eq!(parse("1100u").milli_value(), 2);
        assert_eq!(parse("2Gi").value(), 2 << 30);
        assert_eq!(parse("100E").value(), i64::MAX);
        assert_eq!(parse("250m").milli_value(), 250);
    }

    #[test]
    fn sums_keep_the_suffix_family() {
        assert_eq!((parse("1Gi") + parse("1Gi")).to_string(), "2Gi");
        assert_eq!((parse("100m") + parse("900m")).to_string(), "1");
        assert_eq!((parse("1Gi") - parse("1Gi")).to_string(), "0");
        assert!(parse("1Gi") > parse("1G"));
        assert_eq!(parse("1"), parse("1000m"));
    }

    proptest! {
        #[test]
        fn text_round_trips(milli in -1_000_000_000_000_i64..1_000_000_000_000) {
            let quantity = Quantity::from_milli(milli);
            prop_assert_eq!(parse(&quantity.to_string()), quantity);
        }

        #[test]
        fn never_panics(text in "[-+0-9.eEKMGTPinumk]{0,60}") {
            drop(text.parse::<Quantity>().map(|quantity| quantity.to_string()));
        }
    }
}
