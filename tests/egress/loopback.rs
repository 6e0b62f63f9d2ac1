//! What servers reach on the node itself: their own listeners and the hub, nobody else's.

use crate::{
    bed::{Agent, Link, NODE4, NODE6, Slice},
    outside::{REFUSED, loaded, policy},
};

#[test]
fn a_server_reaches_its_own_listeners_and_the_hub_and_no_others() {
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
}

#[test]
fn connections_older_than_the_rules_live_on_whoever_speaks_first() {
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
}
