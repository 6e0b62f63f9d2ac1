//! What should be in a set under a key, where single elements can be put right.

use std::collections::BTreeSet;

use super::Installed;
use crate::{CgroupId, UidRule, limits, names, ruleset::Element, sets, uid_rules};

/// A set whose elements can be told one by one. The others are the policy's.
#[derive(Debug)]
pub struct Place<'a> {
    installed: &'a Installed,
    set: &'a str,
    keys: Keys<'a>,
}

/// What the keys of a set are.
#[derive(Debug)]
enum Keys<'a> {
    /// Cgroups, and these are in it.
    Among(&'a BTreeSet<CgroupId>),
    /// Cgroups of servers and slices.
    Cgroups,
    /// A mark, and a cgroup that it may reach.
    Loopback,
    /// Uids of users outside their servers.
    Uids,
}

impl Installed {
    /// A set by its name, if its elements can be told one by one.
    pub fn place<'a>(&'a self, set: &'a str) -> Option<Place<'a>> {
        let is = |name: String| name == set;
        let by_cgroup = |level| {
            [
                sets::servers(level),
                sets::marks(level),
                sets::exempt(level),
            ]
        };
        let keys = if set == sets::GUARDED {
            Keys::Among(&self.guarded)
        } else if let Some(services) = self.uid_rules.services_in(set) {
            Keys::Among(services)
        } else if uid_rules::is_of_uid_rules(set) {
            Keys::Uids
        } else if sets::LEVELS.into_iter().map(sets::own).any(is) {
            Keys::Loopback
        } else if sets::LEVELS.into_iter().flat_map(by_cgroup).any(is)
            || names::asking_sets().into_iter().any(is)
            || limits::received_sets().into_iter().any(is)
        {
            Keys::Cgroups
        } else {
            return None;
        };
        Some(Place {
            installed: self,
            set,
            keys,
        })
    }
}

impl Place<'_> {
    /// What should be under a key.
    pub fn element(&self, key: &[u8]) -> Option<Element> {
        let Installed {
            policy,
            servers,
            uid_rules,
            slices,
            ..
        } = self.installed;
        let (server, uid_rule) = match self.keys {
            Keys::Among(cgroups) => {
                let cgroup = cgroup(key).filter(|cgroup| cgroups.contains(cgroup));
                return cgroup.map(sets::guard);
            }
            Keys::Cgroups => {
                let cgroup = cgroup(key)?;
                let uid = slices.get(&cgroup);
                (
                    servers.get(&cgroup),
                    uid.and_then(|uid| uid_rules.by_uid.get(uid)),
                )
            }
            Keys::Loopback => {
                let (mark, reached) = key.split_first_chunk()?;
                let uid_rule = self
                    .installed
                    .uid_rule(u32::from_ne_bytes(*mark) & UidRule::NUMBER_MAX);
                (servers.get(&cgroup(reached)?), uid_rule)
            }
            Keys::Uids => {
                let uid = u32::from_ne_bytes(key.try_into().ok()?);
                (None, uid_rules.by_uid.get(&uid))
            }
        };
        let of_server = server.map(|server| sets::elements_of(policy, server));
        let of_uid = uid_rule.map(|uid_rule| uid_rules::elements_of(policy, uid_rule));
        let elements = of_server.into_iter().flatten();
        let mut elements = elements.chain(of_uid.into_iter().flatten());
        let found = elements.find(|(set, element)| set == self.set && element.key == key);
        found.map(|(_, element)| element)
    }
}

fn cgroup(key: &[u8]) -> Option<CgroupId> {
    Some(CgroupId(u64::from_ne_bytes(key.try_into().ok()?)))
}
