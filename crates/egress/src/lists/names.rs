//! Whether a host name is on a list, for whoever reads DNS.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
};

use super::{List, ListName};

/// The names of all lists, by the hash of their suffixes: 12 to 24 bytes each however long the
/// name. The hash has a random key, so that a feed cannot aim at a name that is not in it.
#[derive(Debug, Default)]
pub struct Names {
    hasher: RandomState,
    suffixes: HashMap<u64, (u16, Option<u16>)>,
    lists: Vec<ListName>,
}

/// A name that is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit<'a> {
    /// The list.
    pub list: &'a ListName,
    /// The one port that it names, or every one.
    pub port: Option<u16>,
}

impl Names {
    /// The names of these lists; the first list that has a name counts.
    pub fn new(lists: &[List]) -> Self {
        let mut names = Self::default();
        for (place, list) in (0u16..).zip(lists) {
            names.lists.push(list.name.clone());
            for (name, port) in &list.entries.names {
                let hash = names.hasher.hash_one(name.as_bytes());
                let known = names.suffixes.entry(hash).or_insert((place, *port));
                // Two ports of one name: all of it.
                if known.1 != *port {
                    known.1 = None;
                }
            }
        }
        names
    }

    /// Whether this name, or one that it is below, is listed. A closing dot and capitals do not
    /// matter.
    pub fn find(&self, name: &str) -> Option<Hit<'_>> {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let mut rest = name.as_str();
        loop {
            if let Some((list, port)) = self.suffixes.get(&self.hasher.hash_one(rest.as_bytes())) {
                let list = self.lists.get(usize::from(*list))?;
                return Some(Hit { list, port: *port });
            }
            rest = rest.split_once('.')?.1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lists::parse;

    fn list(name: &str, text: &str) -> List {
        List {
            name: name.parse().unwrap(),
            source: String::new(),
            imported: 0,
            entries: parse(text.as_bytes()).0,
        }
    }

    #[test]
    fn a_listed_name_and_all_below_it_are_found_and_nothing_beside_it() {
        let lists = [
            list("one", "pool.example.com\nother.example:3333"),
            list("two", "pool.example.com\nexample.net"),
        ];
        let names = Names::new(&lists);
        let found = |name| names.find(name).map(|hit| (hit.list.as_str(), hit.port));
        for name in ["pool.example.com", "EU.Pool.example.com."] {
            assert_eq!(found(name), Some(("one", None)), "{name}");
        }
        assert_eq!(found("a.b.c.example.net"), Some(("two", None)));
        assert_eq!(found("other.example"), Some(("one", Some(3333))));
        for name in ["example.com", "carpool.example.com", "com", "", ".", "net"] {
            assert_eq!(found(name), None, "{name}");
        }
    }
}
