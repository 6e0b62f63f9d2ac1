//! A host name as a class allows or denies it.

use std::{fmt, str::FromStr};

/// `pypi.org` for that name, `*.github.com` for every name below it however deep, `*` for every
/// name that was asked for at all. Lower case, no closing dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamePattern(String);

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(&'static str);

/// Longest name as text, bytes (RFC 1035, 2.3.4, less the closing dot).
pub const NAME_MAX: usize = 253;
/// Longest label, bytes.
const LABEL_MAX: usize = 63;

impl FromStr for NamePattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if text == "*" {
            return Ok(Self(text.to_owned()));
        }
        let name = text.strip_prefix("*.").unwrap_or(text);
        if name.contains('*') {
            return Err(PatternError("`*` stands alone or as the first label only"));
        }
        if name.contains("://") || name.contains('/') {
            return Err(PatternError("a host name, without scheme and path"));
        }
        if name.contains(':') {
            return Err(PatternError("a host name alone; ports are `services`"));
        }
        if !name.is_ascii() {
            return Err(PatternError("write internationalised names as xn--…"));
        }
        if name.parse::<std::net::IpAddr>().is_ok() {
            return Err(PatternError("an address is no name; use `networks`"));
        }
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if !is_host_name(&name) {
            return Err(PatternError(
                "labels are 1 to 63 of a-z, 0-9, `-` and `_`, joined by dots",
            ));
        }
        Ok(Self(match text.starts_with('*') {
            true => format!("*.{name}"),
            false => name,
        }))
    }
}

impl NamePattern {
    /// Whether a name, in lower case and without a closing dot, is meant.
    pub fn matches(&self, name: &str) -> bool {
        match self.0.strip_prefix('*') {
            None => self.0 == name,
            Some("") => true,
            // With its dot: neither the domain itself nor one that merely ends like it.
            Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a name in lower case is made of nothing that a comment, a rule or the journal could
/// misread.
pub fn is_host_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let label = |label: &str| (1..=LABEL_MAX).contains(&label.len()) && label.bytes().all(plain);
    name.len() <= NAME_MAX && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> NamePattern {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_is_itself_and_a_suffix_is_all_below_it() {
        let pypi = pattern("PyPI.org.");
        assert!(pypi.matches("pypi.org"));
        for other in ["files.pypi.org", "pypi.org.example", "xpypi.org", "org", ""] {
            assert!(!pypi.matches(other), "{other}");
        }
        let github = pattern("*.github.com");
        assert!(github.matches("api.github.com") && github.matches("a.b.github.com"));
        for other in [
            "github.com",
            "evilgithub.com",
            "github.com.example",
            ".github.com",
        ] {
            assert!(!github.matches(other), "{other}");
        }
        assert!(pattern("*").matches("anything.example"));
    }

    #[test]
    fn what_is_no_host_name_is_refused_with_the_remedy() {
        for (wrong, why) in [
            ("https://pypi.org", "scheme"),
            ("pypi.org/simple", "path"),
            ("pypi.org:443", "services"),
            ("192.0.2.1", "networks"),
            ("2001:db8::1", "services"),
            ("*.*.org", "first label"),
            ("a*.org", "first label"),
            ("münchen.de", "xn--"),
            ("", "labels"),
            ("a..b", "labels"),
            ("a b", "labels"),
            ("x\u{1b}[0m", "labels"),
        ] {
            let error = wrong.parse::<NamePattern>().unwrap_err().to_string();
            assert!(error.contains(why), "{wrong}: {error}");
        }
        assert!("a".repeat(64).parse::<NamePattern>().is_err());
        assert!(vec!["abc"; 70].join(".").parse::<NamePattern>().is_err());
    }
}
