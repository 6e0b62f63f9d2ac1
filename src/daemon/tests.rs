//! The whole daemon on a made-up node: a cgroup tree in a temporary directory, a systemd that is
//! a map, packet rules that are a list.

use super::*;
use crate::act::{ActError, Owner};
use crate::egress::{Difference, Error, Policy as EgressPolicy};
use crate::hub::UnitFacts;
use crate::judge::{CpuSettings, Rung};
use crate::sd_bus::SdBusError;
use crate::units::{CoreSeconds, Cores};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

mod containers;
mod hub_word;
mod intruders;

const NOTHING: CpuSettings = CpuSettings {
    quota: None,
    period: None,
    weight: None,
    memory_high: None,
    memory_max: None,
    tasks_max: None,
    io_weight: None,
    frozen: false,
};

/// systemd as far as the daemon sees it; survives the daemon.
#[derive(Clone, Default)]
struct FakeSystemd(Rc<RefCell<Systemd>>);

#[derive(Default)]
struct Systemd {
    facts: BTreeMap<String, UnitFacts>,
    settings: BTreeMap<String, CpuSettings>,
    broken: BTreeSet<String>,
    stopped: Vec<String>,
    applied: usize,
}

impl Units for FakeSystemd {
    async fn facts(&self, unit: &UnitName) -> Result<UnitFacts, SdBusError> {
        let facts = self.0.borrow().facts.get(unit.as_str()).cloned();
        facts.ok_or_else(|| SdBusError::Gone(unit.clone()))
    }
}

impl CpuControl for FakeSystemd {
    async fn read(&self, owner: &Owner) -> Result<CpuSettings, ActError> {
        let settings = self.0.borrow().settings.get(&owner.to_string()).copied();
        settings.ok_or_else(|| ActError::Gone(owner.clone()))
    }

    async fn apply(
        &self,
        owner: &Owner,
        _from: Option<&CpuSettings>,
        to: &CpuSettings,
    ) -> Result<(), ActError> {
        // As over a real bus, others get their turn meanwhile.
        tokio::task::yield_now().await;
        let mut systemd = self.0.borrow_mut();
        let unit = owner.to_string();
        if systemd.broken.contains(&unit) {
            return Err(ActError::Bus(SdBusError::NoBus(zbus::Error::InvalidReply)));
        }
        systemd.applied += 1;
        systemd.settings.insert(unit, *to);
        Ok(())
    }

    async fn stop(&self, owner: &Owner) -> Result<(), ActError> {
        self.0.borrow_mut().stopped.push(owner.to_string());
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

    fn load(
        &mut self,
        _policy: &EgressPolicy,
        _guarded: &[CgroupId],
        servers: &[Admitted],
    ) -> Result<(), Error> {
        let mut rules = self.rules();
        rules.loaded = true;
        rules.altered.clear();
        rules.admitted = servers.iter().map(|s| (s.cgroup, s.clone())).collect();
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

    fn reclass(&mut self, _: &[(CgroupId, crate::egress::ClassName)]) -> Result<(), Error> {
        Ok(())
    }

    fn set_guarded(&mut self, _: &[CgroupId]) -> Result<(), Error> {
        Ok(())
    }

    fn remove(&mut self) -> Result<(), Error> {
        *self.rules() = Rules::default();
        Ok(())
    }

    fn verify(&mut self) -> Result<Vec<Difference>, Error> {
        Ok(self.rules().altered.clone())
    }

    fn generation(&mut self) -> Result<u32, Error> {
        Ok(self.rules().generation)
    }
}

type Running = Rc<Daemon<FakeSystemd, FakeSystemd>>;

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
        Node {
            root,
            state: tempfile::tempdir().unwrap(),
            systemd: FakeSystemd::default(),
            firewall: FakeFirewall::default(),
            config,
            clock: Time(Duration::from_secs(1000)),
            told: Vec::new(),
        }
    }

    fn unit(user: &str) -> String {
        format!("jupyter-{user}.service")
    }

    /// The spawner starts a server, with an admin's limit of 1.5 cores.
    fn spawn(&self, user: &str) {
        let unit = Node::unit(user);
        let mut systemd = self.systemd.0.borrow_mut();
        let facts = UnitFacts {
            transient: true,
            user: Some(format!("jupyter-{user}")),
            uid: Some(1000),
            dynamic_user: false,
        };
        systemd.facts.insert(unit.clone(), facts);
        let settings = CpuSettings {
            quota: Some(Cores(1.5)),
            ..NOTHING
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

    fn start(&self) -> (Running, std::sync::mpsc::Receiver<Told>) {
        let (journal, entries) = Journal::queue();
        let (_, refusals) = mpsc::channel(1);
        let (_, intrusions) = mpsc::channel(1);
        let (_, commands) = mpsc::channel(1);
        let parts = Parts {
            config: self.config.clone(),
            config_path: self.state.path().join("config.toml"),
            root: self.root.path().to_owned(),
            store: Store::new(self.state.path()).unwrap(),
            cpu: self.systemd.clone(),
            units: self.systemd.clone(),
            firewall: Box::new(self.firewall.clone()),
            journal,
            refusals,
            intrusions,
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
        daemon.rescan();
        daemon.ask_again();
        daemon.sweep(self.clock, None);
        daemon.check_egress();
        quiet().await;
    }

    fn read(&mut self, entries: &std::sync::mpsc::Receiver<Told>) -> String {
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

fn rung(daemon: &Running, user: &str) -> Rung {
    let inner = daemon.inner.borrow();
    let found = inner.entries.values().find_map(|entry| match entry {
        Entry::Guarded(guarded) if guarded.server.user.as_str() == user => Some(guarded.case.rung),
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

#[test]
fn a_server_is_found_let_out_by_its_class_and_forgotten_when_it_stops() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let (daemon, journal) = node.start();
        node.spawn("alice");
        daemon.poll_tree();
        quiet().await;
        let admitted: Vec<Admitted> = node.firewall.rules().admitted.values().cloned().collect();
        assert_eq!(admitted.len(), 1);
        assert_eq!(
            (admitted[0].class.as_str(), admitted[0].level),
            ("standard", 2)
        );
        node.stop("alice");
        node.tick(&daemon, 5).await;
        assert!(node.firewall.rules().admitted.is_empty());
        let told = node.read(&journal);
        assert!(
            told.contains("alice's server was found in jupyter-alice.service"),
            "{told}"
        );
        assert!(
            told.contains("alice's server in jupyter-alice.service stopped"),
            "{told}"
        );
    });
}

/// 100 core-seconds at 1.5 − 0.25 cores last 80 s.
async fn spin(node: &mut Node, daemon: &Running, user: &str) {
    for second in 1..=100u32 {
        node.set_usage(user, f64::from(second) * 1.5);
        node.tick(daemon, 1).await;
    }
}

#[test]
fn a_spent_server_is_throttled_and_then_has_its_own_limit_back() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (daemon, journal) = node.start();
        node.tick(&daemon, 1).await;
        assert_eq!(node.quota("alice"), Some(1.5));
        spin(&mut node, &daemon, "alice").await;
        assert_eq!(node.quota("alice"), Some(0.25));
        for _ in 0..50 {
            node.tick(&daemon, 1).await;
        }
        assert_eq!(rung(&daemon, "alice"), Rung::Free);
        assert_eq!(node.quota("alice"), Some(1.5));
        assert_eq!(
            node.systemd.0.borrow().settings["jupyter-alice.service"].weight,
            None
        );
        let told = node.read(&journal);
        assert!(
            told.contains("alice's server is throttled to 0.25 cores"),
            "{told}"
        );
        assert!(
            told.contains("alice's server is free again, with 1.5 cores"),
            "{told}"
        );
    });
}

#[test]
fn observing_changes_nothing_and_tells_what_it_would_do() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Observe);
        node.spawn("alice");
        let (daemon, journal) = node.start();
        node.tick(&daemon, 1).await;
        spin(&mut node, &daemon, "alice").await;
        assert_eq!(rung(&daemon, "alice"), Rung::Throttled);
        assert_eq!(node.systemd.0.borrow().applied, 0);
        let told = node.read(&journal);
        assert!(told.contains("would be throttled to 0.25 cores"), "{told}");
        assert!(!told.contains("is throttled"), "{told}");
    });
}

#[test]
fn a_killed_daemon_s_case_is_carried_on() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (daemon, _journal) = node.start();
        node.tick(&daemon, 1).await;
        spin(&mut node, &daemon, "alice").await;
        drop(daemon);
        let applied = node.systemd.0.borrow().applied;
        let (daemon, journal) = node.start();
        quiet().await;
        assert_eq!(rung(&daemon, "alice"), Rung::Throttled);
        assert_eq!(node.quota("alice"), Some(0.25));
        assert_eq!(
            node.systemd.0.borrow().applied,
            applied,
            "nothing had to be done"
        );
        for _ in 0..60 {
            node.tick(&daemon, 1).await;
        }
        assert_eq!(node.quota("alice"), Some(1.5));
        let told = node.read(&journal);
        assert!(told.contains("is still there after our restart"), "{told}");
    });
}

#[test]
fn an_intent_that_was_noted_and_not_carried_out_is_carried_out() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (daemon, _journal) = node.start();
        node.systemd
            .0
            .borrow_mut()
            .broken
            .insert(Node::unit("alice"));
        node.tick(&daemon, 1).await;
        spin(&mut node, &daemon, "alice").await;
        assert_eq!(node.quota("alice"), Some(1.5));
        drop(daemon);
        node.systemd.0.borrow_mut().broken.clear();
        let (daemon, _journal) = node.start();
        node.tick(&daemon, 1).await;
        assert_eq!(node.quota("alice"), Some(0.25));
        for _ in 0..60 {
            node.tick(&daemon, 1).await;
        }
        assert_eq!(node.quota("alice"), Some(1.5));
    });
}

#[test]
fn one_server_s_trouble_is_told_once_and_stops_nobody() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        for user in ["alice", "bob"] {
            node.spawn(user);
        }
        node.systemd
            .0
            .borrow_mut()
            .broken
            .insert(Node::unit("alice"));
        let (daemon, journal) = node.start();
        node.tick(&daemon, 1).await;
        for second in 1..=100u32 {
            node.set_usage("alice", f64::from(second) * 1.5);
            node.set_usage("bob", f64::from(second) * 1.5);
            node.tick(&daemon, 1).await;
        }
        assert_eq!(node.quota("bob"), Some(0.25));
        let told = node.read(&journal);
        assert_eq!(told.matches("alice's server failed").count(), 1, "{told}");
    });
}

#[test]
fn somebody_else_s_limit_becomes_what_is_put_back() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (daemon, journal) = node.start();
        node.tick(&daemon, 1).await;
        spin(&mut node, &daemon, "alice").await;
        let theirs = CpuSettings {
            quota: Some(Cores(0.5)),
            ..NOTHING
        };
        let unit = Node::unit("alice");
        node.systemd.0.borrow_mut().settings.insert(unit, theirs);
        // The kernel shows what systemd wrote.
        std::fs::write(node.directory("alice").join("cpu.max"), "50000 100000\n").unwrap();
        node.tick(&daemon, 1).await;
        assert_eq!(
            node.quota("alice"),
            Some(0.25),
            "ours is put in force again"
        );
        std::fs::write(node.directory("alice").join("cpu.max"), "5000 20000\n").unwrap();
        for _ in 0..60 {
            node.tick(&daemon, 1).await;
        }
        assert_eq!(node.quota("alice"), Some(0.5));
        let told = node.read(&journal);
        assert!(
            told.contains("Somebody set alice's server to 0.5 cores"),
            "{told}"
        );
    });
}

#[test]
fn off_lifts_everything_outlives_a_restart_and_on_resumes() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (daemon, journal) = node.start();
        node.tick(&daemon, 1).await;
        spin(&mut node, &daemon, "alice").await;
        daemon.switch_off("root").await.unwrap();
        assert_eq!(node.quota("alice"), Some(1.5));
        assert!(!node.firewall.rules().loaded);
        drop(daemon);
        let (daemon, _journal) = node.start();
        node.tick(&daemon, 1).await;
        assert_eq!(node.quota("alice"), Some(1.5));
        assert!(!node.firewall.rules().loaded);
        daemon.switch_on("root").await.unwrap();
        assert_eq!(node.quota("alice"), Some(0.25));
        assert!(node.firewall.rules().loaded);
        let told = node.read(&journal);
        assert!(told.contains("switched off by root"), "{told}");
    });
}

#[test]
fn the_brake_lifts_without_a_daemon() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (daemon, _journal) = node.start();
        node.tick(&daemon, 1).await;
        spin(&mut node, &daemon, "alice").await;
        drop(daemon);
        let store = Store::new(node.state.path()).unwrap();
        let complaints = lift(&store, Some(&node.systemd), &mut node.firewall.clone()).await;
        assert!(complaints.is_empty(), "{complaints:?}");
        assert_eq!(node.quota("alice"), Some(1.5));
        assert!(store.load().unwrap().off);
    });
}

#[test]
fn altered_rules_are_told_and_put_back() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let (daemon, journal) = node.start();
        node.tick(&daemon, 1).await;
        {
            let mut rules = node.firewall.rules();
            rules.generation += 1;
            rules.loaded = false;
            rules.altered.push(Difference {
                object: "table hubwarden".into(),
                kind: crate::egress::DifferenceKind::Missing,
            });
        }
        node.tick(&daemon, 1).await;
        assert!(node.firewall.rules().loaded);
        let told = node.read(&journal);
        assert!(told.contains("table hubwarden is gone"), "{told}");
    });
}

#[test]
fn an_admin_s_unit_in_the_slice_keeps_its_network() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("lab");
        node.systemd.0.borrow_mut().facts.insert(
            Node::unit("lab"),
            UnitFacts {
                transient: false,
                user: Some("root".into()),
                uid: Some(0),
                dynamic_user: false,
            },
        );
        let (daemon, journal) = node.start();
        node.tick(&daemon, 1).await;
        let classes: Vec<String> = node
            .firewall
            .rules()
            .admitted
            .values()
            .map(|admitted| admitted.class.to_string())
            .collect();
        assert_eq!(classes, ["exempt"]);
        assert_eq!(node.systemd.0.borrow().applied, 0);
        let told = node.read(&journal);
        assert!(told.contains("is no known user's server"), "{told}");
    });
}

#[test]
fn a_unit_nobody_can_tell_is_told_once_and_never_acted_on() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        if let Some(facts) = node
            .systemd
            .0
            .borrow_mut()
            .facts
            .get_mut(&Node::unit("alice"))
        {
            facts.user = Some("mallory".into());
        }
        let (daemon, journal) = node.start();
        for _ in 0..5 {
            node.tick(&daemon, 1).await;
        }
        assert!(node.firewall.rules().admitted.is_empty());
        assert_eq!(node.systemd.0.borrow().applied, 0);
        let told = node.read(&journal);
        assert_eq!(told.matches("it reaches no network").count(), 1, "{told}");
        assert!(told.contains("Unix user mallory"), "{told}");
    });
}

fn order(user: &str) -> crate::control::GrantOrder {
    crate::control::GrantOrder {
        user: user.into(),
        limit_cores: 0.0,
        baseline_cores: 0.0,
        credits_core_seconds: -1.0,
        class: String::new(),
        seconds: 86_400,
        reason: "thesis training".into(),
        by: "root".into(),
    }
}

#[test]
fn a_grant_frees_its_user_outlives_a_restart_and_ends_when_revoked() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (daemon, journal) = node.start();
        node.tick(&daemon, 1).await;
        spin(&mut node, &daemon, "alice").await;
        assert_eq!(node.quota("alice"), Some(0.25));
        daemon.grant(order("alice")).unwrap();
        node.tick(&daemon, 1).await;
        assert_eq!(node.quota("alice"), Some(1.5));
        drop(daemon);
        let (daemon, _journal) = node.start();
        node.tick(&daemon, 1).await;
        assert_eq!(daemon.inner.borrow().grants_told().len(), 1);
        node.set_usage("alice", 1000.0);
        node.tick(&daemon, 100).await;
        assert_eq!(rung(&daemon, "alice"), Rung::Free);
        daemon.revoke("root", "alice").unwrap();
        node.set_usage("alice", 1100.0);
        node.tick(&daemon, 60).await;
        assert_eq!(node.quota("alice"), Some(0.25));
        assert!(daemon.revoke("root", "alice").is_err());
        let told = node.read(&journal);
        assert!(
            told.contains("root gave alice unlimited credits for 24 h 0 min (thesis training)"),
            "{told}"
        );
    });
}

#[test]
fn orders_that_cannot_be_are_refused_in_words() {
    on_a_node(async || {
        let node = Node::new(Mode::Enforce);
        let (daemon, _journal) = node.start();
        let refused = |change: &dyn Fn(&mut crate::control::GrantOrder)| {
            let mut order = order("alice");
            change(&mut order);
            daemon.grant(order).unwrap_err()
        };
        assert!(refused(&|order| order.seconds = 0).contains("from 1s to 366d"));
        assert!(refused(&|order| order.reason = " ".into()).contains("a reason is needed"));
        assert!(refused(&|order| order.class = "nope".into()).contains("no egress class nope"));
        assert!(refused(&|order| order.limit_cores = 1e9).contains("0.01 to 4096"));
        assert!(refused(&|order| order.credits_core_seconds = 0.0).contains("say what is granted"));
        assert!(
            refused(&|order| order.credits_core_seconds = f64::NAN).contains("credits must be")
        );
    });
}

#[test]
fn limits_by_user_hold_for_that_user_alone() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.config = Config {
            mode: Mode::Enforce,
            ..Config::parse(
                "[users.alice.cpu]\nlimit = \"0.5 cores\"\n[users.alice.tasks]\nmax = 99\n",
            )
            .unwrap()
        };
        node.spawn("alice");
        node.spawn("bob");
        let (daemon, _journal) = node.start();
        node.tick(&daemon, 1).await;
        assert_eq!(node.quota("alice"), Some(0.5));
        assert_eq!(node.quota("bob"), Some(1.5));
        let systemd = node.systemd.0.borrow();
        assert_eq!(
            systemd.settings["jupyter-alice.service"].tasks_max,
            Some(99)
        );
        assert_eq!(systemd.settings["jupyter-bob.service"].tasks_max, None);
    });
}

#[test]
fn a_server_whose_time_is_up_is_stopped_once() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.config.limits.time.wall = Some(Duration::from_secs(60));
        node.config.limits.time.warn = Duration::from_secs(30);
        node.config.limits.time.then = Rung::Stopped;
        node.spawn("alice");
        let (daemon, journal) = node.start();
        for _ in 0..70 {
            node.tick(&daemon, 1).await;
        }
        assert_eq!(node.systemd.0.borrow().stopped, ["jupyter-alice.service"]);
        let told = node.read(&journal);
        assert_eq!(
            told.matches("30 s of its running time left").count(),
            1,
            "{told}"
        );
        assert!(
            told.contains("alice's server is stopped: it ran for the 60 s"),
            "{told}"
        );
    });
}

#[test]
fn a_busy_server_is_throttled_only_while_its_neighbour_waits() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.config.limits.cpu.throttle_when = crate::config::ThrottleWhen::Contended;
        node.spawn("alice");
        node.spawn("bob");
        let (daemon, _journal) = node.start();
        node.tick(&daemon, 1).await;
        spin(&mut node, &daemon, "alice").await;
        assert_eq!(rung(&daemon, "alice"), Rung::Deprioritised);
        let pressure = "some avg10=40.00 avg60=3.00 avg300=0.76 total=1\n";
        std::fs::write(node.directory("bob").join("cpu.pressure"), pressure).unwrap();
        for second in 1..=5u32 {
            node.set_usage("alice", 150.0 + f64::from(second) * 1.5);
            node.set_usage("bob", f64::from(second) * 0.2);
            node.tick(&daemon, 1).await;
        }
        assert_eq!(rung(&daemon, "alice"), Rung::Throttled);
        assert_eq!(rung(&daemon, "bob"), Rung::Free);
    });
}

#[test]
fn stopping_and_starting_again_brings_no_new_credits() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (daemon, _journal) = node.start();
        node.tick(&daemon, 1).await;
        spin(&mut node, &daemon, "alice").await;
        node.stop("alice");
        node.tick(&daemon, 1).await;
        // A restart of the daemon between the two forgets nothing either.
        daemon.save();
        drop(daemon);
        let (daemon, _journal) = node.start();
        node.spawn("alice");
        node.tick(&daemon, 1).await;
        for second in 1..=3u32 {
            node.set_usage("alice", f64::from(second) * 1.5);
            node.tick(&daemon, 1).await;
        }
        assert_eq!(node.quota("alice"), Some(0.25));
    });
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
        systemd.settings.entry(unit.to_owned()).or_insert(NOTHING);
    }

    fn quota_of(&self, unit: &str) -> Option<f64> {
        self.systemd.0.borrow().settings[unit]
            .quota
            .map(|quota| quota.0)
    }
}

#[test]
fn what_runs_outside_the_server_drains_the_same_credits_and_is_throttled_too() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (daemon, journal) = node.start();
        node.outside(0.0);
        for second in 1..=100u32 {
            node.outside(f64::from(second) * 1.5);
            node.tick(&daemon, 1).await;
        }
        assert_eq!(rung(&daemon, "alice"), Rung::Throttled);
        assert_eq!(node.quota("alice"), Some(0.25));
        assert_eq!(node.quota_of("user-1000.slice"), Some(0.25));
        let told = node.read(&journal);
        assert!(
            told.contains("what alice runs outside the server is throttled"),
            "{told}"
        );
        // Stopping the server is no way out, and the next server takes the case over.
        node.stop("alice");
        node.outside(151.0);
        node.tick(&daemon, 2).await;
        node.outside(153.0);
        node.tick(&daemon, 2).await;
        assert_eq!(node.quota_of("user-1000.slice"), Some(0.25));
        node.spawn("alice");
        node.tick(&daemon, 1).await;
        for second in 1..=3u32 {
            node.outside(153.0 + f64::from(second) * 1.5);
            node.tick(&daemon, 1).await;
        }
        assert_eq!(node.quota("alice"), Some(0.25));
        // Rest frees both.
        for _ in 0..60 {
            node.tick(&daemon, 1).await;
        }
        assert_eq!(node.quota("alice"), Some(1.5));
        assert_eq!(node.quota_of("user-1000.slice"), Some(2.0));
    });
}

#[test]
fn the_slice_of_somebody_who_is_no_hub_user_is_left_alone() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let (daemon, _journal) = node.start();
        for second in 1..=100u32 {
            node.outside(f64::from(second) * 2.0);
            node.tick(&daemon, 1).await;
        }
        assert_eq!(node.quota_of("user-1000.slice"), None);
        assert_eq!(node.systemd.0.borrow().applied, 0);
    });
}
