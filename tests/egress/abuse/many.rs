//! What an attacker, or many, can do to what everybody shares.

use std::collections::BTreeMap;

use egress::{Admitted, Firewall, Kernel, Mode, Refused};

use super::{PATIENCE, open_policy, seen, world};
use crate::bed::{Agent, HOST4, HOST6, Link, Slice, cgroup_id};
use crate::outside::loaded;

/// Attempts that a set holds, and that are noted of one sender at once.
const MOST: usize = 98_304;
const AT_ONCE: usize = 768;

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
    assert!((AT_ONCE..MOST / 50).contains(&noted), "{noted}");
    assert_eq!(answered, 0);
    assert_eq!(seen[&2], (70, 0), "the neighbour is seen all the same");
    let refused = nft.refused().unwrap();
    let over = |one: &Refused| (one.number, one.packets, one.not_noted > 30_000);
    let over: Vec<_> = refused.iter().map(over).collect();
    assert_eq!(
        over,
        [(Some(1), 0, true)],
        "it is told, and nothing refused"
    );
    let list = link
        .node
        .exec("nft", &["list", "table", "inet", "hubwarden"]);
    assert!(list.contains("update @not_noted"), "{list}");
}

/// So many attackers, each of whom begins as many connections as are noted of one, from number 2 on: one
/// process that goes on in a cgroup after the other. They have ended when this is over.
fn attack(link: &Link, slice: &Slice, count: usize, mut servers: Vec<Admitted>) -> Kernel {
    let mut attacker = Agent::new(&link.node, Some(&slice.cgroup("attackers.service")));
    let units = (0..count).map(|number| slice.cgroup(&format!("{number}.service")));
    let units: Vec<_> = units.collect();
    for (number, unit) in (2..).zip(&units) {
        servers.push(Admitted {
            cgroup: cgroup_id(unit),
            ..attacker.admitted(number, "open")
        });
    }
    let mut nft = loaded(&link.node, &open_policy(Mode::Enforce), &[], &servers);
    for unit in &units {
        assert_eq!(attacker.tell(&format!("become {} 0", unit.display())), "ok");
        let scan = format!("scan_on 10.91.0.0 {AT_ONCE} 443");
        assert_eq!(attacker.tell(&scan), "ok");
    }
    nft.refused().unwrap();
    nft
}

fn noted(seen: &BTreeMap<u32, (usize, usize)>) -> usize {
    seen.values().map(|(unanswered, _)| unanswered).sum()
}

/// Before, 33 of them filled a set, and nobody else's scan was seen.
#[test]
fn a_few_dozens_of_attackers_leave_room_for_what_others_do() {
    let (link, slice) = (Link::new(), Slice::new());
    let _host = world(&link);
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let mut nft = attack(&link, &slice, 60, vec![alice.admitted(1, "open")]);
    assert_eq!(alice.tell("scan 10.91.0.0 70 443"), "ok");
    assert_eq!(alice.tell("scan 10.90.0.0 100 443"), "ok");
    std::thread::sleep(PATIENCE);
    let seen = seen(&mut nft);
    assert_eq!(seen[&1], (70, 100));
    assert!(noted(&seen) > 60 * AT_ONCE, "{}", noted(&seen));
}

#[test]
fn packets_pass_as_before_while_many_attackers_have_filled_the_sets() {
    let (link, slice) = (Link::new(), Slice::new());
    let _host = world(&link);
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let attackers = MOST / AT_ONCE + 1;
    let begun = std::time::Instant::now();
    let mut nft = attack(&link, &slice, attackers, vec![alice.admitted(1, "open")]);
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
    let refused = nft.refused().unwrap();
    let none = refused.iter().all(|one| one.packets == 0);
    assert!(none, "nobody was refused: {refused:?}");
    std::thread::sleep(PATIENCE);
    // What was noted first ends after a minute.
    if begun.elapsed().as_secs() > 55 {
        eprintln!("NOT TESTED: this machine is too slow to fill the set");
        return;
    }
    let seen = seen(&mut nft);
    assert!(
        noted(&seen) + 1_000 > MOST,
        "the set is full: {}",
        noted(&seen)
    );
    link.node
        .exec("nft", &["-a", "list", "table", "inet", "hubwarden"]);
}
