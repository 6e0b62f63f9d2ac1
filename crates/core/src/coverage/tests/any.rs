//! Whatever names, arguments and cgroups there are.

use super::made_up::{Node, of};
use crate::coverage::*;
use proptest::prelude::*;
use quantities::{CgroupPath, HubUser};

fn cgroup() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("system.slice".to_owned()),
        Just("user.slice".to_owned()),
        Just("user-1001.slice".to_owned()),
        Just("jupyter.slice".to_owned()),
        Just("jupyterhub.service".to_owned()),
        Just("docker".to_owned()),
        Just(super::made_up::ID.to_owned()),
        "[a-z]{1,5}-[a-z]{1,5}\\.(slice|service|scope)",
        "\\PC{0,8}",
    ];
    proptest::collection::vec(part, 0..5).prop_map(|parts| parts.join("/"))
}

fn said() -> impl Strategy<Value = Said> {
    let looks = prop_oneof![
        Just(None),
        Just(Some(Looks::Server)),
        Just(Some(Looks::Hub))
    ];
    (looks, any::<bool>(), proptest::option::of(any::<String>())).prop_map(
        |(looks, environment, user)| Said {
            looks,
            environment,
            user,
        },
    )
}

fn process() -> impl Strategy<Value = Process> {
    let kind = prop_oneof![
        8 => Just(Membership::Unified as fn(CgroupPath) -> Membership),
        1 => Just(Membership::Hybrid as fn(CgroupPath) -> Membership),
        1 => Just(Membership::V1 as fn(CgroupPath) -> Membership),
    ];
    let network = prop_oneof![
        Just(Network::Host),
        Just(Network::Other(7)),
        Just(Network::Unknown)
    ];
    let numbers = (1..40u32, proptest::option::of(1..40u32), 0..4u32);
    (numbers, cgroup(), kind, network, said(), any::<bool>()).prop_map(
        |((pid, parent, uid), cgroup, kind, network, said, unread)| Process {
            pid,
            parent,
            uid,
            cgroup: kind(CgroupPath::new(&cgroup)),
            network,
            said: (!unread).then_some(said),
            unread,
        },
    )
}

fn node() -> impl Strategy<Value = Node> {
    let known = prop_oneof![
        Just(of("alice")),
        Just(Known::Expected),
        Just(Known::Login),
        Just(Known::NotAServer),
        any::<String>().prop_map(|why| Known::Unmapped { why }),
        proptest::option::of(any::<String>()).prop_map(|why| Known::Pending { why }),
    ];
    let known = proptest::collection::btree_map(cgroup(), known, 0..5);
    let processes = proptest::collection::vec(process(), 0..20);
    let accounts = proptest::collection::btree_map(0..4u32, any::<String>(), 0..4);
    let listed = proptest::collection::vec((any::<String>(), cgroup()), 0..4);
    (known, processes, accounts, listed).prop_map(|(known, processes, accounts, listed)| {
        let mut node = Node::new();
        for (cgroup, known) in known {
            node = node.known(&cgroup, known);
        }
        for (user, unit) in listed {
            node = node.listed(&user, ListedAt::Unit(unit));
        }
        node.facts.processes = processes;
        node.facts.accounts = accounts;
        node.watch.uids.insert(3, HubUser("carol".into()));
        node
    })
}

/// A place's row in a survey.
fn places(survey: &Survey) -> std::collections::BTreeSet<(Option<CgroupPath>, &'static str)> {
    let rows = survey.rows.iter();
    rows.map(|row| (row.place.clone(), row.missing.kind()))
        .collect()
}

proptest! {
    #[test]
    fn a_survey_is_bounded_ordered_and_its_words_are_plain(node in node()) {
        let survey = node.survey();
        prop_assert_eq!(&survey, &node.survey());
        prop_assert!(survey.rows.len() <= MOST_ROWS);
        prop_assert!(survey.rows.is_sorted_by_key(|row| row.missing.weight()));
        let lines = lines(&survey.rows, true);
        prop_assert_eq!(lines.iter().map(|line| line.rows.len()).sum::<usize>(), survey.rows.len());
        for line in lines {
            prop_assert!(line.text.chars().count() < 4000);
            prop_assert!(!line.text.chars().any(char::is_control), "{}", line.text);
        }
    }

    #[test]
    fn no_order_of_processes_matters(node in node(), turn in 0..20usize) {
        let mut turned = Node { facts: node.facts.clone(), watch: node.watch.clone() };
        turned.facts.processes.sort_by_key(|process| process.pid);
        turned.facts.processes.dedup_by_key(|process| process.pid);
        let before = turned.survey();
        let count = turned.facts.processes.len().max(1);
        turned.facts.processes.rotate_left(turn % count);
        prop_assert_eq!(before, turned.survey());
    }

    #[test]
    fn no_word_of_a_process_exempts_another(node in node(), word in said()) {
        // Whatever further process there is, and whatever it says: a place that had a row has one.
        let before = node.survey();
        for (at, process) in node.facts.processes.iter().enumerate() {
            let mut changed = Node { facts: node.facts.clone(), watch: node.watch.clone() };
            let mut more = process.clone();
            (more.pid, more.parent) = (1000 + at as u32, None);
            (more.said, more.unread) = (Some(word.clone()), false);
            // In the node's network a place is no container of another's.
            changed.facts.processes.push(more);
            let places = |survey: &Survey| -> std::collections::BTreeSet<_> {
                survey.rows.iter().map(|row| row.place.clone()).collect()
            };
            let after = changed.survey();
            prop_assert!(
                places(&before).is_subset(&places(&after)),
                "{:?} {:?}", self::places(&before), self::places(&after)
            );
        }
    }
}
