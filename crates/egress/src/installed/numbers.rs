//! Who has which number.

use std::collections::BTreeSet;

use super::Installed;
use crate::{CgroupId, ClassName, UidRule};

impl Installed {
    /// The class that judges the server with this number.
    pub fn class_of(&self, number: u32) -> Option<&ClassName> {
        if let Some(cgroup) = self.numbers.get(&number) {
            return Some(&self.servers.get(cgroup)?.class);
        }
        if let Some(uid_rule) = self.uid_rule(number) {
            return Some(&uid_rule.class);
        }
        let mut ports = self.bridges.servers.values();
        let port = ports.find(|port| port.number == number)?;
        Some(&port.class)
    }

    pub(super) fn uid_rule(&self, number: u32) -> Option<&UidRule> {
        self.uid_rules.by_uid.get(self.people_s.get(&number)?)
    }

    /// The number of the server, or of the user's slice, that a cgroup is.
    pub fn number_of(&self, cgroup: CgroupId) -> Option<u32> {
        let of_slice = || {
            let slice = self
                .uid_rules
                .by_uid
                .get(self.slices.get(&cgroup)?)?
                .slice?;
            Some(slice.number)
        };
        let server = self.servers.get(&cgroup);
        server.map(|server| server.number).or_else(of_slice)
    }

    /// What senders brought in who are gone is nobody's.
    pub fn forget_senders(&mut self) {
        let ports = self.bridges.servers.values().map(|port| port.number);
        let ports: BTreeSet<u32> = ports.collect();
        let (numbers, people) = (&self.numbers, &self.people_s);
        self.learned.keep_senders(|number| {
            numbers.contains_key(&number) || people.contains_key(&number) || ports.contains(&number)
        });
    }
}
