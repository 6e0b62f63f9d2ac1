//! One who uses up a share, and others who need the same sets.

use std::time::Duration;

use egress::{
    Firewall,
    names::{Scarce, Sender},
};

use crate::{
    bed::{Agent, HOST4, Link, Slice},
    names::{OTHER4, Reading, THIRD4, ask, host, named_policy},
};

/// Addresses that one sender may have in a set.
const SHARE: usize = 1_024;
/// Answers of 250 addresses that fill a set of 65,536.
const FILL: usize = 264;

fn elements(link: &Link, set: &str) -> usize {
    let list = link
        .node
        .exec("nft", &["list", "set", "inet", "hubwarden", set]);
    list.matches("expires").count()
}

/// Before, the set was full for everybody until the addresses ended, a day later.
#[test]
fn who_asks_for_too_many_addresses_takes_none_from_others() {
    let (link, slice) = (Link::new(), Slice::new());
    let _host = host(&link);
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let mut bob = Agent::new(&link.node, Some(&slice.cgroup("bob.service")));
    let policy = named_policy(&["*"]);
    let servers = [alice.admitted(1, "named"), bob.admitted(2, "named")];
    let reading = Reading::new(&link.node, &policy, &[slice.id()], &servers);

    // What bob has before stays, also what alice asked for too.
    ask(&mut bob, "udp", "good.example", "A");
    ask(&mut alice, "udp", "good.example", "A");
    let all = format!("ask_many {HOST4} {FILL}");
    let said = alice.tell(&all);
    assert_eq!(said, FILL.to_string(), "{:?}", reading.tally());
    assert_eq!(bob.reach("tcp", OTHER4, 80), "ok");
    assert_eq!(elements(&link, "names4_named"), SHARE + 1, "and bob's one");
    assert_eq!(reading.nft().verify().unwrap(), []);
    // A name that nobody asked for yet.
    let resolved = format!("NOERROR {THIRD4}");
    assert_eq!(ask(&mut bob, "udp", "other.example", "A"), resolved);
    assert_eq!(bob.reach("tcp", THIRD4, 80), "ok");
    // Her own newest count too.
    assert_eq!(ask(&mut alice, "udp", "other.example", "A"), resolved);
    assert_eq!(alice.reach("tcp", THIRD4, 80), "ok");

    let over = reading.over();
    let told: Vec<_> = over.keys().copied().collect();
    assert_eq!(told, [(Sender::Number(1), Scarce::Addresses)]);
    let tally = reading.tally();
    assert_eq!((tally.failed, tally.overrun), (0, 0), "{tally:?}");

    // A table that is made anew leaves the accounts as they are.
    reading
        .nft()
        .load(&policy, &[slice.id()], &servers)
        .unwrap();
    assert_eq!(alice.tell(&format!("ask_many {HOST4} 2")), "2");
    assert_eq!(elements(&link, "names4_named"), SHARE + 1);
    assert_eq!(bob.reach("tcp", OTHER4, 80), "ok");

    // Alice ends. What she left is nobody's, and counts for no one's share.
    reading.nft().forget(&[servers[0].cgroup]).unwrap();
    assert_eq!(reading.nft().verify().unwrap(), []);
    assert_eq!(bob.reach("tcp", THIRD4, 80), "ok");
}

/// Questions wait in one queue, and are remembered in one table.
#[test]
fn who_floods_the_resolver_with_questions_keeps_nobody_s_names_from_counting() {
    let (link, slice) = (Link::new(), Slice::new());
    let _host = host(&link);
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let mut bob = Agent::new(&link.node, Some(&slice.cgroup("bob.service")));
    let policy = named_policy(&["*"]);
    let servers = [alice.admitted(1, "named"), bob.admitted(2, "named")];
    let reading = Reading::new(&link.node, &policy, &[slice.id()], &servers);
    let flooding = std::thread::spawn(move || {
        for _ in 0..4 {
            alice.tell(&format!("storm {HOST4} good.example 10000"));
        }
        alice
    });
    let resolved = format!("NOERROR {THIRD4}");
    while !flooding.is_finished() {
        // The resolver of this test loses questions where the machine is slow; programs ask again.
        let mut tries = (0..5).map(|_| ask(&mut bob, "udp", "other.example", "A"));
        assert!(tries.any(|answer| answer == resolved));
        assert_eq!(bob.reach("tcp", THIRD4, 80), "ok");
        std::thread::sleep(Duration::from_millis(20));
    }
    let _alice = flooding.join().unwrap();
    let tally = reading.tally();
    assert_eq!((tally.failed, tally.overrun), (0, 0), "{tally:?}");
    let refused = reading.nft().refused().unwrap();
    let asked: Vec<_> = refused
        .iter()
        .filter(|one| one.questions > 0)
        .map(|one| one.number)
        .collect();
    assert_eq!(asked, [Some(1)], "{refused:?}");
    assert_eq!(reading.nft().verify().unwrap(), []);
}
