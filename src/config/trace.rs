//! `[trace]`: a trace of samples for `hubwarden replay`.

use super::decode::{FromToml, Section, Show};
use toml::de::DeValue;

/// `[trace]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Whether samples are written down.
    pub enabled: bool,
    /// The most that all traces together may take, in bytes.
    pub max_size: Size,
    /// Whether users are named; without, each is a number that means nothing outside its file.
    pub user_names: bool,
}

impl Default for Trace {
    fn default() -> Self {
        Trace {
            enabled: false,
            max_size: Size(256 << 20),
            user_names: false,
        }
    }
}

/// An amount of data in bytes, written `"256 MiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl FromToml for Size {
    const EXPECTED: &'static str = "an amount of data such as \"256 MiB\" or \"1 GiB\"";

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let text = value.as_str().ok_or_else(String::new)?.trim();
        let end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let number: u64 = number.parse().map_err(|_| String::new())?;
        let unit = unit.trim();
        let scale = UNITS.iter().find(|(name, _)| *name == unit);
        let (_, scale) = scale.ok_or_else(|| match unit {
            "" => "the unit is missing".to_owned(),
            other => format!("unknown unit `{other}`"),
        })?;
        number
            .checked_mul(*scale)
            .map(Size)
            .ok_or_else(|| "too much".into())
    }
}

impl Show for Size {
    fn show(&self) -> String {
        let fits = |(_, scale): &&(&str, u64)| self.0.is_multiple_of(*scale) && self.0 >= *scale;
        match UNITS.iter().find(fits) {
            Some((name, scale)) => format!("\"{} {name}\"", self.0 / scale),
            None => format!("{} bytes", self.0),
        }
    }
}

pub(super) fn read(mut section: Section<'_, '_>, default: Trace) -> Trace {
    let trace = Trace {
        enabled: section.value("enabled", default.enabled),
        max_size: section.ranged("max_size", default.max_size, Size(1 << 20)..=Size(64 << 30)),
        user_names: section.value("user_names", default.user_names),
    };
    section.finish();
    trace
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn traces_are_bounded_in_units_a_person_would_write() {
        let config = Config::parse("[trace]\nenabled = true\nmax_size = \"1 GiB\"\n").unwrap();
        assert_eq!(config.trace.max_size.0, 1 << 30);
        let cases = [
            ("\"1 GB\"", "unknown unit `GB`"),
            ("\"5\"", "the unit is missing"),
            ("\"10 KiB\"", "from \"1 MiB\" to \"64 GiB\""),
            ("\"99999999999 GiB\"", "too much"),
        ];
        for (value, why) in cases {
            let problems = Config::parse(&format!("[trace]\nmax_size = {value}\n")).unwrap_err();
            assert!(problems[0].message.contains(why), "{}", problems[0]);
        }
    }
}
