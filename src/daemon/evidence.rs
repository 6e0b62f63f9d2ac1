//! Where the senses look, and what becomes of what they find.
//!
//! They look at servers that are hot, and at those that evidence stands against, and listen to all
//! for what is rare. What they find goes to the journal, and to the judge as soon as it amounts to
//! something.

use super::entries::{Entry, Guarded};
use super::{Daemon, Inner};
use crate::act::{CpuControl, Named};
use crate::cgroup::CgroupId;
use crate::config::Config;
use crate::evidence::process::Process;
use crate::evidence::senses::{Blind, Found, Senses, Settings, Suspect};
use crate::evidence::{Evidence, Fact, Sense, Strength};
use crate::hub::Units;
use crate::judge::{Event, step, suspicion};
use crate::report::{Entry as Told, Journal, Kind, Level};
use crate::units::Time;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// How often the senses look while somebody is to be looked at.
const EVERY: Duration = Duration::from_secs(1);
/// What is only listened for is gathered for so long, so that nobody keeps us busy by starting
/// programs.
const GATHERED: Duration = Duration::from_millis(100);
/// How often the senses are asked how they are: two system calls a server.
const ASKED_EVERY: Duration = Duration::from_secs(10);
/// Somebody of whom something was found is looked at for so long, hot or not.
const LOOKED_AT_FOR: Duration = Duration::from_secs(60);
/// A server that used a share of what is hot is measured again after this, not at the next tick.
const MEASURED_AGAIN: Duration = Duration::from_secs(1);
const WARM: f64 = 0.25;
/// Facts kept of one server.
const MOST_FACTS: usize = 32;

/// What is known of one server.
#[derive(Default)]
pub(super) struct Dossier {
    pub hot_since: Option<Time>,
    pub evidence: Vec<Evidence>,
    pub told: Option<Strength>,
    /// When each process that evidence is of was started, since numbers are used again.
    processes: BTreeMap<u32, u64>,
    look_until: Option<Time>,
}

/// What is known of all servers, and where the senses are sent.
pub(super) struct Dossiers {
    pub servers: BTreeMap<CgroupId, Dossier>,
    /// Missing where the kernel gives no event to wake a thread by.
    orders: Option<Arc<Orders>>,
}

/// Between the daemon and the senses' thread.
struct Orders {
    now: Mutex<Order>,
    wake: OwnedFd,
    health: Mutex<Option<Health>>,
}

/// Where the senses are to look and listen.
#[derive(Clone, Default, PartialEq)]
struct Order {
    suspects: Vec<Suspect>,
    guarded: Arc<BTreeMap<u64, PathBuf>>,
    settings: Settings,
    end: bool,
}

/// How the senses are.
#[derive(Clone, Default)]
struct Health {
    blind: Vec<Blind>,
    starts_missed: u64,
}

impl Default for Dossiers {
    fn default() -> Self {
        let orders =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(|wake| Orders {
                now: Mutex::default(),
                wake,
                health: Mutex::default(),
            });
        Dossiers {
            servers: BTreeMap::new(),
            orders: orders.ok().map(Arc::new),
        }
    }
}

impl Orders {
    fn give(&self, order: Order) {
        let mut now = held(&self.now);
        if *now != order {
            *now = order;
            // It is full only when it wakes already.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }
}

impl Drop for Dossiers {
    fn drop(&mut self) {
        if let Some(orders) = &self.orders {
            let end = true;
            orders.give(Order {
                end,
                ..Order::default()
            });
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        let told = journal.clone();
        let thread = match &self.orders {
            Some(orders) => {
                let orders = Arc::clone(orders);
                std::thread::Builder::new()
                    .name("senses".into())
                    .spawn(move || look_forever(&orders, &sender, &told))
                    .map(drop)
            }
            None => Err(std::io::Error::last_os_error()),
        };
        if let Err(error) = thread {
            let message = format!("Miners cannot be told from training jobs: no thread: {error}.");
            journal.tell(Told::new(Kind::Trouble, Level::Error, message));
        }
        found
    }

    /// What of the senses does not work here, by name and in words; nothing until they were tried.
    pub fn lacks(&self) -> Vec<(String, String)> {
        let health = self
            .orders
            .as_ref()
            .and_then(|orders| held(&orders.health).clone());
        let Some(health) = health else {
            return Vec::new();
        };
        let mut lacks: Vec<(String, String)> = Vec::new();
        for blind in &health.blind {
            let why = format!("{}; {}", blind.why, blind.remains());
            lacks.push((blind.sense.as_str().to_owned(), why));
        }
        if health.starts_missed > 0 {
            let why = format!(
                "{} programs were started too fast to be read; those that go on are looked at \
                 while they use much CPU",
                health.starts_missed
            );
            lacks.push((Sense::Exec.as_str().to_owned(), why));
        }
        lacks
    }
}

fn look_forever(orders: &Orders, found: &mpsc::Sender<Found>, journal: &Journal) {
    let mut senses = Senses::start();
    for blind in senses.blind() {
        let message = format!(
            "One of the senses for miners is blind, and the others go on: {} ({}). What remains: \
             {}.",
            blind.sense,
            blind.why,
            blind.remains()
        );
        let told = Told::new(Kind::Trouble, Level::Warning, message);
        journal.tell(told.with("EVIDENCE", blind.sense));
    }
    let mut order = Order::default();
    let mut rests = true;
    let mut asked: Option<Time> = None;
    while !found.is_closed() {
        let new = held(&orders.now).clone();
        if new.end {
            return;
        }
        if new.settings != order.settings {
            senses.configure(new.settings.clone());
        }
        if new.guarded != order.guarded {
            senses.guard((*new.guarded).clone());
        }
        order = new;
        let now = super::now();
        let mut seen = senses.listen(now);
        if !(rests && order.suspects.is_empty()) {
            seen.extend(senses.look(&order.suspects, now));
        }
        for one in seen {
            // Full: the daemon is busy, and what stands is found again.
            let _ = found.try_send(one);
        }
        if asked.is_none_or(|at| now.since(at) >= ASKED_EVERY) {
            asked = Some(now);
            *held(&orders.health) = Some(Health {
                blind: senses.blind().to_vec(),
                starts_missed: senses.starts_missed(),
            });
        }
        rests = order.suspects.is_empty();
        wait(orders, &senses, rests);
    }
}

/// Until it is time to look again, or somebody has something to say.
fn wait(orders: &Orders, senses: &Senses, rests: bool) {
    std::thread::sleep(GATHERED);
    // While nobody is looked at, only for new orders and for what is heard.
    let longest = match rests {
        true => Timespec {
            tv_sec: 60,
            tv_nsec: 0,
        },
        false => Timespec {
            tv_sec: 0,
            tv_nsec: (EVERY - GATHERED).subsec_nanos().into(),
        },
    };
    let mut ears: Vec<PollFd<'_>> = senses
        .ears()
        .into_iter()
        .map(|ear| PollFd::from_borrowed_fd(ear, PollFlags::IN))
        .collect();
    ears.push(PollFd::from_borrowed_fd(orders.wake.as_fd(), PollFlags::IN));
    // Interrupted or not, the next round finds what there is.
    let _ = poll(&mut ears, Some(&longest));
    let _ = rustix::io::read(&orders.wake, &mut [0; 8]);
}

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// A server asked for a host that a deny list names.
    pub(super) fn asked_for_listed(self: &Rc<Self>, id: CgroupId, now: Time) {
        let evidence = Evidence {
            fact: Fact::Listed,
            pid: Evidence::NO_PROCESS,
            at: now,
        };
        let id = id.0;
        self.found(&[Found { id, evidence }], now);
    }

    /// Takes in what the senses found, and has the judge act on it at once.
    pub(super) fn found(self: &Rc<Self>, found: &[Found], now: Time) {
        let mut inner = self.inner.borrow_mut();
        let act = inner.take_evidence(found, now);
        drop(inner);
        if !act.is_empty() {
            self.sweep(now, Some(&act));
            self.inner.borrow_mut().settle_classes(now);
        }
    }

    /// Weighs what is known anew: a server may have become hot since. The judge acts at once.
    pub(super) fn weigh_all(self: &Rc<Self>, now: Time) {
        let mut act = BTreeSet::new();
        {
            let mut inner = self.inner.borrow_mut();
            let known: Vec<CgroupId> = inner.dossiers.servers.keys().copied().collect();
            for id in known {
                if inner.weigh(id, &[], now) {
                    act.insert(id);
                }
            }
        }
        if !act.is_empty() {
            self.sweep(now, Some(&act));
        }
    }
}

impl Inner {
    /// The server whose account something of this cgroup goes to.
    fn answers_for(&mut self, id: CgroupId) -> CgroupId {
        self.guarded(id)
            .and_then(|guarded| guarded.lead)
            .unwrap_or(id)
    }

    /// Notes who is hot, and sends the senses there.
    pub(super) fn send_senses(&mut self, now: Time) {
        let mut known = std::mem::take(&mut self.dossiers.servers);
        let mut looked_at = BTreeSet::new();
        let mut hot_accounts = BTreeSet::new();
        for (id, entry) in &self.entries {
            if let Entry::Guarded(guarded) = entry
                && is_hot(guarded, &self.config)
            {
                hot_accounts.insert(guarded.lead.unwrap_or(*id));
            }
        }
        let stands = self.config.evidence.consequences.stands;
        for (id, entry) in &self.entries {
            let Entry::Guarded(guarded) = entry else {
                continue;
            };
            if guarded.lead.is_some() {
                continue;
            }
            let mut dossier = known.remove(id).unwrap_or_default();
            let hot = !self.off && hot_accounts.contains(id);
            dossier.hot_since = hot.then(|| dossier.hot_since.unwrap_or(now));
            dossier.forget(now, stands);
            let long = dossier
                .hot_since
                .is_some_and(|at| now.since(at) >= self.config.evidence.hot_for);
            if long || dossier.look_until.is_some_and(|until| now < until) {
                looked_at.insert(*id);
            }
            if guarded.case.is_accused(now) {
                looked_at.insert(*id);
            }
            self.dossiers.servers.insert(*id, dossier);
        }
        let mut order = Order {
            settings: self.config.evidence.settings.clone(),
            ..Order::default()
        };
        let mut everybody = BTreeMap::new();
        for (id, entry) in &self.entries {
            let Entry::Guarded(guarded) = entry else {
                continue;
            };
            // While switched off nobody is looked at.
            if self.off {
                break;
            }
            let path = guarded.cgroup.as_str().trim_start_matches('/');
            let directory = self.root.join(path);
            if looked_at.contains(&guarded.lead.unwrap_or(*id)) {
                order.suspects.push(Suspect {
                    id: id.0,
                    directory: directory.clone(),
                });
            }
            everybody.insert(id.0, directory);
        }
        order.guarded = Arc::new(everybody);
        if let Some(orders) = &self.dossiers.orders {
            orders.give(order);
        }
    }

    /// When a server that may just have become hot is to be measured again.
    pub(super) fn measured_again(guarded: &Guarded, config: &Config, now: Time) -> Option<Time> {
        let rate = guarded.case.credits.rate;
        let warm = rate.0 > WARM * config.evidence.hot.0 && rate <= config.evidence.hot;
        (warm && config.tick > MEASURED_AGAIN).then(|| Time(now.0 + MEASURED_AGAIN))
    }

    /// Books what was found; returns the servers that the judge has to look at.
    fn take_evidence(&mut self, found: &[Found], now: Time) -> BTreeSet<CgroupId> {
        let mut fresh: BTreeMap<CgroupId, Vec<Evidence>> = BTreeMap::new();
        for Found { id, evidence } in found {
            let used = &self.config.evidence.settings.senses;
            if self.off || !used.contains(&evidence.fact.sense()) {
                continue;
            }
            let id = self.answers_for(CgroupId(*id));
            let Some(dossier) = self.dossiers.servers.get_mut(&id) else {
                continue;
            };
            dossier.add(*evidence);
            if evidence.strength() > Strength::Exonerates {
                dossier.look_until = Some(Time(now.0 + LOOKED_AT_FOR));
            }
            fresh.entry(id).or_default().push(*evidence);
        }
        let mut act = BTreeSet::new();
        for (id, fresh) in &fresh {
            if self.weigh(*id, fresh, now) {
                act.insert(*id);
            }
        }
        if !fresh.is_empty() {
            self.send_senses(now);
        }
        act
    }

    /// What is known of a server, now that this was found; true when the judge has to look.
    fn weigh(&mut self, id: CgroupId, fresh: &[Evidence], now: Time) -> bool {
        let mode = self.config.mode;
        let Some(mut dossier) = self.dossiers.servers.remove(&id) else {
            return false;
        };
        let hot = dossier.hot_since.map(|at| now.since(at));
        let level = suspicion(&dossier.evidence, hot);
        let journal = self.journal.clone();
        let mut act = false;
        if let (Some(guarded), Some(level)) = (self.guarded(id), level) {
            if Some(level) > dossier.told {
                let story = guarded.story(mode);
                journal.tell(story.evidence(level, &dossier.evidence));
                dossier.told = Some(level);
            }
            let stood = guarded.case.accusation(now).map(|before| before.level);
            // What is weaker may come from somebody else of the same server, and says nothing of
            // whether this goes on.
            let goes_on = fresh.iter().any(|fresh| fresh.fact.is_of_mining());
            if level >= Strength::High && (Some(level) > stood || goes_on) {
                let event = Event::Evidence { level };
                step(&mut guarded.case, &event, now, &guarded.policy);
                self.dirty = true;
                act = true;
            }
        }
        self.dossiers.servers.insert(id, dossier);
        act
    }

    /// The processes that evidence of mining is of, with when they were started.
    pub(super) fn mining_processes(&self, id: CgroupId) -> Vec<Named> {
        let Some(dossier) = self.dossiers.servers.get(&id) else {
            return Vec::new();
        };
        let of_mining = dossier
            .evidence
            .iter()
            .filter(|one| one.fact.is_of_mining());
        let pids: BTreeSet<u32> = of_mining.map(|one| one.pid).collect();
        let named = |pid| {
            let started = *dossier.processes.get(&pid)?;
            Some(Named { pid, started })
        };
        pids.into_iter().filter_map(named).collect()
    }

    /// Starts a server's dossier anew, once what was found is ended.
    pub(super) fn close_dossier(&mut self, id: CgroupId) {
        self.dossiers.servers.insert(id, Dossier::default());
    }
}

impl Dossier {
    /// Of one kind the first and the latest are kept: two windows are all that is ever asked for.
    fn add(&mut self, evidence: Evidence) {
        if let Some(started) = Process::new(evidence.pid).started() {
            self.processes.insert(evidence.pid, started);
        }
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
            // What is stronger is worth more room than what is weaker.
            _ => {
                let worth = |one: &Evidence| (one.fact.is_of_mining(), one.strength());
                let least = self.evidence.iter_mut().min_by_key(|one| worth(one));
                if let Some(least) = least.filter(|least| worth(least) < worth(&evidence)) {
                    *least = evidence;
                }
            }
        }
        let kept: BTreeSet<u32> = self.evidence.iter().map(|one| one.pid).collect();
        self.processes.retain(|pid, _| kept.contains(pid));
    }

    /// Lets go of what was found too long ago; of a pair both stay while the latest does.
    fn forget(&mut self, now: Time, stands: Duration) {
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
            self.told = suspicion(&self.evidence, Some(Duration::MAX)).min(self.told);
        }
    }
}

impl Fact {
    /// Whether it is a sign that mining goes on, and no mere name.
    fn is_of_mining(&self) -> bool {
        matches!(self, Fact::RandomRounding(_)) || self.strength() >= Strength::High
    }
}

fn is_hot(guarded: &Guarded, config: &Config) -> bool {
    guarded.rate() > config.evidence.hot || guarded.at_its_quota
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::Modes;

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
        dossier.told = Some(Strength::High);
        dossier.forget(Time(Duration::from_secs(599)), stands);
        assert_eq!(dossier.evidence.len(), 2);
        dossier.forget(Time(Duration::from_secs(601)), stands);
        assert_eq!(dossier.evidence, [at(500, 8, Fact::Constants { found: 7 })]);
        assert_eq!(dossier.told, Some(Strength::High));
        dossier.forget(Time(Duration::from_secs(1100)), stands);
        assert_eq!(dossier.told, None);
    }
}
