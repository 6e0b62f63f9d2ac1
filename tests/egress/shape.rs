//! Shaping: what is sent too fast is delayed, and nothing of anybody else's is touched.

use std::ops::RangeInclusive;

use egress::{
    BitsPerSecond, CgroupId, Class, ClassLimits, Firewall, Kernel, Mode, Policy, ServerPort,
};

use crate::{
    bed::{Agent, HOST4, HOST6, Link, Slice},
    bridges::{Bed, server},
    limits::limited,
    outside::loaded,
};

const BYTES: u64 = 4_000_000;
const RATE: BitsPerSecond = BitsPerSecond(16_000_000);
/// Two megabytes a second: two seconds, less a burst, with room for a busy machine.
const TAKES: RangeInclusive<u64> = 1_700..=4_000;
/// A policer lets more than a second's worth through at once, and has the rest wait.
const POLICED: u64 = 600;
/// Without any limit it is some hundredths of a second.
const FREE: u64 = 500;

/// `limited` is shaped, `slow` too and to half of it; `free` is not.
fn policy() -> Policy {
    let shaped = |rate| ClassLimits {
        bandwidth: Some(rate),
        shape: true,
        bytes_per_day: Some(1),
        ..ClassLimits::default()
    };
    let mut policy = limited(shaped(RATE));
    for (name, limits) in [
        ("slow", shaped(BitsPerSecond(RATE.0 / 2))),
        ("free", ClassLimits::default()),
    ] {
        let class = Class {
            limits,
            ..Class::standard()
        };
        policy.classes.insert(name.parse().unwrap(), class);
    }
    policy
}

fn qdiscs(link: &Link) -> String {
    link.node.exec("tc", &["qdisc", "show"])
}

fn devices(link: &Link) -> Vec<String> {
    let all = link.node.ip("-o link show");
    let name = |line: &str| line.split([':', '@']).nth(1).unwrap().trim().to_owned();
    all.lines()
        .map(name)
        .filter(|name| name.starts_with("hw"))
        .collect()
}

fn dropped(link: &Link) -> u64 {
    let said = link.node.exec("tc", &["-s", "qdisc", "show"]);
    let numbers = said.split("(dropped ").skip(1);
    numbers
        .map(|rest| rest.split(',').next().unwrap().parse::<u64>().unwrap())
        .sum()
}

struct Node {
    link: Link,
    _host: Agent,
    alice: Agent,
    bob: Agent,
    /// Last, so that nobody is in it any more.
    _slice: Slice,
}

impl Node {
    fn new() -> Self {
        let (link, slice) = (Link::new(), Slice::new());
        let mut host = Agent::new(&link.host, None);
        assert_eq!(host.tell("traffic :: 80"), "ok");
        let alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
        let bob = slice.cgroup("system-x.slice/x@1.service");
        let bob = Agent::new(&link.node, Some(&bob));
        Self {
            link,
            _host: host,
            alice,
            bob,
            _slice: slice,
        }
    }
}

#[test]
fn what_a_shaped_server_sends_is_delayed_and_not_dropped() {
    let mut node = Node::new();
    let before = qdiscs(&node.link);
    let servers = [
        node.alice.admitted(1, "limited"),
        node.bob.admitted(70_000, "slow"),
    ];
    let mut nft = loaded(&node.link.node, &policy(), &[], &servers);
    assert_eq!(nft.verify().unwrap(), []);
    assert_eq!(nft.lacks(), None);
    for to in [HOST4, HOST6] {
        let took = node.alice.moves("take", to, BYTES);
        assert!(TAKES.contains(&took), "{to}: {took} ms");
        let took = node.bob.moves("take", to, BYTES / 2);
        assert!(TAKES.contains(&took), "a half of the rate, {to}: {took} ms");
    }
    // A policer of this rate has TCP send hundreds of segments again.
    let again = node.alice.retransmitted();
    assert!(again < 20, "{again} segments were sent again");
    assert_eq!(dropped(&node.link), 0);
    let bytes: Vec<_> = nft.traffic().unwrap();
    assert!(
        bytes.iter().any(|t| t.number == 1 && t.bytes > 2 * BYTES),
        "{bytes:?}"
    );

    // A class without limits, admitted later, and a change of class both ways.
    nft.reclass(&[(servers[1].cgroup, "free".parse().unwrap())])
        .unwrap();
    assert_eq!(nft.verify().unwrap(), []);
    assert!(node.bob.moves("take", HOST4, BYTES) < FREE);
    nft.reclass(&[(servers[1].cgroup, "limited".parse().unwrap())])
        .unwrap();
    assert_eq!(nft.verify().unwrap(), []);
    let took = node.bob.moves("take", HOST6, BYTES);
    assert!(TAKES.contains(&took), "{took} ms");

    // The daemon ends, and the next one takes over what stands.
    drop(nft);
    let took = node.alice.moves("take", HOST4, BYTES);
    assert!(TAKES.contains(&took), "without a daemon: {took} ms");
    let standing = devices(&node.link);
    assert_eq!(standing.len(), 2, "{standing:?}");
    let mut nft = loaded(&node.link.node, &policy(), &[], &servers[..1]);
    assert_eq!(nft.verify().unwrap(), []);
    assert_eq!(devices(&node.link), standing);
    let took = node.alice.moves("take", HOST6, BYTES);
    assert!(TAKES.contains(&took), "{took} ms");

    nft.remove().unwrap();
    assert_eq!(qdiscs(&node.link), before);
    assert_eq!(devices(&node.link), [""; 0]);
    assert_eq!(node.link.node.exec("nft", &["list", "ruleset"]), "");
    assert!(node.alice.moves("take", HOST4, BYTES) < FREE);
}

#[test]
fn an_admins_queue_stays_and_others_on_the_node_are_not_slowed() {
    let mut node = Node::new();
    let mut hub = Agent::new(&node.link.node, None);
    let admins = [
        "qdisc", "add", "dev", "node0", "root", "handle", "77:", "tbf",
    ];
    let rate = ["rate", "400mbit", "burst", "256k", "latency", "100ms"];
    node.link
        .node
        .exec("tc", &[&admins[..], &rate[..]].concat());
    let before = qdiscs(&node.link);
    let servers = [
        node.alice.admitted(1, "limited"),
        node.bob.admitted(2, "free"),
    ];
    let mut nft = loaded(&node.link.node, &policy(), &[], &servers);
    let now = qdiscs(&node.link);
    assert!(now.contains("qdisc tbf 77: dev node0 root"), "{now}");
    assert!(now.contains("qdisc htb 4857: dev hwshape"), "{now}");
    let shaped = std::thread::scope(|scope| {
        let shaped = scope.spawn(|| node.alice.moves("take", HOST4, BYTES));
        for other in [&mut node.bob, &mut hub] {
            let took = other.moves("take", HOST4, BYTES);
            assert!(took < FREE, "beside a shaped server: {took} ms");
        }
        shaped.join().unwrap()
    });
    assert!(TAKES.contains(&shaped), "{shaped} ms");

    // No class is shaped any more, and then none of our own is there.
    let mut unshaped = policy();
    for class in unshaped.classes.values_mut() {
        class.limits.shape = false;
    }
    nft.load(&unshaped, &[], &servers).unwrap();
    assert_eq!(nft.verify().unwrap(), []);
    assert_eq!(qdiscs(&node.link), before);
    assert!(node.alice.moves("take", HOST4, BYTES) > POLICED, "policed");
    nft.load(&policy(), &[], &servers).unwrap();
    assert_eq!(devices(&node.link).len(), 2);
    let observing = Policy {
        mode: Mode::Observe,
        ..policy()
    };
    nft.load(&observing, &[], &servers).unwrap();
    assert_eq!(nft.verify().unwrap(), []);
    assert_eq!(qdiscs(&node.link), before, "observing changes nothing");
    assert!(node.alice.moves("take", HOST4, BYTES) < FREE);
}

#[test]
fn interfaces_that_come_and_go_are_followed_and_others_are_policed() {
    let mut node = Node::new();
    let servers = [node.alice.admitted(1, "limited")];
    node.link.node.ip("route del default");
    node.link.node.ip("-6 route del default");
    let mut nft = loaded(&node.link.node, &policy(), &[], &servers);
    let lack = nft.lacks().unwrap();
    assert!(lack.contains("no interface has a default route"), "{lack}");
    assert!(!nft.follow_uplinks().unwrap(), "nothing is new");
    assert_eq!(devices(&node.link), [""; 0]);
    assert!(node.alice.moves("take", HOST4, BYTES) > POLICED, "policed");

    node.link.node.ip(&format!("route add default via {HOST4}"));
    assert!(nft.follow_uplinks().unwrap());
    assert_eq!(nft.lacks(), None);
    assert!(!nft.follow_uplinks().unwrap(), "nothing is new");
    let found = devices(&node.link);
    assert_eq!(found.len(), 2, "{found:?}");
    let before = node.alice.retransmitted();
    let took = node.alice.moves("take", HOST4, BYTES);
    assert!(TAKES.contains(&took), "{took} ms");
    assert!(node.alice.retransmitted() - before < 20);

    // Another takes a device away, or switches it off.
    for harm in [
        format!("link del {}", found[0]),
        format!("link set {} down", found[1]),
    ] {
        node.link.node.ip(&harm);
        assert!(nft.follow_uplinks().unwrap(), "{harm}");
        assert_eq!(nft.verify().unwrap(), []);
        let took = node.alice.moves("take", HOST4, BYTES);
        assert!(TAKES.contains(&took), "{harm}: {took} ms");
    }
    node.link.node.ip("link del node0");
    assert!(nft.follow_uplinks().unwrap());
    assert_eq!(nft.verify().unwrap(), []);
    assert_eq!(devices(&node.link), [""; 0]);
}

#[test]
fn what_a_shaped_container_sends_is_delayed_and_what_it_receives_policed() {
    let bed = Bed::new(2);
    let mut host = Agent::new(&bed.link.host, None);
    assert_eq!(host.tell("traffic :: 80"), "ok");
    let (mut alice, mut bob) = (bed.agent(0), bed.agent(1));
    let mut bridges = bed.bridges();
    let mut nft = bed.load(&policy(), &bridges);
    for (number, agent, class) in [(1, &alice, "limited"), (2, &bob, "free")] {
        let port = bed.port_of(agent);
        let server = ServerPort {
            class: class.parse().unwrap(),
            cgroup: CgroupId(number.into()),
            ..server(number, number as usize - 1)
        };
        bridges.servers.insert(port, server);
        bridges.on_guarded.insert(port);
        nft.set_bridges(&bridges).unwrap();
        assert_eq!(nft.verify().unwrap(), []);
    }
    for to in [HOST4, HOST6] {
        let took = alice.moves("take", to, BYTES);
        assert!(TAKES.contains(&took), "{to}: {took} ms");
        assert!(bob.moves("take", to, BYTES) < FREE);
    }
    let again = alice.retransmitted();
    assert!(again < 20, "{again} segments were sent again");
    assert_eq!(dropped(&bed.link), 0);
    assert!(alice.moves("give", HOST4, BYTES) > POLICED, "policed");
    let bytes: u64 = nft.traffic().unwrap().iter().map(|t| t.bytes).sum();
    assert!(bytes > 3 * BYTES, "{bytes}");

    // Where there is no detour it is policed.
    bed.link.node.ip("route del default");
    bed.link.node.ip("-6 route del default");
    assert!(nft.follow_uplinks().unwrap());
    assert_eq!(nft.verify().unwrap(), []);
    assert!(alice.moves("take", HOST4, BYTES) > POLICED, "policed");
    assert!(alice.retransmitted() > again);
    nft.remove().unwrap();
    assert_eq!(bed.link.node.exec("nft", &["list", "ruleset"]), "");
}

#[test]
fn trying_whether_the_kernel_can_leaves_nothing_behind() {
    let link = Link::new();
    let before = qdiscs(&link);
    link.node
        .within(|| Kernel::open().unwrap().shaping().unwrap());
    assert_eq!(qdiscs(&link), before);
    assert_eq!(link.node.exec("nft", &["list", "ruleset"]), "");
}
