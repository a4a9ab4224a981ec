//! Free space of the slot array: disjoint, merged extents; best fit.

use std::collections::{BTreeMap, BTreeSet};

/// A run of slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) offset: u32,
    pub(crate) capacity: u32,
}

/// The free extents of `0..size`.
#[derive(Debug)]
pub(crate) struct Extents {
    /// Offset to length.
    free: BTreeMap<u32, u32>,
    /// (length, offset).
    by_length: BTreeSet<(u32, u32)>,
}

impl Extents {
    pub(crate) fn new(size: u32) -> Extents {
        let mut extents = Extents {
            free: BTreeMap::new(),
            by_length: BTreeSet::new(),
        };
        extents.insert(0, size);
        extents
    }

    /// A run of `capacity` slots, from the smallest extent that has room.
    pub(crate) fn take(&mut self, capacity: u32) -> Option<Range> {
        if capacity == 0 {
            return Some(Range::default());
        }
        let &(length, offset) = self.by_length.range((capacity, 0)..).next()?;
        self.remove(offset, length);
        self.insert(offset + capacity, length - capacity);
        Some(Range { offset, capacity })
    }

    /// Takes exactly this run; false, and nothing is taken, unless all of it is free.
    pub(crate) fn take_exactly(&mut self, range: Range) -> bool {
        let Some((&offset, &length)) = self.free.range(..=range.offset).next_back() else {
            return false;
        };
        let (end, wanted_end) = (offset + length, range.offset.saturating_add(range.capacity));
        if wanted_end > end {
            return false;
        }
        self.remove(offset, length);
        self.insert(offset, range.offset - offset);
        self.insert(wanted_end, end - wanted_end);
        true
    }

    /// Gives a run back and merges it with its neighbours.
    pub(crate) fn give_back(&mut self, range: Range) {
        let (mut offset, mut length) = (range.offset, range.capacity);
        if let Some((&before, &its_length)) = self.free.range(..offset).next_back()
            && before + its_length == offset
        {
            self.remove(before, its_length);
            (offset, length) = (before, its_length + length);
        }
        if let Some(&its_length) = self.free.get(&(offset + length)) {
            self.remove(offset + length, its_length);
            length += its_length;
        }
        self.insert(offset, length);
    }

    fn insert(&mut self, offset: u32, length: u32) {
        if length > 0 {
            self.free.insert(offset, length);
            self.by_length.insert((length, offset));
        }
    }

    fn remove(&mut self, offset: u32, length: u32) {
        self.free.remove(&offset);
        self.by_length.remove(&(length, offset));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_disjoint_and_merge_when_given_back() {
        let mut extents = Extents::new(16);
        let (a, b, c) = (
            extents.take(4).unwrap(),
            extents.take(8).unwrap(),
            extents.take(4).unwrap(),
        );
        assert_eq!([a.offset, b.offset, c.offset], [0, 4, 12]);
        assert_eq!(extents.take(1), None);
        extents.give_back(a);
        extents.give_back(c);
        assert_eq!(extents.take(5), None);
        extents.give_back(b);
        assert_eq!(
            extents.take(16),
            Some(Range {
                offset: 0,
                capacity: 16
            })
        );
    }

    #[test]
    fn exact_runs_are_taken_whole_or_not_at_all() {
        let mut extents = Extents::new(16);
        assert!(extents.take_exactly(Range {
            offset: 4,
            capacity: 4
        }));
        assert!(!extents.take_exactly(Range {
            offset: 6,
            capacity: 4
        }));
        assert!(!extents.take_exactly(Range {
            offset: 14,
            capacity: 4
        }));
        assert!(extents.take_exactly(Range {
            offset: 8,
            capacity: 8
        }));
        assert_eq!(extents.take(5), None);
        assert_eq!(
            extents.take(4),
            Some(Range {
                offset: 0,
                capacity: 4
            })
        );
    }
}
