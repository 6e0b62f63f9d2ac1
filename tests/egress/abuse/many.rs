//! What an attacker, or many, can do to what everybody shares.

use egress::{Firewall, Mode};

use super::{PATIENCE, open_policy, seen, world};
use crate::bed::{Agent, HOST4, HOST6, Link, Slice};
use crate::outside::loaded;

/// Attempts that a set holds, and that are noted of one sender at once.
const MOST: usize = 32_768;
const AT_ONCE: usize = 1_000;

#[test]
fn of_one_attacker_a_small_part_of_what_a_set_holds_is_noted_and_enough_to_see_it() {
    let (link, slice) = (Link::new(), Slice::new());
    let _host = world(&link);
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let mut bob = Agent::new(&link.node, Some(&slice.cgroup("bob.service")));
    let servers = [alice.admitted(1, "open"), bob.admitted(2, "open")];
    let mut policy = open_policy(Mode::Enforce);
    policy.abuse.connections = None;
    let mut nft = loaded(&link.node, &policy, &[], &servers);
    assert_eq!(alice.tell("scan_on 10.91.0.0 40000 443"), "ok");
    assert_eq!(bob.tell("scan 10.91.0.0 70 443"), "ok");
    std::thread::sleep(PATIENCE);
    let seen = seen(&mut nft);
    let (noted, answered) = seen[&1];
    assert!((AT_ONCE..MOST / 10).contains(&noted), "{noted}");
    assert_eq!(answered, 0);
    assert_eq!(seen[&2], (70, 0), "the neighbour is seen all the same");
}

#[test]
fn packets_pass_as_before_while_many_attackers_have_filled_the_sets() {
    let (link, slice) = (Link::new(), Slice::new());
    let _host = world(&link);
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let mut servers = vec![alice.admitted(1, "open")];
    let attackers = u32::try_from(MOST / AT_ONCE).unwrap() + 1;
    let mut all = Vec::new();
    for number in 2..2 + attackers {
        let unit = slice.cgroup(&format!("{number}.service"));
        let agent = Agent::new(&link.node, Some(&unit));
        servers.push(agent.admitted(number, "open"));
        all.push(agent);
    }
    let mut nft = loaded(&link.node, &open_policy(Mode::Enforce), &[], &servers);
    for agent in &mut all {
        assert_eq!(agent.tell("scan_on 10.91.0.0 1000 443"), "ok");
    }
    for to in [HOST4, HOST6] {
        for _ in 0..20 {
            assert_eq!(alice.reach("tcp", to, 443), "ok", "{to}");
        }
        assert_eq!(
            alice.reach("tcp", to, 444),
            crate::outside::REFUSED,
            "nobody listens"
        );
    }
    assert_eq!(alice.tell("scan 10.90.0.0 100 443"), "ok");
    assert_eq!(nft.verify().unwrap(), []);
    assert!(nft.refused().unwrap().is_empty(), "nobody was refused");
    std::thread::sleep(PATIENCE);
    let seen = seen(&mut nft);
    let noted: usize = seen.values().map(|(unanswered, _)| unanswered).sum();
    assert!(noted + 100 > MOST, "the set is full: {noted}");
    link.node
        .exec("nft", &["-a", "list", "table", "inet", "hubwarden"]);
}
