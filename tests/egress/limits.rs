//! How much of what a class allows.

use std::{collections::BTreeSet, time::Duration};

use egress::{
    BitsPerSecond, Class, ClassLimits, ClassName, Firewall, Kernel, Limit, Mode, Policy, Rate,
    Refusals, RefusedBy,
};

use crate::{
    bed::{Agent, HOST4, HOST6, Link, Slice},
    outside::{REFUSED, loaded, policy},
};

pub fn limited(limits: ClassLimits) -> Policy {
    let mut policy = policy();
    let class = Class {
        limits,
        ..Class::standard()
    };
    policy.classes.insert("limited".parse().unwrap(), class);
    policy
}

pub fn rate(count: u32, seconds: u32) -> Option<Rate> {
    let count = count.try_into().unwrap();
    Some(Rate { count, seconds })
}

struct Node {
    link: Link,
    _host: Agent,
    alice: Agent,
    deep: Agent,
    /// Last, so that nobody is in it any more.
    _slice: Slice,
}

impl Node {
    fn new() -> Self {
        let (link, slice) = (Link::new(), Slice::new());
        let mut host = Agent::new(&link.host, None);
        for port in [53, 80, 443] {
            host.listen("tcp", "::", port);
        }
        let alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
        let deep = slice.cgroup("system-x.slice/x@1.service");
        let deep = Agent::new(&link.node, Some(&deep));
        Self {
            link,
            _host: host,
            alice,
            deep,
            _slice: slice,
        }
    }
}

#[test]
fn new_connections_beyond_the_rate_are_refused_to_each_server_by_itself_and_told() {
    let mut node = Node::new();
    let policy = limited(ClassLimits {
        new_connections: rate(5, 60),
        ..ClassLimits::default()
    });
    let servers = [
        node.alice.admitted(1, "limited"),
        node.deep.admitted(2, "limited"),
    ];
    let mut nft = loaded(&node.link.node, &policy, &[], &servers);
    assert_eq!(nft.verify().unwrap(), []);
    let told = node.link.node.within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let mut refusals = Refusals::listen(policy.log_group).unwrap();
            for agent in [&mut node.alice, &mut node.deep] {
                let mut answers = Vec::new();
                for _ in 0..8 {
                    answers.push(agent.reach("tcp", HOST4, 80));
                }
                let good = answers.iter().filter(|answer| *answer == "ok").count();
                assert!((5..=6).contains(&good), "{answers:?}");
                assert_eq!(answers.last().unwrap(), REFUSED);
                assert_eq!(agent.reach("tcp", HOST6, 80), REFUSED);
                assert_eq!(
                    agent.reach("tcp", HOST4, 53),
                    "ok",
                    "names are asked for freely"
                );
            }
            let mut told = Vec::new();
            let quiet = Duration::from_millis(200);
            while let Ok(next) = tokio::time::timeout(quiet, refusals.next()).await {
                told.push(next.unwrap());
            }
            told
        })
    });
    for number in [1, 2] {
        let by = RefusedBy::Limit(Limit::NewConnections, "limited".parse().unwrap());
        let found = told.iter().any(|r| r.number == Some(number) && r.by == by);
        assert!(found, "{told:?}");
    }
}

#[test]
fn connections_at_a_time_are_bounded_and_come_free_again() {
    let mut node = Node::new();
    let policy = limited(ClassLimits {
        connections: Some(3.try_into().unwrap()),
        ..ClassLimits::default()
    });
    let servers = [
        node.alice.admitted(1, "limited"),
        node.deep.admitted(2, "limited"),
    ];
    let mut nft = loaded(&node.link.node, &policy, &[], &servers);
    assert_eq!(nft.verify().unwrap(), []);
    for agent in [&mut node.alice, &mut node.deep] {
        assert_eq!(agent.tell(&format!("hold tcp {HOST4} 80 5")), "3");
        assert_eq!(agent.reach("tcp", HOST6, 443), REFUSED);
    }
    node.alice.tell("let_go");
    assert_eq!(node.alice.tell(&format!("hold tcp {HOST6} 80 2")), "2");
    assert_eq!(node.deep.reach("tcp", HOST4, 80), REFUSED);
}

#[test]
fn bandwidth_is_bounded_in_both_directions_and_bytes_are_counted() {
    const BYTES: u64 = 3_000_000;
    let mut node = Node::new();
    let mut policy = limited(ClassLimits {
        bandwidth: Some(BitsPerSecond(8_000_000)),
        bytes_per_day: Some(1),
        ..ClassLimits::default()
    });
    let limits = ClassLimits {
        bytes_per_day: Some(1),
        ..ClassLimits::default()
    };
    let counted = Class {
        limits,
        ..Class::standard()
    };
    policy.classes.insert("counted".parse().unwrap(), counted);
    let servers = [
        node.alice.admitted(1, "limited"),
        node.deep.admitted(2, "counted"),
    ];
    let mut nft = loaded(&node.link.node, &policy, &[], &servers);
    let took = |agent: &mut Agent| -> u64 {
        let answer = agent.tell(&format!("stream {HOST4} 80 {BYTES}"));
        answer.parse().unwrap_or_else(|_| panic!("{answer}"))
    };
    let (limited, free) = (took(&mut node.alice), took(&mut node.deep));
    // A megabyte a second, after the 1.25 that a full bucket lets through at once.
    assert!(limited > 1200, "{limited} ms");
    assert!(free * 2 < limited, "{free} ms and {limited} ms");
    assert_eq!(nft.verify().unwrap(), []);
    for traffic in nft.traffic().unwrap() {
        let enough = 2 * BYTES..=2 * BYTES + BYTES;
        assert!(enough.contains(&traffic.bytes), "{traffic:?}");
    }
    let numbers: Vec<u32> = nft.traffic().unwrap().iter().map(|t| t.number).collect();
    assert_eq!(numbers.len(), 2, "{numbers:?}");
    // The next daemon reads the same before it loads a table of its own, also of a class that was not there.
    let another = policy.classes[&"counted".parse().unwrap()].clone();
    policy.classes.insert("another".parse().unwrap(), another);
    let left = |policy: &Policy| {
        let read = || Kernel::open().unwrap().left_traffic(policy);
        node.link.node.within(read).unwrap()
    };
    let counted = nft.traffic().unwrap().into_iter();
    let counted: BTreeSet<_> = counted.map(|one| (one.sender, one.bytes)).collect();
    assert_eq!(BTreeSet::from_iter(left(&policy)), counted);
    let other: ClassName = "standard".parse().unwrap();
    nft.reclass(&[(servers[0].cgroup, other)]).unwrap();
    assert!(took(&mut node.alice) * 2 < limited);
}

#[test]
fn observing_limits_nothing() {
    let mut node = Node::new();
    let mut policy = limited(ClassLimits {
        new_connections: rate(1, 3600),
        connections: Some(1.try_into().unwrap()),
        bandwidth: Some(BitsPerSecond(64_000)),
        shape: true,
        bytes_per_day: None,
    });
    policy.mode = Mode::Observe;
    let servers = [node.alice.admitted(1, "limited")];
    let mut nft = loaded(&node.link.node, &policy, &[], &servers);
    assert_eq!(node.alice.tell(&format!("hold tcp {HOST4} 80 5")), "5");
    assert_ne!(
        node.alice.tell(&format!("stream {HOST4} 80 300000")),
        "ETIMEDOUT"
    );
    assert_eq!(nft.verify().unwrap(), []);
}
