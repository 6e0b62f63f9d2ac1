//! Wires the wings together and owns the loop; the only room that knows all of them.
//!
//! Everything runs on one thread. What has to wait for systemd runs as a local task beside the
//! loop, so that one server's slow answer holds up nobody; shared state is never borrowed across
//! an await.

mod brake;
mod commands;
mod containers;
mod contention;
mod egress;
mod enforce;
mod entries;
mod evidence;
mod find_out;
mod grants;
mod hears;
mod metrics;
mod outside;
mod people;
mod places;
mod record;
mod slice_cap;
mod state;
mod watch;

pub use brake::lift;
pub use people::policy;
pub use state::{Book, StateError, Store};

use crate::act::CpuControl;
use crate::cgroup::{CgroupError, CgroupId, Tree};
use crate::config::Config;
use crate::control::Command;
use crate::egress::lists::List;
use crate::egress::{Admitted, Firewall, Intrusion, Refusal};
use crate::hub::shared::Shared;
use crate::hub::{HubDirectory, UnitName, Units};
use crate::judge::{Case, Grant};
use crate::report::{Entry as Told, Journal, Kind, Level};
use crate::units::{Mode, Time};
use entries::{Entry, Guarded};
use nix::time::{ClockId, clock_gettime};
use state::SliceCap;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};

/// Credits are written at least this often, so that a crash loses no more.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// The quota of all servers together is compared with what it should be every so many ticks.
const CAP_CHECKED_EVERY: u32 = 12;

/// Everything the daemon is made of, so that tests and benches can exchange any part.
pub struct Parts<C, U> {
    /// The configuration in force at start.
    pub config: Config,
    /// Where a reload finds it.
    pub config_path: PathBuf,
    /// Where cgroup v2 is mounted.
    pub root: PathBuf,
    /// Where the state is kept.
    pub store: Store,
    /// The power over CPU.
    pub cpu: C,
    /// Who knows units.
    pub units: U,
    /// The power over packets.
    pub firewall: Box<dyn Firewall>,
    /// Where everything is told.
    pub journal: Journal,
    /// What packets were refused.
    pub refusals: mpsc::Receiver<Refusal>,
    /// Who else changed the packet rules.
    pub intrusions: mpsc::Receiver<Intrusion>,
    /// What people ask.
    pub commands: mpsc::Receiver<Command>,
}

/// Why the daemon could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The cgroup tree cannot be watched.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The clock or the event queue failed.
    #[error("the system refuses what a daemon needs: {0}")]
    System(#[from] std::io::Error),
    /// Whoever serves D-Bus requests has gone.
    #[error("the connection to the system bus was lost; what is enforced stays")]
    BusLost,
}

/// The daemon's shared state; see the module's text.
struct Daemon<C, U> {
    inner: RefCell<Inner>,
    cpu: C,
    units: U,
    store: Store,
    config_path: PathBuf,
    savers: RefCell<Vec<Saver>>,
    save_wanted: Notify,
    reloaded: Notify,
    /// Somebody appeared: the hub may have news of them.
    hub_news: Notify,
    tree_reads: Cell<bool>,
    /// Ticks since the start.
    ticks: Cell<u32>,
}

/// What the loop is told by others.
struct Inlets {
    refusals: mpsc::Receiver<Refusal>,
    intrusions: mpsc::Receiver<Intrusion>,
    commands: mpsc::Receiver<Command>,
}

/// Waits to hear that the state is on disk.
type Saver = oneshot::Sender<Result<(), Rc<StateError>>>;

struct Inner {
    config: Config,
    root: PathBuf,
    tree: Tree,
    entries: BTreeMap<CgroupId, Entry>,
    numbers: BTreeMap<u32, CgroupId>,
    next_number: u32,
    exempt: BTreeMap<CgroupId, Admitted>,
    /// Admins' exceptions, by hub user.
    grants: BTreeMap<String, Grant>,
    /// How users stood when their last server ended, and when; until they have rested.
    rested: BTreeMap<String, (Case, Time)>,
    /// Whose credits end before the next tick, and when the first of them is due.
    ending: BTreeSet<CgroupId>,
    look_at: Option<Time>,
    firewall: Box<dyn Firewall>,
    /// The table in the kernel is ours and as we think.
    loaded: bool,
    /// The rules' generation when they were known to be as they should.
    generation: Option<u32>,
    /// Containers' networks.
    networks: containers::Networks,
    /// They are being compared.
    auditing: bool,
    slices: Vec<CgroupId>,
    resolvers: Vec<IpAddr>,
    /// What no class reaches, as read at start and at each reload.
    lists: Arc<Vec<List>>,
    trouble_told: Option<String>,
    unknown_refused: Option<Time>,
    /// What the hub said last of its servers and people.
    directory: Rc<HubDirectory>,
    /// Containers told of as nobody's.
    told_unknown: BTreeSet<UnitName>,
    /// Why the hub was not heard, as last told.
    hub_trouble: Option<String>,
    /// Servers in the hub's own cgroup, which are never acted on.
    shared: Vec<Shared>,
    journal: Journal,
    meter: metrics::Meter,
    diary: record::Diary,
    /// What the senses found of whom.
    dossiers: evidence::Dossiers,
    off: bool,
    /// Quotas have an effect, and the kernel can be asked which stands.
    cpu_controller: bool,
    /// What we set on the guarded slice, and what stood there before.
    slice_cap: Option<SliceCap>,
    /// The slice's quota is being set: a second time must not overtake it.
    capping: bool,
    /// Something changed that should be on disk soon.
    dirty: bool,
    store: Store,
}

/// Runs until `shutdown` comes; what is enforced then stays.
///
/// # Errors
/// Something the daemon cannot do without is missing.
pub async fn run<C, U>(
    parts: Parts<C, U>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), DaemonError>
where
    C: CpuControl + 'static,
    U: Units + 'static,
{
    let local = tokio::task::LocalSet::new();
    local.run_until(run_local(parts, shutdown)).await
}

async fn run_local<C, U>(
    parts: Parts<C, U>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), DaemonError>
where
    C: CpuControl + 'static,
    U: Units + 'static,
{
    let (daemon, mut inlets) = Daemon::new(parts)?;
    daemon.start()?;
    tokio::task::spawn_local(Rc::clone(&daemon).save_forever());
    tokio::task::spawn_local(Rc::clone(&daemon).hear_the_hub());
    tokio::task::spawn_local(Rc::clone(&daemon).follow_links());
    let mut found = {
        let inner = daemon.inner.borrow();
        inner.dossiers.start(&inner.journal)
    };

    let events =
        crate::readiness::readable(daemon.inner.borrow().tree.as_fd().try_clone_to_owned()?)?;
    let mut tick = ticker(daemon.tick());
    let mut save = ticker(SAVE_EVERY);
    let mut alive = ticker(watchdog_interval());
    let mut refusals_open = true;
    let mut intrusions_open = true;
    tokio::pin!(shutdown);
    notify(&[sd_notify::NotifyState::Ready]);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            _ = alive.tick() => notify(&[sd_notify::NotifyState::Watchdog]),
            ready = events.readable() => {
                ready?.clear_ready();
                daemon.poll_tree();
            }
            intrusion = inlets.intrusions.recv(), if intrusions_open => match intrusion {
                Some(intrusion) => daemon.intruded(intrusion, &mut inlets.intrusions),
                None => intrusions_open = false,
            },
            command = inlets.commands.recv() => match command {
                Some(command) => daemon.command(command),
                None => return Err(DaemonError::BusLost),
            },
            refusal = inlets.refusals.recv(), if refusals_open => match refusal {
                Some(refusal) => daemon.refused(&refusal, now()),
                None => refusals_open = false,
            },
            Some(found) = found.recv() => daemon.found(found, now()),
            () = daemon.reloaded.notified() => tick = ticker(daemon.tick()),
            _ = tick.tick() => daemon.tick_once(),
            () = daemon.until_look() => daemon.look(),
            _ = save.tick() => daemon.save(),
        }
    }
    daemon.save();
    daemon.inner.borrow().tell(Told::new(
        Kind::Stopped,
        Level::Notice,
        "hubwarden stops; limits and packet rules stay as they are (hubwarden off lifts them).",
    ));
    Ok(())
}

fn ticker(every: Duration) -> tokio::time::Interval {
    let mut ticker = tokio::time::interval(every);
    // After a stall one tick is enough: the gap is booked as one span.
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticker
}

/// A third of what systemd waits for; an hour where nobody waits.
fn watchdog_interval() -> Duration {
    sd_notify::watchdog_enabled().map_or(Duration::from_secs(3600), |limit| limit / 3)
}

/// Without a service manager to tell, there is nobody to tell.
fn notify(state: &[sd_notify::NotifyState<'_>]) {
    let _ = sd_notify::notify(state);
}

/// The kernel's monotonic clock; it cannot fail on Linux (clock_gettime(2)).
fn now() -> Time {
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(|time| Time(Duration::from(time)))
        .unwrap_or(Time(Duration::ZERO))
}

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Puts the parts together; nothing is read or changed yet.
    fn new(parts: Parts<C, U>) -> Result<(Rc<Self>, Inlets), DaemonError> {
        let daemon = Rc::new(Daemon {
            inner: RefCell::new(Inner {
                cpu_controller: crate::cgroup::has_cpu_controller(&parts.root),
                tree: Tree::new(
                    &parts.root,
                    &places::slices(&parts.config.hub),
                    places::filter(&parts.config.hub),
                )?,
                meter: metrics::Meter::new(&parts.config),
                diary: record::Diary::new(&parts.config, parts.store.directory()),
                dossiers: evidence::Dossiers::default(),
                config: parts.config,
                root: parts.root,
                entries: BTreeMap::new(),
                numbers: BTreeMap::new(),
                next_number: 0,
                exempt: BTreeMap::new(),
                grants: BTreeMap::new(),
                rested: BTreeMap::new(),
                ending: BTreeSet::new(),
                look_at: None,
                firewall: parts.firewall,
                slice_cap: None,
                capping: false,
                loaded: false,
                generation: None,
                networks: containers::Networks::default(),
                auditing: false,
                slices: Vec::new(),
                resolvers: Vec::new(),
                lists: Arc::default(),
                trouble_told: None,
                unknown_refused: None,
                directory: Rc::default(),
                told_unknown: BTreeSet::new(),
                hub_trouble: None,
                shared: Vec::new(),
                journal: parts.journal,
                off: false,
                dirty: false,
                store: parts.store.clone(),
            }),
            cpu: parts.cpu,
            units: parts.units,
            store: parts.store,
            config_path: parts.config_path,
            savers: RefCell::default(),
            save_wanted: Notify::new(),
            reloaded: Notify::new(),
            hub_news: Notify::new(),
            tree_reads: Cell::new(true),
            ticks: Cell::new(0),
        });
        let inlets = Inlets {
            refusals: parts.refusals,
            intrusions: parts.intrusions,
            commands: parts.commands,
        };
        Ok((daemon, inlets))
    }

    /// Brings back what an earlier daemon left, then the rules, then everybody else.
    fn start(self: &Rc<Self>) -> Result<(), DaemonError> {
        let changes = self.inner.borrow_mut().tree.rescan()?;
        let mut inner = self.inner.borrow_mut();
        let book = match self.store.load() {
            Ok(book) => book,
            Err(error) => {
                inner.state_trouble(&error);
                self.store.empty()
            }
        };
        inner.off = book.off;
        inner.grants = book.grants;
        inner.rested = book.rested;
        inner.slice_cap = book.slice;
        inner.networks.bystanders = book.bystanders;
        let mode = inner.config.mode;
        let state = if inner.off {
            ", switched off (hubwarden on resumes)".to_owned()
        } else {
            format!(" in {mode} mode")
        };
        let message = format!("hubwarden {} started{state}.", env!("CARGO_PKG_VERSION"));
        inner.tell(Told::new(Kind::Started, Level::Notice, message).with("VERDICT_MODE", mode));
        if !inner.cpu_controller {
            inner.tell(Told::new(
                Kind::Trouble,
                Level::Warning,
                "The cpu controller is not on cgroup v2 here, so CPU limits are set but have no \
                 effect; boot with systemd.unified_cgroup_hierarchy=1 to change that.",
            ));
        }
        inner.resume(book.cases);
        inner.read_lists();
        if !inner.off {
            inner.load_egress();
        }
        drop(inner);
        self.take_in(changes);
        for id in self.inner.borrow().guarded_ids() {
            self.enforce(id);
        }
        self.cap_slice();
        Ok(())
    }

    fn tick(&self) -> Duration {
        self.inner.borrow().config.tick
    }

    fn poll_tree(self: &Rc<Self>) {
        let result = self.inner.borrow_mut().tree.poll();
        match result {
            Ok(changes) => self.take_in(changes),
            // The next tick's rescan tells what is wrong.
            Err(_) => self.tree_reads.set(true),
        }
    }

    /// Waits until the first of those who are about to spend their last credits is due.
    async fn until_look(&self) {
        let at = self.inner.borrow().look_at;
        match at {
            Some(at) => tokio::time::sleep(at.since(now())).await,
            None => std::future::pending().await,
        }
    }

    fn look(self: &Rc<Self>) {
        let mut inner = self.inner.borrow_mut();
        inner.look_at = None;
        let ending = std::mem::take(&mut inner.ending);
        drop(inner);
        self.sweep(now(), Some(&ending));
    }

    fn tick_once(self: &Rc<Self>) {
        let begun = now();
        self.rescan();
        self.ask_again();
        self.expire_grants();
        self.inner.borrow_mut().forget_rested(now());
        self.sweep(now(), None);
        self.inner.borrow_mut().send_senses(now());
        self.check_egress();
        self.follow_containers();
        // Asking systemd is not free, and nobody else sets limits on our slice every tick.
        let ticks = self.ticks.get().wrapping_add(1);
        self.ticks.set(ticks);
        if ticks % CAP_CHECKED_EVERY == 1 {
            self.cap_slice();
        }
        if self.inner.borrow().dirty {
            self.save_wanted.notify_one();
        }
        let status = self.inner.borrow().status_line();
        notify(&[sd_notify::NotifyState::Status(&status)]);
        let mut inner = self.inner.borrow_mut();
        inner.watch_on();
        inner.record(now());
        inner.show_metrics(now().since(begun));
    }
}

impl Inner {
    fn tell(&self, entry: Told) {
        self.journal.tell(entry);
    }

    fn guarded(&mut self, id: CgroupId) -> Option<&mut Guarded> {
        match self.entries.get_mut(&id) {
            Some(Entry::Guarded(guarded)) => Some(guarded),
            _ => None,
        }
    }

    fn book(&self) -> Book {
        let mut book = self.store.empty();
        book.off = self.off;
        book.grants = self.grants.clone();
        book.rested = self.rested.clone();
        book.slice = self.slice_cap.clone();
        book.bystanders = self.bystanders();
        for entry in self.entries.values() {
            if let Entry::Guarded(guarded) = entry {
                book.cases.push(guarded.record());
            }
        }
        book
    }

    fn state_trouble(&mut self, error: &StateError) {
        self.tell_once(Told::new(Kind::Trouble, Level::Error, error.to_string()));
    }

    /// Tells of a trouble, unless it is the one told last.
    fn tell_once(&mut self, entry: Told) {
        if self.trouble_told.as_ref() != Some(&entry.message) {
            self.trouble_told = Some(entry.message.clone());
            self.tell(entry);
        }
    }

    /// For `systemctl status`.
    fn status_line(&self) -> String {
        let mut servers = 0;
        let mut held = 0;
        for entry in self.entries.values() {
            if let Entry::Guarded(guarded) = entry {
                servers += 1;
                held += usize::from(guarded.case.rung > crate::judge::Rung::Free);
            }
        }
        let mode = if self.off {
            "off"
        } else {
            self.config.mode.as_str()
        };
        let would = match self.config.mode {
            Mode::Observe => "would be ",
            Mode::Enforce => "",
        };
        format!("{mode}: {servers} servers, {held} {would}held back")
    }
}

#[cfg(test)]
mod tests;
