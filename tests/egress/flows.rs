//! Live flows: whose they are, and how much was said.

use std::{collections::BTreeSet, time::Duration};

use egress::Flows;

use crate::bed::{Agent, HOST4, HOST6, Link, Slice, cgroup_id};

#[test]
fn a_flow_is_found_by_the_cgroup_it_was_begun_in_with_its_bytes() {
    let (link, slice) = (Link::new(), Slice::new());
    let mut host = Agent::new(&link.host, None);
    host.listen("tcp", "::", 80);
    let unit = slice.cgroup("alice.service");
    let mut alice = Agent::new(&link.node, Some(&unit));
    let mut bob = Agent::new(&link.node, Some(&slice.cgroup("bob.service")));
    alice.listen("tcp", "127.0.0.1", 9000);
    let of = |path: &std::path::Path| {
        let cgroups = BTreeSet::from([cgroup_id(path)]);
        link.node
            .within(|| Flows::of(&cgroups, &BTreeSet::new(), 10).unwrap())
    };
    // A flow that ended takes a moment to be forgotten.
    let settled = |path: &std::path::Path, count: usize| {
        for _ in 0..200 {
            if of(path).flows.len() == count {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        of(path)
    };
    assert_eq!(of(&unit), Flows::default());
    for address in [HOST4, HOST6] {
        assert_eq!(alice.tell(&format!("keep tcp {address} 80")), "ok");
        let found = settled(&unit, 1);
        let [flow] = &found.flows[..] else {
            panic!("{address}: {found:?}");
        };
        assert_eq!(
            flow.remote,
            format!("{}:80", bracketed(address)).parse().unwrap()
        );
        assert_eq!(flow.protocol, 6);
        // What is sent counts once it is acknowledged: "hello", and its echo.
        assert_eq!(flow.received, Some(5));
        assert!(flow.sent.is_some_and(|sent| sent >= 5), "{flow:?}");
    }
    // Within the node it is nobody's business, and another's is another's.
    assert_eq!(bob.tell(&format!("keep tcp {HOST4} 80")), "ok");
    assert_eq!(alice.tell("keep tcp 127.0.0.1 9000"), "ok");
    assert_eq!(settled(&unit, 0), Flows::default());
    assert_eq!(of(&slice.cgroup("bob.service")).flows.len(), 1);
}

#[test]
fn the_largest_flows_are_told_and_the_rest_counted() {
    let (link, slice) = (Link::new(), Slice::new());
    let mut host = Agent::new(&link.host, None);
    host.listen("tcp", "::", 80);
    let unit = slice.cgroup("alice.service");
    let mut agents: Vec<Agent> = (0..3)
        .map(|_| Agent::new(&link.node, Some(&unit)))
        .collect();
    for agent in &mut agents {
        assert_eq!(agent.tell(&format!("keep tcp {HOST4} 80")), "ok");
    }
    for _ in 0..5 {
        assert_eq!(agents[1].tell("again"), "ok");
    }
    let cgroups = BTreeSet::from([cgroup_id(&unit)]);
    let found = link
        .node
        .within(|| Flows::of(&cgroups, &BTreeSet::new(), 2).unwrap());
    assert_eq!((found.flows.len(), found.more), (2, 1));
    assert_eq!(found.flows[0].received, Some(30));
}

fn bracketed(address: &str) -> String {
    if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    }
}
