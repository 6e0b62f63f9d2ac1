//! The tables with all their rules, listed by an admin's own program.

use egress::{BitsPerSecond, ClassLimits, Mode, Policy};

use super::{a_second, contained, open_policy, world};
use crate::bed::{HOST4, Netns};
use crate::bridges::Bed;

/// Every limit, and a list and names besides.
fn policy(mode: Mode, shape: bool) -> Policy {
    let mut policy = open_policy(mode);
    let open = "open".parse().unwrap();
    let class = policy.classes.get_mut(&open).unwrap();
    class.limits = ClassLimits {
        new_connections: a_second(500),
        connections: Some(500.try_into().unwrap()),
        bandwidth: Some(BitsPerSecond(100_000_000)),
        shape,
        bytes_per_day: Some(1 << 40),
    };
    class.deny_networks = vec!["198.51.100.0/24".parse().unwrap()];
    let named = egress::Class {
        names: vec!["*.example.org".parse().unwrap()],
        ..class.clone()
    };
    policy.classes.insert("named".parse().unwrap(), named);
    policy.tracking.most = 65_536.try_into().ok();
    policy
}

/// Lists a table in each form that the nft program has. It must not end itself over it, as 1.0.6
/// does over a key that a map gave.
fn can_be_listed(node: &Netns, family: &str, words: &[&str]) {
    for form in [&["-a"][..], &["-j"], &["-n", "-s"], &[]] {
        let list = ["list", "table", family, "hubwarden"];
        let listed = node.exec("nft", &[form, &list].concat());
        for word in words {
            assert!(listed.contains(word), "no {word:?} in {listed}");
        }
    }
    for form in [&["-a"][..], &["-j"]] {
        node.exec("nft", &[form, &["list", "ruleset"]].concat());
    }
}

#[test]
fn the_nft_program_lists_every_table_and_what_packets_filled_in() {
    for (mode, shape) in [
        (Mode::Enforce, false),
        (Mode::Enforce, true),
        (Mode::Observe, false),
    ] {
        let bed = Bed::new(1);
        let _host = world(&bed.link);
        let (mut agents, _nft) = contained(&bed, 1, &policy(mode, shape));
        let [alice] = &mut agents[..] else {
            panic!("one container");
        };
        for order in ["scan 10.91.0.0 20 443", "scan fd91::1 20 443"] {
            assert_eq!(alice.tell(order), "ok");
        }
        assert_eq!(alice.reach("tcp", HOST4, 443), "ok");
        let node = &bed.link.node;
        let filled = ["unanswered4_outside", "answered6", "too_many_packets"];
        can_be_listed(node, "inet", &filled);
        can_be_listed(node, "inet", &["day_contained_open", "connections_open"]);
        can_be_listed(node, "bridge", &["10.91.0.7", "fd91::7", "spoofers"]);
        if shape {
            can_be_listed(node, "inet", &["queues_contained"]);
            can_be_listed(node, "netdev", &["hwshape"]);
        }
    }
}
