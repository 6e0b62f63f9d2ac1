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

fn class_of(node: &Node, user: &str) -> Option<String> {
    let rules = node.firewall.rules();
    let id = std::fs::metadata(node.directory(user)).ok()?;
    let id = CgroupId(std::os::unix::fs::MetadataExt::ino(&id));
    Some(rules.admitted.get(&id)?.class.to_string())
}

#[test]
fn evidence_puts_a_server_into_the_configured_class_until_it_is_free() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let config = "[egress]\nwhen_throttled_by_evidence = \"quarantine\"\n\
                      [egress.classes.quarantine]\nservices = []\n";
        node.config.egress = Config::parse(config).unwrap().egress;
        node.spawn("alice");
        let (daemon, journal) = node.start();
        node.tick(&daemon, 1).await;
        assert_eq!(class_of(&node, "alice").as_deref(), Some("standard"));
        accuse(&node, &daemon, "alice");
        node.tick(&daemon, 1).await;
        assert_eq!(rung(&daemon, "alice"), Rung::Throttled);
        assert_eq!(class_of(&node, "alice").as_deref(), Some("quarantine"));
        let told = node.read(&journal);
        assert!(
            told.contains("alice's server has egress class quarantine now, and not standard"),
            "{told}"
        );
        // A restart keeps it there.
        drop(daemon);
        let (daemon, journal) = node.start();
        node.tick(&daemon, 1).await;
        assert_eq!(class_of(&node, "alice").as_deref(), Some("quarantine"));
        for _ in 0..80 {
            node.tick(&daemon, 10).await;
        }
        assert_eq!(rung(&daemon, "alice"), Rung::Free);
        assert_eq!(class_of(&node, "alice").as_deref(), Some("standard"));
        let told = node.read(&journal);
        assert!(told.contains("what held it back is over"), "{told}");
    });
}

fn accuse(node: &Node, daemon: &Running, user: &str) {
    let mut inner = daemon.inner.borrow_mut();
    for entry in inner.entries.values_mut() {
        if let Entry::Guarded(guarded) = entry
            && guarded.server.user.as_str() == user
        {
            let level = crate::evidence::Strength::Certain;
            let event = crate::judge::Event::Evidence { level };
            crate::judge::step(&mut guarded.case, &event, node.clock, &guarded.policy);
        }
    }
}

#[test]
fn who_has_had_the_days_bytes_reaches_the_hub_only_until_midnight_and_over_a_restart() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let config = "[egress.classes.standard]\nbytes_per_day = \"1 GB\"\n";
        node.config.egress = Config::parse(config).unwrap().egress;
        node.spawn("alice");
        node.spawn("bob");
        let (daemon, journal) = node.start();
        node.tick(&daemon, 1).await;
        let number = |user: &str| {
            let inner = daemon.inner.borrow();
            inner.entries.values().find_map(|entry| match entry {
                Entry::Guarded(g) if g.server.user.as_str() == user => Some(g.number),
                _ => None,
            })
        };
        let (alice, bob) = (number("alice").unwrap(), number("bob").unwrap());
        let had = |node: &Node, bytes: &[(u32, u64)]| {
            let traffic = bytes
                .iter()
                .map(|&(number, bytes)| crate::egress::Traffic { number, bytes });
            node.firewall.rules().traffic = traffic.collect();
        };
        let day = |node: &Node, daemon: &Running, day: &str| {
            let mut inner = daemon.inner.borrow_mut();
            inner.count_traffic(day);
            inner.settle_classes(node.clock);
        };
        had(&node, &[(alice, 999_999_999), (bob, 10)]);
        day(&node, &daemon, "2026-11-22");
        assert_eq!(class_of(&node, "alice").as_deref(), Some("standard"));
        had(&node, &[(alice, 1_000_000_000), (bob, 20)]);
        day(&node, &daemon, "2026-11-22");
        assert_eq!(class_of(&node, "alice").as_deref(), Some("spent"));
        assert_eq!(class_of(&node, "bob").as_deref(), Some("standard"));
        assert!(
            node.read(&journal)
                .contains("it has had its bytes for today")
        );
        daemon.save();
        quiet().await;
        drop(daemon);
        let (daemon, _journal) = node.start();
        node.tick(&daemon, 1).await;
        had(&node, &[]);
        day(&node, &daemon, "2026-11-22");
        assert_eq!(
            class_of(&node, "alice").as_deref(),
            Some("spent"),
            "over a restart"
        );
        day(&node, &daemon, "2026-11-23");
        assert_eq!(
            class_of(&node, "alice").as_deref(),
            Some("standard"),
            "a new day"
        );
    });
}
