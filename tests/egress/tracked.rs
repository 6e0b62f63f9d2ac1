//! Connection tracking: begun by nobody's rules here where others do without, and filled by no one sender.

use egress::{Admitted, Firewall, Kernel, Mode, Policy, Refused, Tracking, UidRule, UidRules};
use nft::conntrack::{Connection, connections};

use crate::{
    bed::{Agent, HOST4, HOST6, Link, NODE4, NODE6, Netns, Slice},
    outside::{REFUSED, loaded, policy},
};

fn untracked(mode: Mode) -> Policy {
    Policy {
        mode,
        tracking: Tracking {
            by_others: false,
            most: 400.try_into().ok(),
        },
        ..policy()
    }
}

fn entries(node: &Netns) -> Vec<Connection> {
    node.within(|| connections(|_| true).unwrap())
}

/// All that a server may do on its own and with the hub and a host outside, over both families.
fn speaks(alice: &mut Agent, whom: &[(&str, u16)]) {
    for (address, port) in whom {
        assert_eq!(alice.reach("tcp", address, *port), "ok", "{address} {port}");
    }
}

#[test]
fn a_node_whose_rules_track_nothing_tracks_nothing_with_ours_in_either_mode() {
    for mode in [Mode::Observe, Mode::Enforce] {
        let (link, slice) = (Link::new(), Slice::new());
        let mut host = Agent::new(&link.host, None);
        let mut hub = Agent::new(&link.node, None);
        let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
        let mut pending = Agent::new(&link.node, Some(&slice.cgroup("new.service")));
        host.listen("tcp", "::", 80);
        host.listen("udp", "::", 53);
        hub.listen("tcp", "::", 8081);
        alice.listen("tcp", "::", 9001);
        alice.listen("udp", "::", 9001);
        pending.listen("tcp", "::", 9002);
        let mut nft = loaded(
            &link.node,
            &untracked(mode),
            &[slice.id()],
            &[alice.admitted(1, "standard")],
        );
        assert_eq!(nft.verify().unwrap(), []);
        for address in ["127.0.0.1", "::1", NODE4, NODE6] {
            speaks(&mut alice, &[(address, 9001), (address, 8081)]);
            assert_eq!(alice.reach("udp", address, 9001), "ok");
            assert_eq!(alice.tell(&format!("ping {address}")), "ok");
            assert_eq!(hub.reach("tcp", address, 9001), "ok");
            assert_eq!(hub.reach("udp", address, 9001), "ok", "is answered");
            assert_eq!(hub.reach("tcp", address, 9002), "ok", "is answered");
            assert_eq!(pending.reach("tcp", address, 8081), "ok");
            // Refused, or not: it is told from what is allowed without a look at any flow.
            let (own, other) = match mode {
                Mode::Observe => ("ok", "ok"),
                Mode::Enforce => (REFUSED, REFUSED),
            };
            assert_eq!(pending.reach("tcp", address, 9002), own);
            assert_eq!(alice.reach("tcp", address, 9002), other);
            assert_eq!(pending.reach("tcp", address, 9001), other);
        }
        speaks(&mut alice, &[(HOST4, 80), (HOST6, 80)]);
        assert_eq!(alice.reach("udp", HOST4, 53), "ok");
        assert_eq!(entries(&link.node), [], "{mode:?}");
        let all = nft.refused().unwrap();
        assert!(all.iter().any(|one| one.number == Some(1)), "{all:?}");
    }
}

#[test]
fn answers_pass_to_a_proxy_elsewhere_and_nothing_begins_where_nothing_is_tracked() {
    let (link, slice) = (Link::new(), Slice::new());
    let mut proxy = Agent::new(&link.host, None);
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    proxy.listen("tcp", "::", 8080);
    alice.listen("tcp", "::", 8888);
    let mut policy = untracked(Mode::Enforce);
    policy.proxies = vec![format!("{HOST4}/32").parse().unwrap()];
    let _nft = loaded(&link.node, &policy, &[], &[alice.admitted(1, "nothing")]);
    assert_eq!(proxy.reach("tcp", NODE4, 8888), "ok");
    assert_ne!(
        proxy.reach("tcp", NODE6, 8888),
        "ok",
        "no proxy by this address"
    );
    assert_eq!(alice.reach("tcp", HOST4, 8080), REFUSED);
    // It cannot take the port of its own listener to seem an answer: the first packet is judged.
    assert_eq!(
        alice.tell(&format!("reach_from 8889 {HOST4} 8080")),
        REFUSED
    );
    assert_eq!(entries(&link.node), []);
}

/// What was an answer is one to whoever asked, at the port that asked, by the same protocol.
#[test]
fn a_datagram_is_an_answer_to_whoever_asked_and_to_no_other_where_nothing_is_tracked() {
    let (link, slice) = (Link::new(), Slice::new());
    let agent = |path: &str| Agent::new(&link.node, Some(&slice.cgroup(path)));
    let (mut alice, mut bob) = (
        agent("alice.service"),
        agent("system-x.slice/bob@1.service"),
    );
    let mut hub = Agent::new(&link.node, None);
    let mut other = Agent::new(&link.node, None);
    hub.listen("udp", "127.0.0.53", 53);
    hub.listen("tcp", "127.0.0.1", 7000);
    assert_eq!(other.tell("sink 127.0.0.1 7001"), "ok");
    assert_eq!(alice.tell("sink 127.0.0.1 9001"), "ok");
    let mut policy = untracked(Mode::Enforce);
    policy.resolvers = vec!["127.0.0.53".parse().unwrap()];
    let servers = [alice.admitted(1, "standard"), bob.admitted(2, "standard")];
    let mut nft = loaded(&link.node, &policy, &[slice.id()], &servers);
    assert_eq!(nft.verify().unwrap(), []);

    let send = |agent: &mut Agent, from: u16, to: u16| {
        agent.tell(&format!("send_from 127.0.0.1 {from} 127.0.0.1 {to}"));
    };
    send(&mut alice, 9001, 7001);
    assert_eq!(other.tell("sunk"), "0", "did not ask");
    send(&mut hub, 7000, 9001);
    assert_eq!(alice.tell("sunk"), "1");
    assert_eq!(hub.tell("sink 127.0.0.1 7000"), "ok");
    for count in ["1", "2"] {
        send(&mut alice, 9001, 7000);
        assert_eq!(hub.tell("sunk"), count, "did");
    }
    for (from, to) in [(9002, 7000), (9001, 7001)] {
        send(&mut alice, from, to);
    }
    for to in [7000, 9001] {
        send(&mut bob, 9003, to);
    }
    // What another server sends in vain may not be answered either.
    send(&mut alice, 9001, 9003);
    assert_eq!(
        (hub.tell("sunk"), other.tell("sunk")),
        ("2".into(), "0".into())
    );
    let by_tcp = alice.tell("reach_from 9001 127.0.0.1 7000");
    assert_eq!(by_tcp, REFUSED, "not by another protocol");

    // A resolver's answer makes no listener of who asked.
    let ask = "ask_from 9055 127.0.0.53 53";
    assert_eq!(alice.tell(ask), "ok");
    nft.reclass(&[(servers[0].cgroup, "nothing".parse().unwrap())])
        .unwrap();
    assert_ne!(alice.tell(ask), "ok");
    assert_eq!(entries(&link.node), []);
}

#[test]
fn what_another_starts_to_translate_is_judged_by_where_it_goes_before_that_is_known() {
    let (link, slice) = (Link::new(), Slice::new());
    let mut host = Agent::new(&link.host, None);
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    for port in [80, 5432] {
        host.listen("tcp", "::", port);
    }
    let node = &link.node;
    let mut nft = loaded(
        node,
        &untracked(Mode::Enforce),
        &[],
        &[alice.admitted(1, "standard")],
    );
    let tracking = |nft: &mut Kernel| node.within(|| nft.tracking().by_others);
    assert!(!tracking(&mut nft));
    for rule in [
        "add table ip docker",
        "add chain ip docker out { type nat hook output priority -100 ; }",
        &format!("add rule ip docker out tcp dport 5432 dnat to {HOST4}:5432"),
        &format!("add rule ip docker out tcp dport 8000 dnat to {HOST4}:80"),
    ] {
        node.exec("nft", &[rule]);
    }
    assert_eq!(
        alice.reach("tcp", NODE4, 5432),
        REFUSED,
        "a database outside"
    );
    assert_eq!(alice.reach("tcp", NODE4, 8000), "ok", "http outside");
    assert!(tracking(&mut nft), "seen at once");
    let policy = Policy {
        tracking: Tracking::default(),
        ..untracked(Mode::Enforce)
    };
    node.within(|| {
        nft.load(&policy, &[], &[alice.admitted(1, "standard")])
            .unwrap()
    });
    assert_eq!(alice.reach("tcp", NODE4, 5432), REFUSED);
    assert_eq!(alice.reach("tcp", NODE4, 8000), "ok");
    assert!(tracking(&mut nft), "and not forgotten");
}

#[test]
fn who_else_has_connections_tracked_is_found_by_trying() {
    let fresh = |rules: &[&str]| {
        let node = Netns::new();
        for rule in rules {
            node.exec("nft", &[rule]);
        }
        node.within(|| {
            let mut nft = Kernel::open().unwrap().owning();
            nft.probe().unwrap();
            let first = nft.tracking();
            assert_eq!(nft.tracking(), first);
            assert!(
                first.most.is_some_and(|most| most.get() >= 1024),
                "{first:?}"
            );
            let mut policy = policy();
            policy.tracking = first;
            nft.load(&policy, &[], &[]).unwrap();
            assert_eq!(nft.tracking(), first, "with rules of ours");
            // Another daemon, or this one started anew, finds the rules there.
            drop(nft);
            let mut next = Kernel::open().unwrap().owning();
            next.probe().unwrap();
            let mut found = next.tracking();
            for _ in 0..3 {
                policy.tracking = found;
                next.load(&policy, &[], &[]).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(300));
                found = next.tracking();
            }
            assert_eq!(found, first, "after another start");
            first.by_others
        })
    };
    let base = "add chain ip filter out { type filter hook output priority 0 ; }";
    assert!(!fresh(&[]));
    assert!(!fresh(&["add table ip filter", base]));
    let state = "add rule ip filter out ct state invalid counter";
    assert!(fresh(&["add table ip filter", base, state]));
    let nat = "add chain ip6 nat out { type nat hook output priority -100 ; }";
    assert!(fresh(&["add table ip6 nat", nat]));
    // A rule that drops what tells is no proof.
    let lost = "add rule ip filter out oif lo drop";
    assert!(fresh(&["add table ip filter", base, lost]));
}

/// 400 entries a sender: of TCP 100 at once and 50 a minute, of others 50 and 75.
fn capped(mode: Mode) -> Policy {
    let mut policy = untracked(mode);
    policy.tracking.by_others = true;
    let standard = policy.classes.get_mut(&"standard".parse().unwrap());
    standard.unwrap().services.push(egress::Service::udp(4000));
    policy
}

struct Crowd {
    link: Link,
    host: Agent,
    hub: Agent,
    alice: Agent,
    bob: Agent,
    job: Agent,
    pending: Agent,
    slice: Slice,
}

impl Crowd {
    fn new() -> Self {
        let (link, slice) = (Link::new(), Slice::new());
        let agent = |path: &str| Agent::new(&link.node, Some(&slice.cgroup(path)));
        let mut crowd = Crowd {
            host: Agent::new(&link.host, None),
            hub: Agent::new(&link.node, None),
            alice: agent("alice.service"),
            bob: agent("system-x.slice/bob@1.service"),
            pending: agent("new.service"),
            job: Agent::of(&link.node, None, 4242),
            link,
            slice,
        };
        for transport in ["tcp", "udp"] {
            crowd.alice.listen(transport, "::", 9001);
            crowd.bob.listen(transport, "::", 9002);
        }
        crowd.host.listen("tcp", "::", 80);
        crowd.host.listen("udp", HOST4, 4000);
        crowd.hub.listen("tcp", "::", 8081);
        crowd
    }

    fn load(&self, policy: &Policy) -> Kernel {
        let servers: [Admitted; 2] = [
            self.alice.admitted(1, "standard"),
            self.bob.admitted(2, "standard"),
        ];
        let mut nft = loaded(&self.link.node, policy, &[self.slice.id()], &servers);
        let rule = UidRule {
            uid: 4242,
            class: "standard".parse().unwrap(),
            number: UidRule::NUMBER_MIN,
            slice: None,
            servers: Vec::new(),
        };
        nft.set_uid_rules(&UidRules {
            by_uid: [(4242, rule)].into(),
            ..UidRules::default()
        })
        .unwrap();
        nft
    }
}

fn churn(agent: &mut Agent, transport: &str, address: &str, port: u16, count: u32) -> u32 {
    let answer = agent.tell(&format!("churn {transport} {address} {port} {count}"));
    answer.parse().unwrap_or_else(|_| panic!("{answer}"))
}

#[test]
fn one_sender_fills_so_much_of_the_table_of_connections_and_others_go_on() {
    let mut crowd = Crowd::new();
    let mut nft = crowd.load(&capped(Mode::Enforce));
    assert_eq!(nft.verify().unwrap(), []);
    let Crowd {
        link,
        alice,
        bob,
        hub,
        job,
        pending,
        ..
    } = &mut crowd;
    let mut made = Vec::new();
    for address in ["127.0.0.1", "127.0.0.2", "::1", NODE6, HOST4, HOST6] {
        let port = if [HOST4, HOST6].contains(&address) {
            80
        } else {
            9001
        };
        made.push(churn(alice, "tcp", address, port, 60));
    }
    // A hundred at once, and one about every second after that.
    let all: u32 = made.iter().sum();
    assert!((100..=115).contains(&all), "{made:?}");
    let made: Vec<u32> = [("127.0.0.1", 9001), ("::1", 9001), (HOST4, 4000)]
        .map(|(address, port)| churn(alice, "udp", address, port, 60))
        .into();
    let all: u32 = made.iter().sum();
    // Fewer, where the kernel has not seen yet that those have ended.
    assert!(all <= 65, "{made:?}");
    assert_eq!(alice.tell("ping 127.0.0.1"), "EPERM");
    assert_eq!(alice.reach("tcp", "127.0.0.1", 9001), REFUSED);
    let here = entries(&link.node).len();
    assert!(here <= 400, "{here} entries");

    for address in ["127.0.0.1", "::1", NODE4, NODE6] {
        speaks(bob, &[(address, 9002), (address, 8081)]);
        assert_eq!(bob.reach("udp", address, 9002), "ok");
        for (port, transport) in [(9001, "tcp"), (9002, "udp")] {
            assert_eq!(hub.reach(transport, address, port), "ok");
        }
    }
    speaks(bob, &[(HOST4, 80), (HOST6, 80)]);
    let by_udp = churn(bob, "udp", "127.0.0.1", 9002, 100);
    assert!((40..=65).contains(&by_udp), "{by_udp}");
    // Users outside their servers, and units that are not known yet, have a share of their own.
    let by_uid = churn(job, "tcp", "127.0.0.1", 8081, 200);
    assert!((100..=115).contains(&by_uid), "{by_uid}");
    let unknown = churn(pending, "tcp", "127.0.0.1", 8081, 200);
    assert!((100..=115).contains(&unknown), "{unknown}");
    let refused = nft.refused().unwrap();
    for number in [None, Some(1), Some(UidRule::NUMBER_MIN)] {
        let of = |one: &&Refused| one.number == number && one.entries > 0;
        assert!(refused.iter().find(of).is_some(), "{number:?}: {refused:?}");
    }
    assert_eq!(nft.verify().unwrap(), []);
}

#[test]
fn connections_held_open_are_bounded_and_a_flow_that_exists_goes_on() {
    let mut crowd = Crowd::new();
    let mut policy = capped(Mode::Enforce);
    policy.tracking.most = 480.try_into().ok();
    let _nft = crowd.load(&policy);
    let alice = &mut crowd.alice;
    let pause = || std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(alice.tell("keep tcp 127.0.0.1 9001"), "ok");
    assert_eq!(alice.tell("hold tcp 127.0.0.1 9001 100"), "100");
    // There is one more to begin each second, but not to hold.
    for _ in 0..2 {
        let held = alice.tell("hold tcp ::1 9001 30");
        assert_eq!(held, "119", "and the one that is kept");
        pause();
    }
    assert_eq!(
        churn(alice, "udp", "127.0.0.1", 9001, 5),
        0,
        "nor by datagrams"
    );
    for _ in 0..30 {
        assert_eq!(alice.tell("again"), "ok");
    }
    alice.tell("let_go");
    pause();
    assert_eq!(alice.tell("hold tcp 127.0.0.1 9001 2"), "2");
    assert_eq!(crowd.bob.tell("hold tcp ::1 9002 10"), "10");
    // A stream of datagrams without an answer is one entry, however many there are.
    let bob = &mut crowd.bob;
    assert_eq!(bob.tell("sink 127.0.0.1 9100"), "ok");
    bob.tell("flood 127.0.0.1 9100 200");
    assert_eq!(bob.tell("sunk"), "200");
}

#[test]
fn while_observing_all_is_let_through_and_what_would_be_refused_is_counted() {
    let mut crowd = Crowd::new();
    let mut nft = crowd.load(&capped(Mode::Observe));
    assert_eq!(nft.verify().unwrap(), []);
    assert_eq!(churn(&mut crowd.alice, "tcp", "127.0.0.1", 9001, 300), 300);
    assert_eq!(churn(&mut crowd.alice, "udp", "::1", 9001, 100), 100);
    let refused = nft.refused().unwrap();
    let alice = refused.iter().find(|one| one.number == Some(1));
    let entries = alice.map_or(0, |one| one.entries);
    // A hundred and fifty of four hundred, or fewer: the kernel sees after a while that a connection has ended.
    assert!((235..=340).contains(&entries), "{refused:?}");
}

/// With the part that the daemon gives out on this node: 262,144 entries are usual, a part is 65,536 of them.
#[test]
fn a_flood_to_oneself_leaves_most_of_the_table_to_others() {
    let mut crowd = Crowd::new();
    let mut policy = capped(Mode::Enforce);
    policy.tracking.most = 65_536.try_into().ok();
    let _nft = crowd.load(&policy);
    let alice = &mut crowd.alice;
    let begun = std::time::Instant::now();
    let mut made = 0;
    for host in 1..=4 {
        made += churn(alice, "tcp", &format!("127.0.0.{host}"), 9001, 10_000);
    }
    let later = u32::try_from(begun.elapsed().as_secs() + 1).unwrap() * 8192 / 60;
    assert!(made >= 16_384 && made <= 16_384 + later, "{made}");
    let here = entries(&crowd.link.node).len();
    assert!(here <= 20_000 + later as usize, "{here} entries");
    assert_eq!(crowd.bob.reach("tcp", "127.0.0.1", 9002), "ok");
}
