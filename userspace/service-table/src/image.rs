//! A map as it shall be beside the map as it is, and the ids of its elements.

use std::collections::{BTreeSet, VecDeque};

/// An array map. All-zero (the default value) means absent, as in the kernel.
///
/// A removed element stays in the map for one round: [`ArrayImage::ripen`] lets it go with the next one.
#[derive(Debug, Default)]
pub(crate) struct ArrayImage<V> {
    desired: Vec<V>,
    installed: Vec<V>,
    changed: BTreeSet<u32>,
    ripe: BTreeSet<u32>,
}

impl<V: Copy + Default + PartialEq> ArrayImage<V> {
    /// The element as it shall be.
    pub(crate) fn get(&self, index: u32) -> V {
        self.desired.get(index as usize).copied().unwrap_or_default()
    }

    /// The element as the map has it.
    pub(crate) fn installed(&self, index: u32) -> V {
        self.installed.get(index as usize).copied().unwrap_or_default()
    }

    /// What the map should hold instead of what it was found to hold. None if that is right, or about to change.
    pub(crate) fn differing(&self, index: u32, found: V) -> Option<V> {
        let right = self.installed(index);
        (right != found && !self.changed.contains(&index)).then_some(right)
    }

    /// Every index that the map or the wish has in use, ascending.
    pub(crate) fn used(&self) -> impl Iterator<Item = u32> {
        let length = self.desired.len().max(self.installed.len());
        let indices = 0..u32::try_from(length).unwrap_or(u32::MAX);
        indices.filter(|index| self.get(*index) != V::default() || self.installed(*index) != V::default())
    }

    /// Sets what the element shall be; the default removes it.
    pub(crate) fn set(&mut self, index: u32, value: V) {
        let at = index as usize;
        if at >= self.desired.len() {
            self.desired.resize(at + 1, V::default());
        }
        if self.desired[at] != value {
            self.desired[at] = value;
            self.changed.insert(index);
        }
    }

    /// Replaces what the map is known to hold; all differences become changes.
    pub(crate) fn observe(&mut self, elements: impl Iterator<Item = (u32, V)>) {
        self.installed.clear();
        for (index, value) in elements {
            let at = index as usize;
            if at >= self.installed.len() {
                self.installed.resize(at + 1, V::default());
            }
            self.installed[at] = value;
        }
        self.ripe.clear();
        self.changed = self.used().collect();
    }

    /// Elements to write, ascending: index, what the map held, what it shall hold. They count as written.
    pub(crate) fn puts(&mut self) -> Vec<(u32, V, V)> {
        let mut puts = Vec::new();
        for index in &self.changed {
            let value = self.desired.get(*index as usize).copied().unwrap_or_default();
            if value == V::default() {
                continue;
            }
            let at = *index as usize;
            if at >= self.installed.len() {
                self.installed.resize(at + 1, V::default());
            }
            if self.installed[at] != value {
                puts.push((*index, std::mem::replace(&mut self.installed[at], value), value));
            }
        }
        puts
    }

    /// Ends a round. Gives the elements removed in the round before, ascending: whether the map still holds each
    /// (it counts as removed from then on); all of these indices are free.
    pub(crate) fn ripen(&mut self) -> Vec<(u32, bool)> {
        let changed = std::mem::take(&mut self.changed);
        let removed = changed
            .into_iter()
            .filter(|index| self.get(*index) == V::default())
            .collect();
        let ripe = std::mem::replace(&mut self.ripe, removed);
        let mut freed = Vec::new();
        for index in ripe {
            if self.get(index) != V::default() || self.ripe.contains(&index) {
                continue;
            }
            let held = self.installed(index) != V::default();
            if let Some(element) = self.installed.get_mut(index as usize) {
                *element = V::default();
            }
            freed.push((index, held));
        }
        freed
    }

    /// Whether removals wait for the next round.
    pub(crate) fn waits(&self) -> bool {
        !self.ripe.is_empty()
    }
}

/// Freed numbers that rest before any of them is reused, as long as there are fresh ones: the longer a number
/// rests, the surer nothing remembers it.
const MIN_RESTING: usize = 4096;

/// Numbers 1 to `limit - 1`, each given once until freed. The longest free is reused first.
#[derive(Debug)]
pub(crate) struct IdPool {
    next: u32,
    limit: u32,
    free: VecDeque<u32>,
}

impl IdPool {
    pub(crate) fn new(limit: u32) -> IdPool {
        IdPool {
            next: 1,
            limit,
            free: VecDeque::new(),
        }
    }

    /// A pool in which `used`, ascending, is taken.
    pub(crate) fn with_used(limit: u32, used: impl Iterator<Item = u32>) -> IdPool {
        let mut pool = IdPool::new(limit);
        for index in used.filter(|index| *index > 0) {
            pool.free.extend(pool.next..index);
            pool.next = index + 1;
        }
        pool
    }

    pub(crate) fn take(&mut self) -> Option<u32> {
        if self.next < self.limit && self.free.len() <= MIN_RESTING {
            self.next += 1;
            return Some(self.next - 1);
        }
        self.free.pop_front()
    }

    pub(crate) fn give_back(&mut self, id: u32) {
        self.free.push_back(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removed_elements_leave_one_round_later() {
        let mut image = ArrayImage::<u32>::default();
        image.set(3, 7);
        assert_eq!(image.puts(), [(3, 0, 7)]);
        assert_eq!(image.ripen(), []);
        image.set(3, 0);
        assert_eq!((image.puts(), image.ripen()), (vec![], vec![]));
        assert!(image.waits());
        assert_eq!((image.puts(), image.ripen()), (vec![], vec![(3, true)]));
        assert!(!image.waits());
    }

    #[test]
    fn an_element_that_comes_back_is_not_removed() {
        let mut image = ArrayImage::<u32>::default();
        image.set(3, 7);
        image.puts();
        image.ripen();
        image.set(3, 0);
        image.puts();
        image.ripen();
        image.set(3, 7);
        assert_eq!((image.puts(), image.ripen()), (vec![], vec![]));
        assert_eq!((image.puts(), image.ripen()), (vec![], vec![]));
        assert_eq!(image.installed(3), 7);
    }

    #[test]
    fn ids_are_given_once() {
        let mut pool = IdPool::with_used(6, [2, 4].into_iter());
        let taken: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(taken, [5, 1, 3]);
        pool.give_back(2);
        assert_eq!((pool.take(), pool.take()), (Some(2), None));
    }
}
