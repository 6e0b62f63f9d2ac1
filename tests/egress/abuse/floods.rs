//! Floods, connections without number and false addresses: held, counted and told.

use std::time::{Duration, Instant};

use egress::{
    Abuse, AbuseLimits, Firewall, Kernel, Mode, Policy, Rate, Refused, RefusedBy, UidRule, UidRules,
};

use super::{a_second, contained, open_policy, told, world};
use crate::bed::{Agent, HOST4, HOST6, Link, Slice};
use crate::bridges::{Bed, address, server};
use crate::outside::{REFUSED, loaded};

/// The limit of packets in these tests, and how many are sent at once.
const LIMIT: u32 = 200;
const SENT: u64 = 5_000;

fn held_at(mode: Mode) -> Policy {
    let mut policy = open_policy(mode);
    policy.abuse.packets = a_second(LIMIT);
    policy
}

/// Has somebody flood a host, and another send a few packets beside; checks that the first is held
/// and the second is not.
fn one_floods(
    link: &Link,
    (alice, bob): (&mut Agent, &mut Agent),
    (nft, policy): (&mut Kernel, &Policy),
    number: u32,
) {
    for to in [HOST4, HOST6] {
        let mut host = Agent::new(&link.host, None);
        host.tell(&format!("sink {to} 443"));
        // Until their neighbours are found, most of what is sent at once is lost.
        let mut before: u64 = 0;
        for sender in [&mut *alice, &mut *bob] {
            let known = before;
            for _ in 0..50 {
                sender.tell(&format!("flood {to} 443 1"));
                before = host.tell("sunk").parse().unwrap();
                if before > known {
                    break;
                }
            }
            assert!(before > known, "{to} is not reached");
        }
        let mut took = Duration::ZERO;
        let told = told(&link.node, policy.log_group, || {
            let begun = Instant::now();
            alice.tell(&format!("flood {to} 443 {SENT}"));
            took = begun.elapsed();
            bob.tell(&format!("flood {to} 443 100"));
        });
        // Ten a minute are told, and the first of both floods were.
        if to == HOST4 {
            assert!(told.contains(&RefusedBy::Abuse(Abuse::Packets)), "{told:?}");
        }
        let arrived: u64 = host.tell("sunk").parse().unwrap();
        let arrived = arrived - before;
        let refused = nft.refused().unwrap();
        // Containers are refused some of what they send to find neighbours, which is no flood.
        let floods: Vec<&Refused> = refused.iter().filter(|one| one.flooding > 0).collect();
        let [refused] = floods[..] else {
            panic!("{refused:?}");
        };
        assert_eq!(refused.number, Some(number));
        assert!(refused.packets >= refused.flooding, "{refused:?}");
        assert_eq!((refused.connections, refused.spoofed), (0, 0));
        match policy.mode {
            Mode::Enforce => {
                let limit = u64::from(LIMIT);
                let most = limit + limit * (took.as_secs() + 1) + 100;
                assert!((100..=most).contains(&arrived), "{arrived} in {took:?}");
                assert_eq!(refused.flooding, SENT + 100 - arrived);
            }
            Mode::Observe => {
                assert!(refused.flooding > 1_000, "{refused:?}");
                // The receiver may have lost some, and nobody else has.
                assert!(arrived > 1_000, "{arrived}");
            }
        }
        assert_eq!(nft.verify().unwrap(), []);
    }
}

#[test]
fn a_server_s_flood_is_held_at_its_limit_and_its_neighbours_are_not() {
    for mode in [Mode::Enforce, Mode::Observe] {
        let (link, slice) = (Link::new(), Slice::new());
        let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
        let unit = slice.cgroup("system-x.slice/x@1.service");
        let mut bob = Agent::new(&link.node, Some(&unit));
        let policy = held_at(mode);
        let servers = [alice.admitted(1, "open"), bob.admitted(2, "open")];
        let mut nft = loaded(&link.node, &policy, &[], &servers);
        one_floods(&link, (&mut alice, &mut bob), (&mut nft, &policy), 1);
        // Whichever level its cgroup is at.
        nft.load(&policy, &[], &servers).unwrap();
        one_floods(&link, (&mut bob, &mut alice), (&mut nft, &policy), 2);
    }
}

/// Whether anybody reads them or not: what is asked for carries data out.
#[test]
fn questions_to_a_resolver_are_held_at_their_limit_and_a_neighbour_s_are_not() {
    let (link, slice) = (Link::new(), Slice::new());
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let mut bob = Agent::new(&link.node, Some(&slice.cgroup("bob.service")));
    let mut policy = crate::outside::policy();
    policy.abuse.questions = a_second(20);
    let servers = [alice.admitted(1, "standard"), bob.admitted(2, "standard")];
    let mut nft = loaded(&link.node, &policy, &[], &servers);
    for (to, packets) in [(HOST4, 3_000), (HOST6, 3_000)] {
        let mut host = Agent::new(&link.host, None);
        host.tell(&format!("sink {to} 53"));
        // Until their neighbours are found, most of what is sent at once is lost.
        for _ in 0..50 {
            bob.tell(&format!("flood {to} 53 1"));
            if host.tell("sunk") != "0" {
                break;
            }
        }
        nft.refused().unwrap();
        let before: u64 = host.tell("sunk").parse().unwrap();
        let begun = Instant::now();
        alice.tell(&format!("flood {to} 53 {packets}"));
        let took = begun.elapsed().as_secs() + 1;
        let arrived = host.tell("sunk").parse::<u64>().unwrap() - before;
        let most = 200 + 20 * took;
        assert!((1..=most).contains(&arrived), "{arrived} in {took} s");
        bob.tell(&format!("flood {to} 53 50"));
        let bobs = host.tell("sunk").parse::<u64>().unwrap() - before - arrived;
        assert_eq!(bobs, 50, "a neighbour's");
        let refused = nft.refused().unwrap();
        let asked = refused.iter().filter(|one| one.questions > 0);
        let asked: Vec<_> = asked.map(|one| (one.number, one.questions)).collect();
        assert_eq!(asked, [(Some(1), packets - arrived)]);
    }
    assert_eq!(nft.verify().unwrap(), []);
}

#[test]
fn a_container_s_flood_is_held_at_its_limit_and_its_neighbours_are_not() {
    for mode in [Mode::Enforce, Mode::Observe] {
        let bed = Bed::new(2);
        let policy = held_at(mode);
        let (mut agents, mut nft) = contained(&bed, 2, &policy);
        let [alice, bob] = &mut agents[..] else {
            panic!("two containers");
        };
        one_floods(&bed.link, (alice, bob), (&mut nft, &policy), 1);
    }
}

#[test]
fn a_user_s_flood_outside_the_server_is_held_at_its_limit_and_others_are_not() {
    const ALICE: u32 = 71_001;
    for mode in [Mode::Enforce, Mode::Observe] {
        let (link, system) = (Link::new(), Slice::new());
        let cron = system.cgroup("cron.service");
        let mut alice = Agent::of(&link.node, Some(&cron), ALICE);
        let mut bob = Agent::of(&link.node, Some(&cron), ALICE + 1);
        let uid_rule = |uid: u32| UidRule {
            uid,
            class: "open".parse().unwrap(),
            number: UidRule::NUMBER_MIN + uid % 1000,
            slice: None,
            servers: Vec::new(),
        };
        let uid_rules = UidRules {
            by_uid: [ALICE, ALICE + 1].map(|uid| (uid, uid_rule(uid))).into(),
            ..UidRules::default()
        };
        let policy = held_at(mode);
        let mut nft = link.node.within(|| {
            let mut nft = Kernel::open().unwrap();
            nft.load_with_uid_rules(&policy, &[], &[], &uid_rules)
                .unwrap();
            nft
        });
        let number = uid_rule(ALICE).number;
        one_floods(&link, (&mut alice, &mut bob), (&mut nft, &policy), number);
    }
}

#[test]
fn connections_are_begun_no_faster_than_any_server_may() {
    let (link, slice) = (Link::new(), Slice::new());
    let _host = world(&link);
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let mut bob = Agent::new(&link.node, Some(&slice.cgroup("bob.service")));
    let mut policy = open_policy(Mode::Enforce);
    policy.abuse = AbuseLimits {
        connections: Some(Rate {
            count: 2.try_into().unwrap(),
            seconds: 3600,
        }),
        packets: None,
        questions: None,
    };
    let servers = [alice.admitted(1, "open"), bob.admitted(2, "open")];
    let mut nft = loaded(&link.node, &policy, &[], &servers);
    assert_eq!(nft.verify().unwrap(), []);
    let told = told(&link.node, policy.log_group, || {
        let answers: Vec<_> = (0..25).map(|_| alice.reach("tcp", HOST4, 443)).collect();
        let good = answers.iter().filter(|answer| *answer == "ok").count();
        // Twenty at once, and what comes in while they are tried.
        assert!((20..=21).contains(&good), "{answers:?}");
        assert_eq!(answers.last().unwrap(), REFUSED);
        assert_eq!(bob.reach("tcp", HOST6, 443), "ok");
    });
    assert!(
        told.contains(&RefusedBy::Abuse(Abuse::Connections)),
        "{told:?}"
    );
    let refused = nft.refused().unwrap();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!((4..=5).contains(&refused[0].connections), "{refused:?}");
}

#[test]
fn packets_with_a_false_source_are_counted_under_their_sender() {
    let bed = Bed::new(2);
    let mut alice = bed.agent(0);
    let mut bridges = bed.bridges();
    let port = bed.port_of(&alice);
    bridges.servers.insert(port, server(1, 0));
    bridges.on_guarded.insert(port);
    let mut nft = bed.load(&open_policy(Mode::Enforce), &bridges);
    let ((alice4, alice6), (bob4, bob6)) = (address(0), address(1));
    for (from, to) in [
        (&bob4, HOST4),
        (&bob6, HOST6),
        (&bob4, HOST4),
        (&alice4, HOST4),
        (&alice6, HOST6),
    ] {
        let order = format!("spoof eth0 02:00:00:00:80:01 {from} {to} 53");
        assert_eq!(alice.tell(&order), "ok", "{order}");
    }
    let refused = Refused {
        number: Some(1),
        packets: 3,
        spoofed: 3,
        ..Refused::default()
    };
    // The other container is nobody's, and is refused what IPv6 may send by itself.
    let mut all = nft.refused().unwrap();
    all.retain(|one| one.number.is_some());
    assert_eq!(all, [refused]);
    assert_eq!(nft.verify().unwrap(), []);
}
