//! Deny lists: what public feeds and our own short one name, whatever a class allows.
//!
//! A list is addresses with and without a port, which become two lookups of the table however
//! long the list is, and host names, which a reader of DNS asks [`Names`] about.

mod forms;
mod names;
mod parse;
mod store;

use std::{fmt, net::SocketAddr, str::FromStr, sync::Arc};

use ipnet::IpNet;

pub use names::{Hit, Names};
pub use parse::{Problem, parse};
#[cfg(any(test, fuzzing))]
pub(super) use store::written;
pub use store::{Lists, ListsError};

/// A list's name: 1 to 32 of `a-z`, `0-9` and `-`, the first a letter or digit. It is a file's
/// name, part of a chain's and of the log prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListName(Arc<str>);

/// Why a word is no list's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("list name {0:?}: use 1 to 32 of a-z, 0-9 and '-', the first not '-'")]
pub struct NameError(String);

impl ListName {
    /// Longest name, bytes.
    pub const MAX: usize = 32;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ListName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        let fits = (1..=Self::MAX).contains(&name.len()) && !name.starts_with('-');
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if fits && name.bytes().all(plain) {
            Ok(Self(name.into()))
        } else {
            Err(NameError(name.chars().take(64).collect()))
        }
    }
}

impl fmt::Display for ListName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a list denies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries {
    /// Networks and single addresses, on every port.
    pub networks: Vec<IpNet>,
    /// Addresses on one port, of TCP and UDP.
    pub endpoints: Vec<SocketAddr>,
    /// Host names with all names below them, in lower case; on one port or on every one.
    pub names: Vec<(String, Option<u16>)>,
}

impl Entries {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.networks.len() + self.endpoints.len() + self.names.len()
    }

    /// Whether nothing is denied.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Brings them in order, each once.
    fn settle(&mut self) {
        self.networks = IpNet::aggregate(&self.networks);
        self.endpoints.sort_unstable();
        self.endpoints.dedup();
        self.names.sort_unstable();
        self.names.dedup();
    }
}

/// A deny list and where it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// What refusals name it by.
    pub name: ListName,
    /// The file it was read from, escaped.
    pub source: String,
    /// When, in seconds of Unix time; 0 for the one that is built in.
    pub imported: u64,
    /// What it denies.
    pub entries: Entries,
}

impl List {
    /// Well-known operators of mining pools, and what they publish as their servers.
    pub fn built_in() -> Option<Self> {
        let (entries, _) = parse(include_bytes!("mining-pools.txt"));
        Some(Self {
            name: "mining-pools".parse().ok()?,
            source: "built in, 2026-11".to_owned(),
            imported: 0,
            entries,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn list_names_hold_nothing_that_a_path_or_a_rule_could_misread() {
        for good in ["a", "maltrail-2026", "9lives", &"x".repeat(32)] {
            assert_eq!(good.parse::<ListName>().unwrap().as_str(), good);
        }
        for bad in ["", "..", "a/b", "A", "-a", "a b", "a\"", &"x".repeat(33)] {
            assert!(bad.parse::<ListName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_built_in_list_has_no_wrong_line() {
        let (entries, problems) = parse(include_bytes!("mining-pools.txt"));
        assert_eq!(problems, []);
        assert!(entries.names.len() > 15);
        assert!(List::built_in().is_some());
    }
}
