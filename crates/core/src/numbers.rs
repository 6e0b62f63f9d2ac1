//! Numbers that name senders to the packet rules: a packet's mark carries one.

use crate::faults::{Fault, has};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Numbers of one range and who has them. A number that was given back is the last to be given
/// again: a packet that was refused under it may still be on its way to the journal.
#[derive(Debug)]
pub struct Numbers<K> {
    range: RangeInclusive<u32>,
    next: u32,
    taken: BTreeMap<u32, K>,
}

impl<K: Copy> Numbers<K> {
    /// All of the range is free.
    pub fn new(range: RangeInclusive<u32>) -> Self {
        Numbers {
            next: *range.start(),
            range,
            taken: BTreeMap::new(),
        }
    }

    /// Gives a free number; `None` when all are taken.
    pub fn give(&mut self, holder: K) -> Option<u32> {
        let (first, last) = (*self.range.start(), *self.range.end());
        let room = (last - first) as usize + 1;
        if self.taken.len() >= room {
            return None;
        }
        loop {
            let number = self.next;
            self.next = if number == last { first } else { number + 1 };
            if has(Fault::NumberGivenTwice) {
                self.next = first;
                self.taken.insert(number, holder);
                return Some(number);
            }
            if let std::collections::btree_map::Entry::Vacant(free) = self.taken.entry(number) {
                free.insert(holder);
                return Some(number);
            }
        }
    }

    /// Takes a number back.
    pub fn take_back(&mut self, number: u32) {
        self.taken.remove(&number);
    }

    /// Who has a number.
    pub fn holder(&self, number: u32) -> Option<K> {
        self.taken.get(&number).copied()
    }

    /// All numbers that are taken.
    pub fn iter(&self) -> impl Iterator<Item = (u32, K)> {
        self.taken.iter().map(|(number, holder)| (*number, *holder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_number_given_back_is_the_last_to_be_given_again() {
        let mut numbers = Numbers::new(1..=3);
        assert_eq!(numbers.give('a'), Some(1));
        numbers.take_back(1);
        assert_eq!(numbers.give('b'), Some(2));
        assert_eq!(numbers.give('c'), Some(3));
        assert_eq!(numbers.give('d'), Some(1));
        assert_eq!(numbers.give('e'), None);
        assert_eq!(numbers.holder(1), Some('d'));
        assert_eq!(numbers.holder(4), None);
    }

    proptest! {
        #[test]
        fn no_two_hold_one_number(orders in prop::collection::vec(prop::option::of(10u32..20), 0..200)) {
            let mut numbers = Numbers::new(10..=19);
            let mut held = BTreeMap::new();
            for (holder, order) in orders.into_iter().enumerate() {
                match order {
                    Some(number) => {
                        numbers.take_back(number);
                        held.remove(&number);
                    }
                    None => match numbers.give(holder) {
                        Some(number) => prop_assert_eq!(held.insert(number, holder), None),
                        None => prop_assert_eq!(held.len(), 10),
                    },
                }
                prop_assert_eq!(numbers.iter().collect::<BTreeMap<_, _>>(), held.clone());
            }
        }
    }
}
