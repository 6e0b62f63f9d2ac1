//! What one sender was refused: which lines of the journal told of it, and what no line stands for.
//!
//! The kernel tells of ten refusals a minute and sender at most, and a line is written once an hour
//! for the same destination, refused by the same rule in the same mode; the packet rules count every
//! packet. The rest is told as a number: by the next line, after an hour, or when the sender ends.

use egress::{Refusal, RefusedBy};
use quantities::{Mode, Time};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// The same refusal of the same sender is told again after this long.
pub(super) const TELL_AGAIN: Duration = Duration::from_secs(3600);
/// Different refusals told per sender within that time.
pub(super) const MOST_TOLD: usize = 64;

/// The refusals of one sender.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Those that were told lately.
    told: BTreeMap<Target, Time>,
    /// The mode they were told in: what would have been refused is another matter than what was.
    mode: Option<Mode>,
    unlogged: Unlogged,
}

/// Protocol, destination and port, and what refused it: another class is a new answer to the same question.
type Target = (u8, IpAddr, Option<u16>, RefusedBy);

impl Refusals {
    /// For how many packets before it a line about this one has to stand; `None` if it is not worth
    /// a line, being told lately, or too much else being.
    pub(super) fn line(&mut self, refusal: &Refusal, mode: Mode, now: Time) -> Option<u64> {
        if self.mode.replace(mode) != Some(mode) {
            self.told.clear();
        }
        self.told.retain(|_, at| now.since(*at) < TELL_AGAIN);
        let Refusal {
            protocol,
            destination,
            port,
            ..
        } = *refusal;
        let target = (protocol, destination, port, refusal.by.clone());
        if self.told.contains_key(&target) || self.told.len() >= MOST_TOLD {
            return None;
        }
        self.told.insert(target, now);
        Some(self.unlogged.logged())
    }

    /// So many more packets were refused.
    pub(super) fn counted(&mut self, packets: u64, now: Time) {
        self.unlogged.counted(packets, now);
    }

    /// How many have waited for their line long enough; one stands for them from now on.
    pub(super) fn overdue(&mut self, now: Time) -> u64 {
        self.unlogged.overdue(now)
    }

    /// The same, however long they have waited.
    pub(super) fn rest(&mut self) -> u64 {
        self.unlogged.take()
    }
}

/// Refused packets that no line of the journal stands for yet.
#[derive(Debug, Default)]
pub(super) struct Unlogged {
    /// Below zero, lines were told of packets that are yet to be counted.
    packets: i64,
    /// When the first of them was counted.
    since: Option<Time>,
}

impl Unlogged {
    pub(super) fn counted(&mut self, packets: u64, now: Time) {
        let packets = i64::try_from(packets).unwrap_or(i64::MAX);
        self.packets = self.packets.saturating_add(packets);
        if self.packets > 0 {
            self.since.get_or_insert(now);
        }
    }

    /// A line is told of one packet; for how many more it has to stand.
    pub(super) fn logged(&mut self) -> u64 {
        self.packets = self.packets.saturating_sub(1);
        self.take()
    }

    pub(super) fn take(&mut self) -> u64 {
        self.since = None;
        let more = u64::try_from(self.packets).unwrap_or(0);
        self.packets = self.packets.min(0);
        more
    }

    fn overdue(&mut self, now: Time) -> u64 {
        match self.since {
            Some(since) if now.since(since) >= TELL_AGAIN => self.take(),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(seconds))
    }

    #[test]
    fn lines_and_the_numbers_in_them_add_up_to_what_was_refused() {
        let mut unlogged = Unlogged::default();
        // Three destinations are told of before anything is counted.
        for _ in 0..3 {
            assert_eq!(unlogged.logged(), 0);
        }
        unlogged.counted(3, at(5));
        assert_eq!(unlogged.take(), 0);
        // A flood of which one packet is told of, before and after it was counted.
        assert_eq!(unlogged.logged(), 0);
        unlogged.counted(1000, at(10));
        assert_eq!(unlogged.logged(), 998);
        unlogged.counted(1, at(15));
        assert_eq!(unlogged.logged(), 0);
        assert_eq!(unlogged.take(), 0);
    }

    #[test]
    fn a_refusal_is_told_again_after_an_hour_by_another_class_and_in_another_mode() {
        let by = |class: &str| Refusal {
            number: Some(1),
            by: RefusedBy::Class(class.parse().unwrap()),
            uid: None,
            protocol: 6,
            destination: "192.0.2.1".parse().unwrap(),
            port: Some(22),
        };
        let mut refusals = Refusals::default();
        let mut told = |class: &str, mode: Mode, seconds: u64| {
            refusals.line(&by(class), mode, at(seconds)).is_some()
        };
        for (class, mode, seconds, news) in [
            ("standard", Mode::Observe, 0, true),
            ("standard", Mode::Observe, 9, false),
            ("standard", Mode::Enforce, 10, true),
            ("standard", Mode::Enforce, 11, false),
            ("quarantine", Mode::Enforce, 12, true),
            ("standard", Mode::Enforce, 13, false),
            ("quarantine", Mode::Enforce, 14, false),
            ("standard", Mode::Enforce, 3611, true),
        ] {
            assert_eq!(told(class, mode, seconds), news, "{class} {mode} {seconds}");
        }
    }

    #[test]
    fn what_waits_for_a_line_waits_an_hour() {
        let mut unlogged = Unlogged::default();
        unlogged.counted(7, at(100));
        unlogged.counted(7, at(3600));
        assert_eq!(unlogged.overdue(at(3699)), 0);
        assert_eq!(unlogged.overdue(at(3700)), 14);
        assert_eq!(unlogged.overdue(at(9999)), 0);
    }
}
