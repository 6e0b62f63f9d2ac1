//! The parts of one baseline that a user's places have.

use crate::made_up::{BASELINE, Node, policy};
use policy::Policy;
use quantities::{CgroupId, Cores};
use std::time::Duration;

const HALF: f64 = BASELINE / 2.0;
/// What a place keeps that wants nothing, and what is left for one beside it.
const LEAST: f64 = 0.1 * BASELINE;
const MOST: f64 = 0.9 * BASELINE;

fn part(node: &Node, id: CgroupId) -> f64 {
    node.place(id).part().unwrap().0
}

fn is_part(node: &Node, id: CgroupId, wanted: f64) -> bool {
    (part(node, id) - wanted).abs() < 1e-9
}

/// A node with two servers of one user, with their parts as quotas.
fn two() -> (Node, CgroupId, CgroupId) {
    let mut node = Node::new();
    node.settings.tick = Duration::from_secs(2);
    let (first, second) = (node.server("alice"), node.server("alice"));
    node.tick(&|_| 0.0);
    for id in [first, second] {
        assert!(is_part(&node, id, HALF));
        node.accounts.set_limit(id, Some(Cores(HALF)));
    }
    (node, first, second)
}

/// A tick, and the places that it gave another part.
fn tick(node: &mut Node, use_of: &dyn Fn(CgroupId) -> f64) -> Vec<CgroupId> {
    node.passes(node.settings.tick, use_of);
    node.look(None);
    node.accounts.divide_baselines(node.now)
}

#[test]
fn a_place_that_uses_up_its_quota_gains_what_another_leaves() {
    let (mut node, first, second) = two();
    // Who loses comes first, or they had more than the baseline together for a while.
    let uses = |id: CgroupId| if id == first { 0.8 * HALF } else { 0.0 };
    assert_eq!(tick(&mut node, &uses), [second, first]);
    assert!(is_part(&node, first, MOST) && is_part(&node, second, LEAST));
    let baseline = node.place(second).policy_here().baseline.0;
    assert!((baseline - LEAST).abs() < 1e-9);
    assert_eq!(node.place(second).policy().baseline, Cores(BASELINE));
}

#[test]
fn a_place_below_its_quota_wants_what_it_uses() {
    let (mut node, first, second) = two();
    // So little more than the other is not worth a change.
    let uses = |id: CgroupId| if id == second { 0.3 * HALF } else { 0.0 };
    assert_eq!(tick(&mut node, &uses), []);
    assert!(is_part(&node, first, HALF));
    let uses = |id: CgroupId| if id == second { 0.7 * HALF } else { 0.0 };
    assert_eq!(tick(&mut node, &uses), [first, second]);
    let spare = (BASELINE - 0.7 * HALF - LEAST) / 2.0;
    assert!(is_part(&node, second, 0.7 * HALF + spare));
    // One without a quota uses what it wants.
    node.accounts.set_limit(second, None);
    let uses = |id: CgroupId| if id == second { 0.8 * BASELINE } else { 0.0 };
    assert_eq!(tick(&mut node, &uses), [first, second]);
    let spare = (BASELINE - 0.8 * BASELINE - LEAST) / 2.0;
    assert!(is_part(&node, second, 0.8 * BASELINE + spare));
}

#[test]
fn two_that_take_turns_do_not_swing() {
    let (mut node, first, second) = two();
    for turn in 0..20 {
        let busy = if turn % 2 == 0 { first } else { second };
        tick(&mut node, &|id| if id == busy { 2.0 } else { 0.0 });
        if turn > 0 {
            let parts = (part(&node, first), part(&node, second));
            assert!(parts.0 > 0.4 * BASELINE && parts.1 > 0.4 * BASELINE);
        }
    }
    // One that rests for longer is left with little more than the least.
    let uses = |id: CgroupId| if id == second { 2.0 } else { 0.0 };
    node.ticks(20, &uses);
    assert!(part(&node, first) < LEAST + 0.1 * BASELINE);
}

#[test]
fn to_divide_again_at_the_same_time_changes_nothing() {
    let (mut node, first, second) = two();
    tick(&mut node, &|_| 2.0);
    assert_eq!(node.accounts.divide_baselines(node.now), []);
    assert_eq!(node.place(first).rate(), Cores(2.0));
    assert!(is_part(&node, first, HALF) && is_part(&node, second, HALF));
}

#[test]
fn another_baseline_is_divided_anew() {
    let (mut node, first, second) = two();
    let twice = Policy {
        baseline: Cores(2.0 * BASELINE),
        ..policy()
    };
    for id in [first, second] {
        node.accounts.set_policy(id, twice.clone());
    }
    let changed = node.accounts.divide_baselines(node.now);
    assert_eq!(changed, [first, second]);
    assert!(is_part(&node, first, BASELINE) && is_part(&node, second, BASELINE));
}

#[test]
fn the_place_that_is_left_has_the_whole_baseline_again() {
    let (mut node, first, second) = two();
    node.ends(second);
    assert_eq!(node.accounts.divide_baselines(node.now), [first]);
    assert_eq!(node.place(first).part(), None);
    assert_eq!(node.place(first).policy_here(), policy());
    assert_eq!(node.accounts.divide_baselines(node.now), []);
}

#[test]
fn a_new_part_is_told_once_and_only_of_a_place_that_it_holds() {
    let mut node = Node::new();
    let first = node.spent_server("alice");
    let second = node.server("alice");
    let (bob, bobs) = (node.server("bob"), node.server("bob"));
    node.tick(&|_| 0.0);
    assert!(node.place(bob).part().is_some());
    let told = |node: &mut Node| -> Vec<CgroupId> {
        let all = [first, second, bob, bobs];
        let told = all.into_iter().filter(|id| node.place(*id).is_reshared());
        let told: Vec<CgroupId> = told.collect();
        // Each is in force then.
        for id in &told {
            let part = node.place(*id).part();
            node.accounts.set_limit(*id, part);
        }
        told
    };
    assert_eq!(told(&mut node), [first, second]);
    assert_eq!(told(&mut node), []);
    node.tick(&|_| 0.0);
    assert_eq!(told(&mut node), [], "the parts are as before");
}

#[test]
fn a_throttled_server_and_its_slice_have_a_quota_together() {
    let mut node = Node::new();
    let server = node.server("alice");
    let slice = node.slice_of(server);
    let other = node.server("bob");
    for (id, limit) in [(server, 0.125), (slice, 0.0625), (other, 0.25)] {
        node.accounts.set_limit(id, Some(Cores(limit)));
    }
    assert!(node.accounts.shared_limits().is_empty(), "it is free");
    node.ticks(100, &|_| 2.0);
    assert!(node.place(server).is_throttled() && node.place(other).is_throttled());
    let shared: Vec<_> = node.accounts.shared_limits().into_iter().collect();
    assert_eq!(shared, [(server, Cores(0.1875))]);
}
