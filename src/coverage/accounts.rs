//! Names of accounts, for words and for templates.

use crate::hub::name_of;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Names are asked for so long in one survey, since LDAP may not answer; the next one goes on.
const PATIENCE: Duration = Duration::from_secs(1);
/// A name is asked for anew after this.
const FRESH: Duration = Duration::from_secs(600);
/// Names that are kept.
const MOST: usize = 4096;

/// Names by uid, with when they were asked for.
#[derive(Debug, Default)]
pub(super) struct Accounts(BTreeMap<u32, (Option<String>, Instant)>);

impl Accounts {
    /// The names of these, as far as they can be had in time.
    pub fn names(&mut self, uids: &BTreeSet<u32>) -> BTreeMap<u32, String> {
        let begun = Instant::now();
        if self.0.len() > MOST {
            self.0.clear();
        }
        let mut names = BTreeMap::new();
        for uid in uids {
            let known = self.0.get(uid).filter(|(_, asked)| asked.elapsed() < FRESH);
            let name = match known {
                Some((name, _)) => name.clone(),
                None if begun.elapsed() >= PATIENCE => continue,
                None => {
                    let name = name_of(*uid);
                    self.0.insert(*uid, (name.clone(), Instant::now()));
                    name
                }
            };
            names.extend(name.map(|name| (*uid, name)));
        }
        names
    }
}
