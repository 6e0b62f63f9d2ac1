//! The whole daemon under random schedules of what cuts a change off: after `off`, each unit has what
//! its owner set.

use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    /// Time passes; the user computes or rests.
    Tick {
        busy: bool,
    },
    /// The next changes are cut off there.
    Cut(Vec<Cut>),
    /// The daemon is killed, wherever it is, and started again.
    Kill,
    /// Records can be written no more, or can again.
    Room(bool),
    /// The state file is of no use.
    Damage,
    /// The admin sets a limit of their own.
    Admin {
        quota: u32,
    },
    /// The admin changes what every server may use.
    Reload {
        limit: u32,
    },
    Mode(Mode),
    Off,
    On,
    /// The server's unit is restarted: the same unit in another cgroup.
    Restart,
    /// The server is stopped and started again: another unit.
    Respawn,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let cut = prop_oneof![
        Just(Cut::No),
        Just(Cut::Before),
        Just(Cut::Between),
        Just(Cut::After)
    ];
    let step = prop_oneof![
        6 => any::<bool>().prop_map(|busy| Step::Tick { busy }),
        4 => proptest::collection::vec(cut, 1..4).prop_map(Step::Cut),
        3 => Just(Step::Kill),
        1 => any::<bool>().prop_map(Step::Room),
        1 => Just(Step::Damage),
        2 => (0..9u32).prop_map(|quota| Step::Admin { quota }),
        2 => (0..4u32).prop_map(|limit| Step::Reload { limit }),
        1 => prop_oneof![Just(Mode::Observe), Just(Mode::Enforce)].prop_map(Step::Mode),
        1 => Just(Step::Off),
        1 => Just(Step::On),
        1 => Just(Step::Restart),
        1 => Just(Step::Respawn),
    ];
    proptest::collection::vec(step, 1..40)
}

/// A node with one server, and what its owner wants of it.
struct Schedule {
    node: Node,
    /// The daemon's tasks: they end when it is killed.
    tasks: tokio::task::LocalSet,
    daemon: Option<(Running, std::sync::mpsc::Receiver<LogEntry>)>,
    theirs: Controls,
    used: f64,
    /// How many cgroups it had before.
    remade: usize,
}

impl Schedule {
    fn new() -> Schedule {
        let node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let units = node.state.path().join("transient");
        std::fs::create_dir_all(&units).unwrap();
        let schedule = Schedule {
            theirs: Controls {
                quota: Some(Cores(1.5)),
                ..Controls::default()
            },
            node,
            tasks: tokio::task::LocalSet::new(),
            daemon: None,
            used: 0.0,
            remade: 0,
        };
        schedule.make_fragment();
        schedule
    }

    /// As systemd makes it for each life of a transient unit.
    fn make_fragment(&self) {
        let units = self.node.state.path().join("transient");
        let (path, old) = (units.join(Node::unit("alice")), units.join("old"));
        // Kept, so that its inode is not taken again.
        let _ = std::fs::rename(&path, old);
        std::fs::write(path, "").unwrap();
    }

    async fn tick(&mut self, seconds: u64) {
        let mut daemon = match self.daemon.take() {
            Some(daemon) => daemon,
            None => self.node.start(),
        };
        self.node.tick(&mut daemon.0, seconds).await;
        daemon.0.put_back_orphans();
        daemon.0.quiet().await;
        self.daemon = Some(daemon);
    }

    fn set(&self) {
        let mut systemd = self.node.systemd.0.borrow_mut();
        let standing = systemd.settings.entry(Node::unit("alice")).or_default();
        (standing.quota, standing.period) = (self.theirs.quota, self.theirs.period);
    }

    /// The cgroup is made anew, with another number.
    fn remake(&mut self) {
        self.remade += 1;
        let away = self
            .node
            .root
            .path()
            .join(format!("cgroup-{}", self.remade));
        std::fs::rename(self.node.directory("alice"), away).unwrap();
        self.used = 0.0;
        self.node.set_usage("alice", self.used);
    }

    /// One step; what the daemon has begun by then goes on in the next ones.
    async fn step(&mut self, step: &Step) {
        let tasks = std::mem::take(&mut self.tasks);
        tasks.run_until(self.make(step)).await;
        match step {
            Step::Kill => self.daemon = None,
            _ => self.tasks = tasks,
        }
    }

    async fn make(&mut self, step: &Step) {
        match step {
            Step::Tick { busy } => {
                for _ in 0..40 {
                    self.used += if *busy { 4.0 } else { 0.0 };
                    self.node.set_usage("alice", self.used);
                    self.tick(2).await;
                }
            }
            Step::Cut(cuts) => {
                self.node.systemd.0.borrow_mut().cuts.extend(cuts);
            }
            Step::Kill => {}
            Step::Room(room) => {
                let undo = self.node.state.path().join("undo");
                let away = self.node.state.path().join("undo-away");
                // A file in the directory's place refuses whoever writes, and reads too: so the
                // daemon lives meanwhile.
                match room {
                    true if away.exists() => {
                        std::fs::remove_file(&undo).unwrap();
                        std::fs::rename(&away, &undo).unwrap();
                    }
                    false if !away.exists() && undo.exists() && self.daemon.is_some() => {
                        std::fs::rename(&undo, &away).unwrap();
                        std::fs::write(&undo, "").unwrap();
                    }
                    _ => {}
                }
            }
            Step::Damage => {
                std::fs::write(self.node.state.path().join("state.json"), "{").unwrap();
            }
            Step::Admin { quota } => {
                // A period of the admin's: ours are others.
                self.theirs.quota = Some(Cores(0.1 + f64::from(*quota) / 4.0));
                self.theirs.period = Some(Duration::from_millis(77));
                self.set();
            }
            Step::Reload { limit } => {
                let limit = (*limit > 0).then(|| Cores(0.5 + f64::from(*limit)));
                self.node.config.limits.cpu.limit = limit;
                self.adopt();
            }
            Step::Mode(mode) => {
                self.node.config.mode = *mode;
                self.adopt();
            }
            Step::Off => {
                self.tick(1).await;
                if let Some((daemon, _)) = &mut self.daemon {
                    let _ = daemon.switch_off("root").await;
                }
            }
            Step::On => {
                if let Some((daemon, _)) = &mut self.daemon {
                    let _ = daemon.switch_on("root").await;
                }
            }
            Step::Restart => self.remake(),
            Step::Respawn => {
                self.remake();
                self.make_fragment();
                let unit = Node::unit("alice");
                let mut systemd = self.node.systemd.0.borrow_mut();
                systemd.settings.insert(unit, self.theirs);
            }
        }
    }

    fn adopt(&mut self) {
        if let Some((daemon, _)) = &mut self.daemon {
            daemon.adopt(self.node.config.clone(), "root");
        }
    }

    /// Everything works again, and supervision is switched off, by a daemon or without one.
    async fn end(mut self, with_daemon: bool) -> (Controls, Controls) {
        self.step(&Step::Room(true)).await;
        self.node.systemd.0.borrow_mut().cuts.clear();
        match with_daemon {
            true => {
                let tasks = std::mem::take(&mut self.tasks);
                let off = async {
                    self.tick(1).await;
                    let (daemon, _) = self.daemon.as_mut().unwrap();
                    daemon.switch_off("root").await.unwrap();
                };
                tasks.run_until(off).await;
            }
            false => {
                self.step(&Step::Kill).await;
                assert_eq!(self.node.off_without_daemon().await, [""; 0]);
            }
        }
        let systemd = self.node.systemd.0.borrow();
        (systemd.settings[&Node::unit("alice")], self.theirs)
    }
}

/// What stands after `off` at the end of a schedule, and what the owner wants.
fn played(steps: &[Step], with_daemon: bool) -> (Controls, Controls) {
    let mut stands = None;
    on_a_node(async || {
        let mut schedule = Schedule::new();
        for step in steps {
            schedule.step(step).await;
        }
        stands = Some(schedule.end(with_daemon).await);
    });
    stands.unwrap()
}

#[test]
fn while_nothing_can_be_noted_a_limit_that_an_owner_changed_stays_theirs() {
    let (busy, rests) = (Step::Tick { busy: true }, Step::Tick { busy: false });
    let steps = [
        busy,
        Step::Room(false),
        Step::Admin { quota: 1 },
        Step::Kill,
        rests.clone(),
        rests,
    ];
    for ended in 1..=steps.len() {
        for with_daemon in [true, false] {
            let (standing, theirs) = played(&steps[..ended], with_daemon);
            assert_eq!(standing, theirs, "after {ended} steps, {with_daemon}");
        }
    }
}

#[test]
fn what_stands_is_no_owners_while_no_record_can_be_read() {
    let busy = Step::Tick { busy: true };
    let rests = Step::Tick { busy: false };
    let lost = [Step::Damage, Step::Room(false), Step::Kill];
    for then in [rests, busy.clone(), Step::Off, Step::Admin { quota: 1 }] {
        let mut steps = vec![busy.clone()];
        steps.extend(lost.clone());
        steps.push(then);
        for with_daemon in [true, false] {
            let (standing, theirs) = played(&steps, with_daemon);
            assert_eq!(standing, theirs, "{steps:?}, {with_daemon}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn after_off_a_unit_has_what_its_owner_set_whatever_was_cut_off(steps in steps(), with_daemon: bool) {
        let (standing, theirs) = played(&steps, with_daemon);
        prop_assert_eq!(standing, theirs);
    }
}
