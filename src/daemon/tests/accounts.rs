//! Users with several servers.

use super::*;

/// Alice's second server: a unit by JupyterHub's own template, of the same Unix user.
const SECOND: &str = "alice-singleuser";

/// A node where alice has two servers, bob one.
fn node() -> Node {
    let node = Node::new(Mode::Enforce);
    for unit in ["alice", SECOND, "bob"] {
        node.spawn(unit);
    }
    let mut systemd = node.systemd.0.borrow_mut();
    let second = systemd.facts.get_mut(&Node::unit(SECOND)).unwrap();
    second.user = Some("alice".to_owned());
    let bob = systemd.facts.get_mut(&Node::unit("bob")).unwrap();
    bob.uid = Some(1001);
    drop(systemd);
    node
}

fn stages(daemon: &mut Running) -> Vec<(String, Stage, f64)> {
    let shell = &daemon.shell;
    let guarded = |entry: &Cgroup| match entry {
        Cgroup::Server(guarded) => {
            let standing = shell.node.accounts().place(guarded.id)?.standing();
            let left = standing.credits.left.0;
            Some((guarded.server.unit.to_string(), standing.stage, left))
        }
        _ => None,
    };
    let mut stages: Vec<_> = shell
        .registry
        .entries
        .values()
        .filter_map(guarded)
        .collect();
    stages.sort_by(|a, b| a.0.cmp(&b.0));
    stages
}

#[test]
fn several_servers_of_one_user_drain_one_account_and_share_one_baseline() {
    on_a_node(async || {
        let mut node = node();
        let (mut daemon, journal) = node.start();
        node.tick(&mut daemon, 1).await;
        let servers = daemon.shell.servers();
        let users: Vec<&str> = servers.iter().map(|one| one.user.as_str()).collect();
        assert_eq!(users, ["alice", "alice", "bob"]);
        // One core in each: 100 core-seconds at 2 − 0.25 cores last 57 s, and not 133.
        let mut lasted = 0;
        for second in 1..=100u32 {
            for unit in ["alice", SECOND] {
                node.set_usage(unit, f64::from(second));
            }
            node.tick(&mut daemon, 1).await;
            if stages(&mut daemon)[0].1 < Stage::Throttled {
                lasted = second;
            }
        }
        assert!((56..=60).contains(&lasted), "{lasted}");
        let (first, second) = (node.quota("alice").unwrap(), node.quota(SECOND).unwrap());
        assert_eq!((first, second), (0.125, 0.125));
        let both = stages(&mut daemon);
        assert_eq!(both[0].1, Stage::Throttled);
        assert_eq!(both[1].1, Stage::Throttled);
        assert!((both[0].2 - both[1].2).abs() < 1e-9, "{both:?}");
        assert_eq!(stage(&mut daemon, "bob"), Stage::Free);
        assert_eq!(node.quota("bob"), Some(1.5));
        let told = node.read(&journal);
        let line = "is throttled to 0.12 cores, its part of the 0.25 cores left to alice";
        assert_eq!(told.matches(line).count(), 2, "{told}");
        // Each has its own CPU in the status, once it is clear whose is what.
        let servers = daemon.shell.servers();
        assert!((servers[0].cpu_cores - 1.0).abs() < 0.01, "{servers:?}");
    });
}

#[test]
fn a_server_that_is_started_beside_a_spent_one_is_spent_too() {
    on_a_node(async || {
        let mut node = node();
        node.stop(SECOND);
        let (mut daemon, _journal) = node.start();
        node.tick(&mut daemon, 1).await;
        spin(&mut node, &mut daemon, "alice").await;
        assert_eq!(node.quota("alice"), Some(0.25));
        node.spawn(SECOND);
        let facts = UnitFacts {
            transient: true,
            user: Some("alice".to_owned()),
            uid: Some(1000),
            dynamic_user: false,
            ..UnitFacts::default()
        };
        (node.systemd.0.borrow_mut().facts).insert(Node::unit(SECOND), facts);
        node.tick(&mut daemon, 1).await;
        let (first, second) = (node.quota("alice").unwrap(), node.quota(SECOND).unwrap());
        assert!(first + second < 0.2501, "{first} and {second}");
        // The first one's end leaves the second all of the baseline, and none of the credits.
        node.stop("alice");
        node.tick(&mut daemon, 1).await;
        node.set_usage(SECOND, 0.25);
        node.tick(&mut daemon, 1).await;
        assert_eq!(node.quota(SECOND), Some(0.25));
        assert!(daemon.shell.node.accounts().rested().is_empty());
        // Rest frees it.
        for _ in 0..60 {
            node.tick(&mut daemon, 1).await;
        }
        assert_eq!(node.quota(SECOND), Some(1.5));
    });
}

#[test]
fn a_session_outlives_one_server_with_the_other() {
    on_a_node(async || {
        let mut node = node();
        let (mut daemon, _journal) = node.start();
        node.outside(0.0);
        node.tick(&mut daemon, 1).await;
        for second in 1..=100u32 {
            node.outside(f64::from(second) * 1.5);
            node.tick(&mut daemon, 1).await;
        }
        let sum = |node: &Node, units: &[&str]| -> f64 {
            units.iter().filter_map(|unit| node.quota_of(unit)).sum()
        };
        let (first, second) = (Node::unit("alice"), Node::unit(SECOND));
        let slice = "user-1000.slice";
        let all = sum(&node, &[&first, &second, slice]);
        assert!(all < 0.2501, "{all}");
        assert_eq!(node.quota_of(slice), Some(0.2));
        for (gone, left) in [("alice", second), (SECOND, first)] {
            node.stop(gone);
            node.tick(&mut daemon, 1).await;
            node.tick(&mut daemon, 1).await;
            let left: &[&str] = if gone == "alice" {
                &[&left, slice]
            } else {
                &[slice]
            };
            let all = sum(&node, left);
            assert!((all - 0.25).abs() < 0.001, "{all}");
        }
    });
}

#[test]
fn a_server_whose_account_nobody_can_look_up_yet_is_asked_about_again() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let change = |user: Option<&str>, not_yet: Option<&str>| {
            let mut systemd = node.systemd.0.borrow_mut();
            let facts = systemd.facts.get_mut(&Node::unit("alice")).unwrap();
            facts.user = user.map(str::to_owned);
            facts.not_yet = not_yet.map(str::to_owned);
        };
        change(
            None,
            Some("the user database does not answer for uid 1000: EAGAIN"),
        );
        let (mut daemon, journal) = node.start();
        daemon.quiet().await;
        assert!(daemon.shell.servers().is_empty());
        let unknown = daemon.shell.status().unknown;
        assert!(
            unknown[0].1.contains("does not answer for uid 1000"),
            "{unknown:?}"
        );
        change(Some("jupyter-alice"), None);
        node.tick(&mut daemon, 1).await;
        node.tick(&mut daemon, 1).await;
        assert_eq!(daemon.shell.servers()[0].user, "alice");
        let told = node.read(&journal);
        assert!(
            told.contains("Cannot tell whose jupyter-alice.service is, and try again"),
            "{told}"
        );
    });
}
