//! Places come and go: where an account begins, and where it goes on.

use crate::made_up::{BASELINE, Node, SIZE, policy, user};
use hubwarden_core::accounts::PlaceKind;
use policy::{FindingKind, Policy, Stage, Stop, finding::Strength};
use quantities::{CgroupId, Cores, Time};
use std::collections::BTreeMap;
use std::time::Duration;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_slice_goes_on_where_the_last_server_ended_and_the_next_with_it() {
    let mut node = Node::new();
    let server = node.spent_server("alice");
    node.ends(server);
    assert_eq!(node.accounts.rested()[&user("alice")].1, node.now);
    node.now = Time(node.now.0 + seconds(100));
    let slice = node.starts("alice", PlaceKind::UserSlice);
    assert_eq!(node.credits(slice), 100.0 * BASELINE);
    assert!(node.accounts.rested().contains_key(&user("alice")));
    node.tick(&|_| 0.0);
    node.tick(&|_| 1.0);
    let next = node.server("alice");
    assert_eq!(node.credits(next), node.credits(slice));
    assert!(node.accounts.rested().is_empty());
}

#[test]
fn a_user_s_new_slice_has_what_the_user_is_left_with() {
    let mut node = Node::new();
    let slice = node.starts("bob", PlaceKind::UserSlice);
    assert_eq!(node.credits(slice), SIZE);
    assert_eq!(node.place(slice).user(), &user("bob"));
    assert!(!node.place(slice).is_server());
}

#[test]
fn who_ends_rested_is_not_remembered() {
    let mut node = Node::new();
    let server = node.server("alice");
    node.ticks(3, &|_| 0.0);
    node.ends(server);
    assert!(node.accounts.rested().is_empty());
    assert_eq!(node.accounts.places().count(), 0);
}

#[test]
fn what_a_user_is_left_with_is_remembered_after_the_last_place() {
    let mut node = Node::new();
    let (first, second) = (node.server("alice"), node.server("alice"));
    let slice = node.slice_of(first);
    node.ticks(30, &|_| 1.0);
    node.ends(first);
    assert_eq!(node.place(slice).lead(), Some(second));
    node.ends(slice);
    assert!(node.accounts.rested().is_empty());
    // One that was never admitted is none of the user's.
    node.accounts.forget(CgroupId(99), node.now);
    node.ends(second);
    assert!(node.accounts.rested().contains_key(&user("alice")));
}

#[test]
fn a_slice_keeps_following_when_another_server_ends() {
    let mut node = Node::new();
    let (first, second) = (node.server("alice"), node.server("alice"));
    let slice = node.slice_of(second);
    node.ends(first);
    assert_eq!(node.place(slice).lead(), Some(second));
    assert_eq!(node.accounts.account_of(slice), second);
    assert_eq!(node.accounts.account_of(second), second);
}

#[test]
fn a_slice_carries_on_its_server_s_account() {
    let mut node = Node::new();
    let server = node.server("alice");
    let slice = node.slice_of(server);
    node.ticks(30, &|_| 1.0);
    let left = node.credits(server);
    assert!(left < 0.9 * SIZE);
    node.ends(server);
    assert_eq!(node.credits(slice), left);
    assert_eq!(node.place(slice).lead(), None);
    assert!(node.accounts.rested().is_empty(), "it goes on in the slice");
    node.ends(slice);
    let (standing, _) = node.accounts.rested()[&user("alice")];
    assert_eq!(standing.credits.left.0, left);
}

#[test]
fn who_has_rested_enough_is_forgotten_by_what_each_may_use() {
    let mut node = Node::new();
    for name in ["alice", "bob", "carol"] {
        let server = node.spent_server(name);
        node.ends(server);
    }
    let rested = node.accounts.rested().clone();
    let mut next = Node::new();
    next.accounts.resume_rested(rested);
    let generous = Policy {
        baseline: Cores(100.0 * BASELINE),
        ..policy()
    };
    let policies = BTreeMap::from([(user("alice"), generous), (user("bob"), policy())]);
    let later = Time(node.now.0 + seconds(100));
    next.accounts.forget_rested(later, &policies);
    let left: Vec<_> = next.accounts.rested().keys().cloned().collect();
    assert_eq!(left, [user("bob"), user("carol")]);
}

#[test]
fn what_a_user_may_use_and_the_quota_in_force_are_as_last_set() {
    let mut node = Node::new();
    let id = node.server("alice");
    assert_eq!(node.place(id).limit(), None);
    let more = Policy {
        limit: Some(Cores(8.0)),
        ..policy()
    };
    node.accounts.set_policy(id, more.clone());
    node.accounts.set_limit(id, Some(Cores(8.0)));
    assert_eq!(node.place(id).policy(), &more);
    assert_eq!(node.place(id).limit(), Some(Cores(8.0)));
}

/// A server that stands still for what was found in it.
fn frozen(node: &mut Node) -> CgroupId {
    node.policy.evidence.stop_after = Some(Duration::ZERO);
    node.policy.evidence.stop = Stop::Processes;
    let id = node.server("alice");
    let (level, of) = (Strength::Certain, FindingKind::Mining);
    node.accounts.accuse(id, level, of, node.now);
    node.tick(&|_| 1.0);
    assert_eq!(node.stage(id), Stage::Frozen);
    id
}

#[test]
fn a_server_goes_on_once_the_processes_are_ended() {
    let mut node = Node::new();
    let id = frozen(&mut node);
    let verdict = node.accounts.processes_ended(id, 2, node.now).unwrap();
    assert_eq!(
        (verdict.from, verdict.to),
        (Stage::Frozen, Stage::Throttled)
    );
    assert_eq!(node.stage(id), Stage::Throttled);
    assert_eq!(node.accounts.processes_ended(id, 2, node.now), None);
}

#[test]
fn nothing_stands_still_for_what_was_only_reported() {
    let mut node = Node::new();
    let id = frozen(&mut node);
    node.accounts.reopen(node.now);
    assert_eq!(node.stage(id), Stage::Throttled);
}
