//! Where the senses look, and what becomes of what they find.
//!
//! They look at servers that are hot, and at those that evidence stands against; the senses' own
//! thread sleeps otherwise. What they find goes to the journal, and to the judge as soon as it
//! amounts to something.

use super::entries::{Entry, Guarded};
use super::{Daemon, Inner};
use crate::act::CpuControl;
use crate::cgroup::CgroupId;
use crate::evidence::senses::{Found, Senses, Suspect};
use crate::evidence::{Evidence, Strength};
use crate::hub::Units;
use crate::judge::{Event, step, suspicion};
use crate::report::{Entry as Told, Journal, Kind, Level};
use crate::units::{Cores, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// A server that uses more than this is hot; so is one that runs into its quota.
pub(super) const HOT: Cores = Cores(0.5);
/// It is looked at once it was hot for this long.
pub(super) const HOT_FOR: Duration = Duration::from_secs(10);
/// How often the senses look.
const EVERY: Duration = Duration::from_secs(1);
/// Facts kept of one server.
const MOST_FACTS: usize = 32;

/// What is known of one server.
#[derive(Default)]
pub(super) struct Dossier {
    pub hot_since: Option<Time>,
    pub evidence: Vec<Evidence>,
    told: Option<Strength>,
}

/// What is known of all servers, and where the senses are sent.
#[derive(Default)]
pub(super) struct Dossiers {
    servers: BTreeMap<CgroupId, Dossier>,
    suspects: Arc<Mutex<Vec<Suspect>>>,
}

impl Dossiers {
    /// What is known of a server.
    pub fn of(&self, id: CgroupId) -> Option<&Dossier> {
        self.servers.get(&id)
    }

    /// What evidence on a server amounted to at most, in a word.
    pub fn level_of(&self, id: CgroupId) -> &'static str {
        let told = self.of(id).and_then(|dossier| dossier.told);
        told.map_or("none", Strength::as_str)
    }

    /// Starts the senses' thread; what they find comes out of the queue.
    pub fn start(&self, journal: &Journal) -> mpsc::Receiver<Found> {
        let (sender, found) = mpsc::channel(256);
        let suspects = Arc::clone(&self.suspects);
        let told = journal.clone();
        let thread = std::thread::Builder::new()
            .name("senses".into())
            .spawn(move || look_forever(&suspects, &sender, &told));
        if let Err(error) = thread {
            let message = format!("Miners cannot be told from training jobs: no thread: {error}.");
            journal.tell(Told::new(Kind::Trouble, Level::Error, message));
        }
        found
    }
}

fn look_forever(suspects: &Mutex<Vec<Suspect>>, found: &mpsc::Sender<Found>, journal: &Journal) {
    let (mut senses, blind) = Senses::start();
    for why in blind {
        let message =
            format!("One of the senses for miners is blind, and the others go on: {why}.");
        journal.tell(Told::new(Kind::Trouble, Level::Warning, message));
    }
    let mut rests = true;
    while !found.is_closed() {
        let now_suspects = suspects
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if !(rests && now_suspects.is_empty()) {
            for one in senses.look(&now_suspects, super::now()) {
                // Full: the daemon is busy, and what stands is found again.
                let _ = found.try_send(one);
            }
        }
        rests = now_suspects.is_empty();
        std::thread::sleep(EVERY);
    }
}

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Takes in what the senses found, and has the judge act on it at once.
    pub(super) fn found(self: &Rc<Self>, found: Found, now: Time) {
        let id = CgroupId(found.id);
        if self.inner.borrow_mut().weigh(id, found.evidence, now) {
            self.sweep(now, Some(&BTreeSet::from([id])));
        }
    }
}

impl Inner {
    /// Notes who is hot, and sends the senses there.
    pub(super) fn send_senses(&mut self, now: Time) {
        let mut suspects = Vec::new();
        let (off, root) = (self.off, self.root.clone());
        let mut known = std::mem::take(&mut self.dossiers.servers);
        for (id, entry) in &self.entries {
            let Entry::Guarded(guarded) = entry else {
                continue;
            };
            let mut dossier = known.remove(id).unwrap_or_default();
            dossier.hot_since = is_hot(guarded).then(|| dossier.hot_since.unwrap_or(now));
            let hot = dossier.hot_since.is_some_and(|at| now.since(at) >= HOT_FOR);
            if !off && (hot || guarded.case.is_accused(now)) {
                let path = guarded.cgroup.as_str().trim_start_matches('/');
                suspects.push(Suspect {
                    id: id.0,
                    directory: root.join(path),
                });
            }
            self.dossiers.servers.insert(*id, dossier);
        }
        *self
            .dossiers
            .suspects
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = suspects;
    }

    /// Books one piece of evidence; true when the judge has to look at it.
    fn weigh(&mut self, id: CgroupId, evidence: Evidence, now: Time) -> bool {
        if self.off {
            return false;
        }
        let mode = self.config.mode;
        let Some(mut dossier) = self.dossiers.servers.remove(&id) else {
            return false;
        };
        dossier.add(evidence);
        let hot = dossier.hot_since.map(|at| now.since(at));
        let level = suspicion(&dossier.evidence, hot);
        let journal = self.journal.clone();
        let mut act = false;
        if let Some(guarded) = self.guarded(id)
            && let Some(level) = level
        {
            if Some(level) > dossier.told {
                journal.tell(guarded.story(mode).evidence(level, &evidence));
                dossier.told = Some(level);
            }
            if level >= Strength::High {
                step(
                    &mut guarded.case,
                    &Event::Evidence { level },
                    now,
                    &guarded.policy,
                );
                act = true;
            }
        }
        self.dossiers.servers.insert(id, dossier);
        act
    }
}

impl Dossier {
    /// Of one kind the first and the latest are kept: two windows are all that is ever asked for.
    fn add(&mut self, evidence: Evidence) {
        let same = |one: &Evidence| {
            one.pid == evidence.pid
                && std::mem::discriminant(&one.fact) == std::mem::discriminant(&evidence.fact)
        };
        let mut latest = self
            .evidence
            .iter()
            .enumerate()
            .filter(|(_, one)| same(one));
        match (latest.next(), latest.next()) {
            (Some(_), Some((at, _))) => self.evidence[at] = evidence,
            _ if self.evidence.len() < MOST_FACTS => self.evidence.push(evidence),
            _ => {}
        }
    }
}

fn is_hot(guarded: &Guarded) -> bool {
    guarded.rate() > HOT || guarded.at_its_quota
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::{Fact, Modes};

    #[test]
    fn of_one_kind_the_first_and_the_latest_are_kept() {
        let mut dossier = Dossier::default();
        for second in 0..100 {
            dossier.add(Evidence {
                fact: Fact::RandomRounding(Modes::default()),
                pid: 7,
                at: Time(Duration::from_secs(second)),
            });
        }
        let times: Vec<u64> = dossier.evidence.iter().map(|e| e.at.0.as_secs()).collect();
        assert_eq!(times, [0, 99]);
        for pid in 0..1000 {
            dossier.add(Evidence {
                fact: Fact::Named("xmrig"),
                pid,
                at: Time(Duration::ZERO),
            });
        }
        assert_eq!(dossier.evidence.len(), MOST_FACTS);
    }
}
