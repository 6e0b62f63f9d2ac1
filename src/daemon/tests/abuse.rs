//! From what the packet rules saw of scans, floods and false addresses to what becomes of who does
//! them.

use super::uid_egress::{judged, with_alice};
use super::*;
use ::egress::{Attempts, Refused, Sent};
use policy::finding::{Evidence, Fact};
use sensors::set::Found;

impl Node {
    /// A tick with its look at the network, five seconds after the last.
    async fn network_tick(&mut self, daemon: &mut Running) {
        self.tick(daemon, 5).await;
    }

    fn guarded_id(&self, user: &str) -> CgroupId {
        let id = std::fs::metadata(self.directory(user)).unwrap();
        CgroupId(std::os::unix::fs::MetadataExt::ino(&id))
    }

    fn class_of(&self, user: &str) -> String {
        let id = self.guarded_id(user);
        self.firewall.rules().admitted[&id].class.to_string()
    }
}

fn number_of(daemon: &mut Running, id: CgroupId) -> u32 {
    let shell = &daemon.shell;
    let mut numbers = shell.node.numbers().iter();
    numbers.find(|(_, of)| *of == id).unwrap().0
}

/// A scan of ssh, as the packet rules tell of it.
fn scanning(number: u32, fresh: usize) -> Attempts {
    let target = |n: u8| ([10, 0, 0, n].into(), [22].into());
    Attempts {
        number,
        unanswered: (0..200).map(target).collect(),
        fresh,
        fresh_ports: 1,
        answered: 4,
        connected: true,
    }
}

#[test]
fn a_scan_that_goes_on_is_throttled_and_has_the_class_for_that_until_it_is_over() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.config.egress.abusing = Some("quarantine".parse().unwrap());
        node.spawn("alice");
        let (mut daemon, journal) = node.start();
        node.network_tick(&mut daemon).await;
        let number = number_of(&mut daemon, node.guarded_id("alice"));
        node.firewall.rules().attempts = vec![scanning(number, 40)];
        for look in 1..=3 {
            node.network_tick(&mut daemon).await;
            assert_eq!(stage(&mut daemon, "alice"), Stage::Free, "look {look}");
        }
        let told = node.read(&journal);
        assert!(
            told.contains("abuses the network; by itself that proves too little"),
            "{told}"
        );
        node.network_tick(&mut daemon).await;
        node.network_tick(&mut daemon).await;
        assert_eq!(stage(&mut daemon, "alice"), Stage::Throttled);
        assert_eq!(node.class_of("alice"), "quarantine");
        let told = node.read(&journal);
        for words in [
            "alice's server abuses the network, and the evidence is high",
            "200 did not answer within a minute, and 4 did; nearly all were asked on TCP port 22",
            "the evidence that it abuses the network is high",
        ] {
            assert!(told.contains(words), "no {words:?} in {told}");
        }
        node.firewall.rules().attempts.clear();
        for _ in 0..80 {
            node.tick(&mut daemon, 10).await;
        }
        assert_eq!(stage(&mut daemon, "alice"), Stage::Free);
        assert_eq!(node.class_of("alice"), "standard");
    });
}

#[test]
fn a_line_about_mining_and_one_about_the_network_keep_each_other_from_nothing() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (mut daemon, journal) = node.start();
        // It comes at the first, and is attended to from the second.
        for _ in 0..2 {
            node.network_tick(&mut daemon).await;
        }
        let id = node.guarded_id("alice");
        let evidence = Evidence {
            fact: Fact::Listed,
            pid: Evidence::NO_PROCESS,
            at: node.clock,
        };
        daemon.found(&[Found { id: id.0, evidence }]);
        let told = node.read(&journal);
        assert!(told.contains("does something that miners do"), "{told}");
        let number = number_of(&mut daemon, id);
        node.firewall.rules().attempts = vec![scanning(number, 40)];
        for _ in 0..2 {
            node.network_tick(&mut daemon).await;
        }
        let told = node.read(&journal);
        assert!(
            told.contains("does something that abuses the network") && !told.contains("deny list"),
            "{told}"
        );
        let shell = &daemon.shell;
        assert_eq!(shell.level_of_mining(id), "suspicious");
    });
}

#[test]
fn a_scan_that_is_over_and_begins_again_is_at_its_first_look() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (mut daemon, _journal) = node.start();
        node.network_tick(&mut daemon).await;
        let number = number_of(&mut daemon, node.guarded_id("alice"));
        for fresh in [40, 40, 40, 0, 40, 40, 40, 3, 40] {
            node.firewall.rules().attempts = vec![scanning(number, fresh)];
            node.network_tick(&mut daemon).await;
        }
        node.network_tick(&mut daemon).await;
        assert_eq!(stage(&mut daemon, "alice"), Stage::Free);
    });
}

#[test]
fn what_a_user_scans_outside_the_server_is_the_server_s_account() {
    on_a_node(async || {
        let (mut node, mut daemon, journal) = with_alice(Mode::Enforce).await;
        let number = judged(&node)[0].number;
        node.firewall.rules().attempts = vec![scanning(number, 40)];
        for _ in 0..5 {
            node.network_tick(&mut daemon).await;
        }
        assert_eq!(stage(&mut daemon, "alice"), Stage::Throttled);
        let told = node.read(&journal);
        assert!(told.contains("alice's server abuses the network"), "{told}");
    });
}

#[test]
fn a_flood_that_the_rules_hold_is_high_when_it_lasts_and_many_packets_that_pass_are_nothing() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        node.spawn_as("bob", 1001);
        let (mut daemon, journal) = node.start();
        node.network_tick(&mut daemon).await;
        let (alice, bob) = (node.guarded_id("alice"), node.guarded_id("bob"));
        let number = number_of(&mut daemon, alice);
        for tick in 1..=6u64 {
            let sent = |cgroup| Sent {
                cgroup,
                packets: tick * 300_000,
                bytes: tick * 300_000 * 1_000,
            };
            node.firewall.rules().sent = vec![sent(alice), sent(bob)];
            node.firewall.rules().refused = vec![Refused {
                number: Some(number),
                packets: 100_000,
                flooding: 100_000,
                ..Refused::default()
            }];
            node.network_tick(&mut daemon).await;
        }
        node.network_tick(&mut daemon).await;
        assert_eq!(stage(&mut daemon, "alice"), Stage::Throttled);
        assert_eq!(stage(&mut daemon, "bob"), Stage::Free);
        let told = node.read(&journal);
        assert!(told.contains("it sends 60000 packets a second"), "{told}");
        assert!(!told.contains("bob's server abuses"), "{told}");
    });
}

#[test]
fn false_addresses_are_told_of_with_their_number_and_throttle_nobody() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (mut daemon, journal) = node.start();
        node.network_tick(&mut daemon).await;
        let number = number_of(&mut daemon, node.guarded_id("alice"));
        node.read(&journal);
        for _ in 0..6 {
            node.firewall.rules().refused = vec![Refused {
                number: Some(number),
                packets: 7,
                spoofed: 7,
                ..Refused::default()
            }];
            node.network_tick(&mut daemon).await;
        }
        assert_eq!(stage(&mut daemon, "alice"), Stage::Free);
        let told = node.read(&journal);
        let words = "it sends from addresses that are not its own (7 packets)";
        assert_eq!(told.matches(words).count(), 1, "{told}");
    });
}
