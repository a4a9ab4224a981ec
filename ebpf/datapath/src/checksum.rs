//! Internet checksums (RFC 1071) and their incremental update (RFC 1624).
//!
//! Words are taken as they lie in memory: one's complement sums come out right in either byte order.

/// One's complement addition of 32-bit words (end-around carry).
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the halves")]
pub const fn add(a: u32, b: u32) -> u32 {
    // Without a branch, each of which an eBPF verifier follows both ways. After a carry the lower half is at most
    // 2^32 - 2: this cannot overflow.
    let sum = a as u64 + b as u64;
    (sum as u32).wrapping_add((sum >> 32) as u32)
}

/// The difference that replacing `old` by `new` makes to a checksum's sum.
#[inline(always)]
pub const fn difference(old: u32, new: u32) -> u32 {
    add(!old, new)
}

/// As [`difference`] for several words.
#[inline(always)]
pub fn differences<const N: usize>(old: [u32; N], new: [u32; N]) -> u32 {
    let mut sum = 0;
    let mut index = 0;
    while index < N {
        sum = add(sum, difference(old[index], new[index]));
        index += 1;
    }
    sum
}

/// The sum of words.
#[inline(always)]
pub fn sum<const N: usize>(words: &[u32; N]) -> u32 {
    let mut sum = 0;
    let mut index = 0;
    while index < N {
        sum = add(sum, words[index]);
        index += 1;
    }
    sum
}

/// Folds a 32-bit sum to 16 bits.
#[inline(always)]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    #[expect(clippy::cast_possible_truncation, reason = "two folds leave 16 bits")]
    {
        sum as u16
    }
}

/// The checksum field after the covered data changed by `difference`. All values as they lie in memory.
#[inline(always)]
pub const fn update(field: u16, difference: u32) -> u16 {
    !fold(add(!field as u32 & 0xffff, difference))
}

/// As [`update`], minding UDP: zero means "no checksum" and stays, and a sum that comes out as zero is written
/// as 0xffff (RFC 768).
#[inline(always)]
pub const fn update_field(field: u16, difference: u32, udp: bool) -> u16 {
    if udp && field == 0 {
        return 0;
    }
    let new = update(field, difference);
    if udp && new == 0 { 0xffff } else { new }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame::checksum_of;

    proptest! {
        #[test]
        fn update_equals_computing_anew(
            mut data in proptest::collection::vec(any::<u8>(), 24..64),
            at in 0_usize..5,
            new in any::<[u8; 4]>(),
        ) {
            let before = checksum_of(&[&data]);
            let range = at * 4..at * 4 + 4;
            let old = u32::from_ne_bytes(data[range.clone()].try_into().unwrap());
            data[range].copy_from_slice(&new);
            let updated = update(before, difference(old, u32::from_ne_bytes(new)));
            // 0 and 0xffff are the same one's complement number.
            let normal = |sum: u16| if sum == 0xffff { 0 } else { sum };
            prop_assert_eq!(normal(updated), normal(checksum_of(&[&data])));
        }

        #[test]
        fn differences_compose(old in any::<[u32; 4]>(), new in any::<[u32; 4]>(), field in any::<u16>()) {
            let one_by_one = (0..4).fold(field, |field, i| update(field, difference(old[i], new[i])));
            let normal = |sum: u16| if sum == 0xffff { 0 } else { sum };
            prop_assert_eq!(normal(update(field, differences(old, new))), normal(one_by_one));
        }
    }
}
