use std::{collections::BTreeSet, num::NonZeroU32, time::Duration};

use super::*;
use crate::{
    Bridges, Class, ClassLimits, Mode, Policy, Rate, ServerPort,
    installed::Installed,
    limits::BitsPerSecond,
    ruleset::{Expr, Ruleset},
};

/// A policy with every part that there can be.
fn everything() -> Policy {
    let mut policy = Policy::standard(Mode::Enforce);
    policy.resolvers.push([127, 0, 0, 53].into());
    let rate = |count| Rate {
        count: NonZeroU32::new(count).unwrap(),
        seconds: 60,
    };
    let class = Class {
        names: vec!["*".parse().unwrap()],
        deny_names: vec!["a.example".parse().unwrap()],
        limits: ClassLimits {
            new_connections: Some(rate(50)),
            connections: NonZeroU32::new(500),
            bandwidth: Some(BitsPerSecond(20_000_000)),
            shape: false,
            bytes_per_day: Some(1 << 30),
        },
        ..Class::standard()
    };
    policy.classes.insert("whole".parse().unwrap(), class);
    policy.tracking.most = NonZeroU32::new(65_536);
    policy
}

/// Both tables of that policy, with a container; and the form of the first where nothing is tracked.
fn tables() -> Vec<Ruleset> {
    let mut installed = Installed::new(&everything()).unwrap();
    let port = ServerPort {
        cgroup: crate::CgroupId(1),
        class: "whole".parse().unwrap(),
        number: 1,
        addresses: BTreeSet::new(),
    };
    let bridges = Bridges {
        servers: [(7, port)].into(),
        ..Bridges::default()
    };
    installed.set_bridges(bridges);
    let mut nobody_tracks = Policy::standard(Mode::Enforce);
    nobody_tracks.tracking.by_others = false;
    let untracked = Installed::new(&nobody_tracks).unwrap().ruleset();
    vec![
        installed.ruleset(),
        installed.bridge_ruleset().unwrap(),
        untracked,
    ]
}

/// The set that an expression puts an element into.
fn fills(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Update { set, .. } | Expr::Add { set, .. } => Some(set),
        _ => None,
    }
}

/// The sets that rules put elements into.
fn filled_by_rules(table: &Ruleset) -> Vec<&str> {
    let rules = table.chains.iter().flat_map(|chain| &chain.rules);
    let exprs = rules.flat_map(|rule| &rule.exprs);
    exprs.filter_map(fills).collect()
}

#[test]
fn every_set_that_packets_or_answers_fill_has_a_share_for_each_sender() {
    let mut seen = Vec::new();
    for table in tables() {
        let by_rules = filled_by_rules(&table);
        for set in &table.sets {
            // One element, which the daemon alone puts there.
            let is_watched = set.name == crate::bridges::WATCHED;
            let fills = set.is_dynamic()
                || set.is_timed() && !is_watched
                || by_rules.contains(&set.name.as_str());
            let kind = Filled::of(&set.name);
            assert_eq!(
                kind.is_some(),
                fills,
                "{}: a set that packets or answers fill is one of `Filled`, and no other is",
                set.name
            );
            let Some(kind) = kind else { continue };
            seen.push(kind);
            let made = kind.set(&set.name, set.key_type, set.key_len);
            assert_eq!((set.flags, set.timeout_ms), (made.flags, made.timeout_ms));
            assert!(set.size >= made.size, "{}", set.name);
            let many = match kind.share() {
                Share::One => 10_000,
                Share::Limited(share) | Share::Kept(share) => made.size / share,
            };
            assert!(many >= 36, "{}: a few dozens fill it", set.name);
        }
        // What rules fill is there.
        for name in by_rules {
            assert!(table.sets.iter().any(|set| set.name == name), "{name}");
        }
    }
    seen.sort_unstable();
    seen.dedup();
    let mut all = Filled::ALL.to_vec();
    all.sort_unstable();
    assert_eq!(seen, all, "and each of them is in a table");
}

/// An attempt is put in by a rule behind the one that asks whether its sender has had enough.
#[test]
fn what_has_more_than_one_element_of_a_sender_is_filled_behind_its_limit() {
    for table in tables() {
        for chain in &table.chains {
            let place = |kind: Filled| {
                chain.rules.iter().position(|rule| {
                    let mut sets = rule.exprs.iter().filter_map(fills);
                    sets.any(|set| Filled::of(set) == Some(kind))
                })
            };
            if let Some(noted) = place(Filled::Unanswered) {
                assert!(place(Filled::Noted).unwrap() < noted, "{}", chain.name);
            }
        }
    }
}

#[test]
fn a_name_says_what_a_set_is() {
    for (name, kind) in [
        ("names4_research", Some(Filled::Names)),
        ("unanswered6_outside", Some(Filled::Unanswered)),
        ("connections_lab", Some(Filled::Connections)),
        ("connections_outside_lab", Some(Filled::Connections)),
        ("new_connections_lab", Some(Filled::NewConnections)),
        ("not_noted", Some(Filled::NotNoted)),
        ("name_ports", None),
        ("received2", None),
        ("denied4_lab", None),
        ("own_loopback2", None),
    ] {
        assert_eq!(Filled::of(name), kind, "{name}");
    }
}

#[test]
fn sets_grow_with_the_servers_that_there_are() {
    for (room, senders, attempts) in [
        (1_024, 16_384, 98_304),
        (2_048, 16_384, 196_608),
        (1 << 17, 1 << 17, 393_216),
        (1 << 30, 262_144, 393_216),
    ] {
        assert_eq!(Filled::Noted.size(room), senders);
        assert_eq!(Filled::Unanswered.size(room), attempts);
        assert!(Filled::Names.size(room) > NAMES);
    }
    assert_eq!(Duration::from_millis(REMEMBERED_MS).as_secs(), 60);
}
