//! A fixed set of small numbers.

use std::ops::Range;

#[derive(Debug)]
pub(super) struct Bitmap {
    words: Vec<u64>,
    len: usize,
}

impl Bitmap {
    pub(super) fn new(len: usize) -> Self {
        Self {
            words: vec![0; len.div_ceil(64)],
            len,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, index: usize) -> bool {
        self.words[index / 64] & (1 << (index % 64)) != 0
    }

    pub(super) fn set(&mut self, index: usize, value: bool) {
        let mask = 1 << (index % 64);
        match value {
            true => self.words[index / 64] |= mask,
            false => self.words[index / 64] &= !mask,
        }
    }

    pub(super) fn clear(&mut self) {
        self.words.fill(0);
    }

    /// The first number of the range that is not in the set.
    pub(super) fn first_unset(&self, range: Range<usize>) -> Option<usize> {
        let mut index = range.start;
        while index < range.end {
            let free = !self.words[index / 64] >> (index % 64);
            if free == 0 {
                index = (index / 64 + 1) * 64;
                continue;
            }
            index += free.trailing_zeros() as usize;
            return (index < range.end).then_some(index);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_as_a_set(sets in prop::collection::vec((0_usize..200, any::<bool>()), 0..300), from in 0_usize..200, to in 0_usize..200) {
            let (mut bitmap, mut model) = (Bitmap::new(200), BTreeSet::new());
            for (index, value) in sets {
                bitmap.set(index, value);
                if value { model.insert(index); } else { model.remove(&index); }
            }
            prop_assert_eq!(bitmap.first_unset(from..to), (from..to).find(|index| !model.contains(index)));
            prop_assert!((0..200).all(|index| bitmap.get(index) == model.contains(&index)));
        }
    }
}
