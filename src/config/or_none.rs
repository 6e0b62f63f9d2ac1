//! A value that may be none.

use super::decode::FromToml;
use quantities::{Bytes, CoreSeconds, Cores};
use std::time::Duration;
use toml::de::DeValue;

/// A value, or `"none"`.
pub(super) struct OrNone<T>(Option<T>);

impl<T> OrNone<T> {
    pub(super) fn get(self) -> Option<T> {
        self.0
    }
}

impl<T: FromToml + Expected> FromToml for OrNone<T> {
    const EXPECTED: &'static str = T::OR_NONE;

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some("none") => Ok(OrNone(None)),
            _ => T::from_toml(value).map(|value| OrNone(Some(value))),
        }
    }
}

/// How an optional value is written, for messages.
pub(super) trait Expected {
    const OR_NONE: &'static str;
}

impl Expected for Cores {
    const OR_NONE: &'static str = "a number of cores such as \"2 cores\", or \"none\"";
}

impl Expected for Bytes {
    const OR_NONE: &'static str = "an amount of memory such as \"2 GiB\", or \"none\"";
}

impl Expected for u64 {
    const OR_NONE: &'static str = "a whole number, or \"none\"";
}

impl Expected for Duration {
    const OR_NONE: &'static str = "a time such as \"2h\" or \"3d\", or \"none\"";
}

impl Expected for CoreSeconds {
    const OR_NONE: &'static str = "an amount of CPU such as \"100 core-hours\", or \"none\"";
}
