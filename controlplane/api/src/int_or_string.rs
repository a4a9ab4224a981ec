//! `IntOrString`: numbers, percentages and port names.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The percentage of a text such as `25%`.
pub fn percent(value: &IntOrString) -> Option<i32> {
    match value {
        IntOrString::Int(_) => None,
        IntOrString::String(text) => {
            let number = text.strip_suffix('%')?;
            number
                .bytes()
                .all(|c| c.is_ascii_digit())
                .then(|| number.parse().ok())?
        }
    }
}

/// The number itself, or the percentage of `total`, rounded up or down. `None` for any other text.
pub fn scaled(value: &IntOrString, total: i32, round_up: bool) -> Option<i32> {
    match value {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(_) => {
            let product = i64::from(percent(value)?) * i64::from(total);
            let rounded = if round_up {
                (product + 99).div_euclid(100)
            } else {
                product.div_euclid(100)
            };
            i32::try_from(rounded).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> IntOrString {
        IntOrString::String(text.to_owned())
    }

    #[test]
    fn percentages_round_as_told() {
        let cases = [
            (text("25%"), 10, true, Some(3)),
            (text("25%"), 10, false, Some(2)),
            (text("25%"), 1, true, Some(1)),
            (text("25%"), 1, false, Some(0)),
            (text("100%"), 7, false, Some(7)),
            (IntOrString::Int(4), 1, true, Some(4)),
            (text("http"), 10, true, None),
            (text("-5%"), 10, true, None),
        ];
        for (value, total, round_up, expected) in cases {
            assert_eq!(scaled(&value, total, round_up), expected, "{value:?}");
        }
    }
}
