//! Limits that others set: an admin, another program, a direct write.

use super::*;

#[test]
fn somebody_else_s_limit_becomes_what_is_put_back() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (mut daemon, journal) = node.start();
        node.tick(&mut daemon, 1).await;
        spin(&mut node, &mut daemon, "alice").await;
        let theirs = Controls {
            quota: Some(Cores(0.5)),
            ..Controls::default()
        };
        let unit = Node::unit("alice");
        node.systemd.0.borrow_mut().settings.insert(unit, theirs);
        // The kernel shows what systemd wrote.
        std::fs::write(node.directory("alice").join("cpu.max"), "50000 100000\n").unwrap();
        node.tick(&mut daemon, 1).await;
        assert_eq!(
            node.quota("alice"),
            Some(0.25),
            "ours is put in force again"
        );
        std::fs::write(node.directory("alice").join("cpu.max"), "5000 20000\n").unwrap();
        for _ in 0..60 {
            node.tick(&mut daemon, 1).await;
        }
        assert_eq!(node.quota("alice"), Some(0.5));
        let told = node.read(&journal);
        assert!(
            told.contains("Somebody set alice's server to 0.5 cores"),
            "{told}"
        );
    });
}

/// As `docker update --cpus=3` does to a server that has its credits.
#[test]
fn a_limit_raised_above_ours_is_noticed_within_a_tick_though_nothing_was_ours() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let unit = Node::unit("alice");
        let set = |node: &Node, cores: f64| {
            let settings = Controls {
                quota: Some(Cores(cores)),
                ..Controls::default()
            };
            (node.systemd.0.borrow_mut().settings).insert(unit.clone(), settings);
            let max = format!("{} 100000\n", (cores * 1e5) as u64);
            std::fs::write(node.directory("alice").join("cpu.max"), max).unwrap();
        };
        set(&node, 1.5);
        let (mut daemon, journal) = node.start();
        node.tick(&mut daemon, 1).await;
        assert_eq!(
            node.systemd.0.borrow().applied,
            0,
            "1.5 cores are no matter"
        );
        set(&node, 3.0);
        node.tick(&mut daemon, 1).await;
        assert_eq!(node.quota("alice"), Some(2.0));
        let told = node.read(&journal);
        let line = "may use up to 2 cores (before: 3 cores)";
        assert_eq!(told.matches(line).count(), 1, "{told}");
        // Again while ours stands, and lower than ours: theirs is what stands, and what comes back.
        for (theirs, stands) in [(4.0, 2.0), (1.0, 1.0), (5.0, 2.0)] {
            set(&node, theirs);
            node.tick(&mut daemon, 1).await;
            assert_eq!(node.quota("alice"), Some(stands), "after {theirs}");
            let max = format!("{} 100000\n", (stands * 1e5) as u64);
            std::fs::write(node.directory("alice").join("cpu.max"), max).unwrap();
            node.tick(&mut daemon, 1).await;
        }
        daemon.switch_off("root").await.unwrap();
        assert_eq!(node.quota("alice"), Some(5.0));
    });
}

#[test]
fn a_limit_written_past_systemd_is_written_over() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (mut daemon, _journal) = node.start();
        node.tick(&mut daemon, 1).await;
        spin(&mut node, &mut daemon, "alice").await;
        let max = node.directory("alice").join("cpu.max");
        std::fs::write(&max, "5000 20000\n").unwrap();
        node.tick(&mut daemon, 1).await;
        let applied = node.systemd.0.borrow().applied;
        std::fs::write(&max, "max 20000\n").unwrap();
        node.tick(&mut daemon, 1).await;
        assert_eq!(node.systemd.0.borrow().applied, applied + 1);
        assert_eq!(node.quota("alice"), Some(0.25));
    });
}

/// A quota that somebody wrote into the kernel's file where we set none is theirs.
#[test]
fn a_limit_written_past_systemd_where_we_set_none_is_left() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.config.limits.cpu.limit = None;
        node.config.limits.tasks_max = Some(100);
        node.spawn("alice");
        (node.systemd.0.borrow_mut().settings).insert(Node::unit("alice"), Controls::default());
        let (mut daemon, _journal) = node.start();
        node.tick(&mut daemon, 1).await;
        let applied = node.systemd.0.borrow().applied;
        std::fs::write(node.directory("alice").join("cpu.max"), "50000 100000\n").unwrap();
        for _ in 0..3 {
            node.tick(&mut daemon, 1).await;
        }
        assert_eq!(node.systemd.0.borrow().applied, applied);
    });
}
