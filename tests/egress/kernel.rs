//! The table itself: accepted, read back, repaired, removed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use egress::{
    AbuseLimits, Admitted, BitsPerSecond, Bridges, CgroupId, Class, ClassLimits, ClassName,
    DifferenceKind, Error, Firewall, Kernel, Mode, Place, Policy, Rate, ServerPort, Service,
    Tracking, Transport, UidRule, UidRules,
    lists::{Entries, List},
    names::NamePattern,
};
use ipnet::IpNet;
use proptest::{prelude::*, test_runner::TestRunner};

use crate::bed::Netns;

fn server(cgroup: u64, number: u32) -> Admitted {
    let class = "standard".parse().unwrap();
    Admitted {
        cgroup: CgroupId(cgroup),
        level: 2 + (cgroup % 2) as u8,
        class,
        number,
    }
}

fn policy() -> Policy {
    let mut policy = Policy::standard(Mode::Enforce);
    policy.resolvers = vec![
        "127.0.0.53".parse().unwrap(),
        "2001:db8::53".parse().unwrap(),
    ];
    policy.proxies = vec!["10.0.0.0/8".parse().unwrap()];
    policy
}

/// A namespace with two servers and a slice in a table.
fn with_loaded(test: impl FnOnce(&Netns, Kernel) + Send) {
    let netns = Netns::new();
    netns.within(|| {
        let mut nft = Kernel::open().unwrap();
        nft.load(&policy(), &[CgroupId(7)], &[server(10, 1), server(11, 2)])
            .unwrap();
        test(&netns, nft);
    });
}

fn differences(nft: &mut Kernel) -> Vec<String> {
    nft.verify()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn probing_leaves_nothing_behind() {
    let netns = Netns::new();
    netns.within(|| Kernel::open().unwrap().probe().unwrap());
    assert_eq!(netns.exec("nft", &["list", "ruleset"]), "");
}

#[test]
fn the_nft_program_lists_the_table_in_readable_words() {
    with_loaded(|netns, mut nft| {
        assert_eq!(differences(&mut nft), [""; 0]);
        let list = netns.exec("nft", &["list", "table", "inet", "hubwarden"]);
        for words in [
            "comment \"hubwarden, enforcing\"",
            "elements = { 10 counter packets 0 bytes 0 : goto class_standard }",
            "elements = { 11 : 0x48000002 }",
            "elements = { 0x48000001 . 10 }",
            "elements = { 10.0.0.0/8 }",
            "elements = { tcp . 80",
            "elements = { 8081, 15001 }",
            "socket cgroupv2 level 2 vmap @servers2",
            "socket cgroupv2 level 1 @guarded goto pending",
            "limit rate 10/minute",
            "log prefix \"class standard\" group 18519",
            "reject with tcp reset",
            "reject with icmpx admin-prohibited",
        ] {
            assert!(list.contains(words), "{words:?} is not in:\n{list}");
        }
    });
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let net = prop_oneof![
        (any::<u32>(), 0u8..=32).prop_map(|(address, length)| {
            IpNet::new(IpAddr::from(address.to_be_bytes()), length).unwrap()
        }),
        (any::<u128>(), 0u8..=128).prop_map(|(address, length)| {
            IpNet::new(IpAddr::from(address.to_be_bytes()), length).unwrap()
        }),
    ];
    let nets = prop::collection::vec(net, 0..20);
    let service =
        (any::<bool>(), any::<u16>(), 0u16..2000).prop_map(|(tcp, first, count)| Service {
            transport: if tcp { Transport::Tcp } else { Transport::Udp },
            ports: first..=first.saturating_add(count),
        });
    let class = (
        any::<bool>(),
        prop::collection::vec(service, 0..12),
        ports(),
        0..8,
        prop::collection::vec(any_name(), 0..3),
        prop::collection::vec(any_name(), 0..3),
        (nets.clone(), nets.clone(), any::<bool>()),
        any_limits(),
    )
        .prop_map(
            |(dns, services, loopback_ports, dice, names, deny_names, networks, limits)| Class {
                dns,
                services,
                loopback_ports,
                names,
                deny_names,
                networks: networks.0,
                deny_networks: networks.1,
                nowhere_else: networks.2,
                limits,
                unrestricted: dice == 0,
            },
        );
    let classes = prop::collection::btree_map("[a-z][a-z0-9-]{0,31}", class, 0..6);
    let addresses = prop::collection::vec(any::<IpAddr>(), 0..6);
    (
        any::<bool>(),
        classes,
        ports(),
        nets.clone(),
        addresses,
        (nets.clone(), nets.clone()),
        (any::<u16>(), any::<u16>()),
        any_lists(nets),
        (
            prop::collection::btree_set(any::<u64>(), 0..4),
            (any_rate(), any_rate()),
            any_tracking(),
        ),
    )
        .prop_map(
            |(
                enforce,
                classes,
                hub_ports,
                proxies,
                resolvers,
                denied,
                groups,
                lists,
                (relays, abuse, tracking),
            )| {
                Policy {
                    mode: if enforce {
                        Mode::Enforce
                    } else {
                        Mode::Observe
                    },
                    classes: classes
                        .into_iter()
                        .map(|(n, class)| (n.parse().unwrap(), class))
                        .collect(),
                    hub_ports,
                    proxies,
                    resolvers,
                    denied: denied.0,
                    private: denied.1,
                    lists: Arc::new(lists),
                    log_group: groups.0,
                    dns_queue: groups.1,
                    names_ttl_max: Policy::NAMES_TTL_MAX,
                    abuse: AbuseLimits {
                        connections: abuse.0,
                        packets: abuse.1,
                        questions: abuse.1,
                    },
                    tracking,
                    relays: relays.into_iter().map(CgroupId).collect(),
                }
            },
        )
}

fn any_tracking() -> impl Strategy<Value = Tracking> {
    (any::<bool>(), prop::option::of(1u32..)).prop_map(|(by_others, most)| Tracking {
        by_others,
        most: most.map(|most| most.try_into().unwrap()),
    })
}

fn any_name() -> impl Strategy<Value = NamePattern> {
    "(\\*\\.)?[a-z0-9_-]{1,63}(\\.[a-z0-9_-]{1,40}){0,3}"
        .prop_map(|name| name.parse().unwrap_or_else(|_| "*".parse().unwrap()))
}

fn any_addresses() -> impl Strategy<Value = BTreeSet<IpAddr>> {
    prop::collection::btree_set(any::<IpAddr>(), 0..4)
}

fn any_rate() -> impl Strategy<Value = Option<Rate>> {
    let rate = (1u32..=1_000_000, prop::sample::select(vec![1u32, 60, 3600]));
    let rate = rate.prop_map(|(count, seconds)| Rate {
        count: count.try_into().unwrap(),
        seconds,
    });
    prop::option::of(rate)
}

fn any_limits() -> impl Strategy<Value = ClassLimits> {
    (
        any_rate(),
        prop::option::of(1u32..),
        prop::option::of(64_000u64..400_000_000_000),
        any::<bool>(),
        prop::option::of(any::<u64>()),
    )
        .prop_map(
            |(rate, connections, bandwidth, shape, bytes_per_day)| ClassLimits {
                new_connections: rate,
                connections: connections.map(|count| count.try_into().unwrap()),
                bandwidth: bandwidth.map(BitsPerSecond),
                shape,
                bytes_per_day,
            },
        )
}

fn any_lists(nets: impl Strategy<Value = Vec<IpNet>>) -> impl Strategy<Value = Vec<List>> {
    let endpoints = prop::collection::vec(any::<SocketAddr>(), 0..10);
    let entries = (nets, endpoints).prop_map(|(networks, endpoints)| Entries {
        networks,
        endpoints,
        names: vec![("pool.example.com".to_owned(), None)],
    });
    prop::collection::btree_map("[a-z0-9][a-z0-9-]{0,31}", entries, 0..4).prop_map(|lists| {
        let list = |(name, entries): (String, Entries)| List {
            name: name.parse().unwrap(),
            source: String::new(),
            imported: 0,
            entries,
        };
        lists.into_iter().map(list).collect()
    })
}

fn ports() -> impl Strategy<Value = Vec<u16>> {
    prop::collection::vec(any::<u16>(), 0..10)
}

/// Some of the servers' users, with a slice or without; none where no class is defined.
fn any_people(
    classes: &[ClassName],
    servers: &[Admitted],
    uids: BTreeMap<u32, (bool, u64)>,
) -> UidRules {
    let mut uid_rules = UidRules::default();
    let classes = &classes[..classes.len() - 1];
    for (at, (uid, (slice, cgroup))) in (0u32..).zip(uids) {
        let Some(class) = classes.get(at as usize % classes.len().max(1)) else {
            return uid_rules;
        };
        uid_rules.jobs.insert(CgroupId(cgroup ^ 1));
        uid_rules.identity_services.insert(CgroupId(cgroup ^ 2));
        let place = |server: &Admitted| Place {
            cgroup: server.cgroup,
            level: server.level,
            number: server.number,
        };
        let slice = slice.then_some(Place {
            cgroup: CgroupId(cgroup),
            level: 2,
            number: 10_000 + at,
        });
        let slice = slice.filter(|it| servers.iter().all(|server| server.cgroup != it.cgroup));
        let uid_rule = UidRule {
            uid,
            class: class.clone(),
            number: UidRule::NUMBER_MIN + at,
            slice,
            servers: servers
                .iter()
                .skip(at as usize)
                .take(2)
                .map(place)
                .collect(),
        };
        uid_rules.by_uid.insert(uid, uid_rule);
    }
    uid_rules
}

#[test]
fn every_policy_is_accepted_and_read_back_equal() {
    let netns = Netns::new();
    // An interface with a default route, so that what is shaped has a queue.
    netns.ip("link add uplink0 type veth peer name beyond0");
    netns.ip("link set uplink0 up");
    netns.ip("route add default dev uplink0");
    netns.within(|| {
        let nft = std::cell::RefCell::new(Kernel::open().unwrap());
        let config = ProptestConfig {
            cases: 96,
            failure_persistence: None,
            ..Default::default()
        };
        let servers = prop::collection::btree_map(any::<u64>(), 2u8..=3, 0..40);
        let guarded = prop::collection::vec(any::<u64>(), 0..5);
        let ports = prop::collection::btree_map(1u32.., any_addresses(), 0..12);
        let uid_rules = prop::collection::btree_map(1u32..u32::MAX, any::<(bool, u64)>(), 0..6);
        let input = (any_policy(), servers, guarded, uid_rules, ports);
        TestRunner::new(config)
            .run(&input, |(policy, servers, guarded, uid_rules, ports)| {
                let mut nft = nft.borrow_mut();
                let mut classes: Vec<_> = policy.classes.keys().cloned().collect();
                classes.push(ClassName::exempt());
                let servers: Vec<_> = (1..)
                    .zip(servers)
                    .map(|(number, (cgroup, level))| Admitted {
                        cgroup: CgroupId(cgroup),
                        level,
                        class: classes[number as usize % classes.len()].clone(),
                        number,
                    })
                    .collect();
                let guarded: Vec<_> = guarded.into_iter().map(CgroupId).collect();
                let half = servers.len() / 2;
                let uid_rules = any_people(&classes, &servers, uid_rules);
                nft.load_with_uid_rules(&policy, &guarded, &servers[..half], &uid_rules)
                    .unwrap();
                prop_assert_eq!(differences(&mut nft), [""; 0]);
                nft.admit(&servers).unwrap();
                nft.forget(&servers.iter().map(|s| s.cgroup).take(3).collect::<Vec<_>>())
                    .unwrap();
                nft.set_guarded(&guarded.iter().copied().skip(1).collect::<Vec<_>>())
                    .unwrap();
                prop_assert_eq!(differences(&mut nft), [""; 0]);
                let mut bridges = Bridges::default();
                for (number, (port, addresses)) in (1_000..).zip(ports) {
                    let server = ServerPort {
                        cgroup: CgroupId(number.into()),
                        number,
                        class: classes[number as usize % classes.len()].clone(),
                        addresses,
                    };
                    bridges.servers.insert(port, server);
                    bridges.on_guarded.insert(port);
                    nft.set_bridges(&bridges).unwrap();
                }
                prop_assert_eq!(differences(&mut nft), [""; 0]);
                nft.load(&policy, &guarded, &servers).unwrap();
                prop_assert_eq!(differences(&mut nft), [""; 0]);
                // The next policy may have none of these classes.
                nft.set_bridges(&Bridges::default()).unwrap();
                let mut fewer = uid_rules.clone();
                fewer.by_uid.pop_first();
                for uid_rule in fewer.by_uid.values_mut() {
                    uid_rule.slice = None;
                    uid_rule.class = classes[0].clone();
                }
                nft.set_uid_rules(&fewer).unwrap();
                prop_assert_eq!(differences(&mut nft), [""; 0]);
                nft.set_uid_rules(&uid_rules).unwrap();
                prop_assert_eq!(differences(&mut nft), [""; 0]);
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn what_another_changes_is_named() {
    with_loaded(|netns, mut nft| {
        // The program cannot name cgroups that do not exist, so it flushes where others delete.
        for change in [
            "flush map inet hubwarden servers2",
            "add rule inet hubwarden pending accept",
            "add chain inet hubwarden mine",
            "add set inet hubwarden theirs { type mark; }",
            "add element inet hubwarden resolvers4 { 9.9.9.9 }",
            "delete element inet hubwarden hub_ports { 8081 }",
        ] {
            netns.exec("nft", &change.split(' ').collect::<Vec<_>>());
        }
        assert_eq!(
            differences(&mut nft),
            [
                "chain mine was added by another",
                "the rules of chain pending was changed by another",
                "element 1f91 in set hub_ports is gone",
                "element 09090909 in set resolvers4 was added by another",
                "cgroup 10 in set servers2 is gone",
                "set theirs was added by another",
            ]
        );
        netns.exec("nft", &["flush", "ruleset"]);
        let gone = nft.verify().unwrap();
        assert_eq!(gone.len(), 1);
        assert_eq!(gone[0].kind, DifferenceKind::Missing);
        assert_eq!(gone[0].to_string(), "table hubwarden is gone");
    });
}

#[test]
fn a_change_after_another_flushed_or_altered_the_table_puts_all_of_it_back() {
    with_loaded(|netns, mut nft| {
        netns.exec("nft", &["flush", "ruleset"]);
        nft.admit(&[server(12, 3)]).unwrap();
        assert_eq!(differences(&mut nft), [""; 0]);

        netns.exec("nft", &["flush", "map", "inet", "hubwarden", "marks2"]);
        nft.forget(&[CgroupId(12)]).unwrap();
        assert_eq!(differences(&mut nft), [""; 0]);

        let mut another = Kernel::open().unwrap();
        let exempt = Admitted {
            class: ClassName::exempt(),
            ..server(14, 9)
        };
        another.load(&policy(), &[], &[exempt]).unwrap();
        assert!(
            differences(&mut nft)
                .contains(&"cgroup 14 in set servers2 was added by another".into())
        );
        nft.admit(&[server(14, 4)]).unwrap();
        assert_eq!(differences(&mut nft), [""; 0]);
    });
}

#[test]
fn forgetting_twice_or_the_unknown_is_success() {
    with_loaded(|_, mut nft| {
        nft.forget(&[CgroupId(10), CgroupId(10), CgroupId(4711)])
            .unwrap();
        nft.forget(&[CgroupId(10)]).unwrap();
        assert_eq!(differences(&mut nft), [""; 0]);
    });
}

#[test]
fn what_cannot_be_admitted_changes_nothing() {
    with_loaded(|_, mut nft| {
        let before = nft.generation().unwrap();
        let wrong = Admitted {
            class: "nowhere".parse().unwrap(),
            ..server(20, 9)
        };
        assert!(nft.admit(&[server(21, 8), wrong]).is_err());
        assert!(
            nft.reclass(&[(CgroupId(999), ClassName::exempt())])
                .is_err()
        );
        let mut policy = policy();
        policy
            .classes
            .insert(ClassName::exempt(), Class::standard());
        assert!(matches!(
            nft.load(&policy, &[], &[]),
            Err(Error::Policy { .. })
        ));
        assert_eq!(nft.generation().unwrap(), before);
        assert_eq!(differences(&mut nft), [""; 0]);
    });
}

#[test]
fn every_change_raises_the_generation() {
    with_loaded(|_, mut nft| {
        let before = nft.generation().unwrap();
        nft.admit(&[server(10, 1)]).unwrap();
        assert_eq!(nft.generation().unwrap(), before, "nothing was changed");
        nft.reclass(&[(CgroupId(10), ClassName::exempt())]).unwrap();
        assert_ne!(nft.generation().unwrap(), before);
        assert_eq!(differences(&mut nft), [""; 0]);
    });
}

#[test]
fn a_new_daemon_takes_over_the_table_of_the_last() {
    with_loaded(|netns, nft| {
        drop(nft);
        let list = netns.exec("nft", &["list", "tables"]);
        assert!(
            list.contains("hubwarden"),
            "the table must outlive its daemon"
        );
        let mut nft = Kernel::open().unwrap();
        assert!(matches!(
            nft.admit(&[server(10, 1)]),
            Err(Error::NotLoaded { .. })
        ));
        nft.load(&policy(), &[], &[server(30, 1)]).unwrap();
        assert_eq!(differences(&mut nft), [""; 0]);
    });
}

#[test]
fn removing_leaves_nothing_and_can_be_repeated() {
    with_loaded(|netns, mut nft| {
        netns.exec("nft", &["add", "table", "inet", "another"]);
        nft.remove().unwrap();
        nft.remove().unwrap();
        assert_eq!(
            netns.exec("nft", &["list", "ruleset"]),
            "table inet another {\n}\n"
        );
        assert!(matches!(nft.verify(), Err(Error::NotLoaded { .. })));
    });
}

#[test]
fn a_class_may_be_called_as_parts_of_the_table_are() {
    with_loaded(|_, mut nft| {
        let mut policy = policy();
        for name in [
            "in",
            "out",
            "loopback",
            "pending",
            "arriving",
            "standard4",
            "4",
        ] {
            if let Ok(name) = name.parse() {
                policy.classes.insert(name, Class::standard());
            }
        }
        nft.load(&policy, &[], &[]).unwrap();
        assert_eq!(differences(&mut nft), [""; 0]);
    });
}
