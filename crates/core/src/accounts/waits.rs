//! What a server would use if it got the CPU that it waits for.
//!
//! On a node where every core is busy a miner gets little, and little is what an idle server uses. It is
//! told from one by its tasks, which wait whenever they do not run: of a single one that does not rest,
//! the time that it runs and the time that it waits (the `some` line of `cpu.pressure`) are all there is.

use quantities::{Cores, Time};
use std::time::Duration;

/// Readings closer to each other say little: the kernel adds waiting up when it is over, or asked for.
const SHORTEST: Duration = Duration::from_millis(500);
/// Of what it uses, a server that waits is held to want no more than so many times as much. With many
/// tasks one waits nearly always, however little they want.
const MOST_TIMES: f64 = 20.0;

/// For which share of the time some of a server's tasks waited for the CPU, between two readings.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Waits {
    asked: bool,
    last: Option<(Time, Duration)>,
    share: f64,
}

impl Waits {
    /// Takes a reading of how long was waited all in all; `None` where that is not known.
    pub fn read(&mut self, waited: Option<Duration>, now: Time) {
        self.asked = true;
        let Some(waited) = waited else {
            (self.last, self.share) = (None, 0.0);
            return;
        };
        if let Some((at, before)) = self.last {
            let span = now.since(at);
            if span < SHORTEST {
                return;
            }
            let share = waited.saturating_sub(before).as_secs_f64() / span.as_secs_f64();
            self.share = share.clamp(0.0, 1.0);
        }
        self.last = Some((now, waited));
    }

    /// Whether the first reading is still to come, which says something only with a second one.
    pub fn are_unread(&self) -> bool {
        !self.asked
    }

    /// Whether one that uses so much could be hot for what it waits for.
    pub fn can_count(used: Cores, hot: Cores) -> bool {
        used.0 * MOST_TIMES > hot.0
    }

    /// What a server that uses so much would use if it waited for nothing.
    pub fn without(&self, used: Cores) -> Cores {
        Cores(used.0 / (1.0 - self.share).max(1.0 / MOST_TIMES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Time {
        Time(Duration::from_millis(milliseconds))
    }

    fn waited(milliseconds: u64) -> Option<Duration> {
        Some(Duration::from_millis(milliseconds))
    }

    fn close_to(cores: Cores, wanted: f64) -> bool {
        (cores.0 - wanted).abs() < 1e-9
    }

    #[test]
    fn one_that_runs_a_tenth_and_waits_the_rest_wants_a_core() {
        let mut waits = Waits::default();
        waits.read(waited(70_000), at(0));
        assert!(
            close_to(waits.without(Cores(0.1)), 0.1),
            "nothing to compare"
        );
        waits.read(waited(70_900), at(1000));
        assert!(close_to(waits.without(Cores(0.1)), 1.0));
        waits.read(waited(70_900), at(2000));
        assert!(close_to(waits.without(Cores(0.1)), 0.1), "it waits no more");
    }

    #[test]
    fn one_that_rests_wants_little_however_long_it_waits() {
        let mut waits = Waits::default();
        waits.read(waited(0), at(0));
        waits.read(waited(300), at(1000));
        assert!(waits.without(Cores(0.01)).0 < 0.02);
        // Of many tasks one waits always.
        waits.read(waited(1300), at(2000));
        assert!(close_to(waits.without(Cores(0.005)), 0.1));
    }

    #[test]
    fn readings_too_close_to_each_other_are_left_out() {
        let mut waits = Waits::default();
        waits.read(waited(0), at(0));
        waits.read(waited(500), at(1000));
        waits.read(waited(510), at(1010));
        assert!(close_to(waits.without(Cores(0.1)), 0.2));
        waits.read(waited(1000), at(2000));
        assert!(close_to(waits.without(Cores(0.1)), 0.2));
    }

    #[test]
    fn half_a_second_is_enough_between_two_readings() {
        let mut waits = Waits::default();
        waits.read(waited(0), at(0));
        waits.read(waited(250), at(500));
        assert!(close_to(waits.without(Cores(0.1)), 0.2));
    }

    #[test]
    fn where_waiting_is_not_counted_what_is_used_is_all_that_is_known() {
        let mut waits = Waits::default();
        assert!(waits.are_unread());
        for now in [0, 1000, 2000] {
            waits.read(None, at(now));
            assert!(!waits.are_unread());
            assert!(close_to(waits.without(Cores(0.1)), 0.1));
        }
    }
}
