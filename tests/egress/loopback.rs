//! What servers reach on the node itself: their own listeners and the hub, nobody else's.

use egress::Firewall;

use crate::{
    bed::{Agent, Link, NODE4, NODE6, Slice, cgroup_id},
    outside::{REFUSED, loaded, policy, tracked_or_not},
};

#[test]
fn a_server_reaches_its_own_listeners_and_the_hub_and_no_others() {
    tracked_or_not(|| {
        let (link, slice) = (Link::new(), Slice::new());
        let mut hub = Agent::new(&link.node, None);
        let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
        let mut bob = Agent::new(
            &link.node,
            Some(&slice.cgroup("system-x.slice/bob@1.service")),
        );
        let elsewhere = Slice::new();
        let mut database = Agent::new(&link.node, Some(&elsewhere.cgroup("database.service")));
        for transport in ["tcp", "udp"] {
            hub.listen(transport, "::", 8099);
            database.listen(transport, "127.0.0.1", 5432);
            for (agent, port) in [(&mut alice, 9001), (&mut bob, 9002)] {
                agent.listen(transport, "127.0.0.1", port);
                agent.listen(transport, "::1", port);
                agent.listen(transport, NODE4, port);
                agent.listen(transport, NODE6, port);
            }
            // Anywhere on all addresses: what `socket wildcard` tells apart must not matter.
            alice.listen(transport, "::", 9003);
            bob.listen(transport, "0.0.0.0", 9004);
        }
        for port in [8081, 15001] {
            hub.listen("tcp", "::", port);
        }
        let mut policy = policy();
        let standard = policy
            .classes
            .get_mut(&"standard".parse().unwrap())
            .unwrap();
        standard.loopback_ports = vec![3128];
        hub.listen("tcp", "127.0.0.1", 3128);
        hub.listen("udp", "127.0.0.53", 53);
        hub.listen("tcp", "127.0.0.53", 53);
        hub.listen("udp", "127.0.0.1", 53);
        policy.resolvers = vec!["127.0.0.53".parse().unwrap()];
        let servers = [alice.admitted(1, "standard"), bob.admitted(2, "standard")];
        let _nft = loaded(&link.node, &policy, &[slice.id()], &servers);

        for address in ["127.0.0.1", "::1", NODE4, NODE6] {
            for transport in ["tcp", "udp"] {
                let check = |agent: &mut Agent, port, reached: bool| {
                    let end = agent.reach(transport, address, port);
                    match (reached, transport) {
                        (true, _) => assert_eq!(end, "ok", "{transport} {address} {port}"),
                        (_, "tcp") => assert_eq!(end, REFUSED, "tcp {address} {port}"),
                        _ => assert_ne!(end, "ok", "udp {address} {port}"),
                    }
                };
                check(&mut alice, 9001, true);
                check(&mut bob, 9002, true);
                check(&mut alice, 9003, true);
                check(&mut alice, 9002, false);
                check(&mut bob, 9001, false);
                check(&mut bob, 9003, false);
                check(&mut alice, 8099, false);
                if !address.contains(':') {
                    check(&mut bob, 9004, true);
                    check(&mut alice, 9004, false);
                }
                // Those who are no servers reach servers, and are answered.
                check(&mut hub, 9001, true);
                check(&mut hub, 9002, true);
            }
            for port in [8081, 15001] {
                assert_eq!(
                    alice.reach("tcp", address, port),
                    "ok",
                    "the hub at {address}"
                );
            }
            assert_eq!(
                alice.reach("tcp", address, 9999),
                "ECONNREFUSED",
                "nobody listens"
            );
            assert_eq!(alice.tell(&format!("ping {address}")), "ok");
        }
        assert_eq!(
            alice.reach("tcp", "127.0.0.1", 5432),
            REFUSED,
            "the hub's database"
        );
        assert_ne!(alice.reach("udp", "127.0.0.1", 5432), "ok");
        assert_eq!(
            alice.reach("tcp", "127.0.0.1", 3128),
            "ok",
            "a port its class may reach"
        );
        assert_eq!(alice.reach("udp", "127.0.0.53", 53), "ok");
        assert_eq!(alice.reach("tcp", "127.0.0.53", 53), "ok");
        assert_ne!(
            alice.reach("udp", "127.0.0.1", 53),
            "ok",
            "not a resolver of ours"
        );
    });
}

#[test]
fn connections_older_than_the_rules_live_on_whoever_speaks_first() {
    tracked_or_not(|| {
        let (link, slice) = (Link::new(), Slice::new());
        let mut proxy = Agent::new(&link.node, None);
        let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
        alice.listen("tcp", "127.0.0.1", 8888);
        assert_eq!(proxy.tell("keep tcp 127.0.0.1 8888"), "ok");
        let servers = [alice.admitted(1, "standard")];
        let _nft = loaded(&link.node, &policy(), &[slice.id()], &servers);
        // Connection tracking begins with the rules and takes the server for the one who began.
        for _ in 0..2 {
            assert_eq!(alice.tell("push"), "ok");
            assert_eq!(proxy.tell("pull"), "ok");
        }
        assert_eq!(proxy.tell("again"), "ok");
    });
}

/// A port of the hub is the hub's: whoever else listens there is reached by nobody but itself.
#[test]
fn a_port_of_the_hub_leads_to_no_users_listener() {
    tracked_or_not(|| {
        let (link, slice, system) = (Link::new(), Slice::new(), Slice::new());
        let mut servers = Vec::new();
        let mut agent = |path: &str, number, class: &str| {
            let agent = Agent::new(&link.node, Some(&slice.cgroup(path)));
            servers.push(agent.admitted(number, class));
            agent
        };
        let mut alice = agent("alice.service", 1, "standard");
        let mut bob = agent("system-x.slice/bob@1.service", 2, "standard");
        let mut carol = agent("carol.service", 3, "closed");
        // A unit that is no server, as a hub that somebody put into the guarded slice.
        let mut exempt = agent("hub.service", 4, "exempt");
        let mut pending = Agent::new(&link.node, Some(&slice.cgroup("pending.service")));
        let cron = system.cgroup("cron.service");
        let mut job = Agent::new(&link.node, Some(&cron));
        let mut hub = Agent::new(&link.node, Some(&system.cgroup("jupyterhub.service")));
        let mut policy = policy();
        policy
            .classes
            .insert("closed".parse().unwrap(), egress::Class::default());
        policy.hub_ports = vec![8081, 8082, 8083, 8084, 8085, 8086];
        let mut nft = loaded(&link.node, &policy, &[slice.id()], &servers);
        let uid_rules = egress::UidRules {
            jobs: [cgroup_id(&cron)].into(),
            ..egress::UidRules::default()
        };
        nft.set_uid_rules(&uid_rules).unwrap();
        assert_eq!(nft.verify().unwrap(), []);

        hub.listen("tcp", "::", 8081);
        bob.listen("tcp", "::", 8082);
        alice.listen("tcp", "127.0.0.1", 8083);
        pending.listen("tcp", "::", 8084);
        job.listen("tcp", "::", 8085);
        exempt.listen("tcp", "::", 8086);
        for address in ["127.0.0.1", NODE4, "::1"] {
            for (who, agent) in [("alice", &mut alice), ("carol", &mut carol)] {
                for (port, reached) in [
                    (8081, true),
                    (8082, false),
                    (8084, false),
                    (8085, false),
                    (8086, true),
                ] {
                    let end = agent.reach("tcp", address, port);
                    let expected = if reached { "ok" } else { REFUSED };
                    assert_eq!(end, expected, "{who} to {address} {port}");
                }
            }
            assert_eq!(pending.reach("tcp", address, 8081), "ok");
            assert_eq!(pending.reach("tcp", address, 8086), "ok");
            for port in [8082, 8085] {
                assert_eq!(pending.reach("tcp", address, port), REFUSED, "{port}");
            }
            assert_eq!(bob.reach("tcp", address, 8082), "ok", "its own");
            assert_eq!(hub.reach("tcp", address, 8082), "ok", "no user's packet");
        }
        assert_eq!(alice.reach("tcp", "127.0.0.1", 8083), "ok");
        assert_eq!(carol.reach("tcp", "127.0.0.1", 8083), REFUSED);

        // The hub starts anew in another cgroup, which nobody has told the rules of.
        drop(hub);
        assert_eq!(alice.reach("tcp", "127.0.0.1", 8081), "ECONNREFUSED");
        let mut hub = Agent::new(&link.node, Some(&system.cgroup("another.service")));
        hub.listen("tcp", "::", 8081);
        assert_eq!(alice.reach("tcp", "127.0.0.1", 8081), "ok");
        assert_eq!(pending.reach("tcp", "127.0.0.1", 8081), "ok");
    });
}

/// Datagrams to all are not judged by who listens: one socket is found for them, and all get them.
#[test]
fn a_datagram_to_all_listeners_of_loopback_reaches_none() {
    tracked_or_not(|| {
        let (link, slice) = (Link::new(), Slice::new());
        let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
        let mut bob = Agent::new(&link.node, Some(&slice.cgroup("bob.service")));
        let mut pending = Agent::new(&link.node, Some(&slice.cgroup("pending.service")));
        let servers = [alice.admitted(1, "standard"), bob.admitted(2, "standard")];
        let _nft = loaded(&link.node, &policy(), &[slice.id()], &servers);
        for port in [53, 8081, 9000] {
            for listener in [&mut alice, &mut bob] {
                assert_eq!(listener.tell(&format!("sink 0.0.0.0 {port}")), "ok");
            }
            for address in [
                "127.255.255.255",
                "127.0.0.0",
                "192.0.2.255",
                "255.255.255.255",
            ] {
                for sender in [&mut alice, &mut pending] {
                    sender.tell(&format!("flood {address} {port} 3"));
                }
            }
            assert_eq!(bob.tell("sunk"), "0", "port {port}");
        }
        bob.tell("flood 127.0.0.1 9000 3");
        assert_eq!(bob.tell("sunk"), "3", "its own");
    });
}
