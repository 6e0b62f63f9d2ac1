//! How many packets were refused, exactly: the kernel's log tells of some, its counters of all.
//!
//! Each refusal adds to a counter under the packet's mark, in the tables of both families; what only
//! abuse is refused for, to another one besides. Counters begin anew when a table is loaded and an hour
//! after their last packet, so what is new is added up here: before each load, and whenever it is
//! asked for.

use std::collections::BTreeMap;

use super::{
    Abuse, Error, Netlink, abuse, attempts, bridges,
    installed::Installed,
    phrases, readback,
    senders::Known,
    sets::REFUSED,
    table::TABLE,
    uapi::{NFPROTO_BRIDGE, NFPROTO_INET},
};

/// Packets of one sender that were refused or, when observing, would have been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// The number of the server, or of the user outside; `None` for units and containers that are
    /// not admitted.
    pub number: Option<u32>,
    /// How many, since this was asked last.
    pub packets: u64,
    /// Of these, how many began connections faster than anybody may.
    pub connections: u64,
    /// Of these, how many that are no TCP were sent faster than anybody may.
    pub flooding: u64,
    /// Of these, how many were questions for names, asked faster than they are remembered.
    pub questions: u64,
    /// Of these, how many would have filled more of the kernel's table of connections than anybody may.
    pub entries: u64,
    /// Of these, how many claimed an address that is not the sender's.
    pub spoofed: u64,
    /// Connections that were begun and not noted, for whether they are answered, since the sender began
    /// too many. These are not refused for it.
    pub not_noted: u64,
}

/// What a set of counters counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Any,
    Abuse(Abuse),
    Spoofed,
    NotNoted,
}

/// A table's family, what is counted, and a packet's mark or its sender's number.
type Key = (u8, Kind, u32);

/// What was counted, and not yet asked for.
#[derive(Clone, Debug, Default)]
pub struct RefusedCounts {
    /// The counters at the last reading.
    last: BTreeMap<Key, u64>,
    new: BTreeMap<u32, Refused>,
}

impl RefusedCounts {
    /// Reads the counters of the tables that were installed.
    ///
    /// # Errors
    /// They could not be read; what is known stays.
    pub fn read(&mut self, netlink: &mut Netlink, installed: &Installed) -> Result<(), Error> {
        let bridges = !installed.bridges().is_empty();
        let mut sets = vec![(NFPROTO_INET, Kind::Any, REFUSED)];
        let limited = abuse::counted(installed.policy());
        sets.extend(limited.map(|abuse| (NFPROTO_INET, Kind::Abuse(abuse), abuse.over())));
        if bridges {
            sets.push((NFPROTO_BRIDGE, Kind::Any, REFUSED));
            sets.push((NFPROTO_BRIDGE, Kind::Spoofed, bridges::SPOOFERS));
        }
        let mut counted = Vec::new();
        for (family, kind, set) in sets {
            let counts = readback::counts(netlink, family, TABLE, set)?;
            counted.extend(counts.into_iter().filter_map(|count| {
                let mark = u32::from_ne_bytes(count.key.try_into().ok()?);
                Some(((family, kind, mark), count.packets))
            }));
        }
        let here = Known::HERE.map(|known| (NFPROTO_INET, known));
        let bridged = bridges.then_some((NFPROTO_BRIDGE, Known::Port));
        for (family, known) in here.into_iter().chain(bridged) {
            let counts = readback::counts(netlink, family, TABLE, &attempts::not_noted(known))?;
            counted.extend(counts.into_iter().filter_map(|count| {
                let number = known.number(installed, &count.key)?;
                Some(((family, Kind::NotNoted, number), count.packets))
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
            last.insert(key, packets);
            if new == 0 {
                continue;
            }
            let (_, kind, mark) = key;
            let number = mark & !phrases::MARK_MASK;
            let refused = self.new.entry(number).or_default();
            refused.number = (number != 0).then_some(number);
            let sum = match kind {
                Kind::Any => &mut refused.packets,
                Kind::Abuse(Abuse::Connections) => &mut refused.connections,
                Kind::Abuse(Abuse::Packets) => &mut refused.flooding,
                Kind::Abuse(Abuse::Questions) => &mut refused.questions,
                Kind::Abuse(Abuse::Entries) => &mut refused.entries,
                Kind::Spoofed => &mut refused.spoofed,
                Kind::NotNoted => &mut refused.not_noted,
            };
            *sum = sum.saturating_add(new);
        }
        self.last = last;
    }

    /// A table was loaded: its counters begin with nothing.
    pub fn begin_anew(&mut self) {
        self.last.clear();
    }

    /// What is new since this was called last.
    pub fn take(&mut self) -> Vec<Refused> {
        std::mem::take(&mut self.new).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Key = (NFPROTO_INET, Kind::Any, 0x4800_0001);
    const ALICE_BRIDGED: Key = (NFPROTO_BRIDGE, Kind::Any, 0x4800_0001);
    const ALICE_SPOOFS: Key = (NFPROTO_BRIDGE, Kind::Spoofed, 0x4800_0001);
    const NOBODY: Key = (NFPROTO_INET, Kind::Any, 0x4800_0000);

    fn refused(number: Option<u32>, packets: u64) -> Refused {
        Refused {
            number,
            packets,
            ..Refused::default()
        }
    }

    #[test]
    fn a_servers_refusals_of_both_tables_are_one_sum() {
        let mut counts = RefusedCounts::default();
        counts.book(vec![
            (ALICE, 5),
            (ALICE_BRIDGED, 2),
            (ALICE_SPOOFS, 2),
            (NOBODY, 3),
        ]);
        let alice = Refused {
            spoofed: 2,
            ..refused(Some(1), 7)
        };
        assert_eq!(counts.take(), [refused(None, 3), alice]);
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
