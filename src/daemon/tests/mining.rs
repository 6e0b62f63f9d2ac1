//! From what the sensors find to what becomes of a miner, and of who only looks like one.

use super::*;
use crate::control::Command;
use hubwarden_core::node::Input;
use policy::Stop;
use policy::finding::{Evidence, Fact, Modes, Word};
use sensors::set::Found;
use tokio::sync::oneshot;

const MODES: Modes = Modes {
    down: 20,
    up: 20,
    zero: 20,
    flushed: 60,
};
const RULE_R: Fact = Fact::RandomRounding(MODES);
const CONSTANTS: Fact = Fact::Constants { found: 7 };

fn can_be_ended(directory: &std::path::Path, processes: &[u32]) {
    let procs: String = processes.iter().map(|pid| format!("{pid}\n")).collect();
    for (file, text) in [
        ("cgroup.events", "populated 0\nfrozen 1\n"),
        ("cgroup.kill", ""),
        ("cgroup.procs", &procs),
    ] {
        std::fs::write(directory.join(file), text).unwrap();
    }
}

impl Node {
    fn id(&self, user: &str) -> u64 {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(self.directory(user)).unwrap().ino()
    }

    /// A cgroup as the kernel shows one: nothing alive in it, and the files by which it is ended.
    fn can_be_ended(&self, user: &str, processes: &[u32]) {
        can_be_ended(&self.directory(user), processes);
    }

    /// A second in which the server uses a core and a half.
    pub(super) async fn busy_second(&mut self, daemon: &mut Running, user: &str, used: &mut f64) {
        *used += 1.5;
        self.set_usage(user, *used);
        self.second(daemon).await;
    }

    async fn second(&mut self, daemon: &mut Running) {
        self.tick(daemon, 1).await;
        daemon.attend();
        daemon.drive(Input::Weigh);
        daemon.quiet().await;
    }

    pub(super) async fn finds(&mut self, daemon: &mut Running, user: &str, facts: &[Fact]) {
        self.finds_of(daemon, user, facts, 4_000_000).await;
    }

    async fn finds_of(&mut self, daemon: &mut Running, user: &str, facts: &[Fact], pid: u32) {
        let id = self.id(user);
        let found = |fact: &Fact| {
            let (fact, at) = (*fact, self.clock);
            let evidence = Evidence { fact, pid, at };
            Found { id, evidence }
        };
        let found: Vec<Found> = facts.iter().map(found).collect();
        daemon.found(&found);
        daemon.quiet().await;
    }
}

/// A node with alice's server, hot since a moment ago, and credits enough.
async fn hot(mode: Mode, set: impl FnOnce(&mut Config)) -> (Node, Running, Channel, f64) {
    let mut node = Node::new(mode);
    node.config.limits.cpu.credits = CoreSeconds(100_000.0);
    set(&mut node.config);
    node.spawn("alice");
    let (mut daemon, journal) = node.start();
    let mut used = 0.0;
    for _ in 0..3 {
        node.busy_second(&mut daemon, "alice", &mut used).await;
    }
    assert_eq!(stage(&mut daemon, "alice"), Stage::Free);
    (node, daemon, journal, used)
}

type Channel = std::sync::mpsc::Receiver<LogEntry>;

#[test]
fn certain_evidence_throttles_at_once_and_ends_the_server_after_the_delay() {
    on_a_node(async || {
        let (mut node, mut daemon, journal, mut used) = hot(Mode::Enforce, |_| {}).await;
        node.finds(&mut daemon, "alice", &[RULE_R]).await;
        assert_eq!(stage(&mut daemon, "alice"), Stage::Free);
        node.finds(&mut daemon, "alice", &[CONSTANTS]).await;
        assert_eq!(stage(&mut daemon, "alice"), Stage::Throttled);
        assert_eq!(node.quota("alice"), Some(0.25));
        let told = node.read(&journal);
        assert!(
            told.contains("alice's server does what miners do, and the evidence is certain:"),
            "{told}"
        );
        assert!(told.contains("7 of RandomX's 7 constants"), "{told}");
        assert!(
            told.contains(
                "alice's server is throttled to 0.25 cores: the evidence that it mines is certain"
            ),
            "{told}"
        );

        node.can_be_ended("alice", &[]);
        for second in 0..599 {
            if second % 30 == 0 {
                node.finds(&mut daemon, "alice", &[RULE_R]).await;
            }
            node.busy_second(&mut daemon, "alice", &mut used).await;
            assert_eq!(stage(&mut daemon, "alice"), Stage::Throttled, "{second}");
        }
        node.busy_second(&mut daemon, "alice", &mut used).await;
        assert_eq!(stage(&mut daemon, "alice"), Stage::Frozen);
        assert!(node.systemd.0.borrow().settings["jupyter-alice.service"].frozen);
        assert!(node.systemd.0.borrow().stopped.is_empty());
        node.second(&mut daemon).await;
        assert_eq!(stage(&mut daemon, "alice"), Stage::Stopped);
        assert_eq!(node.systemd.0.borrow().stopped, ["jupyter-alice.service"]);
        for _ in 0..20 {
            node.second(&mut daemon).await;
        }
        assert_eq!(node.systemd.0.borrow().stopped.len(), 1);
        let told = node.read(&journal);
        assert!(told.contains("alice's server is frozen"), "{told}");
        assert!(
            told.contains("alice's server is stopped: the evidence that it mines is certain, and it went on for 10 min"),
            "{told}"
        );
    });
}

#[test]
fn a_miner_that_gives_up_is_not_stopped_and_is_free_again_when_the_evidence_lapses() {
    on_a_node(async || {
        let (mut node, mut daemon, journal, mut used) = hot(Mode::Enforce, |_| {}).await;
        node.finds(&mut daemon, "alice", &[RULE_R, CONSTANTS]).await;
        for second in 0..599 {
            // Somebody else's honest arithmetic in the same server keeps nothing alive.
            if second % 30 == 0 {
                node.finds(&mut daemon, "alice", &[Fact::IntervalRounding(MODES)])
                    .await;
            }
            node.busy_second(&mut daemon, "alice", &mut used).await;
            assert_eq!(stage(&mut daemon, "alice"), Stage::Throttled, "{second}");
        }
        for _ in 0..3 {
            node.busy_second(&mut daemon, "alice", &mut used).await;
        }
        assert_eq!(stage(&mut daemon, "alice"), Stage::Free);
        assert_eq!(node.quota("alice"), Some(1.5));
        assert!(node.systemd.0.borrow().stopped.is_empty());
        let told = node.read(&journal);
        assert!(!told.contains("frozen"), "{told}");
    });
}

#[test]
fn only_the_processes_that_mine_are_ended_where_an_admin_wants_that() {
    on_a_node(async || {
        let sleeper = || {
            std::process::Command::new("sleep")
                .arg("60")
                .spawn()
                .unwrap()
        };
        let (mut miner, mut notebook) = (sleeper(), sleeper());
        let (mut node, mut daemon, journal, _) = hot(Mode::Enforce, |config| {
            config.evidence.consequences.stop = Stop::Processes;
            config.evidence.consequences.stop_after = Some(Duration::ZERO);
        })
        .await;
        node.can_be_ended("alice", &[miner.id(), notebook.id()]);
        node.finds_of(&mut daemon, "alice", &[RULE_R, CONSTANTS], miner.id())
            .await;
        for _ in 0..100 {
            if stage(&mut daemon, "alice") == Stage::Throttled {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        daemon.quiet().await;
        assert!(!miner.wait().unwrap().success());
        assert!(notebook.try_wait().unwrap().is_none());
        notebook.kill().unwrap();
        notebook.wait().unwrap();
        assert_eq!(stage(&mut daemon, "alice"), Stage::Throttled);
        assert!(!node.systemd.0.borrow().settings["jupyter-alice.service"].frozen);
        assert!(node.systemd.0.borrow().stopped.is_empty());
        node.second(&mut daemon).await;
        assert_eq!(stage(&mut daemon, "alice"), Stage::Free);
        let told = node.read(&journal);
        assert!(told.contains("alice's server is frozen"), "{told}");
        assert!(told.contains("the process that mined was ended"), "{told}");
    });
}

#[test]
fn a_miner_outside_the_server_is_ended_alone_too_and_what_else_runs_there_is_not() {
    on_a_node(async || {
        let sleeper = || {
            let mut sleep = std::process::Command::new("sleep");
            sleep.arg("60").spawn().unwrap()
        };
        let (mut notebook, mut miner, mut shell) = (sleeper(), sleeper(), sleeper());
        let (mut node, mut daemon, journal, mut used) = hot(Mode::Enforce, |config| {
            config.evidence.consequences.stop = Stop::Processes;
            config.evidence.consequences.stop_after = Some(Duration::ZERO);
        })
        .await;
        node.outside(0.0);
        node.busy_second(&mut daemon, "alice", &mut used).await;
        let slice = node.root.path().join("user.slice/user-1000.slice");
        node.can_be_ended("alice", &[notebook.id()]);
        can_be_ended(&slice, &[miner.id(), shell.id()]);
        let id = {
            use std::os::unix::fs::MetadataExt;
            std::fs::metadata(&slice).unwrap().ino()
        };
        let found = [RULE_R, CONSTANTS].map(|fact| {
            let (pid, at) = (miner.id(), node.clock);
            let evidence = Evidence { fact, pid, at };
            Found { id, evidence }
        });
        daemon.found(&found);
        daemon.quiet().await;
        for _ in 0..500 {
            if stage(&mut daemon, "alice") == Stage::Throttled {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let ended = miner.try_wait().unwrap().is_some();
        daemon.quiet().await;
        for spared in [&mut notebook, &mut shell] {
            assert!(spared.try_wait().unwrap().is_none());
            spared.kill().unwrap();
            spared.wait().unwrap();
        }
        let told = node.read(&journal);
        if !ended {
            miner.kill().unwrap();
        }
        miner.wait().unwrap();
        assert!(ended, "{told}");
        assert!(node.systemd.0.borrow().stopped.is_empty());
        assert!(told.contains("the process that mined was ended"), "{told}");
        for killed in [node.directory("alice"), slice] {
            assert_eq!(std::fs::read(killed.join("cgroup.kill")).unwrap(), b"");
        }
    });
}

#[test]
fn observing_only_tells_what_a_miner_would_come_to() {
    on_a_node(async || {
        let mut sleeper = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let (mut node, mut daemon, journal, mut used) = hot(Mode::Observe, |config| {
            config.evidence.consequences.stop_after = Some(Duration::from_secs(10));
        })
        .await;
        node.can_be_ended("alice", &[sleeper.id()]);
        node.finds_of(&mut daemon, "alice", &[RULE_R, CONSTANTS], sleeper.id())
            .await;
        for _ in 0..20 {
            node.busy_second(&mut daemon, "alice", &mut used).await;
        }
        assert_eq!(stage(&mut daemon, "alice"), Stage::Stopped);
        assert_eq!(node.systemd.0.borrow().applied, 0);
        assert!(node.systemd.0.borrow().stopped.is_empty());
        assert_eq!(
            std::fs::read(node.directory("alice").join("cgroup.kill")).unwrap(),
            b""
        );
        assert!(sleeper.try_wait().unwrap().is_none());
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        let told = node.read(&journal);
        assert!(told.contains("would be stopped"), "{told}");
        assert!(
            !told.contains("server is stopped") && !told.contains("server is frozen"),
            "{told}"
        );

        // To act from now on is no reason to end what was found before.
        std::fs::write(
            node.state.path().join("config.toml"),
            "mode = \"enforce\"\n",
        )
        .unwrap();
        let (reply, answer) = oneshot::channel();
        daemon.command(Command::Reload("root".into(), reply));
        daemon.quiet().await;
        answer.await.unwrap().unwrap();
        node.second(&mut daemon).await;
        assert!(node.systemd.0.borrow().stopped.is_empty());
        assert!(stage(&mut daemon, "alice") < Stage::Frozen);
    });
}

#[test]
fn a_restart_into_enforce_ends_nothing_for_what_was_found_while_observing() {
    on_a_node(async || {
        let (mut node, mut daemon, _journal, mut used) = hot(Mode::Observe, |config| {
            config.evidence.consequences.stop_after = Some(Duration::from_secs(10));
        })
        .await;
        node.finds(&mut daemon, "alice", &[RULE_R, CONSTANTS]).await;
        for _ in 0..20 {
            node.busy_second(&mut daemon, "alice", &mut used).await;
        }
        assert_eq!(stage(&mut daemon, "alice"), Stage::Stopped);
        daemon.save();
        drop(daemon);
        node.config.mode = Mode::Enforce;
        let (mut daemon, _journal) = node.start();
        node.second(&mut daemon).await;
        assert_eq!(stage(&mut daemon, "alice"), Stage::Throttled);
        assert!(node.systemd.0.borrow().stopped.is_empty());
    });
}

#[test]
fn high_evidence_throttles_also_on_an_idle_node_and_never_ends_anything() {
    on_a_node(async || {
        let (mut node, mut daemon, journal, mut used) = hot(Mode::Enforce, |config| {
            config.limits.cpu.throttle_when = crate::config::ThrottleWhen::Contended;
        })
        .await;
        let stratum = Fact::Stratum {
            word: Word::Login,
            port: 9000,
        };
        node.finds_of(&mut daemon, "alice", &[stratum], Evidence::NO_PROCESS)
            .await;
        assert_eq!(stage(&mut daemon, "alice"), Stage::Throttled);
        for second in 0..1300 {
            if second % 100 == 0 {
                node.finds_of(&mut daemon, "alice", &[stratum], Evidence::NO_PROCESS)
                    .await;
            }
            node.busy_second(&mut daemon, "alice", &mut used).await;
            assert_eq!(stage(&mut daemon, "alice"), Stage::Throttled, "{second}");
        }
        let told = node.read(&journal);
        assert!(
            told.contains("the mining pools' protocol (\"method\":\"login\", to TCP port 9000)"),
            "{told}"
        );
    });
}

#[test]
fn who_comes_is_listened_to_before_the_next_tick() {
    on_a_node(async || {
        let node = Node::new(Mode::Observe);
        let (mut daemon, _journal) = node.start();
        node.spawn("alice");
        daemon.rescan();
        daemon.quiet().await;
        daemon.do_what_is_due(now());
        let id = CgroupId(node.id("alice"));
        assert!(daemon.shell.node.evidence().of(id).is_some());
    });
}

#[test]
fn what_is_found_on_an_idle_server_counts_when_it_gets_hot() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.config.limits.cpu.credits = CoreSeconds(100_000.0);
        node.spawn("alice");
        let (mut daemon, journal) = node.start();
        node.second(&mut daemon).await;
        node.second(&mut daemon).await;
        node.finds(&mut daemon, "alice", &[CONSTANTS]).await;
        assert_eq!(stage(&mut daemon, "alice"), Stage::Free);
        let told = node.read(&journal);
        assert!(told.contains("nothing comes of it"), "{told}");
        let mut used = 0.0;
        node.busy_second(&mut daemon, "alice", &mut used).await;
        assert_eq!(stage(&mut daemon, "alice"), Stage::Throttled);
    });
}

#[test]
fn a_miner_that_gets_little_of_a_busy_node_is_hot_and_a_notebook_there_is_not() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.config.limits.cpu.credits = CoreSeconds(100_000.0);
        let users = ["alice", "bob"];
        for user in users {
            node.spawn(user);
        }
        let (mut daemon, _journal) = node.start();
        node.second(&mut daemon).await;
        // Both use a twentieth of a core; alice's miner waits for the rest, bob's notebook rests.
        for (second, waited) in [(1, [0.95, 0.3]), (2, [1.9, 0.6]), (3, [2.85, 0.9])] {
            for (user, waited) in users.iter().zip(waited) {
                let total = (waited * 1e6) as u64;
                let text = format!("some avg10=0.00 avg60=0.00 avg300=0.00 total={total}\n");
                std::fs::write(node.directory(user).join("cpu.pressure"), text).unwrap();
                node.set_usage(user, 0.05 * f64::from(second));
            }
            node.second(&mut daemon).await;
        }
        for user in users {
            node.finds(&mut daemon, user, &[CONSTANTS]).await;
        }
        assert_eq!(stage(&mut daemon, "alice"), Stage::Throttled);
        assert_eq!(stage(&mut daemon, "bob"), Stage::Free);
    });
}

#[test]
fn names_listed_hosts_and_interval_arithmetic_are_told_and_nothing_comes_of_them() {
    on_a_node(async || {
        let (mut node, mut daemon, journal, mut used) = hot(Mode::Enforce, |_| {}).await;
        let honest = [Fact::IntervalRounding(MODES)];
        node.finds(&mut daemon, "alice", &honest).await;
        let told = node.read(&journal);
        assert!(
            told.contains("alice's server does nothing that miners do"),
            "{told}"
        );
        assert!(told.contains("interval arithmetic"), "{told}");
        let weak = [Fact::Named("xmrig"), Fact::Listed, Fact::NoPythonInPython];
        for second in 0..200 {
            if second % 10 == 0 {
                node.finds(&mut daemon, "alice", &weak).await;
            }
            node.busy_second(&mut daemon, "alice", &mut used).await;
            assert_eq!(stage(&mut daemon, "alice"), Stage::Free, "{second}");
        }
        let told = node.read(&journal);
        assert_eq!(
            told.matches("does something that miners do").count(),
            1,
            "{told}"
        );
    });
}

#[test]
fn off_lifts_what_evidence_brought_about_and_believes_nothing_meanwhile() {
    on_a_node(async || {
        let (mut node, mut daemon, _journal, mut used) = hot(Mode::Enforce, |_| {}).await;
        node.finds(&mut daemon, "alice", &[RULE_R, CONSTANTS]).await;
        assert_eq!(node.quota("alice"), Some(0.25));
        daemon.switch_off("root").await.unwrap();
        assert_eq!(node.quota("alice"), Some(1.5));
        node.finds(&mut daemon, "alice", &[RULE_R, CONSTANTS]).await;
        for _ in 0..700 {
            node.busy_second(&mut daemon, "alice", &mut used).await;
        }
        assert_eq!(node.quota("alice"), Some(1.5));
        assert!(node.systemd.0.borrow().stopped.is_empty());
    });
}
