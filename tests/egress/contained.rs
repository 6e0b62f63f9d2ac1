//! Limits of containers: the same as units have, both ways, and each for itself.

use egress::{
    BitsPerSecond, Bridges, Class, ClassLimits, Firewall, Kernel, Mode, Policy, ServerPort,
};

use crate::{
    bed::{Agent, HOST4, HOST6},
    bridges::{Bed, address, server},
    limits::{limited, rate},
    outside::REFUSED,
};

/// Two containers, the first with limits, and hosts to talk to.
struct Node {
    bed: Bed,
    host: Agent,
    alice: Agent,
    bob: Agent,
    bridges: Bridges,
}

impl Node {
    fn new() -> Self {
        let bed = Bed::new(2);
        let mut host = Agent::new(&bed.link.host, None);
        for port in [53, 443] {
            host.listen("tcp", "::", port);
        }
        assert_eq!(host.tell("traffic :: 80"), "ok");
        let (alice, bob) = (bed.agent(0), bed.agent(1));
        let mut bridges = bed.bridges();
        for (container, (agent, class)) in [(&alice, "limited"), (&bob, "free")].iter().enumerate()
        {
            let port = bed.port_of(agent);
            let number = u32::try_from(container).unwrap() + 1;
            let class = class.parse().unwrap();
            let server = ServerPort {
                class,
                ..server(number, container)
            };
            bridges.servers.insert(port, server);
            bridges.on_guarded.insert(port);
        }
        Self {
            bed,
            host,
            alice,
            bob,
            bridges,
        }
    }

    fn load(&self, limits: ClassLimits) -> Kernel {
        self.bed.load(&policy(limits), &self.bridges)
    }
}

/// Bob's class only counts.
fn policy(limits: ClassLimits) -> Policy {
    let mut policy = limited(limits);
    let free = Class {
        limits: ClassLimits {
            bytes_per_day: Some(1),
            ..ClassLimits::default()
        },
        ..Class::standard()
    };
    policy.classes.insert("free".parse().unwrap(), free);
    policy
}

#[test]
fn a_containers_bandwidth_is_bounded_both_ways_and_its_neighbours_is_not() {
    const BYTES: u64 = 3_000_000;
    let mut node = Node::new();
    let limits = ClassLimits {
        bandwidth: Some(BitsPerSecond(8_000_000)),
        bytes_per_day: Some(1),
        ..ClassLimits::default()
    };
    let mut nft = node.load(limits);
    for (what, to) in [("take", HOST4), ("give", HOST6)] {
        let limited = node.alice.moves(what, to, BYTES);
        let free = node.bob.moves(what, to, BYTES);
        // A megabyte a second, after what a full bucket lets through at once.
        assert!(limited > 1200, "{what}: {limited} ms");
        assert!(free * 2 < limited, "{what}: {free} ms and {limited} ms");
    }
    assert_eq!(nft.verify().unwrap(), []);
    let traffic = nft.traffic().unwrap();
    for number in [1, 2] {
        let had = traffic.iter().filter(|traffic| traffic.number == number);
        let bytes: u64 = had.map(|traffic| traffic.bytes).sum();
        // Sent and received, and what was sent and dropped besides.
        let enough = 2 * BYTES..=3 * BYTES;
        assert!(enough.contains(&bytes), "{traffic:?}");
    }

    let observing = Policy {
        mode: Mode::Observe,
        ..policy(limits)
    };
    nft.load(&observing, &[], &[]).unwrap();
    assert_eq!(nft.verify().unwrap(), []);
    for (what, to) in [("take", HOST6), ("give", HOST4)] {
        let free = node.alice.moves(what, to, BYTES);
        assert!(free < 1200, "observing: {free} ms");
    }
}

#[test]
fn what_a_container_gets_from_this_node_or_a_neighbour_is_not_counted() {
    let mut node = Node::new();
    let limits = ClassLimits {
        bandwidth: Some(BitsPerSecond(64_000)),
        bytes_per_day: Some(1),
        ..ClassLimits::default()
    };
    // Bob stands for the hub's container.
    let number = *node
        .bridges
        .servers
        .iter()
        .find(|(_, s)| s.number == 2)
        .unwrap()
        .0;
    node.bridges.servers.remove(&number);
    node.bridges.exempt.insert(number);
    let mut nft = node.load(limits);
    assert_eq!(node.alice.tell("traffic :: 80"), "ok");
    let mut here = Agent::new(&node.bed.link.node, None);
    let (alice4, alice6) = address(0);
    for to in [alice4, alice6] {
        for proxy in [&mut here, &mut node.bob] {
            for what in ["take", "give"] {
                let took = proxy.moves(what, &to, 1_000_000);
                assert!(took < 5_000, "{what} {to}: {took} ms");
            }
        }
    }
    let bytes: u64 = nft.traffic().unwrap().iter().map(|t| t.bytes).sum();
    assert!(bytes < 10_000, "{bytes}");
    assert_eq!(nft.verify().unwrap(), []);
}

#[test]
fn a_containers_connections_are_bounded_in_number_and_rate() {
    let mut node = Node::new();
    let limits = ClassLimits {
        connections: Some(3.try_into().unwrap()),
        ..ClassLimits::default()
    };
    let mut nft = node.load(limits);
    assert_eq!(node.alice.tell(&format!("hold tcp {HOST4} 443 5")), "3");
    assert_eq!(node.alice.reach("tcp", HOST6, 443), REFUSED);
    assert_eq!(node.bob.tell(&format!("hold tcp {HOST4} 443 5")), "5");
    node.alice.tell("let_go");
    // They come free when connection tracking has seen both sides close.
    let mut again = (0..50).map(|_| node.alice.tell(&format!("hold tcp {HOST6} 443 1")));
    assert!(again.any(|held| held == "2"));
    node.alice.tell("let_go");

    let limits = ClassLimits {
        new_connections: rate(5, 60),
        ..ClassLimits::default()
    };
    nft.load(&policy(limits), &[], &[]).unwrap();
    assert_eq!(nft.verify().unwrap(), []);
    let answers: Vec<String> = (0..8)
        .map(|_| node.alice.reach("tcp", HOST4, 443))
        .collect();
    let good = answers.iter().filter(|answer| *answer == "ok").count();
    assert!((5..=6).contains(&good), "{answers:?}");
    assert_eq!(node.alice.reach("tcp", HOST6, 443), REFUSED);
    assert_eq!(
        node.alice.reach("tcp", HOST4, 53),
        "ok",
        "names are asked for freely"
    );
    assert_eq!(node.bob.reach("tcp", HOST4, 443), "ok");
    assert_eq!(node.host.tell("hello"), "hello");
}
