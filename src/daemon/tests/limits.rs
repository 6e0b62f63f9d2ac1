//! Grants, limits by user, running time, contention.

use super::*;

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
        let (mut daemon, journal) = node.start();
        node.tick(&mut daemon, 1).await;
        spin(&mut node, &mut daemon, "alice").await;
        assert_eq!(node.quota("alice"), Some(0.25));
        daemon.grant(order("alice")).unwrap();
        node.tick(&mut daemon, 1).await;
        assert_eq!(node.quota("alice"), Some(1.5));
        drop(daemon);
        let (mut daemon, _journal) = node.start();
        node.tick(&mut daemon, 1).await;
        assert_eq!(daemon.shell.grants_told().len(), 1);
        node.set_usage("alice", 1000.0);
        node.tick(&mut daemon, 100).await;
        assert_eq!(stage(&mut daemon, "alice"), Stage::Free);
        daemon.revoke("root", "alice").unwrap();
        node.set_usage("alice", 1100.0);
        node.tick(&mut daemon, 60).await;
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
        let (mut daemon, _journal) = node.start();
        let mut refused = |change: &dyn Fn(&mut crate::control::GrantOrder)| {
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
        let (mut daemon, _journal) = node.start();
        node.tick(&mut daemon, 1).await;
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
        node.config.limits.time.then = Stage::Stopped;
        node.spawn("alice");
        let (mut daemon, journal) = node.start();
        for _ in 0..70 {
            node.tick(&mut daemon, 1).await;
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
        let (mut daemon, _journal) = node.start();
        node.tick(&mut daemon, 1).await;
        spin(&mut node, &mut daemon, "alice").await;
        assert_eq!(stage(&mut daemon, "alice"), Stage::Deprioritised);
        let pressure = "some avg10=40.00 avg60=3.00 avg300=0.76 total=1\n";
        std::fs::write(node.directory("bob").join("cpu.pressure"), pressure).unwrap();
        for second in 1..=5u32 {
            node.set_usage("alice", 150.0 + f64::from(second) * 1.5);
            node.set_usage("bob", f64::from(second) * 0.2);
            node.tick(&mut daemon, 1).await;
        }
        assert_eq!(stage(&mut daemon, "alice"), Stage::Throttled);
        assert_eq!(stage(&mut daemon, "bob"), Stage::Free);
    });
}

/// A node where spent credits throttle only under contention, and alice has spent hers.
async fn a_spender(node: &mut Node) -> (Running, std::sync::mpsc::Receiver<LogEntry>) {
    node.config.limits.cpu.throttle_when = crate::config::ThrottleWhen::Contended;
    node.spawn("alice");
    node.spawn("bob");
    // Nobody but alice is uid 1000 here.
    if let Some(facts) = (node.systemd.0.borrow_mut().facts).get_mut(&Node::unit("bob")) {
        facts.uid = Some(1001);
    }
    let (mut daemon, journal) = node.start();
    node.outside(0.0);
    node.tick(&mut daemon, 1).await;
    for second in 1..=100u32 {
        node.set_usage("alice", f64::from(second));
        node.outside(f64::from(second));
        node.tick(&mut daemon, 1).await;
    }
    assert_eq!(stage(&mut daemon, "alice"), Stage::Deprioritised);
    (daemon, journal)
}

const WAITS: &str = "some avg10=90.00 avg60=90.00 avg300=50.00 total=1\n";

#[test]
fn a_user_s_own_threads_that_wait_for_each_other_are_nobody_else_s_waiting() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let (mut daemon, _journal) = a_spender(&mut node).await;
        let slice = node.root.path().join("user.slice/user-1000.slice");
        for directory in [node.directory("alice"), slice] {
            std::fs::write(directory.join("cpu.pressure"), WAITS).unwrap();
        }
        for second in 101..=200u32 {
            node.set_usage("alice", f64::from(second));
            node.outside(f64::from(second));
            node.tick(&mut daemon, 1).await;
        }
        assert_eq!(stage(&mut daemon, "alice"), Stage::Deprioritised);
        // The same from somebody else, who works as much, is.
        std::fs::write(node.directory("bob").join("cpu.pressure"), WAITS).unwrap();
        for second in 1..=2u32 {
            node.set_usage("bob", f64::from(second));
            node.set_usage("alice", 200.0 + f64::from(second));
            node.tick(&mut daemon, 1).await;
        }
        assert_eq!(stage(&mut daemon, "alice"), Stage::Throttled);
    });
}

#[test]
fn who_waits_for_their_own_quota_does_not_wait_for_the_cpu() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let (mut daemon, _journal) = a_spender(&mut node).await;
        std::fs::write(node.directory("bob").join("cpu.pressure"), WAITS).unwrap();
        // Bob's 64 threads run into his limit of 1.5 cores in every period.
        for second in 1..=50u32 {
            let usec = second * 1_500_000;
            let stat = format!("usage_usec {usec}\nnr_periods {second}\nnr_throttled {second}\n");
            std::fs::write(node.directory("bob").join("cpu.stat"), stat).unwrap();
            node.set_usage("alice", 100.0 + f64::from(second));
            node.tick(&mut daemon, 1).await;
        }
        assert_eq!(stage(&mut daemon, "alice"), Stage::Deprioritised);
        assert_eq!(stage(&mut daemon, "bob"), Stage::Free);
    });
}
