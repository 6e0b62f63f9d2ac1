//! What is known of one server: the findings that count, bounded, and for as long as they stand.

use policy::finding::{Evidence, Strength};
use policy::{FindingKind, evidence_of, suspicion};
use quantities::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Findings kept of one server.
const MOST_FINDINGS: usize = 32;

/// What is known of one server.
#[derive(Debug, Default)]
pub struct EvidenceLog {
    pub(super) hot_since: Option<Time>,
    pub(super) findings: Vec<Evidence>,
    /// The levels that are in the journal: a line about the one says nothing of the other.
    pub(super) logged: BTreeMap<FindingKind, Strength>,
    /// When each process that a finding is of was started, since numbers are used again.
    pub(super) started: BTreeMap<u32, u64>,
    pub(super) look_until: Option<Time>,
}

impl EvidenceLog {
    /// What was found and still stands.
    pub fn findings(&self) -> &[Evidence] {
        &self.findings
    }

    /// Since when the server has used so much CPU that it is looked at.
    pub fn hot_since(&self) -> Option<Time> {
        self.hot_since
    }

    /// What findings of this kind amounted to at most, as logged.
    pub fn level(&self, of: FindingKind) -> Option<Strength> {
        self.logged.get(&of).copied()
    }

    /// Of one kind the first and the latest are kept: two windows are all that is ever asked for.
    pub(super) fn add(&mut self, finding: Evidence, started: Option<u64>) {
        if let Some(started) = started {
            self.started.insert(finding.pid, started);
        }
        let same = |one: &Evidence| {
            one.pid == finding.pid
                && std::mem::discriminant(&one.fact) == std::mem::discriminant(&finding.fact)
        };
        if let Some(latest) = self.findings.iter_mut().filter(|one| same(one)).nth(1) {
            *latest = finding;
        } else if self.findings.len() < MOST_FINDINGS {
            self.findings.push(finding);
        } else {
            // What is stronger is worth more room than what is weaker.
            let worth = |one: &Evidence| (one.fact.accuses(), one.strength());
            let least = self.findings.iter_mut().min_by_key(|one| worth(one));
            if let Some(least) = least.filter(|least| worth(least) < worth(&finding)) {
                *least = finding;
            }
        }
        let kept: BTreeSet<u32> = self.findings.iter().map(|one| one.pid).collect();
        self.started.retain(|pid, _| kept.contains(pid));
    }

    /// Drops what was found too long ago; of a pair both stay while the latest does.
    pub(super) fn forget(&mut self, now: Time, stands: Duration) {
        let latest = |of: &Evidence| {
            let kind = std::mem::discriminant(&of.fact);
            let same = self
                .findings
                .iter()
                .filter(|one| one.pid == of.pid && std::mem::discriminant(&one.fact) == kind);
            same.map(|one| one.at).max()
        };
        let kept: Vec<Evidence> = self
            .findings
            .iter()
            .filter(|one| latest(one).is_some_and(|at| now.since(at) < stands))
            .copied()
            .collect();
        if kept.len() < self.findings.len() {
            self.findings = kept;
            self.logged.retain(|of, logged| {
                let left = suspicion(&evidence_of(*of, &self.findings), Some(Duration::MAX));
                *logged = left.unwrap_or(*logged).min(*logged);
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
        let mut log = EvidenceLog::default();
        for second in 0..100 {
            log.add(at(second, 7, Fact::RandomRounding(Modes::default())), None);
        }
        let times: Vec<u64> = log.findings.iter().map(|e| e.at.0.as_secs()).collect();
        assert_eq!(times, [0, 99]);
        for pid in 100_000_000..100_001_000 {
            log.add(at(0, pid, NAMED), None);
        }
        assert_eq!(log.findings.len(), MOST_FINDINGS);
        // Of what is worth the same the first stays.
        assert_eq!(log.findings[2].pid, 100_000_000);
    }

    #[test]
    fn a_thousand_weak_signs_leave_room_for_a_strong_one() {
        let mut log = EvidenceLog::default();
        for pid in 100_000_000..100_001_000 {
            log.add(at(0, pid, NAMED), None);
        }
        log.add(at(1, 7, Fact::RandomRounding(Modes::default())), None);
        log.add(at(1, 7, Fact::Constants { found: 7 }), None);
        let hot = Some(Duration::from_secs(5));
        assert_eq!(suspicion(&log.findings, hot), Some(Strength::Certain));
    }

    #[test]
    fn what_else_is_found_of_a_process_keeps_nothing_that_is_old() {
        let mut log = EvidenceLog::default();
        let constants = at(500, 7, Fact::Constants { found: 7 });
        log.add(at(0, 7, NAMED), None);
        log.add(constants, None);
        log.add(at(500, 8, NAMED), None);
        log.forget(Time(Duration::from_secs(600)), Duration::from_secs(600));
        assert_eq!(log.findings, [constants, at(500, 8, NAMED)]);
    }

    #[test]
    fn old_evidence_is_let_go_and_told_anew_when_it_comes_back() {
        let mut log = EvidenceLog::default();
        let stands = Duration::from_secs(600);
        log.add(at(0, 7, NAMED), None);
        log.add(at(500, 8, Fact::Constants { found: 7 }), None);
        log.logged.insert(FindingKind::Mining, Strength::High);
        log.logged.insert(FindingKind::Network, Strength::High);
        log.forget(Time(Duration::from_secs(599)), stands);
        assert_eq!(log.findings.len(), 2);
        log.forget(Time(Duration::from_secs(601)), stands);
        assert_eq!(log.findings, [at(500, 8, Fact::Constants { found: 7 })]);
        let told = BTreeMap::from([(FindingKind::Mining, Strength::High)]);
        assert_eq!(log.logged, told);
        log.forget(Time(Duration::from_secs(1100)), stands);
        assert!(log.logged.is_empty());
    }
}
