//! SERVICE_NAMES: what the sets of backends are called, and the numbers under which they are counted.

use std::collections::{BTreeMap, BTreeSet};

use skep_abi::{ServiceName, ServiceSerial};

use crate::op::MapOp;

/// The map as it shall be beside the map as it is. A removed entry stays for one round, as in
/// [`crate::image::ArrayImage`]. The entry with the highest number stays until there is a higher one: it is what a
/// restart knows the next number by, so that no number is ever given twice.
#[derive(Debug, Default)]
pub(crate) struct Names {
    desired: BTreeMap<ServiceSerial, ServiceName>,
    installed: BTreeMap<ServiceSerial, ServiceName>,
    changed: BTreeSet<ServiceSerial>,
    ripe: BTreeSet<ServiceSerial>,
    highest: u32,
}

impl Names {
    /// A number for a new set. They last for four billion sets.
    pub(crate) fn take(&mut self) -> ServiceSerial {
        loop {
            self.highest = self.highest.wrapping_add(1);
            let serial = ServiceSerial(self.highest);
            if self.highest > 0
                && !self.desired.contains_key(&serial)
                && !self.installed.contains_key(&serial)
            {
                return serial;
            }
        }
    }

    pub(crate) fn set(&mut self, serial: ServiceSerial, name: ServiceName) {
        if self.desired.insert(serial, name) != Some(name) {
            self.changed.insert(serial);
        }
    }

    pub(crate) fn remove(&mut self, serial: ServiceSerial) {
        if self.desired.remove(&serial).is_some() {
            self.changed.insert(serial);
        }
    }

    /// Whether the map has that name for the number.
    pub(crate) fn holds(&self, serial: ServiceSerial, name: &ServiceName) -> bool {
        self.installed.get(&serial) == Some(name)
    }

    /// Replaces what the map is known to hold.
    pub(crate) fn observe(&mut self, entries: &[(ServiceSerial, ServiceName)]) {
        self.installed = entries.iter().copied().collect();
        let highest = self.installed.last_key_value().map_or(0, |(serial, _)| serial.0);
        self.highest = self.highest.max(highest);
        self.ripe.clear();
        self.changed = self
            .installed
            .keys()
            .chain(self.desired.keys())
            .copied()
            .collect();
    }

    /// Entries to write, by number. They count as written.
    pub(crate) fn puts(&mut self) -> Vec<MapOp> {
        let mut puts = Vec::new();
        for serial in &self.changed {
            if let Some(name) = self.desired.get(serial)
                && self.installed.insert(*serial, *name) != Some(*name)
            {
                puts.push(MapOp::PutName(*serial, *name));
            }
        }
        puts
    }

    /// Ends a round: removals that are due, by number.
    pub(crate) fn deletes(&mut self) -> Vec<MapOp> {
        let removed = std::mem::take(&mut self.changed)
            .into_iter()
            .filter(|serial| !self.desired.contains_key(serial));
        let ripe = std::mem::replace(&mut self.ripe, removed.collect());
        let mut deletes = Vec::new();
        for serial in ripe
            .into_iter()
            .filter(|serial| !self.desired.contains_key(serial))
        {
            if self.is_highest(serial) {
                self.ripe.insert(serial);
            } else if self.installed.remove(&serial).is_some() {
                deletes.push(MapOp::DeleteName(serial));
            }
        }
        deletes
    }

    /// Whether removals wait for the next round.
    pub(crate) fn waits(&self) -> bool {
        self.ripe.iter().any(|serial| !self.is_highest(*serial))
    }

    fn is_highest(&self, serial: ServiceSerial) -> bool {
        self.installed
            .last_key_value()
            .is_some_and(|(last, _)| *last == serial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(names: &mut Names) -> Vec<MapOp> {
        let mut ops = names.puts();
        ops.extend(names.deletes());
        ops
    }

    #[test]
    fn numbers_are_never_given_twice_even_over_a_restart() {
        let name = ServiceName::default();
        let mut names = Names::default();
        let (one, two) = (names.take(), names.take());
        names.set(one, name);
        names.set(two, name);
        assert_eq!(
            round(&mut names),
            [MapOp::PutName(one, name), MapOp::PutName(two, name)]
        );
        names.remove(one);
        names.remove(two);
        assert_eq!(
            [round(&mut names), round(&mut names)],
            [vec![], vec![MapOp::DeleteName(one)]]
        );
        assert!(!names.waits());

        let mut restarted = Names::default();
        restarted.observe(&[(two, name)]);
        let three = restarted.take();
        assert!(three > two);
        restarted.set(three, name);
        assert_eq!(round(&mut restarted), [MapOp::PutName(three, name)]);
        assert!(restarted.waits());
        assert_eq!(round(&mut restarted), [MapOp::DeleteName(two)]);
    }

    #[test]
    fn what_the_map_has_right_is_not_written_again() {
        let name = ServiceName::default();
        let mut names = Names::default();
        names.observe(&[(ServiceSerial(7), name)]);
        names.set(ServiceSerial(7), name);
        assert_eq!(round(&mut names), []);
        assert_eq!(names.take(), ServiceSerial(8));
    }
}
