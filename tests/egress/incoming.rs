//! What leaves without a socket of its sender, or goes on from where it is sent to.

use egress::{Class, Firewall};

use crate::{
    bed::{Agent, HOST4, HOST6, Link, METADATA6, NODE4, NODE6, Slice},
    outside::{loaded, policy},
};

#[test]
fn a_listener_of_a_user_answers_nobody_but_a_proxy() {
    let (link, slice) = (Link::new(), Slice::new());
    let mut host = Agent::new(&link.host, None);
    let mut other = Agent::new(&link.node, None);
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let mut carol = Agent::new(
        &link.node,
        Some(&slice.cgroup("system-x.slice/carol@1.service")),
    );
    let mut exempt = Agent::new(&link.node, Some(&slice.cgroup("tool.service")));
    let mut pending = Agent::new(&link.node, Some(&slice.cgroup("pending.service")));
    let mut policy = policy();
    policy.proxies.clear();
    policy
        .classes
        .insert("closed".parse().unwrap(), Class::default());
    let servers = [
        alice.admitted(1, "standard"),
        carol.admitted(2, "closed"),
        exempt.admitted(3, "exempt"),
    ];
    let mut nft = loaded(&link.node, &policy, &[slice.id()], &servers);
    for (agent, port) in [
        (&mut other, 7000),
        (&mut alice, 7001),
        (&mut carol, 7002),
        (&mut exempt, 7003),
        (&mut pending, 7004),
    ] {
        agent.listen("tcp", "::", port);
    }
    for address in [NODE4, NODE6] {
        for (port, reached) in [
            (7000, true),
            (7001, false),
            (7002, false),
            (7003, true),
            (7004, false),
        ] {
            let end = host.reach("tcp", address, port);
            // Without rules for it the first packet is answered, and what comes next is refused.
            let expected = if reached { "ok" } else { "ECONNREFUSED" };
            assert_eq!(end, expected, "{address} {port}");
        }
        assert_eq!(other.reach("tcp", address, 7001), "ok", "on this node");
    }
    let refused = nft.refused().unwrap();
    let of = |number| {
        refused
            .iter()
            .filter(|one| one.number == Some(number))
            .count()
    };
    assert_eq!((of(1), of(2)), (1, 1), "{refused:?}");

    policy.proxies = [HOST4, HOST6]
        .map(|one| one.parse::<std::net::IpAddr>().unwrap().into())
        .into();
    nft.load(&policy, &[slice.id()], &servers).unwrap();
    assert_eq!(nft.verify().unwrap(), []);
    for address in [NODE4, NODE6] {
        assert_eq!(host.reach("tcp", address, 7001), "ok", "the proxy");
    }
}

#[test]
fn a_packet_that_its_sender_routes_on_is_refused() {
    let (link, slice) = (Link::new(), Slice::new());
    for device in ["all", "default", "host0", "lo"] {
        let setting = format!("net.ipv6.conf.{device}.seg6_enabled=1");
        link.host.exec("sysctl", &["-qw", &setting]);
    }
    let mut host = Agent::new(&link.host, None);
    host.listen("tcp", "::", 80);
    let mut other = Agent::new(&link.node, None);
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let servers = [alice.admitted(1, "standard")];
    let mut nft = loaded(&link.node, &policy(), &[slice.id()], &servers);
    let routed = format!("reach_via {HOST6} {METADATA6} 80");
    // The network would take it on: the host outside is one that does.
    assert_eq!(other.tell(&routed), "ok");
    // The reset names the host on the way, which the socket does not speak with.
    assert_eq!(alice.tell(&routed), "ETIMEDOUT");
    let refused = nft.refused().unwrap();
    assert!(
        refused.iter().any(|one| one.number == Some(1)),
        "{refused:?}"
    );
    assert_eq!(alice.reach("tcp", HOST6, 80), "ok");
}

#[test]
fn what_a_listener_answers_its_own_server_is_not_routed_to_elsewhere() {
    let (link, slice) = (Link::new(), Slice::new());
    let seen = || {
        let list = link
            .host
            .exec("nft", &["list", "chain", "ip6", "seen", "routed"]);
        let count = list.split("packets ").nth(1).unwrap();
        count.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    for line in [
        "add table ip6 seen",
        "add chain ip6 seen routed { type filter hook prerouting priority -300 ; }",
        "add rule ip6 seen routed ip6 nexthdr 43 counter",
    ] {
        link.host.exec("nft", &line.split(' ').collect::<Vec<_>>());
    }
    let mut root = Agent::new(&link.node, None);
    let mut alice = Agent::of(&link.node, Some(&slice.cgroup("alice.service")), 4711);
    let mut policy = policy();
    policy
        .classes
        .insert("closed".parse().unwrap(), Class::default());
    let servers = [alice.admitted(1, "closed")];
    let _nft = loaded(&link.node, &policy, &[slice.id()], &servers);
    alice.tell(&format!("answer_via {HOST6} {NODE6} 7001"));
    assert_eq!(seen(), 0);
    // The same of a service is its own matter, and would arrive.
    root.tell(&format!("answer_via {HOST6} {NODE6} 7002"));
    assert_ne!(seen(), 0);
}
