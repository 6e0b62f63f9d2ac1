//! Found, judged, acted on, put back; through restarts, kills, `off` and others' changes.

use super::*;

#[test]
fn a_server_is_found_let_out_by_its_class_and_forgotten_when_it_stops() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let (mut daemon, journal) = node.start();
        node.spawn("alice");
        daemon.poll_tree();
        daemon.quiet().await;
        let admitted: Vec<Admitted> = node.firewall.rules().admitted.values().cloned().collect();
        assert_eq!(admitted.len(), 1);
        assert_eq!(
            (admitted[0].class.as_str(), admitted[0].level),
            ("standard", 2)
        );
        node.stop("alice");
        node.tick(&mut daemon, 5).await;
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

#[test]
fn a_spent_server_is_throttled_and_then_has_its_own_limit_back() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (mut daemon, journal) = node.start();
        node.tick(&mut daemon, 1).await;
        assert_eq!(node.quota("alice"), Some(1.5));
        spin(&mut node, &mut daemon, "alice").await;
        assert_eq!(node.quota("alice"), Some(0.25));
        for _ in 0..50 {
            node.tick(&mut daemon, 1).await;
        }
        assert_eq!(stage(&mut daemon, "alice"), Stage::Free);
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

/// A server may spend its last credits while systemd is still at the step before.
#[test]
fn a_verdict_that_falls_while_another_is_carried_out_is_told_once_and_after_the_deed() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (mut daemon, journal) = node.start();
        node.tick(&mut daemon, 1).await;
        // At 1.5 cores 1.25 core-seconds of 100 go each second.
        for second in 1..=75u32 {
            node.set_usage("alice", f64::from(second) * 1.5);
            node.tick(&mut daemon, 1).await;
        }
        let mut sweep_at = |node: &mut Node, second: u64| {
            node.set_usage("alice", second as f64 * 1.5);
            let already = node.clock.0 - Duration::from_secs(1001);
            node.clock.0 += Duration::from_secs(second) - already;
            CLOCK.set(Some(node.clock));
            daemon.look_at(None);
        };
        // Fewer than 5 are left and it yields; while that is under way the rest goes too.
        sweep_at(&mut node, 78);
        tokio::task::yield_now().await;
        sweep_at(&mut node, 82);
        assert_eq!(stage(&mut daemon, "alice"), Stage::Throttled);
        daemon.quiet().await;
        assert_eq!(node.quota("alice"), Some(0.25));
        let told = node.read(&journal);
        let times = told.matches("alice's server is throttled").count();
        assert_eq!(times, 1, "{told}");
        assert!(!told.contains("was decided before"), "{told}");
    });
}

#[test]
fn observing_changes_nothing_and_tells_what_it_would_do() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Observe);
        node.spawn("alice");
        let (mut daemon, journal) = node.start();
        node.tick(&mut daemon, 1).await;
        spin(&mut node, &mut daemon, "alice").await;
        assert_eq!(stage(&mut daemon, "alice"), Stage::Throttled);
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
        let (mut daemon, _journal) = node.start();
        node.tick(&mut daemon, 1).await;
        spin(&mut node, &mut daemon, "alice").await;
        drop(daemon);
        let applied = node.systemd.0.borrow().applied;
        let (mut daemon, journal) = node.start();
        daemon.quiet().await;
        assert_eq!(stage(&mut daemon, "alice"), Stage::Throttled);
        assert_eq!(node.quota("alice"), Some(0.25));
        assert_eq!(
            node.systemd.0.borrow().applied,
            applied,
            "nothing had to be done"
        );
        for _ in 0..60 {
            node.tick(&mut daemon, 1).await;
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
        let (mut daemon, _journal) = node.start();
        node.systemd
            .0
            .borrow_mut()
            .broken
            .insert(Node::unit("alice"));
        node.tick(&mut daemon, 1).await;
        spin(&mut node, &mut daemon, "alice").await;
        assert_eq!(node.quota("alice"), Some(1.5));
        drop(daemon);
        node.systemd.0.borrow_mut().broken.clear();
        let (mut daemon, _journal) = node.start();
        node.tick(&mut daemon, 1).await;
        assert_eq!(node.quota("alice"), Some(0.25));
        for _ in 0..60 {
            node.tick(&mut daemon, 1).await;
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
        let (mut daemon, journal) = node.start();
        node.tick(&mut daemon, 1).await;
        for second in 1..=100u32 {
            node.set_usage("alice", f64::from(second) * 1.5);
            node.set_usage("bob", f64::from(second) * 1.5);
            node.tick(&mut daemon, 1).await;
        }
        assert_eq!(node.quota("bob"), Some(0.25));
        let told = node.read(&journal);
        assert_eq!(told.matches("alice's server failed").count(), 1, "{told}");
    });
}

#[test]
fn off_lifts_everything_outlives_a_restart_and_on_resumes() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (mut daemon, journal) = node.start();
        node.tick(&mut daemon, 1).await;
        spin(&mut node, &mut daemon, "alice").await;
        daemon.switch_off("root").await.unwrap();
        assert_eq!(node.quota("alice"), Some(1.5));
        assert!(!node.firewall.rules().loaded);
        drop(daemon);
        let (mut daemon, _journal) = node.start();
        node.tick(&mut daemon, 1).await;
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
fn off_lifts_everything_without_a_daemon() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (mut daemon, _journal) = node.start();
        node.tick(&mut daemon, 1).await;
        spin(&mut node, &mut daemon, "alice").await;
        drop(daemon);
        let complaints = node.off_without_daemon().await;
        assert!(complaints.is_empty(), "{complaints:?}");
        assert_eq!(node.quota("alice"), Some(1.5));
        assert!(node.switch().is_off());
    });
}

#[test]
fn altered_rules_are_told_and_put_back() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let (mut daemon, journal) = node.start();
        node.tick(&mut daemon, 1).await;
        {
            let mut rules = node.firewall.rules();
            rules.generation += 1;
            rules.loaded = false;
            rules.altered.push(Difference {
                object: "table hubwarden".into(),
                kind: ::egress::DifferenceKind::Missing,
            });
        }
        node.tick(&mut daemon, 1).await;
        compared(&mut daemon).await;
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
                ..UnitFacts::default()
            },
        );
        let (mut daemon, journal) = node.start();
        node.tick(&mut daemon, 1).await;
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
        let (mut daemon, journal) = node.start();
        for _ in 0..5 {
            node.tick(&mut daemon, 1).await;
        }
        assert!(node.firewall.rules().admitted.is_empty());
        assert_eq!(node.systemd.0.borrow().applied, 0);
        let told = node.read(&journal);
        assert_eq!(told.matches("it reaches no network").count(), 1, "{told}");
        assert!(told.contains("Unix user mallory"), "{told}");
    });
}

#[test]
fn all_servers_together_leave_the_hub_its_cores_and_off_puts_that_back_too() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.config.reserve = Some(Cores(0.5));
        let slice = "jupyter.slice".to_owned();
        node.systemd
            .0
            .borrow_mut()
            .settings
            .insert(slice, Controls::default());
        let (mut daemon, journal) = node.start();
        daemon.quiet().await;
        let cap = node.quota_of("jupyter.slice").unwrap();
        assert!(cap > 0.0 && cap.fract() == 0.5, "{cap}");
        daemon.switch_off("root").await.unwrap();
        assert_eq!(node.quota_of("jupyter.slice"), None);
        daemon.switch_on("root").await.unwrap();
        node.tick(&mut daemon, 1).await;
        daemon.cap_slice_now().await;
        assert_eq!(node.quota_of("jupyter.slice"), Some(cap));
        daemon.save();
        drop(daemon);
        let complaints = node.off_without_daemon().await;
        assert!(complaints.is_empty(), "{complaints:?}");
        assert_eq!(node.quota_of("jupyter.slice"), None);
        let told = node.read(&journal);
        assert!(told.contains("0.5 cores are left to the hub"), "{told}");
    });
}
