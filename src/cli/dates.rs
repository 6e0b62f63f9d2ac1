//! Points in time as people read them, all in UTC.

use jiff::Timestamp;

/// The day of a Unix time, such as `2026-11-22`.
pub(super) fn day(seconds: u64) -> String {
    written(seconds, "%Y-%m-%d")
}

/// The minute of a Unix time, such as `2026-11-22 09:30Z`.
pub(super) fn minute(seconds: u64) -> String {
    written(seconds, "%Y-%m-%d %H:%MZ")
}

fn written(seconds: u64, form: &str) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    match Timestamp::from_second(seconds) {
        Ok(time) => time.strftime(form).to_string(),
        // Beyond the year 9999 only what is wrong in a file can be.
        Err(_) => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_795_305_600, "2026-11-22"),
            (4_102_444_799, "2099-12-31"),
            (u64::MAX, "-"),
        ] {
            assert_eq!(day(seconds), expected);
        }
        assert_eq!(minute(60), "1970-01-01 00:01Z");
        assert_eq!(minute(1_767_225_599), "2025-12-31 23:59Z");
    }
}
