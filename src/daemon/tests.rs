//! The whole daemon on a made-up node: a cgroup tree in a temporary directory, a systemd that is
//! a map, packet rules that are a list.

use super::cgroups::Cgroup;
use super::off::OffSwitch;
use super::state::Store;
use super::*;
use crate::control::ServerProcesses;
use crate::hub::{Account, UnitFacts};
use crate::report::LogEntry;
use ::egress::{Difference, UidRules};
use fakes::{Cut, FakeFirewall, FakeSystemd};
use policy::{Controls, Stage};
use quantities::{CgroupId, CoreSeconds, Cores, Mode, Time};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

mod abuse;
mod accounts;
mod asked;
mod classes;
mod connections;
mod containers;
mod cut_off;
mod denied_dns;
mod fakes;
mod guarded_slices;
mod hub_word;
mod intruders;
mod ladder;
mod limits;
mod mining;
mod others_limits;
mod refusals;
mod refused_rules;
mod shown;
mod stopping;
mod uid_egress;
mod user_slices;

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

/// A daemon on a made-up node, and its loop as far as these tests need one.
struct Running {
    daemon: Daemon<FakeSystemd, FakeSystemd>,
    turns: tasks::Turns<FakeSystemd, FakeSystemd>,
}

impl Deref for Running {
    type Target = Daemon<FakeSystemd, FakeSystemd>;

    fn deref(&self) -> &Self::Target {
        &self.daemon
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.daemon
    }
}

impl Running {
    /// Gives tasks the turns that they wait for, and writes the state where that is due.
    fn take_turns(&mut self) {
        while let Ok(turn) = self.turns.try_recv() {
            turn(&mut self.daemon);
        }
        if self.daemon.due.save {
            self.daemon.save();
        }
    }

    /// Does what was put off for a moment, as if that were over.
    fn moments_later(&mut self) {
        self.take_turns();
        let later = Time(now().0 + Duration::from_secs(1));
        self.daemon.do_what_is_due(later);
    }

    /// Lets every task finish what it can.
    async fn quiet(&mut self) {
        for _ in 0..100 {
            tokio::task::yield_now().await;
            self.take_turns();
        }
    }

    /// Lets a task come to its end.
    async fn run<T: 'static>(
        &mut self,
        task: impl AsyncFnOnce(Tasks<FakeSystemd, FakeSystemd>) -> T + 'static,
    ) -> T {
        let tasks = self.tasks.clone();
        let mut task = tokio::task::spawn_local(async { task(tasks).await });
        loop {
            self.take_turns();
            tokio::select! {
                done = &mut task => return done.unwrap(),
                Some(turn) = self.turns.recv() => turn(&mut self.daemon),
            }
        }
    }

    async fn switch_off(&mut self, who: &'static str) -> Result<String, String> {
        self.run(async |tasks| tasks.switch_off(who.to_owned()).await)
            .await
    }

    async fn switch_on(&mut self, who: &'static str) -> Result<String, String> {
        self.run(async |tasks| tasks.switch_on(who.to_owned()).await)
            .await
    }

    async fn cap_slice_now(&mut self) {
        self.run(async |tasks| tasks.cap_slice().await).await;
    }

    async fn poll_hub(&mut self) {
        self.run(async |tasks| tasks.poll_hub().await).await;
    }

    async fn processes(&mut self, whose: Option<u32>) -> Result<Vec<ServerProcesses>, String> {
        self.run(async move |tasks| tasks.processes(whose).await)
            .await
    }
}

/// Waits until the packet rules are compared with what they should be.
async fn compared(daemon: &mut Running) {
    while daemon.shell.network.rules.is_auditing() {
        daemon.take_turns();
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

    /// systemd's directories, beside the state.
    fn placement(&self) -> Placement {
        let system = self.state.path().join("system");
        std::fs::create_dir_all(system.join("run/systemd/system")).unwrap();
        Placement::below(&system, self.root.path())
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
            &self.placement(),
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
            ..UnitFacts::default()
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
            placement: self.placement(),
            switch: self.switch(),
            cpu: self.systemd.clone(),
            units: self.systemd.clone(),
            firewall: Box::new(self.firewall.clone()),
            journal,
            answers: Arc::default(),
            inlets: Inlets {
                refusals,
                asked,
                repairs,
                commands,
            },
        };
        let (mut daemon, turns, _) = Daemon::new(parts).unwrap();
        daemon.start().unwrap();
        // No test wants the hub to be asked by the clock.
        assert!(daemon.due.take(Time(Duration::ZERO)).hub);
        (Running { daemon, turns }, entries)
    }

    /// Lets some time pass and a tick come.
    async fn tick(&mut self, daemon: &mut Running, seconds: u64) {
        self.clock.0 += Duration::from_secs(seconds);
        CLOCK.set(Some(self.clock));
        daemon.tick_once();
        daemon.quiet().await;
    }

    fn read(&mut self, entries: &std::sync::mpsc::Receiver<LogEntry>) -> String {
        self.told
            .extend(entries.try_iter().map(|entry| entry.message));
        std::mem::take(&mut self.told).join("\n")
    }
}

fn stage(daemon: &mut Running, user: &str) -> Stage {
    let shell = &daemon.shell;
    let found = shell
        .registry
        .entries
        .values()
        .find_map(|entry| match entry {
            Cgroup::Server(guarded) if guarded.server.user.as_str() == user => {
                shell.stands_on(guarded.id)
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
async fn spin(node: &mut Node, daemon: &mut Running, user: &str) {
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
