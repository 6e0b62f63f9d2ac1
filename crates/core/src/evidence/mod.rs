//! What sensors found, by server, and what that amounts to.
//!
//! Sensors look at servers that are hot, and at those that evidence stands against. What they find
//! is kept for as long as it stands. What it amounts to is an event for the server's account.

mod log;

pub use log::EvidenceLog;

use crate::accounts::Accounts;
use policy::finding::{Evidence, Strength};
use policy::{FindingKind, evidence_of, kind_of_finding, suspicion};
use quantities::{CgroupId, Cores, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A server of which something was found is looked at for so long, hot or not.
const LOOKED_AT_FOR: Duration = Duration::from_secs(60);

/// Which servers are looked at.
#[derive(Debug, Clone, Copy)]
pub struct Attention {
    /// False while supervision is off.
    pub supervised: bool,
    /// The use above which a server is hot.
    pub hot: Cores,
    /// How long it must have been hot.
    pub hot_for: Duration,
    /// How long a finding stands.
    pub stands: Duration,
}

/// What findings came to.
#[derive(Debug, Default)]
pub struct Weighed {
    /// What the journal does not have yet: a level with the findings that it rests on.
    pub news: Vec<(Strength, Vec<Evidence>)>,
    /// The account was told: it is to be looked at now.
    pub accused: bool,
}

/// The evidence logs of all servers.
#[derive(Debug, Default)]
pub struct EvidenceStore {
    logs: BTreeMap<CgroupId, EvidenceLog>,
}

impl EvidenceStore {
    /// Notes which servers are hot, drops what is old, and says which servers sensors look at.
    pub fn attend(
        &mut self,
        accounts: &Accounts,
        attention: &Attention,
        now: Time,
    ) -> BTreeSet<CgroupId> {
        let mut hot = BTreeSet::new();
        for (id, place) in accounts.places() {
            if attention.supervised && place.is_hot(attention.hot) {
                hot.insert(place.lead().unwrap_or(id));
            }
        }
        let has_account = |id: CgroupId| {
            accounts
                .place(id)
                .is_some_and(|place| place.lead().is_none())
        };
        self.logs.retain(|id, _| has_account(*id));
        let mut looked_at = BTreeSet::new();
        for (id, place) in accounts
            .places()
            .filter(|(_, place)| place.lead().is_none())
        {
            let log = self.logs.entry(id).or_default();
            let is_hot = hot.contains(&id);
            log.hot_since = is_hot.then(|| log.hot_since.unwrap_or(now));
            log.forget(now, attention.stands);
            let long = |at| now.since(at) >= attention.hot_for;
            if log.hot_since.is_some_and(long)
                || log.look_until.is_some_and(|until| now < until)
                || place.standing().is_accused(now)
            {
                looked_at.insert(id);
            }
        }
        looked_at
    }

    /// Keeps a finding of a server, with the start of the process that it is of (field 22 of
    /// `/proc/PID/stat`); false if the server is not known.
    pub fn add(
        &mut self,
        id: CgroupId,
        finding: Evidence,
        started: Option<u64>,
        now: Time,
    ) -> bool {
        let Some(log) = self.logs.get_mut(&id) else {
            return false;
        };
        log.add(finding, started);
        if finding.strength() > Strength::Exonerates {
            log.look_until = Some(Time(now.0 + LOOKED_AT_FOR));
        }
        true
    }

    /// Weighs what is known of a server, with what was found just now.
    pub fn weigh(
        &mut self,
        accounts: &mut Accounts,
        id: CgroupId,
        fresh: &[Evidence],
        now: Time,
    ) -> Weighed {
        let mut weighed = Weighed::default();
        let (Some(log), Some(place)) = (self.logs.get_mut(&id), accounts.place(id)) else {
            return weighed;
        };
        let hot = log.hot_since.map(|at| now.since(at));
        let Some(level) = suspicion(&log.findings, hot) else {
            return weighed;
        };
        for of in FindingKind::ALL {
            let findings = evidence_of(of, &log.findings);
            if let Some(level) = suspicion(&findings, hot)
                && Some(&level) > log.logged.get(&of)
            {
                weighed.news.push((level, findings));
                log.logged.insert(of, level);
            }
        }
        let stood = place.standing().accusation(now).map(|before| before.level);
        let of = kind_of_finding(&log.findings, hot, level);
        // What is weaker, or of something else, may come from another program of the same server,
        // and says nothing of whether this goes on.
        let goes_on = fresh.iter().any(|fresh| match of {
            FindingKind::Mining => fresh.fact.is_of_mining(),
            FindingKind::Network => fresh.fact.accuses(),
        });
        if level >= Strength::High && (Some(level) > stood || goes_on) {
            accounts.accuse(id, level, of, now);
            weighed.accused = true;
        }
        weighed
    }

    /// What is known of a server.
    pub fn of(&self, id: CgroupId) -> Option<&EvidenceLog> {
        self.logs.get(&id)
    }

    /// The servers of which something may be known.
    pub fn servers(&self) -> impl Iterator<Item = CgroupId> {
        self.logs.keys().copied()
    }

    /// The processes that findings of mining are of, with their starts.
    pub fn mining_processes(&self, id: CgroupId) -> Vec<(u32, u64)> {
        let Some(log) = self.logs.get(&id) else {
            return Vec::new();
        };
        let of_mining = log.findings.iter().filter(|one| one.fact.is_of_mining());
        let pids: BTreeSet<u32> = of_mining.map(|one| one.pid).collect();
        pids.into_iter()
            .filter_map(|pid| Some((pid, *log.started.get(&pid)?)))
            .collect()
    }

    /// Starts a server's log anew, once what was found is ended.
    pub fn clear(&mut self, id: CgroupId) {
        self.logs.insert(id, EvidenceLog::default());
    }
}
