//! The kernel's table of connections, as it fills and empties.

use super::*;
use crate::daemon::connections::Connections;

#[test]
fn little_room_is_told_once_with_who_sends_most_and_so_is_that_it_is_over() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Observe);
        for user in ["alice", "bob"] {
            node.spawn(user);
        }
        let (mut daemon, journal) = node.start();
        node.tick(&mut daemon, 1).await;
        node.read(&journal);
        let shell = &mut daemon.shell;
        for (id, entry) in &shell.registry.entries {
            if let Cgroup::Server(guarded) = entry {
                let packets = if guarded.server.user.as_str() == "bob" {
                    9000
                } else {
                    10
                };
                shell.network.counters.sent.insert(*id, (packets, 0));
            }
        }
        let room = "room for connections again";
        let who = "Most packets in the last tick: bob (9000), alice (10)";
        for (entries, told, is_shown) in [
            (Some(740), None, false),
            (Some(760), Some(who), true),
            (Some(990), None, true),
            (Some(600), None, true),
            (Some(490), Some(room), false),
            (Some(740), None, false),
            (Some(800), Some(who), true),
            (None, None, false),
        ] {
            shell.note_connections(entries.map(|entries| Connections {
                entries,
                most: 1000,
            }));
            let lines = node.read(&journal);
            assert_eq!(lines.is_empty(), told.is_none(), "{entries:?}: {lines}");
            assert!(
                lines.contains(told.unwrap_or_default()),
                "{entries:?}: {lines}"
            );
            assert_eq!(shell.connections_lack().is_some(), is_shown, "{entries:?}");
        }
    });
}

#[test]
fn the_rules_follow_whether_others_track_connections_and_status_names_who_fills_the_table() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        node.firewall.rules().tracking.by_others = false;
        let (mut daemon, journal) = node.start();
        node.tick(&mut daemon, 1).await;
        let tracking = || {
            let rules = node.firewall.rules();
            rules.policy.as_ref().map(|policy| policy.tracking)
        };
        assert_eq!(tracking().map(|now| now.by_others), Some(false));
        let now = ::egress::Tracking {
            by_others: true,
            most: 65_536.try_into().ok(),
        };
        node.firewall.rules().tracking = now;
        daemon.tick_once();
        assert_eq!(tracking(), Some(now), "another program's rules came");

        assert_eq!(daemon.shell.connections_lack(), None);
        let number = node
            .firewall
            .rules()
            .admitted
            .values()
            .next()
            .unwrap()
            .number;
        let refused = ::egress::Refused {
            number: Some(number),
            packets: 9,
            entries: 9,
            ..::egress::Refused::default()
        };
        node.firewall.rules().refused = vec![refused];
        daemon.tick_once();
        let lack = daemon.shell.connections_lack().unwrap();
        assert!(
            lack.contains("are refused new connections: alice"),
            "{lack}"
        );
        daemon.tick_once();
        assert_eq!(daemon.shell.connections_lack(), None);
        node.read(&journal);
    });
}
