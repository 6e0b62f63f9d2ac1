//! What the rounding modes of a process say. Pure: `rounding` counts, this judges the counts.
//!
//! RandomX sets the SSE unit's rounding mode (MXCSR bits 13–14) by the data it hashes and flushes
//! denormals (bit 15, FTZ, and bit 6, DAZ) throughout. Measured on kernels 6.1, 6.12 and 6.18:
//! rule R caught every RandomX tried, by compiler, interpreter or throttled, and none of 31 honest
//! programs. Counting modes alone, as published, catches interval arithmetic too.

use super::Fact;
use std::fmt;

/// Least samples of each mode, so that a stray one is none.
pub const LEAST_OF_EACH: u64 = 4;
/// Least samples before interval arithmetic is said to be that.
pub const LEAST_FOR_INTERVALS: u64 = 3 * LEAST_OF_EACH;
/// A rule in use elsewhere: more samples than this, of any mode but the default.
pub const PUBLISHED_RULE: u64 = 64;

/// Samples of one thread group, at context switches with a mode other than to-nearest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Modes {
    /// Rounding down.
    pub down: u64,
    /// Rounding up.
    pub up: u64,
    /// Rounding towards zero.
    pub zero: u64,
    /// Of all these, with denormals flushed on output and input (FTZ and DAZ).
    pub flushed: u64,
}

impl Modes {
    /// All samples.
    pub fn total(&self) -> u64 {
        self.down + self.up + self.zero
    }

    /// Rule R.
    pub fn random(&self) -> bool {
        self.all_three() && self.flushed * 10 >= self.total() * 9
    }

    fn all_three(&self) -> bool {
        self.down.min(self.up).min(self.zero) >= LEAST_OF_EACH
    }

    /// What they say, if anything.
    pub fn fact(&self) -> Option<Fact> {
        if self.random() {
            Some(Fact::RandomRounding(*self))
        } else if self.all_three() {
            Some(Fact::MixedRounding(*self))
        } else if self.zero == 0 && self.up >= LEAST_OF_EACH && self.total() >= LEAST_FOR_INTERVALS
        {
            Some(Fact::IntervalRounding(*self))
        } else {
            None
        }
    }

    /// What the published rule would say: kill.
    pub fn published_rule(&self) -> bool {
        self.total() > PUBLISHED_RULE
    }

    /// What came since an earlier reading. A smaller count is a new process with an old number.
    pub fn since(&self, earlier: &Modes) -> Modes {
        if self.total() < earlier.total() {
            return *self;
        }
        Modes {
            down: self.down.saturating_sub(earlier.down),
            up: self.up.saturating_sub(earlier.up),
            zero: self.zero.saturating_sub(earlier.zero),
            flushed: self.flushed.saturating_sub(earlier.flushed),
        }
    }
}

impl fmt::Display for Modes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} down, {} up, {} to zero, {} of them flushed",
            self.down, self.up, self.zero, self.flushed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modes(down: u64, up: u64, zero: u64, flushed: u64) -> Modes {
        Modes {
            down,
            up,
            zero,
            flushed,
        }
    }

    #[test]
    fn randomx_is_recognised_from_few_samples() {
        assert!(modes(4, 4, 4, 12).random());
        assert!(modes(20, 22, 19, 61).random());
        assert!(matches!(
            modes(4, 4, 4, 12).fact(),
            Some(Fact::RandomRounding(_))
        ));
    }

    #[test]
    fn a_loop_over_all_modes_without_flushing_is_not_randomx() {
        let looped = modes(500, 500, 500, 0);
        assert!(!looped.random());
        assert!(matches!(looped.fact(), Some(Fact::MixedRounding(_))));
        assert!(looped.published_rule());
    }

    #[test]
    fn interval_arithmetic_is_exonerated_even_with_denormals_flushed() {
        for honest in [modes(0, 900, 0, 0), modes(450, 450, 0, 900)] {
            let fact = honest.fact();
            assert!(matches!(fact, Some(Fact::IntervalRounding(_))), "{fact:?}");
            assert!(honest.published_rule());
        }
    }

    #[test]
    fn a_few_stray_samples_say_nothing() {
        assert_eq!(modes(3, 3, 3, 9).fact(), None);
        assert_eq!(Modes::default().fact(), None);
    }

    #[test]
    fn rounding_up_is_interval_arithmetic_and_other_modes_are_not() {
        for (seen, is_interval) in [
            (modes(0, 12, 0, 0), true),
            (modes(8, 4, 0, 0), true),
            (modes(0, 11, 0, 0), false),
            (modes(900, 3, 0, 0), false),
            (modes(0, 12, 1, 0), false),
        ] {
            let fact = matches!(seen.fact(), Some(Fact::IntervalRounding(_)));
            assert_eq!(fact, is_interval, "{seen}");
        }
    }

    #[test]
    fn nine_in_ten_samples_of_randomx_are_flushed() {
        assert!(modes(20, 20, 20, 54).random());
        assert!(!modes(20, 20, 20, 53).random());
    }

    #[test]
    fn the_published_rule_kills_above_its_number_of_samples() {
        assert!(!modes(20, 20, 24, 0).published_rule());
        assert!(modes(20, 20, 25, 0).published_rule());
    }

    #[test]
    fn counts_that_fall_are_a_new_process() {
        let new = modes(1, 2, 3, 6);
        assert_eq!(new.since(&modes(100, 100, 100, 300)), new);
        assert_eq!(new.since(&modes(1, 1, 1, 3)), modes(0, 1, 2, 3));
        assert_eq!(new.since(&new), Modes::default());
    }

    proptest::proptest! {
        /// Small counts only: the kernel's are 64 bits and never near their end.
        #[test]
        fn rule_r_needs_all_three_modes_and_flushing(down in 0u64..1000, up in 0u64..1000, zero in 0u64..1000, flushed in 0u64..3000) {
            let modes = modes(down, up, zero, flushed.min(down + up + zero));
            if modes.random() {
                proptest::prop_assert!(down >= 4 && up >= 4 && zero >= 4);
                proptest::prop_assert!(modes.flushed as f64 >= 0.9 * modes.total() as f64);
            }
        }
    }
}
