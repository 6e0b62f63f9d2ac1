//! The name of an egress class, which the judge grants and the packet rules are made for.

use std::{fmt, str::FromStr, sync::Arc};

/// A class's name: 1 to 32 of `a-z`, `0-9` and `-`, the first a letter.
///
/// It becomes part of chain and set names and of the log prefix, so nothing else may be in it. A copy
/// costs nothing: every server has one.
#[derive(
    Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct ClassName(Arc<str>);

impl ClassName {
    /// Longest name, bytes.
    pub const MAX: usize = 32;

    /// The built-in class that accepts everything: for units in a guarded slice that are not
    /// servers. A policy cannot define it.
    pub fn exempt() -> Self {
        Self("exempt".into())
    }

    /// What stands for "not known yet": nothing is reached. A policy cannot define it.
    pub fn pending() -> Self {
        Self("pending".into())
    }

    /// The built-in class of a server that has had its bytes for the day: this node only.
    pub fn spent() -> Self {
        Self("spent".into())
    }

    /// The class that the configuration has from the start for miners; an admin may define it anew.
    pub fn quarantine() -> Self {
        Self("quarantine".into())
    }

    /// Whether an admin may not define it.
    pub fn is_built_in(&self) -> bool {
        [Self::exempt(), Self::pending(), Self::spent()].contains(self)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClassName {
    type Err = NotAClassName;

    fn from_str(name: &str) -> Result<Self, NotAClassName> {
        let bytes = name.as_bytes();
        let ok = bytes.len() <= Self::MAX
            && bytes.first().is_some_and(u8::is_ascii_lowercase)
            && bytes
                .iter()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
        if ok {
            Ok(Self(name.into()))
        } else {
            Err(NotAClassName(name.to_owned()))
        }
    }
}

impl fmt::Display for ClassName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A class name with something in it that a rule must not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("class name {0:?}: use 1 to {max} of a-z, 0-9 and '-', the first a letter", max = ClassName::MAX)]
pub struct NotAClassName(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_names_hold_nothing_that_a_rule_could_misread() {
        for good in ["standard", "a", "gpu-2", &"x".repeat(32)] {
            assert_eq!(good.parse::<ClassName>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "-a",
            "9",
            "A",
            "a b",
            "a_b",
            "a\"",
            "ä",
            "a\n",
            &"x".repeat(33),
        ] {
            assert!(bad.parse::<ClassName>().is_err(), "{bad:?}");
        }
    }
}
