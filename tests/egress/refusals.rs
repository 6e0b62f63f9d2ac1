//! What is told of refused packets.

use std::{net::IpAddr, time::Duration};

use egress::{Error, Firewall, Mode, Policy, Refusal, Refusals, Refused, RefusedBy};

use crate::{
    bed::{Agent, HOST4, HOST6, Link, Netns, Slice},
    outside::{loaded, policy},
};

/// What is told while `act` runs and shortly after.
pub fn told(node: &Netns, policy: &Policy, act: impl FnOnce() + Send) -> (Vec<Refusal>, u64) {
    node.within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build();
        runtime.unwrap().block_on(async {
            let mut refusals = Refusals::listen(policy.log_group).unwrap();
            act();
            let mut told = Vec::new();
            let quiet = Duration::from_millis(200);
            while let Ok(next) = tokio::time::timeout(quiet, refusals.next()).await {
                told.push(next.unwrap());
            }
            (told, refusals.lost())
        })
    })
}

#[test]
fn a_refusal_names_server_class_and_destination_in_either_mode() {
    for mode in [Mode::Enforce, Mode::Observe] {
        let (link, slice) = (Link::new(), Slice::new());
        let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
        let mut deep = Agent::new(
            &link.node,
            Some(&slice.cgroup("system-x.slice/x@1.service")),
        );
        let mut new = Agent::new(&link.node, Some(&slice.cgroup("new.service")));
        deep.listen("tcp", "127.0.0.1", 9000);
        let policy = Policy { mode, ..policy() };
        let number = 0x002b_cdef;
        let servers = [
            alice.admitted(number, "standard"),
            deep.admitted(2, "nothing"),
        ];
        let _nft = loaded(&link.node, &policy, &[slice.id()], &servers);

        let (told, lost) = told(&link.node, &policy, || {
            alice.reach("tcp", HOST4, 4444);
            deep.reach("udp", HOST6, 123);
            new.reach("tcp", HOST6, 80);
            alice.reach("tcp", "127.0.0.1", 9000);
        });
        assert_eq!(lost, 0);
        let first = |by: RefusedBy| {
            let found = told.iter().find(|refusal| refusal.by == by);
            found
                .unwrap_or_else(|| panic!("nothing by {by:?} in {told:?}"))
                .clone()
        };
        let refusal = |number, by, uid, protocol, destination: &str, port| Refusal {
            number,
            by,
            uid,
            protocol,
            destination: destination.parse::<IpAddr>().unwrap(),
            port: Some(port),
        };
        let standard = RefusedBy::Class("standard".parse().unwrap());
        let nothing = RefusedBy::Class("nothing".parse().unwrap());
        for expected in [
            refusal(Some(number), standard, Some(0), 6, HOST4, 4444),
            refusal(Some(2), nothing, Some(0), 17, HOST6, 123),
            refusal(None, RefusedBy::Pending, Some(0), 6, HOST6, 80),
            refusal(
                Some(number),
                RefusedBy::Loopback,
                None,
                6,
                "127.0.0.1",
                9000,
            ),
        ] {
            assert_eq!(first(expected.by.clone()), expected, "{mode:?}");
        }
    }
}

#[test]
fn a_flood_is_told_of_a_few_times_and_hides_nobody_else() {
    let (link, slice) = (Link::new(), Slice::new());
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let mut bob = Agent::new(&link.node, Some(&slice.cgroup("bob.service")));
    let servers = [alice.admitted(1, "standard"), bob.admitted(2, "standard")];
    let _nft = loaded(&link.node, &policy(), &[slice.id()], &servers);
    let (told, _) = told(&link.node, &policy(), || {
        alice.tell(&format!("flood {HOST4} 7777 5000"));
        bob.reach("tcp", HOST4, 4444);
    });
    let count = |number| told.iter().filter(|r| r.number == Some(number)).count();
    assert!(
        (1..=8).contains(&count(1)),
        "{} told of alice's 5000",
        count(1)
    );
    assert!(
        (1..=2).contains(&count(2)),
        "{} told of bob's one",
        count(2)
    );
}

#[test]
fn a_group_is_listened_to_by_one_and_the_second_is_told_so() {
    let netns = Netns::new();
    netns.within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap();
        let _guard = runtime.enter();
        let _first = Refusals::listen(5).unwrap();
        assert!(matches!(
            Refusals::listen(5),
            Err(Error::Kernel(nft::Error::GroupTaken { group: 5 }))
        ));
        let _other = Refusals::listen(6).unwrap();
    });
}

#[test]
fn every_refused_packet_is_counted_whether_it_was_told_of_or_not() {
    for mode in [Mode::Enforce, Mode::Observe] {
        let (link, slice) = (Link::new(), Slice::new());
        let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
        let mut new = Agent::new(&link.node, Some(&slice.cgroup("new.service")));
        let policy = Policy { mode, ..policy() };
        let servers = [alice.admitted(1, "standard")];
        let mut nft = loaded(&link.node, &policy, &[slice.id()], &servers);
        assert_eq!(nft.refused().unwrap(), []);
        alice.tell(&format!("flood {HOST4} 7777 3000"));
        alice.tell(&format!("flood {HOST6} 7777 500"));
        let refused = |number, packets| Refused {
            number,
            packets,
            ..Refused::default()
        };
        assert_eq!(nft.refused().unwrap(), [refused(Some(1), 3500)], "{mode:?}");
        assert_eq!(nft.refused().unwrap(), [], "asked for already");
        // What was counted when the table is loaded anew is not lost with it.
        alice.tell(&format!("flood {HOST4} 7777 700"));
        new.tell(&format!("flood {HOST4} 7777 20"));
        nft.load(&policy, &[slice.id()], &servers).unwrap();
        alice.tell(&format!("flood {HOST4} 7777 1000"));
        assert_eq!(
            nft.refused().unwrap(),
            [refused(None, 20), refused(Some(1), 1700)],
            "{mode:?}"
        );
        assert_eq!(nft.verify().unwrap(), [], "counts are no difference");
    }
}
