//! Quantities and names that cross the borders between crates, one type each, so that no bare number
//! or text does.

mod cgroup;
mod class_name;
mod hub_user;
mod unit_name;

pub use cgroup::{CgroupId, CgroupPath};
pub use class_name::{ClassName, NotAClassName};
pub use hub_user::HubUser;
pub use unit_name::UnitName;

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Whether verdicts are only reported or also carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Decide and report, change nothing: the mode after installation.
    Observe,
    /// Decide, report and act.
    Enforce,
}

impl Mode {
    /// The word used in configuration, journal fields and `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Observe => "observe",
            Mode::Enforce => "enforce",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A rate of CPU use: 1.0 is one core kept busy.
#[derive(Debug, Default, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cores(pub f64);

impl Cores {
    /// Converts to systemd's `CPUQuotaPerSecUSec`: microseconds of CPU per second of wall time.
    pub fn quota_per_sec_usec(self) -> u64 {
        (self.0 * 1e6).round() as u64
    }

    /// Converts from systemd's `CPUQuotaPerSecUSec`; `u64::MAX` means no limit.
    pub fn from_quota_per_sec_usec(usec: u64) -> Option<Cores> {
        (usec != u64::MAX).then(|| Cores(usec as f64 / 1e6))
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = trimmed(self.0);
        let plural = if number == "1" { "" } else { "s" };
        write!(f, "{number} core{plural}")
    }
}

/// An amount of CPU use: 1.0 is one core kept busy for one second.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CoreSeconds(pub f64);

impl CoreSeconds {
    /// What a steady rate amounts to over a time.
    pub fn of(rate: Cores, time: Duration) -> CoreSeconds {
        CoreSeconds(rate.0 * time.as_secs_f64())
    }
}

impl fmt::Display for CoreSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (amount, word) = match self.0 {
            s if s >= 3600.0 => (s / 3600.0, "core-hour"),
            s if s >= 120.0 => (s / 60.0, "core-minute"),
            s => (s, "core-second"),
        };
        let number = trimmed(amount);
        let plural = if number == "1" { "" } else { "s" };
        write!(f, "{number} {word}{plural}")
    }
}

/// An amount of memory, or of what was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        match steps.into_iter().find(|(shift, _)| self.0 >> shift > 0) {
            Some((shift, unit)) => {
                let amount = self.0 as f64 / (1u64 << shift) as f64;
                write!(f, "{} {unit}", trimmed(amount))
            }
            None => write!(f, "{} B", self.0),
        }
    }
}

/// At most two decimals, none of them a trailing zero.
fn trimmed(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A duration in words a person would use: `45 s`, `12 min`, `3 h 20 min`.
pub fn in_words(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", (seconds + 30) / 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A point on the kernel's monotonic clock, as time since boot. It does not count suspension,
/// and nobody can set it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Time(pub Duration);

impl Time {
    /// How long ago `earlier` was; zero when it lies in the future.
    pub fn since(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Text that somebody else chose, to be shown: control characters and the like are escaped, so that
/// it can neither paint on a terminal nor begin a line.
#[derive(Debug, Clone, Copy)]
pub struct Plain<'a>(pub &'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() || is_invisible(c) {
                write!(f, "{}", c.escape_unicode())?;
            } else {
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

/// Characters that show nothing, or change how the text around them is shown: bidirectional
/// controls, ends of lines and paragraphs, joiners, selectors, tags, and letters that are blank.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_read_as_a_person_would_say_them() {
        assert_eq!(Cores(1.0).to_string(), "1 core");
        assert_eq!(Cores(0.25).to_string(), "0.25 cores");
        assert_eq!(CoreSeconds(3600.0).to_string(), "1 core-hour");
        assert_eq!(CoreSeconds(5400.0).to_string(), "1.5 core-hours");
        assert_eq!(CoreSeconds(600.0).to_string(), "10 core-minutes");
        assert_eq!(CoreSeconds(20.0).to_string(), "20 core-seconds");
        assert_eq!(in_words(Duration::from_secs(1440)), "24 min");
        for (bytes, said) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (5 << 20, "5 MiB"),
            (3 << 30, "3 GiB"),
            (1 << 42, "4 TiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), said);
        }
    }

    #[test]
    fn what_cannot_be_seen_is_named_and_what_can_stays() {
        for (text, shown) in [
            ("alice\u{ad}", "alice\\u{ad}"),
            ("\u{61c}bob\u{2069}", "\\u{61c}bob\\u{2069}"),
            ("a\u{3164}b\u{2800}", "a\\u{3164}b\\u{2800}"),
            ("tag\u{e0041}\u{180e}", "tag\\u{e0041}\\u{180e}"),
            ("李小龍 e\u{301} \u{1f680}", "李小龍 e\u{301} \u{1f680}"),
        ] {
            assert_eq!(Plain(text).to_string(), shown);
        }
    }

    #[test]
    fn systemd_quota_converts_both_ways() {
        assert_eq!(Cores(1.5).quota_per_sec_usec(), 1_500_000);
        assert_eq!(Cores::from_quota_per_sec_usec(1_500_000), Some(Cores(1.5)));
        assert_eq!(Cores::from_quota_per_sec_usec(u64::MAX), None);
    }
}
