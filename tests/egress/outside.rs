//! What servers reach beyond the node, over both families.

use std::cell::Cell;

use egress::{Admitted, CgroupId, Class, ClassName, Firewall, Kernel, Mode, Policy, Tracking};

use crate::bed::{Agent, HOST4, HOST6, Link, METADATA4, METADATA6, NODE4, NODE6, Netns, Slice};

/// What a refused TCP connection ends with: a reset, over either family.
pub const REFUSED: &str = "ECONNREFUSED";

thread_local! {
    static TRACKING: Cell<Tracking> = Cell::default();
}

/// Tries this where connections are tracked by others too, where entries of the kernel's table are counted,
/// and where nothing is tracked.
pub fn tracked_or_not(test: impl Fn()) {
    for (by_others, most) in [(true, 0), (true, 65_536), (false, 65_536)] {
        let most = most.try_into().ok();
        TRACKING.set(Tracking { by_others, most });
        test();
    }
}

pub fn policy() -> Policy {
    let mut policy = Policy::standard(Mode::Enforce);
    policy.tracking = TRACKING.get();
    policy.resolvers = vec![HOST4.parse().unwrap(), HOST6.parse().unwrap()];
    policy
        .classes
        .insert("nothing".parse().unwrap(), Class::default());
    policy
}

/// A driver in the node's namespace.
pub fn loaded(node: &Netns, policy: &Policy, guarded: &[CgroupId], servers: &[Admitted]) -> Kernel {
    node.within(|| {
        let mut nft = Kernel::open().unwrap();
        nft.load(policy, guarded, servers).unwrap();
        nft
    })
}

fn host(link: &Link) -> Agent {
    let mut host = Agent::new(&link.host, None);
    for port in [22, 53, 80, 443, 873, 4444, 8080, 9418] {
        host.listen("tcp", "::", port);
    }
    for port in [53, 443] {
        for address in [HOST4, HOST6, METADATA4] {
            host.listen("udp", address, port);
        }
    }
    host
}

/// Refused with an error at once: the program does not wait for an answer in vain.
pub fn assert_refused(answer: &str, what: &str) {
    let waited = ["EAGAIN", "EINPROGRESS", "ETIMEDOUT"];
    assert!(
        answer != "ok" && !waited.contains(&answer),
        "{what}: {answer}"
    );
}

#[test]
fn a_server_reaches_its_classes_services_and_is_refused_the_rest_at_once() {
    tracked_or_not(|| {
        let (link, slice) = (Link::new(), Slice::new());
        let _host = host(&link);
        let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
        let mut deep = Agent::new(
            &link.node,
            Some(&slice.cgroup("system-x.slice/x@1.service")),
        );
        let servers = [alice.admitted(1, "standard"), deep.admitted(2, "standard")];
        assert_eq!((servers[0].level, servers[1].level), (2, 3));
        let _nft = loaded(&link.node, &policy(), &[], &servers);

        let mapped = format!("::ffff:{HOST4}");
        for agent in [&mut alice, &mut deep] {
            for address in [HOST4, HOST6, &mapped] {
                for port in [53, 80, 443, 873, 9418] {
                    assert_eq!(agent.reach("tcp", address, port), "ok", "{address} {port}");
                }
                for port in [22, 4444, 8080, 9999] {
                    assert_eq!(
                        agent.reach("tcp", address, port),
                        REFUSED,
                        "{address} {port}"
                    );
                }
            }
            for address in [HOST4, HOST6] {
                assert_eq!(agent.reach("udp", address, 53), "ok", "{address}");
                assert_refused(&agent.reach("udp", address, 443), address);
                assert_refused(&agent.tell(&format!("ping {address}")), address);
            }
            for (address, port) in [(METADATA4, 80), (METADATA6, 80), (METADATA4, 53)] {
                assert_eq!(agent.reach("tcp", address, port), REFUSED, "{address}");
            }
            assert_ne!(
                agent.reach("udp", METADATA4, 53),
                "ok",
                "not a resolver of ours"
            );
        }
    });
}

#[test]
fn a_resolver_may_be_at_a_denied_address() {
    let (link, slice) = (Link::new(), Slice::new());
    let _host = host(&link);
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let mut policy = policy();
    policy.resolvers = vec![METADATA4.parse().unwrap()];
    let _nft = loaded(&link.node, &policy, &[], &[alice.admitted(1, "standard")]);
    assert_eq!(alice.reach("udp", METADATA4, 53), "ok");
    assert_eq!(alice.reach("tcp", METADATA4, 80), REFUSED);
    assert_ne!(alice.reach("udp", HOST4, 53), "ok");
}

#[test]
fn a_unit_not_known_yet_can_register_with_the_hub_and_reaches_nothing_else_and_others_are_untouched()
 {
    tracked_or_not(|| {
        let (link, slice) = (Link::new(), Slice::new());
        let _host = host(&link);
        let mut hub = Agent::new(&link.node, None);
        let elsewhere = Slice::new();
        let mut other = Agent::new(&link.node, Some(&elsewhere.cgroup("other.service")));
        let mut new = Agent::new(&link.node, Some(&slice.cgroup("new.service")));
        hub.listen("tcp", "::", 8081);
        hub.listen("udp", "127.0.0.1", 8081);
        new.listen("tcp", "127.0.0.1", 7000);
        let _nft = loaded(&link.node, &policy(), &[slice.id()], &[]);

        let (there, here) = (
            [HOST4, HOST6, METADATA4],
            ["127.0.0.1", "::1", NODE4, NODE6],
        );
        for address in there.into_iter().chain(here) {
            for port in [53, 80, 443, 8001, 9999] {
                assert_eq!(new.reach("tcp", address, port), REFUSED, "{address} {port}");
            }
            assert_refused(&new.reach("udp", address, 53), address);
        }
        for address in there {
            assert_eq!(new.reach("tcp", address, 8081), REFUSED, "{address}");
        }
        for address in here {
            assert_eq!(
                new.reach("tcp", address, 8081),
                "ok",
                "the hub at {address}"
            );
        }
        assert_ne!(new.reach("udp", "127.0.0.1", 8081), "ok");
        assert_ne!(new.reach("tcp", "127.0.0.1", 7000), "ok", "not even itself");
        let looks = hub.reach("tcp", "127.0.0.1", 7000);
        assert_eq!(looks, "ok", "the hub looks whether it answers");

        for agent in [&mut hub, &mut other] {
            for (address, port) in [(HOST4, 4444), (HOST6, 22), (METADATA4, 80), ("::1", 8081)] {
                assert_eq!(agent.reach("tcp", address, port), "ok", "{address} {port}");
            }
            assert_eq!(agent.reach("tcp", "127.0.0.1", 9999), "ECONNREFUSED");
            assert_eq!(agent.tell(&format!("ping {HOST4}")), "ok");
        }
    });
}

#[test]
fn admitting_and_forgetting_count_from_the_next_packet() {
    let (link, slice) = (Link::new(), Slice::new());
    let _host = host(&link);
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let admitted = alice.admitted(1, "standard");
    let cgroup = admitted.cgroup;
    let mut nft = loaded(&link.node, &policy(), &[slice.id()], &[]);
    for _ in 0..3 {
        assert_eq!(alice.reach("tcp", HOST4, 80), REFUSED);
        nft.admit(std::slice::from_ref(&admitted)).unwrap();
        assert_eq!(alice.reach("tcp", HOST4, 80), "ok");
        nft.forget(&[cgroup]).unwrap();
    }
    nft.set_guarded(&[]).unwrap();
    assert_eq!(
        alice.reach("tcp", HOST4, 4444),
        "ok",
        "neither a server nor guarded"
    );
    nft.admit(std::slice::from_ref(&admitted)).unwrap();
    nft.reclass(&[(cgroup, ClassName::exempt())]).unwrap();
    assert_eq!(alice.reach("tcp", METADATA4, 80), "ok", "exempt");

    nft.reclass(&[(cgroup, "standard".parse().unwrap())])
        .unwrap();
    assert_eq!(alice.tell(&format!("keep tcp {HOST4} 80")), "ok");
    assert_eq!(alice.tell("again"), "ok");
    nft.reclass(&[(cgroup, "nothing".parse().unwrap())])
        .unwrap();
    assert_ne!(
        alice.tell("again"),
        "ok",
        "an established flow is cut by a new class"
    );
    assert_eq!(nft.verify().unwrap(), []);

    drop(nft);
    assert_eq!(
        alice.reach("tcp", HOST4, 80),
        REFUSED,
        "rules outlive the daemon"
    );
}

#[test]
fn observing_refuses_nothing() {
    tracked_or_not(|| {
        let (link, slice) = (Link::new(), Slice::new());
        let _host = host(&link);
        let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
        let mut new = Agent::new(&link.node, Some(&slice.cgroup("new.service")));
        let mut bob = Agent::new(&link.node, Some(&slice.cgroup("bob.service")));
        bob.listen("tcp", "127.0.0.1", 9000);
        let policy = Policy {
            mode: Mode::Observe,
            ..policy()
        };
        let servers = [alice.admitted(1, "nothing"), bob.admitted(2, "nothing")];
        let _nft = loaded(&link.node, &policy, &[slice.id()], &servers);
        for agent in [&mut alice, &mut new] {
            for (address, port) in [
                (HOST4, 4444),
                (HOST6, 22),
                (METADATA4, 80),
                ("127.0.0.1", 9000),
            ] {
                assert_eq!(agent.reach("tcp", address, port), "ok", "{address} {port}");
            }
            assert_eq!(agent.reach("udp", HOST4, 443), "ok");
            assert_eq!(agent.tell(&format!("ping {HOST6}")), "ok");
        }
    });
}

#[test]
fn a_proxy_on_another_host_is_answered_and_no_other_host() {
    tracked_or_not(|| {
        let (link, slice) = (Link::new(), Slice::new());
        let mut outside = host(&link);
        let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
        alice.listen("tcp", "::", 8888);
        let servers = [alice.admitted(1, "standard")];
        let mut nft = loaded(&link.node, &policy(), &[], &servers);
        assert_ne!(outside.reach("tcp", NODE4, 8888), "ok");
        let mut policy = policy();
        policy.proxies = vec![format!("{HOST4}/32").parse().unwrap()];
        nft.load(&policy, &[], &servers).unwrap();
        assert_eq!(outside.reach("tcp", NODE4, 8888), "ok");
        assert_ne!(outside.reach("tcp", NODE6, 8888), "ok");
        assert_eq!(alice.reach("tcp", HOST4, 4444), REFUSED, "answers, no more");
    });
}

#[test]
fn replacing_the_table_lets_no_packet_through() {
    let (link, slice) = (Link::new(), Slice::new());
    let mut host = Agent::new(&link.host, None);
    host.tell(&format!("sink {HOST4} 7777"));
    let mut new = Agent::new(&link.node, Some(&slice.cgroup("new.service")));
    let guarded = [slice.id()];
    let mut nft = loaded(&link.node, &policy(), &guarded, &[]);
    let mut loads = 0;
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| new.tell(&format!("flood {HOST4} 7777 60000")));
        while !flood.is_finished() {
            nft.load(&policy(), &guarded, &[]).unwrap();
            loads += 1;
        }
        assert_eq!(flood.join().unwrap(), "ok");
    });
    assert!(loads > 5, "only {loads} loads during the flood");
    assert_eq!(host.tell("sunk"), "0");
    nft.remove().unwrap();
    new.tell(&format!("flood {HOST4} 7777 10"));
    assert_ne!(host.tell("sunk"), "0", "the sink works");
}
