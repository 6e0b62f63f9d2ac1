//! Which places are read and looked at, when again, and what is booked on whom.

use crate::made_up::{Node, SIZE};
use policy::{Stage, TimeLimits, Verdict};
use quantities::{CgroupId, CoreSeconds, Cores, Time};
use std::collections::BTreeSet;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A node whose ticks are so far apart, and on which credits last.
fn node(tick: Duration) -> Node {
    let mut node = Node::new();
    node.settings.tick = tick;
    node.settings.hot = Cores(0.8);
    node.policy.size = CoreSeconds(1e6);
    node
}

fn after(node: &Node, time: Duration) -> Option<Time> {
    Some(Time(node.now.0 + time))
}

#[test]
fn before_a_tick_those_due_and_users_with_several_places_are_read() {
    let mut node = Node::new();
    let (here, there) = (node.server("alice"), node.server("alice"));
    let (bob, carol) = (node.server("bob"), node.server("carol"));
    assert_eq!(node.accounts.to_read(None), [here, there, bob, carol]);
    let due = BTreeSet::from([bob]);
    assert_eq!(node.accounts.to_read(Some(&due)), [here, there, bob]);
}

#[test]
fn a_look_at_those_due_judges_no_other() {
    let mut node = Node::new();
    let (alice, bob) = (node.server("alice"), node.server("bob"));
    node.look(None);
    node.passes(seconds(100), &|_| 2.0);
    let judged = |verdicts: &[(CgroupId, Verdict)]| -> Vec<CgroupId> {
        verdicts.iter().map(|(id, _)| *id).collect()
    };
    assert_eq!(judged(&node.look(Some(&[alice])).verdicts), [alice]);
    assert_eq!(node.credits(bob), SIZE);
    assert_eq!(judged(&node.look(None).verdicts), [bob]);
}

#[test]
fn a_server_is_looked_at_when_its_credits_end() {
    let mut node = Node::new();
    node.settings.tick = seconds(60);
    node.server("alice");
    node.look(None);
    assert_eq!(node.accounts.next_look(), None);
    node.passes(seconds(10), &|_| 2.25);
    node.look(None);
    // 80 core-seconds are left, and 2 a second more than the baseline are used.
    assert_eq!(node.accounts.next_look(), after(&node, seconds(40)));
    node.settings.tick = seconds(40);
    node.look(None);
    assert_eq!(node.accounts.next_look(), None, "the tick comes as soon");
    node.passes(Duration::from_millis(39_950), &|_| 2.25);
    node.look(None);
    let soonest = Duration::from_millis(200);
    assert_eq!(node.accounts.next_look(), after(&node, soonest));
}

#[test]
fn a_server_that_may_become_hot_is_measured_again_after_a_second() {
    for (rate, waits_read, again) in [
        (0.5, true, true),
        (0.8, true, true),
        (0.81, true, false),
        (0.3, true, true),
        (0.2, true, false),
        // How long it waits for the CPU is not known yet.
        (0.2, false, true),
        (0.05, false, true),
        (0.04, false, false),
        (0.81, false, false),
    ] {
        let mut node = node(seconds(5));
        let id = node.server("alice");
        if waits_read {
            node.waits(id, None);
        }
        node.look(None);
        node.passes(seconds(10), &|_| rate);
        node.look(None);
        let expected = again.then(|| Time(node.now.0 + SECOND));
        let said = format!("{rate} cores, waits read: {waits_read}");
        assert_eq!(node.accounts.next_look(), expected, "{said}");
    }
}

#[test]
fn with_a_tick_a_second_none_is_measured_before_it() {
    let mut node = node(SECOND);
    node.server("alice");
    node.ticks(2, &|_| 0.5);
    assert_eq!(node.accounts.next_look(), None);
}

#[test]
fn looks_that_are_due_are_taken_once_and_the_others_stay() {
    let mut node = node(seconds(5));
    let (alice, bob) = (node.server("alice"), node.server("bob"));
    node.ticks(2, &|_| 0.5);
    let first = Time(node.now.0 + SECOND);
    node.passes(SECOND / 2, &|_| 0.5);
    node.look(Some(&[alice]));
    let second = Time(node.now.0 + SECOND);
    assert_eq!(node.accounts.next_look(), Some(first));
    assert!(node.accounts.looks_due(node.now).is_empty());
    assert_eq!(node.accounts.looks_due(first), BTreeSet::from([bob]));
    node.passes(SECOND / 2, &|_| 0.01);
    node.look(Some(&[bob]));
    assert_eq!(node.accounts.next_look(), Some(second));
    // At a tick all are looked at, and no look before it is due any more.
    node.passes(seconds(10), &|_| 0.01);
    node.look(None);
    assert_eq!(node.accounts.next_look(), None);
}

#[test]
fn a_server_that_ended_is_not_looked_at_again() {
    let mut node = node(seconds(5));
    let id = node.server("alice");
    node.ticks(2, &|_| 0.5);
    assert!(node.accounts.next_look().is_some());
    node.ends(id);
    assert_eq!(node.accounts.next_look(), None);
}

#[test]
fn waiting_is_counted_of_servers_that_may_want_more_than_they_get() {
    let mut node = node(seconds(10));
    let rates = [0.01, 0.1, 0.8, 0.9, 0.5];
    let ids: Vec<CgroupId> = (["a", "b", "c", "d", "e"].map(|name| node.server(name))).into();
    let rate_of = |id: CgroupId| rates[id.0 as usize - 1];
    node.look(None);
    // Of the last its quota is all it waits for.
    node.runs_into_its_quota(ids[4]);
    node.tick(&rate_of);
    assert_eq!(node.accounts.waits_wanted(Cores(0.8)), [ids[1], ids[2]]);
    node.tick(&rate_of);
    let wanted = node.accounts.waits_wanted(Cores(0.8));
    assert_eq!(
        wanted,
        [ids[1], ids[2], ids[4]],
        "its quota did not run out"
    );
}

#[test]
fn a_server_that_gets_little_of_what_it_wants_is_hot() {
    let mut node = node(SECOND);
    let id = node.server("alice");
    let hot = Cores(0.8);
    node.ticks(2, &|_| 0.1);
    node.waits(id, Some(Duration::ZERO));
    node.tick(&|_| 0.1);
    assert!(!node.place(id).is_hot(hot));
    node.waits(id, Some(SECOND * 9 / 10));
    assert!(node.place(id).is_hot(hot));
    // What it waited for counts no more once it idles.
    node.tick(&|_| 0.01);
    assert_eq!(node.accounts.waits_wanted(hot), []);
    node.waits_of(&[]);
    node.tick(&|_| 0.1);
    assert!(!node.place(id).is_hot(hot));
}

#[test]
fn a_server_is_hot_above_what_is_hot_or_at_its_quota() {
    let mut node = node(SECOND);
    let id = node.server("alice");
    node.ticks(2, &|_| 0.5);
    assert!(node.place(id).is_hot(Cores(0.49)));
    assert!(!node.place(id).is_hot(Cores(0.5)));
    node.runs_into_its_quota(id);
    node.tick(&|_| 0.5);
    assert!(node.place(id).is_hot(Cores(0.5)));
}

#[test]
fn what_a_user_uses_is_booked_on_each_of_the_user_s_servers() {
    let mut node = Node::new();
    let (first, second) = (node.server("alice"), node.server("alice"));
    let slice = node.slice_of(first);
    let other = node.server("bob");
    let rates = [0.5, 0.25, 0.125, 2.0];
    for _ in 0..9 {
        node.tick(&|id| rates[id.0 as usize - 1]);
    }
    let elsewhere = |id| node.place(id).used_elsewhere().as_secs_f64();
    // The first readings are only where counting starts.
    assert_eq!(elsewhere(first), 8.0 * (0.25 + 0.125));
    assert_eq!(elsewhere(second), 8.0 * (0.5 + 0.125));
    assert_eq!((elsewhere(slice), elsewhere(other)), (0.0, 0.0));
    assert_eq!(node.credits(first), node.credits(second));
}

#[test]
fn a_server_is_charged_only_for_what_is_used_beside_it() {
    let mut node = Node::new();
    let first = node.server("alice");
    let second = node.server("alice");
    node.ticks(3, &|_| 0.5);
    node.ends(second);
    node.ticks(10, &|_| 0.5);
    let third = node.server("alice");
    node.ticks(5, &|_| 0.5);
    assert_eq!(node.place(third).used_elsewhere(), seconds(2));
    assert_eq!(node.place(first).used_elsewhere(), seconds(3));
}

#[test]
fn a_rate_is_the_place_s_own_where_the_user_has_several() {
    let mut node = Node::new();
    let alone = node.server("alice");
    let slice = node.slice_of(alone);
    let (busy, idle) = (node.server("bob"), node.server("bob"));
    node.ticks(3, &|id| match id {
        _ if id == slice => 0.25,
        _ if id == busy => 0.5,
        _ => 0.0,
    });
    let rate = |id| node.place(id).rate();
    assert_eq!((rate(busy), rate(idle)), (Cores(0.5), Cores(0.0)));
    // A user's only server stands for all that the user runs.
    assert_eq!((rate(alone), rate(slice)), (Cores(0.25), Cores(0.25)));
}

#[test]
fn a_slice_moves_with_its_server_once_and_is_not_judged_itself() {
    let mut node = Node::new();
    let server = node.server("alice");
    let slice = node.slice_of(server);
    let mut moved = Vec::new();
    for _ in 0..100 {
        let look = node.tick(&|_| 1.0);
        assert!(look.verdicts.iter().all(|(id, _)| *id == server));
        for (id, verdict) in look.followed {
            assert_eq!(id, slice);
            let verdict = verdict.unwrap();
            assert!(look.verdicts.contains(&(server, verdict.clone())));
            moved.push(verdict.to);
        }
    }
    assert_eq!(moved, [Stage::Deprioritised, Stage::Throttled]);
}

#[test]
fn a_slice_that_comes_later_moves_to_its_server_without_a_verdict() {
    let mut node = Node::new();
    let server = node.spent_server("alice");
    let slice = node.slice_of(server);
    assert_eq!(node.tick(&|_| 0.0).followed, [(slice, None)]);
    assert_eq!(node.stage(slice), Stage::Throttled);
    assert_eq!(node.tick(&|_| 0.0).followed, []);
}

#[test]
fn a_server_whose_time_ends_soon_is_named_in_a_look() {
    let mut node = Node::new();
    node.policy.time = TimeLimits {
        wall: Some(seconds(100)),
        warn: seconds(10),
        ..node.policy.time
    };
    let id = node.server("alice");
    let mut warned = Vec::new();
    for _ in 0..110 {
        warned.extend(node.tick(&|_| 0.0).warnings);
    }
    assert_eq!(warned.len(), 1);
    assert_eq!((warned[0].0, warned[0].1.left), (id, seconds(10)));
}
