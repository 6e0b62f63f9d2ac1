//! Parsers of the kernel's cgroup files (Documentation/admin-guide/cgroup-v2.rst).

use std::time::Duration;

/// What `cpu.stat` counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuStat {
    /// CPU time used since the cgroup was made.
    pub usage: Duration,
    /// Enforcement periods begun; only there with the cpu controller.
    pub periods: Option<u64>,
    /// Periods in which the quota ran out; only there with the cpu controller.
    pub throttled_periods: Option<u64>,
    /// Time spent throttled; only there with the cpu controller.
    pub throttled: Option<Duration>,
}

impl CpuStat {
    /// Reads the text of `cpu.stat`; `None` when `usage_usec` is missing or no number.
    pub fn parse(text: &[u8]) -> Option<CpuStat> {
        let mut usage = None;
        let mut stat = CpuStat {
            usage: Duration::ZERO,
            periods: None,
            throttled_periods: None,
            throttled: None,
        };
        for line in text.split(|byte| *byte == b'\n') {
            let mut words = line.splitn(2, |byte| *byte == b' ');
            let (Some(key), Some(value)) = (words.next(), words.next()) else {
                continue;
            };
            match key {
                b"usage_usec" => usage = Some(Duration::from_micros(number(value)?)),
                b"nr_periods" => stat.periods = number(value),
                b"nr_throttled" => stat.throttled_periods = number(value),
                b"throttled_usec" => stat.throttled = number(value).map(Duration::from_micros),
                _ => {}
            }
        }
        stat.usage = usage?;
        Some(stat)
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// What `cpu.max` says: the quota within each period, both in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuMax {
    /// CPU time per period; `None` is `max`.
    pub quota_usec: Option<u64>,
    /// The period.
    pub period_usec: u64,
}

impl CpuMax {
    /// Reads `"max 100000"` or `"4000 20000"`.
    pub fn parse(text: &[u8]) -> Option<CpuMax> {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let at = text.iter().position(|byte| *byte == b' ')?;
        let (quota, period) = (&text[..at], &text[at + 1..]);
        Some(CpuMax {
            quota_usec: match quota {
                b"max" => None,
                digits => Some(number(digits)?),
            },
            period_usec: number(period)?,
        })
    }
}

/// The `some` line's `avg10` of a pressure file, as a share from 0.0 to 1.0.
pub fn some_avg10(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let percent: f64 = line
        .split(' ')
        .find_map(|word| word.strip_prefix("avg10="))?
        .parse()
        .ok()?;
    Some((percent / 100.0).clamp(0.0, 1.0))
}

/// The `some` line's `total` of a pressure file: time waited since the cgroup was made.
pub fn some_total(text: &str) -> Option<Duration> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let total = line
        .split(' ')
        .find_map(|word| word.strip_prefix("total="))?;
    number(total.as_bytes()).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_stat_without_the_controller_has_usage_only() {
        let text = b"usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\nnice_usec 0\n";
        let stat = CpuStat::parse(text).unwrap();
        assert_eq!(stat.usage, Duration::from_micros(1_234_567));
        assert_eq!(stat.periods, None);
    }

    #[test]
    fn cpu_stat_with_the_controller_has_throttling() {
        let text = b"usage_usec 5\nnr_periods 10\nnr_throttled 9\nthrottled_usec 800\n";
        let stat = CpuStat::parse(text).unwrap();
        assert_eq!(stat.periods, Some(10));
        assert_eq!(stat.throttled_periods, Some(9));
        assert_eq!(stat.throttled, Some(Duration::from_micros(800)));
    }

    /// A vanished cgroup must never read as one that uses nothing.
    #[test]
    fn empty_or_odd_text_is_no_reading() {
        for text in [
            &b""[..],
            b"usage_usec\n",
            b"usage_usec x\n",
            b"user_usec 5\n",
            b"usage_usec 99999999999999999999999\n",
        ] {
            assert_eq!(CpuStat::parse(text), None);
        }
    }

    #[test]
    fn cpu_max_reads_quota_and_none() {
        assert_eq!(
            CpuMax::parse(b"4000 20000\n"),
            Some(CpuMax {
                quota_usec: Some(4000),
                period_usec: 20000
            })
        );
        assert_eq!(
            CpuMax::parse(b"max 100000\n"),
            Some(CpuMax {
                quota_usec: None,
                period_usec: 100_000
            })
        );
        assert_eq!(CpuMax::parse(b"max\n"), None);
    }

    #[test]
    fn pressure_is_read_from_the_line_that_counts() {
        let text = "some avg10=12.50 avg60=3.00 avg300=0.76 total=157622151\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(some_avg10(text), Some(0.125));
        assert_eq!(some_total(text), Some(Duration::from_micros(157_622_151)));
        assert_eq!((some_avg10(""), some_total("")), (None, None));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text: Vec<u8>) {
            let _ = (CpuStat::parse(&text), CpuMax::parse(&text));
            let text = String::from_utf8_lossy(&text);
            let _ = (some_avg10(&text), some_total(&text));
        }
    }
}
