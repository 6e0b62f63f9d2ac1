//! The whole daemon on a made-up node: a cgroup tree in a temporary directory, a systemd that is
//! a map, packet rules that are a list.

use super::*;
use crate::act::{ActError, CpuControl, KernelControls, Owner, Undo};
use crate::config::Hub;
use crate::http::{Connection, Stranger};
use crate::hub::{Account, UnitFacts, Units};
use crate::report::LogEntry;
use crate::sd_bus::SdBusError;
use ::egress::{
    Audit, Audited, Bridges, Difference, Error, ForeignChange, Policy as EgressPolicy, UidRules,
};
use policy::{Controls, Stage};
use quantities::{CoreSeconds, Cores, Mode};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

mod abuse;
mod accounts;
mod asked;
mod classes;
mod containers;
mod cut_off;
mod denied_dns;
mod hub_word;
mod intruders;
mod ladder;
mod limits;
mod mining;
mod others_limits;
mod refusals;
mod shown;
mod stopping;
mod uid_egress;
mod user_slices;

/// systemd as far as the daemon sees it; survives the daemon.
#[derive(Clone, Default)]
struct FakeSystemd(Rc<RefCell<Systemd>>);

#[derive(Default)]
struct Systemd {
    facts: BTreeMap<String, UnitFacts>,
    accounts: BTreeMap<u32, Account>,
    /// The user database does not answer.
    database_is_away: bool,
    settings: BTreeMap<String, Controls>,
    broken: BTreeSet<String>,
    stopped: Vec<String>,
    /// Units that are thawed by and by, whatever becomes of the daemon.
    timers: BTreeMap<String, Duration>,
    applied: usize,
    /// Where the next changes are cut off; those after them are not.
    cuts: std::collections::VecDeque<Cut>,
    /// Who listens at the hub's address instead of the hub.
    stranger: Option<Stranger>,
}

/// Where a change is cut off: by a re-execution of systemd's, say, which loses the reply at least.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Cut {
    No,
    Before,
    Between,
    After,
}

impl Units for FakeSystemd {
    async fn facts(&self, unit: &UnitName) -> Result<UnitFacts, SdBusError> {
        let facts = self.0.borrow().facts.get(unit.as_str()).cloned();
        facts.ok_or_else(|| SdBusError::Gone(unit.clone()))
    }

    async fn account(&self, uid: u32) -> Result<Account, crate::hub::NotNow> {
        if self.0.borrow().database_is_away {
            return Err(crate::hub::NotNow);
        }
        let known = self.0.borrow().accounts.get(&uid).cloned();
        Ok(known.unwrap_or_default())
    }

    /// A made-up hub is this process, in whatever cgroup the test runs.
    async fn admit(&self, _: &Connection, _: &Hub, _: &Path) -> Result<(), Stranger> {
        match &self.0.borrow().stranger {
            None => Ok(()),
            Some(stranger) => Err(stranger.clone()),
        }
    }
}

impl CpuControl for FakeSystemd {
    async fn read(&self, owner: &Owner) -> Result<Controls, ActError> {
        let settings = self.0.borrow().settings.get(&owner.to_string()).copied();
        settings.ok_or_else(|| ActError::Gone(owner.clone()))
    }

    async fn apply(
        &self,
        owner: &Owner,
        _from: Option<&Controls>,
        to: &Controls,
    ) -> Result<(), ActError> {
        // As over a real bus, others get their turn meanwhile.
        tokio::task::yield_now().await;
        let mut systemd = self.0.borrow_mut();
        let unit = owner.to_string();
        let cut = systemd.cuts.pop_front().unwrap_or(Cut::No);
        if systemd.broken.contains(&unit) || cut == Cut::Before {
            return Err(ActError::Bus(SdBusError::NoBus(zbus::Error::InvalidReply)));
        }
        systemd.applied += 1;
        let standing = systemd.settings.entry(unit).or_default();
        standing.period = to.period;
        if cut != Cut::Between {
            *standing = *to;
        }
        match cut {
            Cut::No => Ok(()),
            _ => Err(ActError::Bus(SdBusError::NoBus(zbus::Error::InvalidReply))),
        }
    }

    async fn stop(&self, owner: &Owner) -> Result<(), ActError> {
        self.0.borrow_mut().stopped.push(owner.to_string());
        Ok(())
    }

    fn kernel(&self, _: &Owner) -> Result<KernelControls, ActError> {
        Ok(KernelControls::default())
    }

    fn lift(&self, _: &Undo) -> Result<(), ActError> {
        Ok(())
    }

    async fn thaw_after(&self, owner: &Owner, delay: Duration) -> Result<(), ActError> {
        let mut systemd = self.0.borrow_mut();
        systemd.timers.insert(owner.to_string(), delay);
        Ok(())
    }

    async fn thaw_no_more(&self, owner: &Owner) -> Result<(), ActError> {
        self.0.borrow_mut().timers.remove(&owner.to_string());
        Ok(())
    }
}

#[derive(Clone, Default)]
struct FakeFirewall(Arc<Mutex<Rules>>);

#[derive(Default)]
struct Rules {
    loaded: bool,
    admitted: BTreeMap<CgroupId, Admitted>,
    generation: u32,
    altered: Vec<Difference>,
    traffic: Vec<::egress::Traffic>,
    refused: Vec<::egress::Refused>,
    attempts: Vec<::egress::Attempts>,
    sent: Vec<::egress::Sent>,
    bridges: Bridges,
    uid_rules: UidRules,
    policy: Option<EgressPolicy>,
}

impl FakeFirewall {
    fn rules(&self) -> std::sync::MutexGuard<'_, Rules> {
        self.0.lock().unwrap()
    }
}

impl Firewall for FakeFirewall {
    fn probe(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn load_with_uid_rules(
        &mut self,
        policy: &EgressPolicy,
        _guarded: &[CgroupId],
        servers: &[Admitted],
        uid_rules: &UidRules,
    ) -> Result<(), Error> {
        let servers_by_cgroup = servers.iter().map(|s| (s.cgroup, s.clone())).collect();
        uid_rules.check(policy, &servers_by_cgroup)?;
        let mut rules = self.rules();
        rules.policy = Some(policy.clone());
        rules.uid_rules = uid_rules.clone();
        rules.loaded = true;
        rules.altered.clear();
        rules.admitted = servers.iter().map(|s| (s.cgroup, s.clone())).collect();
        Ok(())
    }

    fn set_uid_rules(&mut self, uid_rules: &UidRules) -> Result<(), Error> {
        let mut rules = self.rules();
        if let Some(policy) = &rules.policy {
            uid_rules.check(policy, &rules.admitted)?;
        }
        rules.uid_rules = uid_rules.clone();
        Ok(())
    }

    fn admit(&mut self, servers: &[Admitted]) -> Result<(), Error> {
        let mut rules = self.rules();
        let new = servers.iter().map(|s| (s.cgroup, s.clone()));
        rules.admitted.extend(new);
        Ok(())
    }

    fn forget(&mut self, cgroups: &[CgroupId]) -> Result<(), Error> {
        let mut rules = self.rules();
        rules.admitted.retain(|id, _| !cgroups.contains(id));
        Ok(())
    }

    fn reclass(&mut self, changes: &[(CgroupId, ::egress::ClassName)]) -> Result<(), Error> {
        let mut rules = self.rules();
        for (id, class) in changes {
            if let Some(admitted) = rules.admitted.get_mut(id) {
                admitted.class = class.clone();
            }
        }
        Ok(())
    }

    fn traffic(&mut self) -> Result<Vec<::egress::Traffic>, Error> {
        Ok(self.rules().traffic.clone())
    }

    fn set_guarded(&mut self, _: &[CgroupId]) -> Result<(), Error> {
        Ok(())
    }

    fn set_bridges(&mut self, bridges: &Bridges) -> Result<(), Error> {
        self.rules().bridges = bridges.clone();
        Ok(())
    }

    fn remove(&mut self) -> Result<(), Error> {
        *self.rules() = Rules::default();
        Ok(())
    }

    fn standing(&mut self) -> Result<Vec<String>, Error> {
        let loaded = self.rules().loaded;
        Ok(loaded
            .then(|| "table inet hubwarden".to_owned())
            .into_iter()
            .collect())
    }

    fn verify(&mut self) -> Result<Vec<Difference>, Error> {
        Ok(self.rules().altered.clone())
    }

    fn repair(&mut self, _: &ForeignChange) -> Result<bool, Error> {
        let mut rules = self.rules();
        rules.loaded = true;
        Ok(!std::mem::take(&mut rules.altered).is_empty())
    }

    fn audit(&mut self) -> Result<Audit, Error> {
        let rules = self.rules();
        let audited = Audited {
            generation: rules.generation,
            differences: rules.altered.clone(),
        };
        Ok(Box::new(|| Ok(audited)))
    }

    fn sent(&mut self) -> Result<Vec<::egress::Sent>, Error> {
        Ok(self.rules().sent.clone())
    }

    fn refused(&mut self) -> Result<Vec<::egress::Refused>, Error> {
        Ok(std::mem::take(&mut self.rules().refused))
    }

    fn attempts(
        &mut self,
        _least: usize,
        _since: Duration,
    ) -> Result<Vec<::egress::Attempts>, Error> {
        Ok(self.rules().attempts.clone())
    }

    fn lacks(&mut self) -> Option<String> {
        None
    }

    fn generation(&mut self) -> Result<u32, Error> {
        Ok(self.rules().generation)
    }
}

thread_local! {
    /// What the clock of this test's node says; each test has a thread, and its daemon is on that.
    static CLOCK: Cell<Option<Time>> = const { Cell::new(None) };
    /// And its date.
    static DAY: Cell<&str> = const { Cell::new("2026-11-22") };
}

/// The time on this thread's node, if it has one.
pub(super) fn clock() -> Option<Time> {
    CLOCK.get()
}

/// The date there.
pub(super) fn day() -> String {
    DAY.get().to_owned()
}

type Running = Rc<Daemon<FakeSystemd, FakeSystemd>>;

/// Waits until the packet rules are compared with what they should be.
async fn compared(daemon: &Running) {
    while daemon.inner.borrow().rules.is_auditing() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A node whose daemon can be started, stopped and killed.
struct Node {
    root: tempfile::TempDir,
    state: tempfile::TempDir,
    systemd: FakeSystemd,
    firewall: FakeFirewall,
    config: Config,
    clock: Time,
    told: Vec<String>,
}

impl Node {
    fn new(mode: Mode) -> Node {
        let mut config = Config {
            mode,
            ..Config::default()
        };
        config.limits.cpu.credits = CoreSeconds(100.0);
        config.limits.cpu.min_stay = Duration::ZERO;
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("jupyter.slice")).unwrap();
        std::fs::create_dir_all(root.path().join("system.slice")).unwrap();
        std::fs::write(root.path().join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        let clock = Time(Duration::from_secs(1000));
        CLOCK.set(Some(clock));
        Node {
            root,
            state: tempfile::tempdir().unwrap(),
            systemd: FakeSystemd::default(),
            firewall: FakeFirewall::default(),
            config,
            clock,
            told: Vec::new(),
        }
    }

    /// Records of changes, where the daemon keeps them.
    fn records(&self) -> UndoStore {
        let directory = self.state.path();
        UndoStore::with_units_in(&directory.join("undo"), &directory.join("transient"))
    }

    fn switch(&self) -> OffSwitch {
        OffSwitch::new(&self.state.path().join("run"), self.state.path())
    }

    /// Switches off without a daemon; what could not be lifted.
    async fn off_without_daemon(&self) -> Vec<String> {
        let (switch, mut undo) = (self.switch(), self.records());
        let store = Store::new(self.state.path()).unwrap();
        let mut firewall = self.firewall.clone();
        let lifted = lift(
            &switch,
            &mut undo,
            Some(&store),
            &self.systemd,
            &mut firewall,
        )
        .await;
        lifted.complaints
    }

    fn unit(user: &str) -> String {
        format!("jupyter-{user}.service")
    }

    /// The spawner starts a server, with an admin's limit of 1.5 cores.
    fn spawn(&self, user: &str) {
        self.spawn_as(user, 1000);
    }

    /// The same as a Unix user with an account.
    fn spawn_as(&self, user: &str, uid: u32) {
        let account = Account {
            name: Some(format!("jupyter-{user}")),
            ..Account::default()
        };
        self.systemd.0.borrow_mut().accounts.insert(uid, account);
        let unit = Node::unit(user);
        let mut systemd = self.systemd.0.borrow_mut();
        let facts = UnitFacts {
            transient: true,
            user: Some(format!("jupyter-{user}")),
            uid: Some(uid),
            dynamic_user: false,
        };
        systemd.facts.insert(unit.clone(), facts);
        let settings = Controls {
            quota: Some(Cores(1.5)),
            ..Controls::default()
        };
        systemd.settings.insert(unit, settings);
        self.set_usage(user, 0.0);
    }

    fn directory(&self, user: &str) -> PathBuf {
        self.root
            .path()
            .join("jupyter.slice")
            .join(Node::unit(user))
    }

    fn set_usage(&self, user: &str, core_seconds: f64) {
        let directory = self.directory(user);
        std::fs::create_dir_all(&directory).unwrap();
        let usec = (core_seconds * 1e6) as u64;
        std::fs::write(directory.join("cpu.stat"), format!("usage_usec {usec}\n")).unwrap();
    }

    fn stop(&self, user: &str) {
        std::fs::remove_dir_all(self.directory(user)).unwrap();
        self.systemd
            .0
            .borrow_mut()
            .settings
            .remove(&Node::unit(user));
    }

    fn quota(&self, user: &str) -> Option<f64> {
        self.systemd.0.borrow().settings[&Node::unit(user)]
            .quota
            .map(|quota| quota.0)
    }

    fn start(&self) -> (Running, std::sync::mpsc::Receiver<LogEntry>) {
        let (journal, entries) = Journal::queue();
        let (_, refusals) = mpsc::channel(1);
        let (_, asked) = mpsc::channel(1);
        let (_, repairs) = mpsc::channel(1);
        let (_, commands) = crate::control::mailbox();
        let parts = Parts {
            config: self.config.clone(),
            heartbeats: crate::heartbeats::Heartbeats::default(),
            config_path: self.state.path().join("config.toml"),
            root: self.root.path().to_owned(),
            store: Store::new(self.state.path()).unwrap(),
            undo: self.records(),
            switch: self.switch(),
            cpu: self.systemd.clone(),
            units: self.systemd.clone(),
            firewall: Box::new(self.firewall.clone()),
            journal,
            refusals,
            asked,
            answers: Arc::default(),
            repairs,
            commands,
        };
        let (daemon, _) = Daemon::new(parts).unwrap();
        daemon.start().unwrap();
        tokio::task::spawn_local(Rc::clone(&daemon).save_forever());
        (daemon, entries)
    }

    /// Lets some time pass and a tick come.
    async fn tick(&mut self, daemon: &Running, seconds: u64) {
        self.clock.0 += Duration::from_secs(seconds);
        CLOCK.set(Some(self.clock));
        daemon.tick_once();
        quiet().await;
    }

    fn read(&mut self, entries: &std::sync::mpsc::Receiver<LogEntry>) -> String {
        self.told
            .extend(entries.try_iter().map(|entry| entry.message));
        std::mem::take(&mut self.told).join("\n")
    }
}

/// Lets every local task finish what it can.
async fn quiet() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

fn stage(daemon: &Running, user: &str) -> Stage {
    let inner = daemon.inner.borrow();
    let found = inner.entries.values().find_map(|entry| match entry {
        Cgroup::Server(guarded) if guarded.server.user.as_str() == user => {
            inner.stands_on(guarded.id)
        }
        _ => None,
    });
    found.expect("the server is known")
}

fn on_a_node(test: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test());
}

/// 100 core-seconds at 1.5 − 0.25 cores last 80 s.
async fn spin(node: &mut Node, daemon: &Running, user: &str) {
    for second in 1..=100u32 {
        node.set_usage(user, f64::from(second) * 1.5);
        node.tick(daemon, 1).await;
    }
}

impl Node {
    /// What alice runs over ssh, as uid 1000.
    fn outside(&self, core_seconds: f64) {
        let unit = "user-1000.slice";
        let directory = self.root.path().join("user.slice").join(unit);
        std::fs::create_dir_all(&directory).unwrap();
        let usec = (core_seconds * 1e6) as u64;
        std::fs::write(directory.join("cpu.stat"), format!("usage_usec {usec}\n")).unwrap();
        let mut systemd = self.systemd.0.borrow_mut();
        systemd.settings.entry(unit.to_owned()).or_default();
    }

    fn quota_of(&self, unit: &str) -> Option<f64> {
        self.systemd.0.borrow().settings[unit]
            .quota
            .map(|quota| quota.0)
    }
}
