//! What users run outside their servers, and new servers after old ones.

use super::*;

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
fn a_slice_that_was_there_before_its_server_gets_the_limit_that_everybody_has() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.outside(0.0);
        let (daemon, _journal) = node.start();
        node.tick(&daemon, 1).await;
        assert_eq!(node.quota_of("user-1000.slice"), None);
        node.spawn("alice");
        node.tick(&daemon, 1).await;
        node.tick(&daemon, 1).await;
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
