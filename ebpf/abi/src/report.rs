//! Limits of what the programs send of their own accord.

use crate::plain::plain_struct;

/// The only element of REPORTS (array of 1): ICMP errors sent.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBudget {
    /// The second that `sent` counts, of the monotonic clock.
    pub second_s: u32,
    /// Errors sent in that second.
    pub sent: u32,
}

plain_struct!(ReportBudget, size = 8, { second_s: u32 = 0, sent: u32 = 4 });
