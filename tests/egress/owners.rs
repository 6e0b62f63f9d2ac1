//! One owner a key: whatever is known of containers, units, uids and answers, the rest is in force.

use std::{collections::BTreeMap, net::IpAddr};

use egress::{
    Admitted, Bridges, CgroupId, Class, ClassName, Firewall, Kernel, Place, Policy, ServerPort,
    UidRule, UidRules, names::Answer,
};
use proptest::prelude::*;

use crate::{
    bed::{Agent, Link, Netns, Slice},
    bridges::{Bed, server},
    outside::{REFUSED, loaded, policy},
};

/// `standard`, `closed`, and `lab`, which reaches a name.
fn classes() -> Policy {
    let mut policy = policy();
    policy
        .classes
        .insert("closed".parse().unwrap(), Class::default());
    let lab = Class {
        names: vec!["*".parse().unwrap()],
        ..Class::standard()
    };
    policy.classes.insert("lab".parse().unwrap(), lab);
    policy
}

#[test]
fn a_container_in_a_servers_network_namespace_is_judged_as_the_server() {
    let bed = Bed::new(2);
    let (mut alice, mut bob) = (bed.agent(0), bed.agent(1));
    let mut host = Agent::new(&bed.link.host, None);
    host.listen("tcp", "::", 80);
    let mut bridges = bed.bridges();
    let ports = [bed.port_of(&alice), bed.port_of(&bob)];
    bridges.on_guarded.extend(ports);
    // As `docker run --network container:alice` makes it, once both are known.
    bridges.servers.insert(ports[0], server(1, 0));
    bridges.exempt.insert(ports[0]);
    // Two servers in one namespace: whoever comes first, the stricter class counts.
    let policy = classes();
    let class = |number, class: &str| ServerPort {
        class: class.parse().unwrap(),
        ..server(number, 1)
    };
    for order in [["closed", "standard"], ["standard", "closed"]] {
        bridges.servers.remove(&ports[1]);
        for (number, name) in order.into_iter().enumerate() {
            let one = ServerPort {
                cgroup: CgroupId(number as u64 + 70),
                ..class(number as u32 + 2, name)
            };
            let other = bridges.put(ports[1], one, &policy.classes);
            assert_eq!(other.is_some(), number == 1, "{order:?}");
            assert!(other.is_none_or(|other| other.class.as_str() == "standard"));
        }
        let mut nft = bed.load(&policy, &bridges);
        assert_eq!(nft.verify().unwrap(), []);
        assert_eq!(alice.reach("tcp", crate::bed::HOST4, 80), "ok");
        assert_eq!(alice.reach("tcp", crate::bed::METADATA4, 80), REFUSED);
        assert_eq!(bob.reach("tcp", crate::bed::HOST4, 80), REFUSED);
        bridges.exempt.clear();
        nft.set_bridges(&bridges).unwrap();
        bridges.exempt.insert(ports[0]);
        nft.set_bridges(&bridges).unwrap();
        assert_eq!(nft.verify().unwrap(), []);
    }
}

#[test]
fn a_server_that_cannot_be_judged_is_closed_and_the_others_are_not() {
    let (link, slice, elsewhere) = (Link::new(), Slice::new(), Slice::new());
    let mut host = Agent::new(&link.host, None);
    host.listen("tcp", "::", 80);
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    // In no guarded slice: without rules it would be open.
    let mut bob = Agent::new(&link.node, Some(&elsewhere.cgroup("bob.service")));
    let policy = classes();
    let mut servers = vec![
        alice.admitted(1, "standard"),
        bob.admitted(2, "gone"),
        Admitted {
            level: 7,
            ..alice.admitted(3, "standard")
        },
    ];
    let wrong = policy
        .sort_out(&mut servers, &mut UidRules::default())
        .unwrap();
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    let mut nft = loaded(&link.node, &policy, &[slice.id()], &servers);
    assert_eq!(nft.verify().unwrap(), []);
    let outside = crate::bed::HOST4;
    assert_eq!(alice.reach("tcp", outside, 80), "ok");
    assert_eq!(bob.reach("tcp", outside, 80), REFUSED);
    // Once its class is there again, so is what it reaches.
    nft.admit(&[bob.admitted(2, "standard")]).unwrap();
    assert_eq!(bob.reach("tcp", outside, 80), "ok");
    assert_eq!(nft.verify().unwrap(), []);
}

fn class() -> impl Strategy<Value = ClassName> {
    prop::sample::select(vec!["standard", "closed", "lab", "gone", "exempt"])
        .prop_map(|name| name.parse().unwrap_or_else(|_| ClassName::exempt()))
}

fn servers() -> impl Strategy<Value = Vec<Admitted>> {
    let one =
        (0u64..8, 1u8..5, class(), 0u32..6).prop_map(|(cgroup, level, class, number)| Admitted {
            cgroup: CgroupId(cgroup),
            level,
            class,
            number,
        });
    prop::collection::vec(one, 0..8)
}

fn bridges() -> impl Strategy<Value = Bridges> {
    let address = prop::sample::select(vec!["10.0.0.1", "10.0.0.2", "fd00::1"])
        .prop_map(|text| text.parse::<IpAddr>().unwrap());
    let addresses = prop::collection::btree_set(address, 0..3);
    let one = (1u32..4, 0u64..4, 1u32..4, class(), addresses).prop_map(
        |(port, cgroup, number, class, addresses)| {
            let cgroup = CgroupId(cgroup);
            let server = ServerPort {
                cgroup,
                number,
                class,
                addresses,
            };
            (port, server)
        },
    );
    let ports = || prop::collection::btree_set(1u32..5, 0..4);
    // Some are no interface's: too long, or nothing.
    let names = prop::collection::btree_set("[a-z]{0,17}", 0..4);
    (prop::collection::vec(one, 0..6), ports(), names, ports()).prop_map(
        |(servers, exempt, guarded, on_guarded)| {
            let mut bridges = Bridges {
                exempt,
                guarded,
                on_guarded,
                ..Bridges::default()
            };
            for (port, server) in servers {
                bridges.put(port, server, &classes().classes);
            }
            bridges
        },
    )
}

fn uid_rules() -> impl Strategy<Value = UidRules> {
    let place = || {
        (0u64..8, 1u8..5, 0u32..6).prop_map(|(cgroup, level, number)| Place {
            cgroup: CgroupId(cgroup),
            level,
            number,
        })
    };
    let one = (
        0u32..4,
        class(),
        0u32..3,
        prop::option::of(place()),
        prop::collection::vec(
            place().prop_filter("a level", |place| [2, 3].contains(&place.level)),
            0..3,
        ),
    )
        .prop_map(|(uid, class, number, slice, servers)| UidRule {
            uid,
            class,
            number: UidRule::NUMBER_MIN + number,
            slice,
            servers,
        });
    let services = || prop::collection::btree_set((0u64..6).prop_map(CgroupId), 0..3);
    (prop::collection::vec(one, 0..5), services(), services()).prop_map(
        |(rules, jobs, identity_services)| UidRules {
            by_uid: rules.into_iter().map(|rule| (rule.uid, rule)).collect(),
            jobs,
            identity_services,
            ..UidRules::default()
        },
    )
}

fn answers() -> impl Strategy<Value = Vec<Answer>> {
    let address = (any::<bool>(), 0u8..4, any::<u32>()).prop_map(|(v6, last, ttl)| {
        let address = match v6 {
            true => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()]),
            false => IpAddr::from([192, 0, 2, last]),
        };
        (address, ttl)
    });
    let addresses = prop::collection::vec(address, 0..6);
    let one = addresses.prop_map(|addresses| Answer {
        asked: Some("a.example".to_owned()),
        addresses,
    });
    prop::collection::vec(one, 0..4)
}

#[test]
fn nothing_that_is_known_of_users_makes_a_load_fail() {
    let netns = Netns::new();
    let policy = classes();
    netns.within(|| {
        let nft = std::cell::RefCell::new(Kernel::open().unwrap());
        let config = ProptestConfig {
            cases: 96,
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        let inputs = (servers(), bridges(), uid_rules(), answers());
        let known = proptest::test_runner::TestRunner::new(config).run(
            &(inputs, prop::collection::vec(0u64..6, 0..3), any::<bool>()),
            |((mut servers, bridges, mut uid_rules, answers), guarded, anew)| {
                let mut nft = nft.borrow_mut();
                let wrong = policy.sort_out(&mut servers, &mut uid_rules).unwrap();
                let guarded: Vec<_> = guarded.into_iter().map(CgroupId).collect();
                let by_cgroup: BTreeMap<_, _> = servers
                    .iter()
                    .map(|one| (one.cgroup, one.clone()))
                    .collect();
                prop_assert!(by_cgroup.len() <= servers.len() && wrong.len() < 20);
                if anew {
                    nft.remove().unwrap();
                }
                // Containers become known in the same way before and after a load.
                let known = nft.set_bridges(&bridges);
                prop_assert!(known.is_ok(), "{known:?}");
                let loaded = nft.load_with_uid_rules(&policy, &guarded, &servers, &uid_rules);
                prop_assert!(loaded.is_ok(), "{loaded:?}");
                for answer in answers {
                    let heard = nft.hear(&answer, egress::names::Sender::Number(1));
                    prop_assert!(heard.is_ok(), "{heard:?}");
                }
                prop_assert_eq!(nft.verify().unwrap(), []);
                Ok(())
            },
        );
        known.unwrap();
    });
}
