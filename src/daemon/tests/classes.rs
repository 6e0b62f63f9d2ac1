//! Classes that stand in for a user's own: under evidence, and when the day's bytes are had.

use super::*;
use hubwarden_core::node::Input;
use policy::finding::Strength;

fn class_of(node: &Node, user: &str) -> Option<String> {
    let rules = node.firewall.rules();
    let id = std::fs::metadata(node.directory(user)).ok()?;
    let id = CgroupId(std::os::unix::fs::MetadataExt::ino(&id));
    Some(rules.admitted.get(&id)?.class.to_string())
}

#[test]
fn certain_evidence_puts_a_server_into_quarantine_until_it_is_free() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        let (mut daemon, journal) = node.start();
        node.tick(&mut daemon, 1).await;
        assert_eq!(class_of(&node, "alice").as_deref(), Some("standard"));
        accuse(&mut daemon, "alice", Strength::High);
        node.tick(&mut daemon, 1).await;
        // What may be wrong about the program costs speed only.
        assert_eq!(stage(&mut daemon, "alice"), Stage::Throttled);
        assert_eq!(class_of(&node, "alice").as_deref(), Some("standard"));
        accuse(&mut daemon, "alice", Strength::Certain);
        node.tick(&mut daemon, 1).await;
        assert_eq!(stage(&mut daemon, "alice"), Stage::Throttled);
        assert_eq!(class_of(&node, "alice").as_deref(), Some("quarantine"));
        let told = node.read(&journal);
        assert!(
            told.contains("alice's server has egress class quarantine now, and not standard"),
            "{told}"
        );
        // A restart keeps it there: the tick has written what is new.
        drop(daemon);
        let (mut daemon, journal) = node.start();
        node.tick(&mut daemon, 1).await;
        assert_eq!(class_of(&node, "alice").as_deref(), Some("quarantine"));
        for _ in 0..80 {
            node.tick(&mut daemon, 10).await;
        }
        assert_eq!(stage(&mut daemon, "alice"), Stage::Free);
        assert_eq!(class_of(&node, "alice").as_deref(), Some("standard"));
        let told = node.read(&journal);
        assert!(told.contains("what held it back is over"), "{told}");
    });
}

fn accuse(daemon: &mut Running, user: &str, level: Strength) {
    let found: Vec<CgroupId> = {
        let shell = &daemon.shell;
        let servers = shell
            .registry
            .entries
            .values()
            .filter_map(|entry| match entry {
                Cgroup::Server(guarded) if guarded.server.user.as_str() == user => Some(guarded.id),
                _ => None,
            });
        servers.collect()
    };
    for id in found {
        daemon.drive(Input::Accused(id, level, policy::FindingKind::Mining));
    }
}

#[test]
fn an_admin_names_another_class_for_miners_or_none() {
    on_a_node(async || {
        for (config, class) in [
            (
                "[egress]\nwhen_throttled_by_evidence = \"none\"\n",
                "standard",
            ),
            (
                "[egress]\nwhen_throttled_by_evidence = \"lab\"\n[egress.classes.lab]\nservices = []\n",
                "lab",
            ),
        ] {
            let mut node = Node::new(Mode::Enforce);
            node.config.egress = Config::parse(config).unwrap().egress;
            node.spawn("alice");
            let (mut daemon, _journal) = node.start();
            node.tick(&mut daemon, 1).await;
            accuse(&mut daemon, "alice", Strength::Certain);
            node.tick(&mut daemon, 1).await;
            assert_eq!(class_of(&node, "alice").as_deref(), Some(class));
        }
    });
}

#[test]
fn who_has_had_the_days_bytes_reaches_the_hub_only_until_midnight_and_over_a_restart() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let config = "[egress.classes.standard]\nbytes_per_day = \"1 GB\"\n";
        node.config.egress = Config::parse(config).unwrap().egress;
        node.spawn("alice");
        node.spawn("bob");
        let (mut daemon, journal) = node.start();
        node.tick(&mut daemon, 1).await;
        let number = |user: &str| {
            let shell = &daemon.shell;
            shell
                .registry
                .entries
                .values()
                .find_map(|entry| match entry {
                    Cgroup::Server(g) if g.server.user.as_str() == user => Some(g.number),
                    _ => None,
                })
        };
        let (alice, bob) = (number("alice").unwrap(), number("bob").unwrap());
        let had = |node: &Node, bytes: &[(u32, u64)]| {
            let traffic = bytes.iter().map(|&(number, bytes)| ::egress::Traffic {
                sender: ::egress::Sender::Mark(number),
                number,
                bytes,
            });
            node.firewall.rules().traffic = traffic.collect();
        };
        had(&node, &[(alice, 999_999_999), (bob, 10)]);
        node.tick(&mut daemon, 1).await;
        assert_eq!(class_of(&node, "alice").as_deref(), Some("standard"));
        had(&node, &[(alice, 1_000_000_000), (bob, 20)]);
        node.tick(&mut daemon, 1).await;
        assert_eq!(class_of(&node, "alice").as_deref(), Some("spent"));
        assert_eq!(class_of(&node, "bob").as_deref(), Some("standard"));
        assert!(
            node.read(&journal)
                .contains("it has had its bytes for today")
        );
        drop(daemon);
        let (mut daemon, _journal) = node.start();
        had(&node, &[]);
        node.tick(&mut daemon, 1).await;
        assert_eq!(
            class_of(&node, "alice").as_deref(),
            Some("spent"),
            "over a restart"
        );
        DAY.set("2026-11-23");
        node.tick(&mut daemon, 1).await;
        assert_eq!(
            class_of(&node, "alice").as_deref(),
            Some("standard"),
            "a new day"
        );
    });
}
