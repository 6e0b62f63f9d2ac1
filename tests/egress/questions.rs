//! Forged answers: from the resolver's own address and port, to the port that asked.

use std::time::{Duration, Instant};

use egress::Firewall;

use crate::{
    bed::{Agent, HOST4, Link, Slice, cgroup_id},
    bridges::{Bed, server},
    names::{OTHER4, Reading, THIRD4, ask, host, named_policy},
    outside::REFUSED,
};

/// What is forged: an answer with another number, to another name, of another type, and one more
/// after the resolver's.
const KINDS: [&str; 4] = ["id", "name", "type", "again"];

/// Has the resolver forge an answer with the address of a host whose name nobody asks for.
fn forge(host: &mut Agent, name: &str, kind: &str) {
    let how = format!("odd {name} {kind}:{THIRD4}");
    assert_eq!(host.tell(&how), "ok");
}

/// Asks by a socket that stays open for what comes after the answer.
fn ask_on(agent: &mut Agent, transport: &str, name: &str) -> String {
    agent.tell(&format!("ask {transport} {HOST4} {name} A stays"))
}

/// Waits for both answers to have been read.
fn until(what: &str, done: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < patience, "{what}: not both were read");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn an_answer_to_nothing_that_was_asked_opens_nothing() {
    let (link, slice) = (Link::new(), Slice::new());
    let mut host = host(&link);
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let reading = Reading::new(
        &link.node,
        &named_policy(&["*"]),
        &[slice.id()],
        &[alice.admitted(1, "named")],
    );
    assert_eq!(reading.nft().verify().unwrap(), []);
    for kind in KINDS {
        forge(&mut host, "brief.example", kind);
        let before = reading.tally();
        let answer = ask_on(&mut alice, "udp", "brief.example");
        assert_eq!(answer, format!("NOERROR {OTHER4}"), "{kind}");
        assert_eq!(alice.reach("tcp", OTHER4, 80), "ok", "{kind}");
        until(kind, || reading.tally().unasked == before.unasked + 1);
        assert_eq!(alice.reach("tcp", THIRD4, 80), REFUSED, "{kind}");
    }
    // In a stream nothing is read behind an answer that was not asked for.
    for kind in ["id", "name", "type"] {
        forge(&mut host, "cut.example", kind);
        let answer = ask(&mut alice, "tcp", "cut.example", "A");
        assert_eq!(answer, "ETIMEDOUT", "{kind}");
        assert_eq!(alice.reach("tcp", THIRD4, 80), REFUSED, "{kind}");
    }
    assert_eq!(reading.tally().malformed, 0);
}

#[test]
fn what_is_forged_to_a_relay_or_a_container_opens_nothing() {
    let (link, slice, system) = (Link::new(), Slice::new(), Slice::new());
    let mut outside = host(&link);
    let resolved = system.cgroup("resolved.service");
    let mut stub = Agent::new(&link.node, Some(&resolved));
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let mut policy = named_policy(&["*"]);
    policy.relays = vec![cgroup_id(&resolved)];
    let servers = [alice.admitted(1, "named")];
    let reading = Reading::new(&link.node, &policy, &[], &servers);
    for kind in KINDS {
        forge(&mut outside, "brief.example", kind);
        let before = reading.tally();
        ask_on(&mut stub, "udp", "brief.example");
        until(kind, || reading.tally().read == before.read + 2);
        assert_eq!(alice.reach("tcp", THIRD4, 80), REFUSED, "{kind}");
    }
    let answer = ask(&mut stub, "udp", "cut.example", "A");
    assert_eq!(answer, "TRUNCATED");
    assert_eq!(
        ask(&mut stub, "tcp", "cut.example", "A"),
        format!("NOERROR {OTHER4}")
    );
    assert_eq!(alice.reach("tcp", OTHER4, 80), "ok");
    drop(reading);

    let bed = Bed::new(1);
    let mut outside = host(&bed.link);
    let mut carol = bed.agent(0);
    let reading = Reading::new(&bed.link.node, &named_policy(&["*"]), &[], &[]);
    let mut bridges = bed.bridges();
    let port = bed.port_of(&carol);
    let mut contained = server(1, 0);
    contained.class = "named".parse().unwrap();
    bridges.servers.insert(port, contained);
    reading.nft().set_bridges(&bridges).unwrap();
    for transport in ["udp", "tcp"] {
        for kind in KINDS {
            forge(&mut outside, "brief.example", kind);
            let before = reading.tally();
            ask_on(&mut carol, transport, "brief.example");
            until(kind, || reading.tally().read == before.read + 2);
            assert_eq!(
                carol.reach("tcp", THIRD4, 80),
                REFUSED,
                "{transport} {kind}"
            );
        }
    }
    outside.tell("odd brief.example none");
    let answer = ask(&mut carol, "tcp", "brief.example", "A");
    assert_eq!(answer, format!("NOERROR {OTHER4}"));
    assert_eq!(carol.reach("tcp", OTHER4, 80), "ok");
}

#[test]
fn a_resolver_on_loopback_is_asked_by_either_transport() {
    let (link, slice) = (Link::new(), Slice::new());
    let mut stub = Agent::new(&link.node, None);
    let _host = host(&link);
    assert_eq!(stub.tell("serve 127.0.0.53"), "ok");
    for record in [
        format!("good.example A 300 {OTHER4}"),
        format!("other.example A 300 {THIRD4}"),
    ] {
        assert_eq!(stub.tell(&format!("zone {record}")), "ok");
    }
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let mut policy = named_policy(&["*"]);
    policy.resolvers = vec!["127.0.0.53".parse().unwrap()];
    let servers = [alice.admitted(1, "named")];
    let reading = Reading::new(&link.node, &policy, &[], &servers);
    for (transport, name, address) in [
        ("udp", "good.example", OTHER4),
        ("tcp", "other.example", THIRD4),
    ] {
        assert_eq!(alice.reach("tcp", address, 80), REFUSED);
        let answer = alice.tell(&format!("ask {transport} 127.0.0.53 {name} A"));
        assert_eq!(answer, format!("NOERROR {address}"));
        assert_eq!(alice.reach("tcp", address, 80), "ok", "{transport}");
    }
    assert_eq!((reading.tally().unasked, reading.tally().malformed), (0, 0));
    assert_eq!(alice.reach("tcp", HOST4, 80), REFUSED);
}
