//! Which source ports a translated flow may try.

use skep_abi::PortBe;

use crate::select::scale;

/// Ports tried before a flow is refused.
pub const ATTEMPTS: u32 = 32;

/// The first tries take only ports that nobody has; the later ones also those of connections that have ended,
/// whose backend may still hold them in TIME_WAIT.
pub const PATIENT_ATTEMPTS: u32 = 16;

/// Default range for translated sources: below the node ports (30000) and the ports that programs on the node
/// get by default (32768), so that neither can be meant by a packet to a translated port.
pub const DEFAULT_RANGE: (u16, u16) = (10_240, 29_999);

/// The port to try at `attempt`: a walk through `first..=last` from a place given by `seed`, by a stride given
/// by `seed` as well, so that flows that meet once part ways.
#[inline(always)]
pub const fn candidate(seed: u32, attempt: u32, first: u16, last: u16) -> PortBe {
    let span = (last as u32).saturating_sub(first as u32) + 1;
    // Odd, and small enough that neither product nor sum overflows: 32 * 1023 + 65536.
    let stride = (seed & 0x3ff) | 1;
    let position = (scale(seed, span) + attempt * stride) % span;
    #[expect(clippy::cast_possible_truncation, reason = "first + position <= last")]
    PortBe::from_host((first as u32 + position) as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn candidates_stay_in_range(
            seed in any::<u32>(),
            attempt in 0..ATTEMPTS,
            first in any::<u16>(),
            width in any::<u16>(),
        ) {
            let last = first.saturating_add(width);
            let port = candidate(seed, attempt, first, last).to_host();
            prop_assert!((first..=last).contains(&port));
        }

        #[test]
        fn a_walk_does_not_repeat_itself(seed in any::<u32>()) {
            let (first, last) = DEFAULT_RANGE;
            let ports: std::collections::BTreeSet<_> =
                (0..ATTEMPTS).map(|attempt| candidate(seed, attempt, first, last)).collect();
            // The largest factor that an odd stride below 1024 shares with the span leaves 80 ports.
            prop_assert_eq!(ports.len(), ATTEMPTS as usize);
        }
    }
}
