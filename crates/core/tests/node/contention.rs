//! Verdicts that depend on who else waits for the CPU.

use crate::made_up::{Node, user};
use hubwarden_core::accounts::Contention;
use policy::Stage;
use quantities::CgroupId;

/// A node where credits count while others wait for more than a tenth of the time.
fn node() -> Node {
    let mut node = Node::new();
    node.policy.contended_above = Some(0.1);
    node
}

fn waiting(name: &str, pressure: f64) -> Contention {
    let mut contention = Contention::default();
    contention.add(Some(&user(name)), pressure);
    contention
}

#[test]
fn pressure_is_asked_for_when_a_verdict_depends_on_it() {
    let mut node = node();
    let id = node.server("alice");
    node.tick(&|_| 0.0);
    assert!(!node.accounts.asks_for_pressure());
    node.ticks(100, &|_| 2.0);
    assert_eq!(node.stage(id), Stage::Deprioritised);
    assert!(node.accounts.asks_for_pressure());
    let mut always = Node::new();
    always.spent_server("alice");
    assert!(!always.accounts.asks_for_pressure());
}

#[test]
fn spent_credits_throttle_once_others_wait_for_more_than_the_measure() {
    let mut node = node();
    let id = node.server("alice");
    for contention in [waiting("alice", 0.9), waiting("bob", 0.1)] {
        node.contention = contention;
        node.ticks(100, &|_| 2.0);
        assert_eq!(node.stage(id), Stage::Deprioritised);
    }
    node.contention = waiting("bob", 0.11);
    node.tick(&|_| 2.0);
    assert_eq!(node.stage(id), Stage::Throttled);
}

#[test]
fn a_throttled_server_is_let_up_below_half_the_measure() {
    let mut node = node();
    node.contention = waiting("bob", 0.2);
    let id = node.spent_server("alice");
    node.contention = waiting("bob", 0.06);
    node.ticks(200, &|_| 0.25);
    assert_eq!(node.stage(id), Stage::Throttled);
    node.contention = waiting("bob", 0.05);
    node.ticks(60, &|_| 0.25);
    assert_eq!(node.stage(id), Stage::Deprioritised);
}

#[test]
fn who_idles_or_is_at_a_quota_does_not_wait_for_the_cpu() {
    let mut node = node();
    let busy = node.server("alice");
    let idle = node.server("bob");
    let light = node.server("carol");
    let at_its_quota = node.server("dave");
    let throttled = node.spent_server("erin");
    assert_eq!(node.stage(throttled), Stage::Deprioritised);
    let rates = [1.0, 0.004, 0.005, 1.0, 1.0];
    let rate_of = |id: CgroupId| rates[id.0 as usize - 1];
    node.contention = waiting("alice", 0.9);
    node.runs_into_its_quota(at_its_quota);
    node.tick(&rate_of);
    assert_eq!(node.stage(throttled), Stage::Throttled);
    let waits: Vec<_> = node.accounts.may_wait().collect();
    assert_eq!(waits, [(busy, &user("alice")), (light, &user("carol"))]);
    assert!(!node.place(idle).is_throttled());
}
