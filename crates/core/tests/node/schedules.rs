//! Accounts under any schedule: servers and login slices come and go, compute and rest.

use crate::made_up::{BASELINE, Node, SIZE, TICK};
use hubwarden_core::accounts::{Contention, LookSettings, PlaceKind, Reading, Readings};
use policy::{FindingKind, Stage, finding::Strength};
use proptest::prelude::*;
use quantities::{CgroupId, Cores, HubUser, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[test]
fn a_server_started_beside_a_spent_one_is_spent_too() {
    let mut node = Node::new();
    let first = node.starts("alice", PlaceKind::Server);
    for _ in 0..80 {
        node.tick(&|_| 2.0);
    }
    assert_eq!(node.stage(first), Stage::Throttled);
    let second = node.starts("alice", PlaceKind::Server);
    assert_eq!(node.credits(second), node.credits(first));
    node.tick(&|_| 0.0);
    assert_eq!(node.stage(second), Stage::Throttled);
}

#[test]
fn what_runs_outside_a_server_spends_the_server_s_credits() {
    let mut node = Node::new();
    let server = node.starts("alice", PlaceKind::Server);
    let slice = node.starts("alice", PlaceKind::UserSlice);
    node.accounts.follow(slice, server);
    for _ in 0..80 {
        node.tick(&|id| if id == slice { 2.0 } else { 0.0 });
    }
    assert_eq!(node.stage(server), Stage::Throttled);
    assert_eq!(node.stage(slice), Stage::Throttled);
    // Ending the server is no way out: the slice carries on, and the next server with it.
    node.ends(server);
    assert_eq!(node.accounts.account_of(slice), slice);
    let next = node.starts("alice", PlaceKind::Server);
    assert!(node.credits(next) < 0.1 * SIZE);
}

#[test]
fn evidence_throttles_a_rested_server_at_the_next_look() {
    let mut node = Node::new();
    let id = node.starts("alice", PlaceKind::Server);
    node.tick(&|_| 1.0);
    node.accounts
        .accuse(id, Strength::High, FindingKind::Mining, node.now);
    let look = node.tick(&|_| 1.0);
    assert_eq!(look.verdicts.len(), 1);
    assert_eq!(node.stage(id), Stage::Throttled);
}

#[test]
fn while_supervision_is_off_use_is_charged_to_no_account() {
    let mut node = Node::new();
    let id = node.starts("alice", PlaceKind::Server);
    node.tick(&|_| 0.0);
    let before = node.credits(id);
    let settings = LookSettings {
        supervised: false,
        tick: TICK,
        hot: Cores(0.9),
    };
    let reading = Reading {
        usage: Duration::from_secs(1000),
        throttled_periods: None,
    };
    let readings = Readings::from([(id, reading)]);
    let later = Time(node.now.0 + Duration::from_secs(500));
    let calm = Contention::default();
    let look = node.accounts.look(None, &readings, &calm, &settings, later);
    assert!(look.verdicts.is_empty());
    assert_eq!(node.credits(id), before);
}

#[derive(Debug, Clone)]
enum Step {
    Server(u8),
    Slice(u8),
    End(prop::sample::Index),
    Ticks(u8, Vec<f64>),
    Accuse(prop::sample::Index),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<prop::sample::Index>;
    let step = prop_oneof![
        3 => (0..3u8).prop_map(Step::Server),
        1 => (0..3u8).prop_map(Step::Slice),
        2 => index().prop_map(Step::End),
        6 => (1..40u8, prop::collection::vec(0.0..3.0f64, 1..5)).prop_map(|(n, rates)| Step::Ticks(n, rates)),
        1 => index().prop_map(Step::Accuse),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..40)
}

/// What holds after every step.
fn check(node: &Node) -> Result<(), TestCaseError> {
    let mut parts: BTreeMap<&HubUser, Vec<Option<f64>>> = BTreeMap::new();
    let mut users = BTreeMap::new();
    for (id, place) in node.accounts.places() {
        let left = place.standing().credits.left.0;
        prop_assert!((0.0..=SIZE).contains(&left), "{id}: {left} credits");
        let lead = place.lead().map(|lead| node.accounts.place(lead));
        if let Some(lead) = lead {
            let lead = lead.expect("a slice follows a server that is there");
            prop_assert!(lead.is_server() && lead.lead().is_none());
        }
        users.insert(id, place);
        let user = users_of(node, id);
        parts
            .entry(user)
            .or_default()
            .push(place.part().map(|part| part.0));
    }
    for (user, parts) in parts {
        let known: Vec<f64> = parts.iter().flatten().copied().collect();
        let sum: f64 = known.iter().sum();
        prop_assert!(sum <= BASELINE + 1e-9, "{user}: parts {parts:?}");
    }
    Ok(())
}

fn users_of(node: &Node, id: CgroupId) -> &HubUser {
    node.accounts.place(id).unwrap().user()
}

proptest! {
    #[test]
    fn accounts_stay_whole_under_any_schedule(steps in steps()) {
        let names = ["alice", "bob", "carol"];
        let mut node = Node::new();
        let mut slices: BTreeMap<u8, CgroupId> = BTreeMap::new();
        for step in steps {
            let ids = node.ids();
            match step {
                Step::Server(user) => {
                    let id = node.starts(names[usize::from(user)], PlaceKind::Server);
                    // As the daemon does: a slice without a server follows the one that comes.
                    if let Some(slice) = slices.get(&user)
                        && node.accounts.account_of(*slice) == *slice
                    {
                        node.accounts.follow(*slice, id);
                    }
                }
                Step::Slice(user) if !slices.contains_key(&user) => {
                    let name = HubUser(names[usize::from(user)].to_owned());
                    let places = node.accounts.places();
                    let server = places
                        .filter(|(_, place)| place.is_server() && *place.user() == name)
                        .map(|(id, _)| id)
                        .next();
                    let slice = node.starts(&name.0, PlaceKind::UserSlice);
                    if let Some(server) = server {
                        node.accounts.follow(slice, server);
                    }
                    slices.insert(user, slice);
                }
                Step::End(which) if !ids.is_empty() => {
                    let id = *which.get(&ids);
                    let before = node.accounts.place(id).unwrap();
                    let (user, left) = (before.user().clone(), node.credits(id));
                    node.ends(id);
                    slices.retain(|_, slice| *slice != id);
                    let others: BTreeSet<_> = (node.accounts.places())
                        .filter(|(_, place)| *place.user() == user)
                        .map(|(id, _)| id)
                        .collect();
                    // To stop a server and start another gains nothing.
                    if others.is_empty() {
                        let again = node.starts(&user.0, PlaceKind::Server);
                        prop_assert!(node.credits(again) <= left + 1e-9);
                    }
                }
                Step::Ticks(ticks, rates) => {
                    for _ in 0..ticks {
                        node.tick(&|id| rates[id.0 as usize % rates.len()]);
                        check(&node)?;
                    }
                }
                Step::Accuse(which) if !ids.is_empty() => {
                    let id = node.accounts.account_of(*which.get(&ids));
                    node.accounts.accuse(id, Strength::High, FindingKind::Mining, node.now);
                }
                Step::Reopen => node.accounts.reopen(node.now),
                _ => {}
            }
            check(&node)?;
        }
    }

    #[test]
    fn rest_leads_back_to_free(busy in prop::collection::vec(0.0..4.0f64, 1..200)) {
        let mut node = Node::new();
        let id = node.starts("alice", PlaceKind::Server);
        let other = node.starts("alice", PlaceKind::Server);
        for rate in &busy {
            node.tick(&|_| *rate);
        }
        for _ in 0..500 {
            node.tick(&|_| 0.0);
        }
        prop_assert_eq!(node.stage(id), Stage::Free);
        prop_assert_eq!(node.stage(other), Stage::Free);
    }
}
