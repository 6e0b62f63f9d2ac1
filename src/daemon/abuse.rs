//! Once a tick: who abuses the network.
//!
//! The packet rules remember whom servers tried to reach in vain, hold floods, and count both; so a
//! look costs next to nothing where nobody does either. What is seen at look after look is worth more
//! than what is seen once: an accident does not last.

use super::cgroups::Cgroup;
use super::{Daemon, Shell};
use crate::act::CpuControl;
use crate::hub::Units;
use egress::Attempts;
use policy::finding::{Evidence, Fact, scan};
use quantities::CgroupId;
use quantities::Time;
use sensors::set::Found;
use std::collections::BTreeMap;

/// What was seen at the last look, by the packet rules' numbers.
#[derive(Default)]
pub(super) struct Abuse {
    /// At how many looks in a row, up to the last, who scanned.
    scanned: BTreeMap<u32, u32>,
    /// The same of who flooded.
    flooded: BTreeMap<u32, u32>,
    /// When there was a look last.
    looked: Option<Time>,
}

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Looks for connections that are not answered, packets in great number and false addresses.
    pub(super) fn watch_abuse(&mut self, now: Time) {
        let shell = &mut self.shell;
        if shell.off || !shell.network.rules.stand() {
            shell.network.abuse = Abuse::default();
            shell.network.counters.refused.clear();
            return;
        }
        let mut seen = shell.scans(now);
        seen.extend(shell.floods());
        seen.extend(shell.false_addresses());
        // What a user does outside the server goes to the server's account.
        let found: Vec<Found> = seen
            .into_iter()
            .filter_map(|(number, fact)| {
                let id = shell.sender(number)?;
                let pid = Evidence::NO_PROCESS;
                let evidence = Evidence { fact, pid, at: now };
                Some(Found { id: id.0, evidence })
            })
            .collect();
        shell.network.counters.refused.clear();
        if !found.is_empty() {
            self.found(&found);
        }
    }
}

impl Shell {
    fn scans(&mut self, now: Time) -> Vec<(u32, Fact)> {
        let since = self.network.abuse.looked.replace(now);
        let since = since.map_or(self.config.tick, |since| now.since(since));
        // What is wrong with the table is the next check's to tell.
        let seen = self.network.rules.attempts(scan::HOSTS, since);
        let before = std::mem::take(&mut self.network.abuse.scanned);
        let mut facts = Vec::new();
        for attempts in seen {
            let number = attempts.number;
            let looks = before.get(&number).copied().unwrap_or(0);
            if let Some(fact) = scan_of(&attempts, looks) {
                if let Fact::Scan { looks, .. } | Fact::PortScan { looks, .. } = fact {
                    self.network.abuse.scanned.insert(number, looks);
                }
                facts.push((number, fact));
            }
        }
        facts
    }

    fn floods(&mut self) -> Vec<(u32, Fact)> {
        let before = std::mem::take(&mut self.network.abuse.flooded);
        let Some(span) = self.network.counters.span else {
            return Vec::new();
        };
        let mut facts = Vec::new();
        for (number, sent) in self.volumes() {
            let looks = before.get(&number).copied().unwrap_or(0);
            if let Some(fact) = scan::volume(sent, span.as_secs_f64(), looks) {
                self.network
                    .abuse
                    .flooded
                    .insert(number, looks.saturating_add(1));
                facts.push((number, fact));
            }
        }
        facts
    }

    /// What everybody sent since the look before, and what was held of it.
    fn volumes(&self) -> BTreeMap<u32, scan::Volume> {
        let mut volumes: BTreeMap<u32, scan::Volume> = BTreeMap::new();
        for (id, (packets, bytes)) in &self.network.counters.sent {
            if let Some(number) = self.number_of(*id) {
                let volume = volumes.entry(number).or_default();
                (volume.packets, volume.bytes) = (*packets, *bytes);
            }
        }
        for refused in &self.network.counters.refused {
            if let (Some(number), true) = (refused.number, refused.flooding > 0) {
                volumes.entry(number).or_default().held = refused.flooding;
            }
        }
        volumes
    }

    fn number_of(&self, id: CgroupId) -> Option<u32> {
        match self.registry.entries.get(&id) {
            Some(Cgroup::Server(guarded)) => Some(guarded.number),
            _ => None,
        }
    }

    fn false_addresses(&self) -> Vec<(u32, Fact)> {
        let spoofed = self
            .network
            .counters
            .refused
            .iter()
            .filter(|one| one.spoofed > 0);
        let fact = |packets| Fact::Spoofed { packets };
        let by_number = spoofed.filter_map(|one| Some((one.number?, fact(one.spoofed))));
        by_number.collect()
    }
}

/// What a sender's attempts amount to. While nobody at all is answered it is the network that is
/// gone: that is never more than a first look.
fn scan_of(attempts: &Attempts, before: u32) -> Option<Fact> {
    let look = scan::Look {
        unanswered: attempts.unanswered.len(),
        fresh: attempts.fresh,
        answered: attempts.answered,
        port: attempts.port(),
        ports: attempts.ports_of_one(),
        fresh_ports: attempts.fresh_ports,
    };
    let before = if attempts.connected { before } else { 0 };
    scan::look(look, before)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempts(connected: bool) -> Attempts {
        let target = |n: u8| ([10, 0, 0, n].into(), [22].into());
        Attempts {
            number: 1,
            unanswered: (0..200).map(target).collect(),
            fresh: 40,
            fresh_ports: 1,
            answered: 0,
            connected,
        }
    }

    #[test]
    fn looks_add_up_only_while_somebody_is_answered() {
        let looks = |connected, before| match scan_of(&attempts(connected), before) {
            Some(Fact::Scan { looks, port, .. }) => {
                assert_eq!(port, Some(22));
                looks
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(looks(true, 3), 4);
        assert_eq!(looks(false, 3), 1);
    }
}
