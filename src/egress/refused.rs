//! How many packets were refused, exactly: the kernel's log tells of some, its counters of all.
//!
//! Each refusal adds to a counter under the packet's mark, in the tables of both families. Counters
//! begin anew when a table is loaded and an hour after their last packet, so what is new is added up
//! here: before each load, and whenever it is asked for.

use std::collections::BTreeMap;

use super::{
    Error, phrases, readback,
    sets::REFUSED,
    socket::Netlink,
    table::TABLE,
    uapi::{NFPROTO_BRIDGE, NFPROTO_INET},
};

/// Packets of one server that were refused or, when observing, would have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The number of the server, or of the user outside; `None` for units and containers that are
    /// not admitted.
    pub number: Option<u32>,
    /// How many, since this was asked last.
    pub packets: u64,
}

/// A table's family and a packet's mark.
type Key = (u8, u32);

/// What was counted, and not yet asked for.
#[derive(Clone, Debug, Default)]
pub struct RefusedCounts {
    /// The counters at the last reading.
    last: BTreeMap<Key, u64>,
    new: BTreeMap<u32, u64>,
}

impl RefusedCounts {
    /// Reads the counters of the table of family `inet` and, where there is one, `bridge`.
    ///
    /// # Errors
    /// They could not be read; what is known stays.
    pub fn read(&mut self, netlink: &mut Netlink, bridges: bool) -> Result<(), Error> {
        let mut counted = Vec::new();
        for family in [NFPROTO_INET, NFPROTO_BRIDGE] {
            if family == NFPROTO_BRIDGE && !bridges {
                continue;
            }
            let counts = readback::counts(netlink, family, TABLE, REFUSED)?;
            counted.extend(counts.into_iter().filter_map(|(key, packets, _)| {
                let mark = u32::from_ne_bytes(key.try_into().ok()?);
                Some(((family, mark), packets))
            }));
        }
        self.book(counted);
        Ok(())
    }

    fn book(&mut self, counted: Vec<(Key, u64)>) {
        let mut last = BTreeMap::new();
        for (key, packets) in counted {
            let before = self.last.get(&key).copied().unwrap_or(0);
            let new = packets.checked_sub(before).unwrap_or(packets);
            if new > 0 {
                let sum = self.new.entry(key.1 & !phrases::MARK_MASK).or_default();
                *sum = sum.saturating_add(new);
            }
            last.insert(key, packets);
        }
        self.last = last;
    }

    /// A table was loaded: its counters begin with nothing.
    pub fn begin_anew(&mut self) {
        self.last.clear();
    }

    /// What is new since this was called last.
    pub fn take(&mut self) -> Vec<Refused> {
        let new = std::mem::take(&mut self.new);
        let refused = |(number, packets)| Refused {
            number: (number != 0).then_some(number),
            packets,
        };
        new.into_iter().map(refused).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Key = (NFPROTO_INET, 0x4800_0001);
    const ALICE_BRIDGED: Key = (NFPROTO_BRIDGE, 0x4800_0001);
    const NOBODY: Key = (NFPROTO_INET, 0x4800_0000);

    fn refused(number: Option<u32>, packets: u64) -> Refused {
        Refused { number, packets }
    }

    #[test]
    fn a_servers_refusals_of_both_tables_are_one_sum() {
        let mut counts = RefusedCounts::default();
        counts.book(vec![(ALICE, 5), (ALICE_BRIDGED, 2), (NOBODY, 3)]);
        assert_eq!(counts.take(), [refused(None, 3), refused(Some(1), 7)]);
        assert_eq!(counts.take(), []);
    }

    #[test]
    fn none_is_lost_or_counted_twice_when_counters_begin_anew() {
        let mut counts = RefusedCounts::default();
        counts.book(vec![(ALICE, 5)]);
        counts.book(vec![(ALICE, 8)]);
        // A load with a reading before it, and more refused after it than before.
        counts.begin_anew();
        counts.book(vec![(ALICE, 9)]);
        assert_eq!(counts.take(), [refused(Some(1), 17)]);
        // An hour without any: the element is gone, and comes back.
        counts.book(vec![]);
        counts.book(vec![(ALICE, 10)]);
        assert_eq!(counts.take(), [refused(Some(1), 10)]);
        // Somebody else flushed the set between two readings.
        counts.book(vec![(ALICE, 4)]);
        assert_eq!(counts.take(), [refused(Some(1), 4)]);
    }
}
