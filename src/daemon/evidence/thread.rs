//! The sensors' own thread: where it is sent, how it is, and what of it does not work.

use super::{behind, missed};
use crate::heartbeats::{Heartbeats, Pulse};
use crate::report::{Journal, Kind, Level, LogEntry};
use policy::finding::Sensor;
use quantities::{Plain, Time};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use sensors::connector::Missed;
use sensors::set::{Behind, Found, Held, SensorDown, Sensors, Settings, Suspect};
use sensors::workers::{Holders, Owner};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// How often the sensors look while somebody is to be looked at.
const EVERY: Duration = Duration::from_secs(1);
/// What is only listened for is gathered for so long, so that nobody keeps us busy by starting
/// programs.
const GATHERED: Duration = Duration::from_millis(100);
/// How often the sensors are asked how they are: two system calls a server.
const ASKED_EVERY: Duration = Duration::from_secs(10);
/// One round takes less than a second, and the start ten at most; on a machine that hardly runs a while
/// longer.
const MOST_BUSY: Duration = Duration::from_secs(180);

/// The sensors' thread, and where it is sent.
pub(in crate::daemon) struct SensorThread {
    /// Missing where the kernel gives no event to wake a thread by.
    pub(super) orders: Option<Arc<Orders>>,
    /// All servers, as of so many changes, and whether supervision was off.
    pub(super) listened: Option<((u64, bool), Listened)>,
    holders: Holders,
    heartbeats: Heartbeats,
}

/// Between the daemon and the sensors' thread.
pub(super) struct Orders {
    now: Mutex<Order>,
    wake: OwnedFd,
    health: Mutex<Option<Health>>,
}

/// Where the sensors are to look and listen.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Order {
    pub suspects: Vec<Suspect>,
    pub guarded: Arc<BTreeMap<u64, PathBuf>>,
    /// The user of each.
    pub owners: Arc<BTreeMap<u64, Owner>>,
    pub settings: Settings,
    pub end: bool,
}

/// The servers that are listened to.
#[derive(Clone)]
pub(super) struct Listened {
    pub guarded: Arc<BTreeMap<u64, PathBuf>>,
    pub owners: Arc<BTreeMap<u64, Owner>>,
}

/// How the sensors are.
#[derive(Clone, Default)]
struct Health {
    down: Vec<SensorDown>,
    starts_missed: Missed,
    /// Users that hold whoever reads their processes, and why others cannot be read.
    held: Held,
    /// Users of whom not all processes are found as soon as usual.
    behind: BTreeMap<String, Behind>,
}

impl Health {
    fn lacks(&self) -> Vec<(String, String)> {
        let mut lacks: Vec<(String, String)> = Vec::new();
        let mut add = |sensor: Sensor, why| lacks.push((sensor.as_str().to_owned(), why));
        for down in &self.down {
            add(down.sensor, format!("{}; {}", down.why, down.remains));
        }
        for why in missed::in_words(self.starts_missed) {
            add(Sensor::Exec, why);
        }
        if !self.held.users.is_empty() {
            let why = format!(
                "programs and memory of {} cannot be read: a process of theirs holds whoever reads it (a \
                 file system that does not answer, for example FUSE). They are known by rounding modes \
                 and traffic alone; other users are read as always. Evidence names the process",
                named(&self.held.users)
            );
            add(Sensor::Constants, why);
        }
        if let Some(trouble) = &self.held.trouble {
            let why = format!(
                "users whose processes were not read before are not read now: {trouble}; end the \
                 processes that evidence names"
            );
            add(Sensor::Constants, why);
        }
        if let Some(why) = behind::in_words(self.behind.len()) {
            add(Sensor::Constants, why);
        }
        lacks
    }
}

/// So many users are named.
const MOST_NAMED: usize = 10;

fn named(users: &BTreeSet<Owner>) -> String {
    let first = users.iter().take(MOST_NAMED);
    let mut names: Vec<String> = first.map(|user| Plain(user).to_string()).collect();
    if let Some(more) = users.len().checked_sub(MOST_NAMED).filter(|more| *more > 0) {
        names.push(format!("{more} more users"));
    }
    names.join(", ")
}

impl SensorThread {
    /// Not started yet; the sensors read beside others who read users' processes.
    pub fn new(holders: &Holders, heartbeats: &Heartbeats) -> Self {
        let orders =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(|wake| Orders {
                now: Mutex::default(),
                wake,
                health: Mutex::default(),
            });
        SensorThread {
            orders: orders.ok().map(Arc::new),
            listened: None,
            holders: holders.clone(),
            heartbeats: heartbeats.clone(),
        }
    }
}

impl Orders {
    pub fn give(&self, order: Order) {
        let mut now = held(&self.now);
        if *now != order {
            *now = order;
            // It is full only when it wakes already.
            let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
        }
    }
}

impl Drop for SensorThread {
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

impl SensorThread {
    /// Starts the sensors' thread; what they find comes out of the queue.
    pub fn start(&self, journal: &Journal) -> mpsc::Receiver<Found> {
        let (sender, found) = mpsc::channel(256);
        let told = journal.clone();
        let thread = match &self.orders {
            Some(orders) => {
                let (orders, holders) = (Arc::clone(orders), self.holders.clone());
                let look = move |pulse: &Pulse| {
                    look_forever(&orders, &sender, &told, &holders, pulse);
                    // Else it ended because it is to be replaced, or because a part of it has ended.
                    if sender.is_closed() || held(&orders.now).end {
                        pulse.done();
                    }
                };
                self.heartbeats.keep("sensors", MOST_BUSY, true, look)
            }
            None => Err(std::io::Error::last_os_error()),
        };
        if let Err(error) = thread {
            let message = format!("Miners cannot be told from training jobs: no thread: {error}.");
            journal.log(LogEntry::new(Kind::Trouble, Level::Error, message));
        }
        found
    }

    /// The daemon's threads.
    pub fn heartbeats(&self) -> &Heartbeats {
        &self.heartbeats
    }

    /// What of the sensors does not work here, by name and in words; nothing until they were tried.
    pub fn lacks(&self) -> Vec<(String, String)> {
        self.health().map_or_else(Vec::new, |health| health.lacks())
    }

    /// Starts of programs that could not be read, since the daemon started.
    pub fn starts_missed(&self) -> Missed {
        self.health()
            .map_or_else(Missed::default, |health| health.starts_missed)
    }

    fn health(&self) -> Option<Health> {
        held(&self.orders.as_ref()?.health).clone()
    }
}

fn look_forever(
    orders: &Orders,
    found: &mpsc::Sender<Found>,
    journal: &Journal,
    holders: &Holders,
    pulse: &Pulse,
) {
    let mut sensors = Sensors::start_beside(holders);
    for down in sensors.down() {
        let message = format!(
            "One of the sensors for miners is down, and the others go on: {} ({}). What remains: \
             {}.",
            down.sensor, down.why, down.remains
        );
        let told = LogEntry::new(Kind::Trouble, Level::Warning, message);
        journal.log(told.with("EVIDENCE", down.sensor));
    }
    let mut order = Order::default();
    let mut rests = true;
    let mut asked: Option<Time> = None;
    let mut teller = missed::Teller::default();
    let mut behind = behind::Teller::default();
    while !found.is_closed() && pulse.beat() && sensors.are_whole() {
        let new = held(&orders.now).clone();
        if new.end {
            return;
        }
        if new.settings != order.settings {
            sensors.configure(new.settings.clone());
        }
        if new.owners != order.owners {
            sensors.owned_by((*new.owners).clone());
        }
        if new.guarded != order.guarded {
            sensors.guard((*new.guarded).clone());
        }
        order = new;
        let now = crate::daemon::now();
        let mut seen = sensors.listen(now);
        if !(rests && order.suspects.is_empty()) {
            seen.extend(sensors.look(&order.suspects, now));
        }
        for one in seen {
            // Full: the daemon is busy, and what stands is found again.
            let _ = found.try_send(one);
        }
        if asked.is_none_or(|at| now.since(at) >= ASKED_EVERY) {
            asked = Some(now);
            let starts_missed = sensors.starts_missed();
            if let Some(news) = teller.news(starts_missed, now) {
                journal.log(news);
            }
            let are_behind = sensors.behind(&order.suspects);
            for news in behind.news(&are_behind, now) {
                journal.log(news);
            }
            *held(&orders.health) = Some(Health {
                down: sensors.down().to_vec(),
                starts_missed,
                held: sensors.held(),
                behind: are_behind,
            });
        }
        rests = order.suspects.is_empty();
        pulse.rest();
        wait(orders, &sensors, rests);
    }
}

/// Until it is time to look again, or somebody has something to say.
fn wait(orders: &Orders, sensors: &Sensors, rests: bool) {
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
    let mut ears: Vec<PollFd<'_>> = sensors
        .ears()
        .into_iter()
        .map(|ear| PollFd::from_borrowed_fd(ear, PollFlags::IN))
        .collect();
    ears.push(PollFd::from_borrowed_fd(orders.wake.as_fd(), PollFlags::IN));
    // Interrupted or not, the next round finds what there is.
    let _ = poll(&mut ears, Some(&longest));
    let _ = rustix::io::read(&orders.wake, &mut [0; 8]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_read_is_told_with_its_number_and_what_remains() {
        let mut health = Health::default();
        assert_eq!(health.lacks(), []);
        health.down = vec![SensorDown::new(Sensor::Rounding, "no types".into())];
        health.starts_missed = Missed {
            too_fast: 7,
            ended: 8,
            overflows: 9,
        };
        health.held.users = ["bob\u{1b}".into(), "alice".into()].into();
        let told = health.lacks();
        let words = |at: usize| format!("{}: {}", told[at].0, told[at].1);
        assert!(words(0).starts_with("rounding: no types; no evidence is certain"));
        assert!(words(1).starts_with("exec: 7 programs were started too fast"));
        assert!(words(2).starts_with("exec: 8 programs of this node had ended"));
        assert!(words(3).starts_with("exec: 9 times the kernel"));
        let named = "constants: programs and memory of alice, bob";
        assert!(words(4).starts_with(named), "{}", words(4));
        assert!(!words(4).contains('\u{1b}'));
        health.held.users = (10..30).map(|n| format!("user{n}").into()).collect();
        health.held.trouble = Some("128 users".to_owned());
        let told = health.lacks();
        assert!(told[4].1.contains("user19, 10 more users cannot be read"));
        assert!(
            told[5]
                .1
                .contains("not read now: 128 users; end the processes")
        );
    }
}
