//! Reverse names: `4.3.2.1.in-addr.arpa` and the nibbles of `ip6.arpa` (RFC 1035 section 3.5, RFC 3596 section 2.5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::Name;

/// The address that a whole reverse name stands for; None for any other name.
///
/// Only the canonical form counts: no leading zeros, no signs, exactly four octets or 32 nibbles.
pub(crate) fn address_of(name: &Name) -> Option<IpAddr> {
    let mut labels = name.iter().rev();
    if !labels.next()?.eq_ignore_ascii_case(b"arpa") {
        return None;
    }
    let zone = labels.next()?;
    if zone.eq_ignore_ascii_case(b"in-addr") {
        let mut octets = [0_u8; 4];
        for octet in &mut octets {
            *octet = decimal(labels.next()?)?;
        }
        labels
            .next()
            .is_none()
            .then(|| IpAddr::V4(Ipv4Addr::from(octets)))
    } else if zone.eq_ignore_ascii_case(b"ip6") {
        let mut bits = 0_u128;
        for _ in 0..32 {
            bits = bits << 4 | u128::from(nibble(labels.next()?)?);
        }
        labels.next().is_none().then(|| IpAddr::V6(Ipv6Addr::from(bits)))
    } else {
        None
    }
}

fn decimal(label: &[u8]) -> Option<u8> {
    if label.is_empty() || label.len() > 3 || label.len() > 1 && label[0] == b'0' {
        return None;
    }
    let mut value = 0_u16;
    for digit in label {
        value = value * 10 + u16::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    u8::try_from(value).ok()
}

fn nibble(label: &[u8]) -> Option<u8> {
    match label {
        [digit @ b'0'..=b'9'] => Some(digit - b'0'),
        [digit @ b'a'..=b'f'] => Some(digit - b'a' + 10),
        [digit @ b'A'..=b'F'] => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str) -> Option<IpAddr> {
        let labels = name.split('.').filter(|label| !label.is_empty());
        address_of(&Name::from_labels(labels.map(str::as_bytes)).unwrap())
    }

    #[test]
    fn reverse_names_round_trip() {
        for text in ["10.96.0.1", "0.0.0.0", "255.255.255.255", "fd00::a:1", "::"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(address_of(&Name::from(address)), Some(address), "{text}");
        }
    }

    #[test]
    fn names_that_are_no_whole_reverse_name_are_none() {
        for name in [
            "arpa.",
            "in-addr.arpa.",
            "10.in-addr.arpa.",
            "1.2.3.4.5.in-addr.arpa.",
            "01.0.0.10.in-addr.arpa.",
            "+1.0.0.10.in-addr.arpa.",
            "256.0.0.10.in-addr.arpa.",
            "x.0.0.10.in-addr.arpa.",
            "1.ip6.arpa.",
            "example.com.",
            ".",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
