//! What is known of one server: the evidence that counts, bounded, and for as long as it stands.

use policy::finding::{Evidence, Strength};
use policy::{Matter, evidence_of, suspicion};
use quantities::Time;
use sensors::process::Process;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Facts kept of one server.
const MOST_FACTS: usize = 32;

/// What is known of one server.
#[derive(Default)]
pub(in crate::daemon) struct Dossier {
    pub hot_since: Option<Time>,
    pub evidence: Vec<Evidence>,
    /// The levels that the journal knows of: a line about the one says nothing of the other.
    pub told: BTreeMap<Matter, Strength>,
    /// When each process that evidence is of was started, since numbers are used again.
    pub(super) processes: BTreeMap<u32, u64>,
    pub(super) look_until: Option<Time>,
}

impl Dossier {
    /// Of one kind the first and the latest are kept: two windows are all that is ever asked for.
    pub(super) fn add(&mut self, evidence: Evidence) {
        if let Some(started) = Process::new(evidence.pid).started() {
            self.processes.insert(evidence.pid, started);
        }
        let same = |one: &Evidence| {
            one.pid == evidence.pid
                && std::mem::discriminant(&one.fact) == std::mem::discriminant(&evidence.fact)
        };
        if let Some(latest) = self.evidence.iter_mut().filter(|one| same(one)).nth(1) {
            *latest = evidence;
        } else if self.evidence.len() < MOST_FACTS {
            self.evidence.push(evidence);
        } else {
            // What is stronger is worth more room than what is weaker.
            let worth = |one: &Evidence| (one.fact.accuses(), one.strength());
            let least = self.evidence.iter_mut().min_by_key(|one| worth(one));
            if let Some(least) = least.filter(|least| worth(least) < worth(&evidence)) {
                *least = evidence;
            }
        }
        let kept: BTreeSet<u32> = self.evidence.iter().map(|one| one.pid).collect();
        self.processes.retain(|pid, _| kept.contains(pid));
    }

    /// Lets go of what was found too long ago; of a pair both stay while the latest does.
    pub(super) fn forget(&mut self, now: Time, stands: Duration) {
        let latest = |of: &Evidence| {
            let kind = std::mem::discriminant(&of.fact);
            let same = self
                .evidence
                .iter()
                .filter(|one| one.pid == of.pid && std::mem::discriminant(&one.fact) == kind);
            same.map(|one| one.at).max()
        };
        let kept: Vec<Evidence> = self
            .evidence
            .iter()
            .filter(|one| latest(one).is_some_and(|at| now.since(at) < stands))
            .copied()
            .collect();
        if kept.len() < self.evidence.len() {
            self.evidence = kept;
            self.told.retain(|matter, told| {
                let left = suspicion(&evidence_of(*matter, &self.evidence), Some(Duration::MAX));
                *told = left.unwrap_or(*told).min(*told);
                left.is_some()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::finding::{Fact, Modes};

    const NAMED: Fact = Fact::Named("xmrig");

    fn at(second: u64, pid: u32, fact: Fact) -> Evidence {
        Evidence {
            fact,
            pid,
            at: Time(Duration::from_secs(second)),
        }
    }

    #[test]
    fn of_one_kind_the_first_and_the_latest_are_kept() {
        let mut dossier = Dossier::default();
        for second in 0..100 {
            dossier.add(at(second, 7, Fact::RandomRounding(Modes::default())));
        }
        let times: Vec<u64> = dossier.evidence.iter().map(|e| e.at.0.as_secs()).collect();
        assert_eq!(times, [0, 99]);
        for pid in 100_000_000..100_001_000 {
            dossier.add(at(0, pid, NAMED));
        }
        assert_eq!(dossier.evidence.len(), MOST_FACTS);
    }

    #[test]
    fn a_thousand_weak_signs_leave_room_for_a_strong_one() {
        let mut dossier = Dossier::default();
        for pid in 100_000_000..100_001_000 {
            dossier.add(at(0, pid, NAMED));
        }
        dossier.add(at(1, 7, Fact::RandomRounding(Modes::default())));
        dossier.add(at(1, 7, Fact::Constants { found: 7 }));
        let hot = Some(Duration::from_secs(5));
        assert_eq!(suspicion(&dossier.evidence, hot), Some(Strength::Certain));
    }

    #[test]
    fn old_evidence_is_let_go_and_told_anew_when_it_comes_back() {
        let mut dossier = Dossier::default();
        let stands = Duration::from_secs(600);
        dossier.add(at(0, 7, NAMED));
        dossier.add(at(500, 8, Fact::Constants { found: 7 }));
        dossier.told.insert(Matter::Mining, Strength::High);
        dossier.told.insert(Matter::Network, Strength::High);
        dossier.forget(Time(Duration::from_secs(599)), stands);
        assert_eq!(dossier.evidence.len(), 2);
        dossier.forget(Time(Duration::from_secs(601)), stands);
        assert_eq!(dossier.evidence, [at(500, 8, Fact::Constants { found: 7 })]);
        let told = BTreeMap::from([(Matter::Mining, Strength::High)]);
        assert_eq!(dossier.told, told);
        dossier.forget(Time(Duration::from_secs(1100)), stands);
        assert!(dossier.told.is_empty());
    }
}
