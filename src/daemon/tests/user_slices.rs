//! What users run outside their servers, and new servers after old ones.

use super::*;

#[test]
fn stopping_and_starting_again_brings_no_new_credits() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (mut daemon, _journal) = node.start();
        node.tick(&mut daemon, 1).await;
        spin(&mut node, &mut daemon, "alice").await;
        node.stop("alice");
        node.tick(&mut daemon, 1).await;
        // A restart of the daemon between the two forgets nothing either.
        daemon.save();
        drop(daemon);
        let (mut daemon, _journal) = node.start();
        node.spawn("alice");
        node.tick(&mut daemon, 1).await;
        for second in 1..=3u32 {
            node.set_usage("alice", f64::from(second) * 1.5);
            node.tick(&mut daemon, 1).await;
        }
        assert_eq!(node.quota("alice"), Some(0.25));
    });
}

/// The quotas of alice's server and of her slice.
fn parts(node: &Node) -> (f64, f64) {
    let quota = |unit| node.quota_of(unit).unwrap();
    (quota("jupyter-alice.service"), quota("user-1000.slice"))
}

#[test]
fn what_runs_outside_the_server_drains_the_same_credits_and_is_throttled_too() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (mut daemon, journal) = node.start();
        node.outside(0.0);
        for second in 1..=100u32 {
            node.outside(f64::from(second) * 1.5);
            node.tick(&mut daemon, 1).await;
        }
        assert_eq!(stage(&mut daemon, "alice"), Stage::Throttled);
        // One baseline for both: nearly all of it is there where the work is.
        assert_eq!(parts(&node), (0.025, 0.225));
        let told = node.read(&journal);
        assert!(
            told.contains(
                "what alice runs outside the server is throttled to 0.23 cores, its part of the \
                 0.25 cores left to alice: "
            ),
            "{told}"
        );
        // Stopping the server is no way out, and the next server takes its standing over.
        node.stop("alice");
        node.outside(151.0);
        node.tick(&mut daemon, 2).await;
        node.outside(153.0);
        node.tick(&mut daemon, 2).await;
        assert_eq!(node.quota_of("user-1000.slice"), Some(0.25));
        node.spawn("alice");
        node.tick(&mut daemon, 1).await;
        for second in 1..=3u32 {
            node.outside(153.0 + f64::from(second) * 1.5);
            node.tick(&mut daemon, 1).await;
            let (server, slice) = parts(&node);
            assert!(server + slice < 0.2501, "{server} and {slice}");
        }
        // Rest frees both.
        for _ in 0..60 {
            node.tick(&mut daemon, 1).await;
        }
        assert_eq!(node.quota("alice"), Some(1.5));
        assert_eq!(node.quota_of("user-1000.slice"), Some(2.0));
    });
}

/// Works on at what its quota lets it have, in the server, in the slice, or in both.
async fn work(node: &mut Node, daemon: &mut Running, used: &mut (f64, f64), busy: (bool, bool)) {
    let (server, slice) = parts(node);
    used.0 += if busy.0 { server } else { 0.0 };
    used.1 += if busy.1 { slice } else { 0.0 };
    node.set_usage("alice", used.0);
    node.outside(used.1);
    node.tick(daemon, 1).await;
}

#[test]
fn a_user_s_places_share_one_baseline_by_what_each_wants() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (mut daemon, journal) = node.start();
        node.outside(0.0);
        let mut used = (0.0, 0.0);
        for _ in 0..100 {
            used.1 += 1.5;
            node.outside(used.1);
            node.tick(&mut daemon, 1).await;
        }
        node.read(&journal);
        assert_eq!(parts(&node), (0.025, 0.225));
        // Whoever comes back to the notebook has the half of it within two ticks.
        for _ in 0..2 {
            work(&mut node, &mut daemon, &mut used, (true, true)).await;
        }
        assert_eq!(parts(&node), (0.125, 0.125));
        // What is spent in one place only goes there again, in steps.
        for _ in 0..20 {
            work(&mut node, &mut daemon, &mut used, (true, false)).await;
            let (server, slice) = parts(&node);
            assert!(server + slice < 0.2501, "{server} and {slice}");
        }
        let (server, slice) = parts(&node);
        assert!(server > 0.2 && slice >= 0.025, "{server} and {slice}");
        let shown = daemon.shell.servers();
        assert!((shown[0].limit_cores - 0.25).abs() < 0.001, "{shown:?}");
        // Dividing it otherwise is no verdict.
        assert_eq!(node.read(&journal), "");
        // A session that ends leaves all of it.
        std::fs::remove_dir_all(node.root.path().join("user.slice/user-1000.slice")).unwrap();
        node.tick(&mut daemon, 1).await;
        node.set_usage("alice", used.0 + 0.25);
        node.tick(&mut daemon, 1).await;
        assert_eq!(node.quota("alice"), Some(0.25));
    });
}

#[test]
fn a_restart_and_the_brake_give_no_place_more_than_its_part() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (mut daemon, _journal) = node.start();
        node.outside(0.0);
        let mut used = (0.0, 0.0);
        for _ in 0..100 {
            used.1 += 1.5;
            node.outside(used.1);
            node.tick(&mut daemon, 1).await;
        }
        daemon.save();
        drop(daemon);
        let (mut daemon, journal) = node.start();
        daemon.quiet().await;
        for _ in 0..10 {
            let (server, slice) = parts(&node);
            assert!(server + slice < 0.2501, "{server} and {slice}");
            work(&mut node, &mut daemon, &mut used, (false, true)).await;
        }
        assert_eq!(parts(&node), (0.025, 0.225));
        let told = node.read(&journal);
        assert!(!told.contains("is throttled"), "{told}");
        daemon.switch_off("root").await.unwrap();
        assert_eq!(node.quota("alice"), Some(1.5));
        assert_eq!(node.quota_of("user-1000.slice"), None);
        daemon.switch_on("root").await.unwrap();
        let (server, slice) = parts(&node);
        assert!(server + slice < 0.2501, "{server} and {slice}");
    });
}

#[test]
fn two_places_that_take_turns_are_not_set_anew_at_every_tick() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (mut daemon, _journal) = node.start();
        node.outside(0.0);
        let mut used = (0.0, 0.0);
        for _ in 0..100 {
            used.1 += 1.5;
            node.outside(used.1);
            node.tick(&mut daemon, 1).await;
        }
        for turn in 0..10 {
            work(
                &mut node,
                &mut daemon,
                &mut used,
                (turn % 2 == 0, turn % 2 == 1),
            )
            .await;
        }
        let applied = node.systemd.0.borrow().applied;
        for turn in 0..40 {
            work(
                &mut node,
                &mut daemon,
                &mut used,
                (turn % 2 == 0, turn % 2 == 1),
            )
            .await;
        }
        assert_eq!(node.systemd.0.borrow().applied, applied);
    });
}

#[test]
fn a_slice_that_was_there_before_its_server_gets_the_limit_that_everybody_has() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.outside(0.0);
        let (mut daemon, _journal) = node.start();
        node.tick(&mut daemon, 1).await;
        assert_eq!(node.quota_of("user-1000.slice"), None);
        node.spawn("alice");
        node.tick(&mut daemon, 1).await;
        node.tick(&mut daemon, 1).await;
        assert_eq!(node.quota_of("user-1000.slice"), Some(2.0));
    });
}

#[test]
fn the_slice_of_somebody_who_is_no_hub_user_is_left_alone() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let (mut daemon, _journal) = node.start();
        for second in 1..=100u32 {
            node.outside(f64::from(second) * 2.0);
            node.tick(&mut daemon, 1).await;
        }
        assert_eq!(node.quota_of("user-1000.slice"), None);
        assert_eq!(node.systemd.0.borrow().applied, 0);
    });
}
