//! Host names in classes: a resolver outside, a reader as the daemon has it, real sockets.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use egress::{
    Admitted, CgroupId, Class, Firewall, Kernel, Mode, Policy, Service,
    lists::{List, parse},
    names::{Asked, Counts, DeniedBy, Queueing, Reader, Scarce, Sender, Tally},
};
use tokio::sync::mpsc;

use crate::{
    bed::{Agent, HOST4, HOST6, Link, Netns, Slice},
    outside::{REFUSED, policy, tracked_or_not},
};

/// More of the outside host's addresses.
pub const OTHER4: &str = "192.0.2.3";
const OTHER6: &str = "2001:db8:72::3";
pub const THIRD4: &str = "192.0.2.4";

/// A table in the node's namespace and a thread that reads answers for it.
pub struct Reading {
    nft: Arc<Mutex<Kernel>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    counts: Arc<Counts>,
    pub asked: mpsc::Receiver<Asked>,
}

impl Reading {
    pub fn new(node: &Netns, policy: &Policy, guarded: &[CgroupId], servers: &[Admitted]) -> Self {
        let nft = node.within(|| {
            let mut nft = Kernel::open().unwrap();
            assert_ne!(
                nft.queueing().unwrap(),
                Queueing::Missing,
                "this kernel queues no packets: it needs CONFIG_NFT_QUEUE, or CONFIG_NFT_COMPAT \
                 with CONFIG_NETFILTER_XT_TARGET_NFQUEUE"
            );
            nft.load(policy, guarded, servers).unwrap();
            nft
        });
        let (tell, asked) = mpsc::channel(64);
        let mut reading = Self {
            nft: Arc::new(Mutex::new(nft)),
            stop: Arc::default(),
            thread: None,
            counts: Arc::default(),
            asked,
        };
        reading.start(node, policy, tell);
        reading
    }

    fn start(&mut self, node: &Netns, policy: &Policy, tell: mpsc::Sender<Asked>) {
        let (nft, counts) = (Arc::clone(&self.nft), Arc::clone(&self.counts));
        // The socket belongs to the namespace of the thread that opens it.
        let mut reader = node.within(|| Reader::open(policy.dns_queue, nft, counts, tell).unwrap());
        self.stop = Arc::default();
        let stop = Arc::clone(&self.stop);
        self.thread = Some(std::thread::spawn(move || reader.run(&stop).unwrap()));
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    pub fn nft(&self) -> std::sync::MutexGuard<'_, Kernel> {
        self.nft.lock().unwrap()
    }

    /// By whom how much was over its share since this was asked last.
    pub fn over(&self) -> BTreeMap<(Sender, Scarce), u64> {
        self.counts.take_over()
    }

    pub fn tally(&self) -> Tally {
        self.counts.tally()
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.end();
    }
}

pub fn names(names: &[&str]) -> Vec<egress::names::NamePattern> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// `standard`, and `named`, which reaches HTTP by name only.
pub fn named_policy(reached: &[&str]) -> Policy {
    let mut policy = policy();
    let class = Class {
        names: names(reached),
        ..Class::standard()
    };
    policy.classes.insert("named".parse().unwrap(), class);
    policy
}

/// The outside host with a resolver, and web servers at each of its addresses.
pub fn host(link: &Link) -> Agent {
    for address in [OTHER4, THIRD4] {
        link.host.ip(&format!("address add {address}/24 dev host0"));
    }
    link.host
        .ip(&format!("address add {OTHER6}/64 dev host0 nodad"));
    let mut host = Agent::new(&link.host, None);
    for port in [80, 853] {
        host.listen("tcp", "::", port);
    }
    for address in [HOST4, HOST6] {
        assert_eq!(host.tell(&format!("serve {address}")), "ok");
    }
    for record in [
        format!("good.example A 300 {OTHER4}"),
        format!("good.example AAAA 300 {OTHER6}"),
        format!("other.example A 300 {THIRD4}"),
        "www.sub.example CNAME 300 good.example".to_owned(),
        format!("brief.example A 1 {OTHER4}"),
        format!("cut.example A 300 {OTHER4}"),
        format!("broken.example A 300 {OTHER4}"),
        "alpn.example HTTPS 300 00010000040004c0000242".to_owned(),
        format!("alpn.example A 300 {OTHER4}"),
    ] {
        assert_eq!(host.tell(&format!("zone {record}")), "ok");
    }
    host.tell("odd cut.example truncated");
    host.tell("odd broken.example malformed");
    host
}

pub fn ask(agent: &mut Agent, transport: &str, name: &str, kind: &str) -> String {
    agent.tell(&format!("ask {transport} {HOST4} {name} {kind}"))
}

#[test]
fn a_class_with_names_reaches_what_they_resolve_to_and_nothing_else() {
    tracked_or_not(|| {
        let (link, slice) = (Link::new(), Slice::new());
        let _host = host(&link);
        let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
        let mut deep = Agent::new(
            &link.node,
            Some(&slice.cgroup("system-x.slice/x@1.service")),
        );
        let policy = named_policy(&["good.example", "*.sub.example"]);
        let servers = [alice.admitted(1, "named"), deep.admitted(2, "named")];
        let reading = Reading::new(&link.node, &policy, &[slice.id()], &servers);
        assert_eq!(reading.nft().verify().unwrap(), []);

        for address in [OTHER4, OTHER6, THIRD4] {
            assert_eq!(alice.reach("tcp", address, 80), REFUSED, "{address}");
        }
        let resolved = format!("NOERROR {OTHER4}");
        assert_eq!(ask(&mut alice, "udp", "good.example", "A"), resolved);
        // At once: the address is there before the answer.
        assert_eq!(alice.reach("tcp", OTHER4, 80), "ok");
        assert_eq!(
            deep.reach("tcp", OTHER4, 80),
            "ok",
            "a class's, not a server's"
        );
        assert_eq!(alice.reach("tcp", OTHER6, 80), REFUSED);
        let resolved = format!("NOERROR {OTHER6}");
        assert_eq!(
            alice.tell(&format!("ask udp {HOST6} good.example AAAA")),
            resolved
        );
        assert_eq!(alice.reach("tcp", OTHER6, 80), "ok");

        let resolved = format!("NOERROR {THIRD4}");
        assert_eq!(ask(&mut deep, "udp", "other.example", "A"), resolved);
        assert_eq!(
            deep.reach("tcp", THIRD4, 80),
            REFUSED,
            "not one of its names"
        );
        assert_eq!(
            alice.reach("tcp", OTHER4, 853),
            REFUSED,
            "no service, and never one by name"
        );
        assert_eq!(ask(&mut alice, "udp", "absent.example", "A"), "NXDOMAIN");
        assert_eq!(reading.tally().malformed, 0);
        assert_eq!(reading.nft().verify().unwrap(), []);
        let list = link
            .node
            .exec("nft", &["list", "set", "inet", "hubwarden", "names4_named"]);
        assert!(list.contains("comment \"good.example\""), "{list}");
    });
}

#[test]
fn chains_streams_and_odd_answers_are_read_as_they_should() {
    let (link, slice) = (Link::new(), Slice::new());
    let mut host = host(&link);
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let policy = named_policy(&[
        "*.sub.example",
        "cut.example",
        "broken.example",
        "alpn.example",
    ]);
    let servers = [alice.admitted(1, "named")];
    for (transport, name) in [("udp", "www.sub.example"), ("tcp", "www.sub.example")] {
        let reading = Reading::new(&link.node, &policy, &[], &servers);
        assert_eq!(
            ask(&mut alice, transport, name, "A"),
            format!("NOERROR {OTHER4}")
        );
        assert_eq!(alice.reach("tcp", OTHER4, 80), "ok", "{transport}");
        drop(reading);
        link.node
            .within(|| Kernel::open().unwrap().remove().unwrap());
    }
    for size in [1, 7, 40] {
        host.tell(&format!("pieces {size}"));
        let reading = Reading::new(&link.node, &policy, &[], &servers);
        let answer = ask(&mut alice, "tcp", "www.sub.example", "A");
        assert_eq!(answer, format!("NOERROR {OTHER4}"), "in pieces of {size}");
        assert_eq!(alice.reach("tcp", OTHER4, 80), "ok", "in pieces of {size}");
        drop(reading);
        link.node
            .within(|| Kernel::open().unwrap().remove().unwrap());
    }
    host.tell("pieces 0");

    let reading = Reading::new(&link.node, &policy, &[], &servers);
    assert_eq!(ask(&mut alice, "udp", "alpn.example", "HTTPS"), "NOERROR");
    assert_eq!(
        alice.reach("tcp", OTHER4, 80),
        REFUSED,
        "a hint is no address"
    );
    assert_eq!(ask(&mut alice, "udp", "broken.example", "A"), "ETIMEDOUT");
    assert_eq!(alice.reach("tcp", OTHER4, 80), REFUSED);
    assert_eq!(ask(&mut alice, "udp", "cut.example", "A"), "TRUNCATED");
    assert_eq!(
        alice.reach("tcp", OTHER4, 80),
        REFUSED,
        "nothing is learned from half an answer"
    );
    assert_eq!(
        ask(&mut alice, "tcp", "cut.example", "A"),
        format!("NOERROR {OTHER4}")
    );
    assert_eq!(alice.reach("tcp", OTHER4, 80), "ok");
    let tally = reading.tally();
    assert_eq!(
        (tally.malformed, tally.truncated, tally.failed),
        (1, 1, 0),
        "{tally:?}"
    );
    // What an earlier reader had not let go when it ended is sent again, and dropped: its stream was
    // not seen from its beginning.
    assert!(tally.dropped >= 1 && tally.overrun == 0, "{tally:?}");
    // Each that is malformed counts.
    assert_eq!(ask(&mut alice, "udp", "broken.example", "A"), "ETIMEDOUT");
    assert_eq!(
        reading.tally(),
        Tally {
            malformed: 2,
            dropped: tally.dropped + 1,
            ..tally
        }
    );
}

/// A queue keeps so many; of a class with names the rest is lost, and counted.
#[test]
fn answers_that_the_kernel_cannot_keep_are_counted() {
    let (link, slice) = (Link::new(), Slice::new());
    let _host = host(&link);
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let policy = named_policy(&["good.example"]);
    // One alone may not ask so much.
    let units = (1..11).map(|number| slice.cgroup(&format!("{number}.service")));
    let units: Vec<_> = units.collect();
    let admitted = |(number, unit): (u32, &std::path::PathBuf)| Admitted {
        cgroup: crate::bed::cgroup_id(unit),
        ..alice.admitted(number, "named")
    };
    let servers: Vec<_> = (1..).zip(&units).map(admitted).collect();
    let mut reading = Reading::new(&link.node, &policy, &[], &servers);
    reading.end();
    let (nft, counts) = (Arc::clone(&reading.nft), Arc::clone(&reading.counts));
    let (tell, _asked) = mpsc::channel(64);
    let mut reader = link
        .node
        .within(|| Reader::open(policy.dns_queue, nft, counts, tell).unwrap());
    // 4,096 questions wait for somebody to read them, the others go on; and of their answers as many.
    for unit in &units {
        assert_eq!(alice.tell(&format!("become {} 0", unit.display())), "ok");
        let sent = alice.tell(&format!("storm {HOST4} good.example 1000"));
        assert_eq!(sent, "ok");
    }
    reading.stop = Arc::default();
    let stop = Arc::clone(&reading.stop);
    reading.thread = Some(std::thread::spawn(move || reader.run(&stop).unwrap()));
    let patience = std::time::Instant::now() + Duration::from_secs(20);
    while reading.tally().overrun == 0 && std::time::Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(50));
    }
    let tally = reading.tally();
    assert!(tally.overrun > 0 && tally.overrun < 10_000, "{tally:?}");
}

#[test]
fn other_resolvers_and_encrypted_ones_are_refused_to_classes_with_names() {
    let (link, slice) = (Link::new(), Slice::new());
    let mut host = host(&link);
    for address in [OTHER4, OTHER6] {
        host.tell(&format!("serve {address}"));
    }
    host.tell(&format!("zone dns.google A 300 {OTHER4}"));
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let mut policy = named_policy(&["*"]);
    let named = policy.classes.get_mut(&"named".parse().unwrap()).unwrap();
    named
        .services
        .extend([Service::tcp(853), Service::udp(53), Service::tcp(53)]);
    let reading = Reading::new(&link.node, &policy, &[], &[alice.admitted(1, "named")]);
    assert_eq!(
        ask(&mut alice, "udp", "good.example", "A"),
        format!("NOERROR {OTHER4}")
    );
    assert_eq!(alice.reach("tcp", OTHER4, 80), "ok");
    // Reached by name, with the service allowed, and still no resolver.
    for port in [53, 853] {
        assert_eq!(alice.reach("tcp", OTHER4, port), REFUSED, "{port}");
    }
    assert_ne!(alice.reach("udp", OTHER4, 53), "ok");
    assert_eq!(ask(&mut alice, "udp", "dns.google", "A"), "NXDOMAIN");
    assert_eq!(reading.tally().refused, 1);
}

#[test]
fn when_nobody_reads_names_fail_closed_and_known_addresses_live_on() {
    let (link, slice) = (Link::new(), Slice::new());
    let _host = host(&link);
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let mut bob = Agent::new(&link.node, Some(&slice.cgroup("bob.service")));
    let policy = named_policy(&["good.example", "other.example"]);
    let servers = [alice.admitted(1, "named"), bob.admitted(2, "standard")];
    let mut reading = Reading::new(&link.node, &policy, &[], &servers);
    assert_eq!(
        ask(&mut alice, "udp", "good.example", "A"),
        format!("NOERROR {OTHER4}")
    );
    assert_eq!(alice.tell(&format!("keep tcp {OTHER4} 80")), "ok");
    reading.end();

    for transport in ["udp", "tcp"] {
        let answer = ask(&mut alice, transport, "other.example", "A");
        assert_eq!(answer, "ETIMEDOUT", "{transport}");
    }
    assert_eq!(alice.reach("tcp", THIRD4, 80), REFUSED);
    assert_eq!(alice.reach("tcp", OTHER4, 80), "ok", "known before");
    assert_eq!(alice.tell("again"), "ok");
    let answer = ask(&mut bob, "udp", "other.example", "A");
    assert_eq!(
        answer,
        format!("NOERROR {THIRD4}"),
        "a class without names is not held up"
    );

    // Another daemon takes over what was learned, and reads on.
    drop(reading);
    let reading = Reading::new(&link.node, &policy, &[], &servers);
    assert_eq!(
        alice.reach("tcp", OTHER4, 80),
        "ok",
        "learned by the last daemon"
    );
    assert_eq!(alice.tell("again"), "ok");
    assert_eq!(
        ask(&mut alice, "udp", "other.example", "A"),
        format!("NOERROR {THIRD4}")
    );
    assert_eq!(alice.reach("tcp", THIRD4, 80), "ok");
    assert_eq!(reading.nft().verify().unwrap(), []);

    // And forgets what another policy does not allow.
    let policy = named_policy(&["other.example"]);
    reading.nft().load(&policy, &[], &servers).unwrap();
    assert_eq!(alice.reach("tcp", OTHER4, 80), REFUSED);
    assert_eq!(alice.reach("tcp", THIRD4, 80), "ok");
    assert_eq!(
        alice.tell("again"),
        "ok",
        "a flow that began while the name was good"
    );
}

#[test]
fn learning_is_no_change_that_anybody_has_to_look_at() {
    let (link, slice) = (Link::new(), Slice::new());
    let _host = host(&link);
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let policy = named_policy(&["*"]);
    let reading = Reading::new(&link.node, &policy, &[], &[alice.admitted(1, "named")]);
    let before = reading.nft().generation().unwrap();
    let audit = link.node.within(|| reading.nft().audit().unwrap());
    for name in ["good.example", "other.example", "good.example"] {
        ask(&mut alice, "udp", name, "A");
    }
    // An audit that began before is neither disturbed nor misled by it.
    let audited = audit().unwrap();
    assert_eq!((audited.generation, audited.differences), (before, vec![]));
    assert_eq!(
        reading.tally().learned,
        2,
        "what is known is not written again"
    );
    assert_eq!(reading.nft().generation().unwrap(), before);
    link.node.exec("nft", &["add", "table", "inet", "another"]);
    assert_ne!(reading.nft().generation().unwrap(), before);

    // A resolver's word is not taken from anybody else.
    for change in [
        format!("add element inet hubwarden names4_named {{ {HOST4} timeout 1h }}"),
        format!("delete element inet hubwarden names4_named {{ {OTHER4} }}"),
    ] {
        link.node
            .exec("nft", &change.split(' ').collect::<Vec<_>>());
    }
    let differences = reading.nft().verify().unwrap();
    let differences: Vec<_> = differences.iter().map(ToString::to_string).collect();
    assert_eq!(
        differences,
        [
            "element c0000202 in set names4_named was added by another",
            "element c0000203 in set names4_named is gone",
        ]
    );
}

#[test]
fn an_address_ends_with_its_time_and_a_flow_to_it_does_not() {
    let (link, slice) = (Link::new(), Slice::new());
    let _host = host(&link);
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let policy = named_policy(&["*"]);
    let reading = Reading::new(&link.node, &policy, &[], &[alice.admitted(1, "named")]);
    ask(&mut alice, "udp", "brief.example", "A");
    assert_eq!(alice.tell(&format!("keep tcp {OTHER4} 80")), "ok");
    let list = || {
        link.node
            .exec("nft", &["list", "set", "inet", "hubwarden", "names4_named"])
    };
    // A second is too little for a program to connect in: it is taken for a minute.
    let listed = list();
    assert!(listed.contains("timeout 1m"), "{listed}");
    let soon = format!("{{ {OTHER4} timeout 1s }}");
    for verb in ["delete", "add"] {
        let what = if verb == "add" {
            soon.clone()
        } else {
            format!("{{ {OTHER4} }}")
        };
        let line = format!("{verb} element inet hubwarden names4_named {what}");
        link.node.exec("nft", &line.split(' ').collect::<Vec<_>>());
    }
    assert_eq!(alice.reach("tcp", OTHER4, 80), "ok");
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(alice.reach("tcp", OTHER4, 80), REFUSED);
    assert_eq!(alice.tell("again"), "ok");

    // Its connection has it, not the table: a new table knows it, and lists as any does.
    link.node
        .within(|| Kernel::open().unwrap().remove().unwrap());
    let mut policy = named_policy(&["good.example"]);
    let named = &policy.classes[&"named".parse().unwrap()];
    let other = named.clone();
    policy.classes.insert("other".parse().unwrap(), other);
    let admitted = alice.admitted(1, "named");
    let mut nft = reading.nft();
    nft.load(&policy, &[], std::slice::from_ref(&admitted))
        .unwrap();
    assert_eq!(nft.verify().unwrap(), []);
    assert_eq!(alice.tell("again"), "ok");
    let table = link
        .node
        .exec("nft", &["list", "table", "inet", "hubwarden"]);
    assert!(table.contains("ct label set"), "{table}");
    assert!(!table.contains("set flows"), "nothing is kept of flows");
    assert_eq!(alice.reach("tcp", OTHER4, 80), REFUSED);
    // What began under one class goes on under no other.
    let to = |class: &str| [(admitted.cgroup, class.parse().unwrap())];
    nft.reclass(&to("other")).unwrap();
    assert_ne!(alice.tell("again"), "ok");
    drop(nft);
    drop(reading);
}

#[test]
fn a_denied_name_is_answered_with_no_such_name_and_told_of() {
    let (link, slice) = (Link::new(), Slice::new());
    let mut host = host(&link);
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let mut policy = policy();
    let class = Class {
        deny_names: names(&["other.example"]),
        ..Class::standard()
    };
    policy.classes.insert("denying".parse().unwrap(), class);
    policy.lists = Arc::new(vec![List {
        name: "pools".parse().unwrap(),
        source: String::new(),
        imported: 0,
        entries: parse(b"good.example\nbrief.example:3333").0,
    }]);
    let servers = [alice.admitted(7, "denying")];
    let mut reading = Reading::new(&link.node, &policy, &[], &servers);
    for transport in ["udp", "tcp"] {
        for (address, kind) in [(HOST4, "A"), (HOST6, "AAAA")] {
            let question = format!("ask {transport} {address} good.example {kind}");
            assert_eq!(alice.tell(&question), "NXDOMAIN", "{question}");
        }
        assert_eq!(ask(&mut alice, transport, "other.example", "A"), "NXDOMAIN");
    }
    let brief = ask(&mut alice, "udp", "brief.example", "A");
    assert_eq!(brief, format!("NOERROR {OTHER4}"), "listed on one port");
    assert_eq!(ask(&mut alice, "udp", "cut.example", "A"), "TRUNCATED");
    // A head that went on already is never followed by the rest.
    host.tell("pieces 9");
    assert_eq!(ask(&mut alice, "tcp", "good.example", "A"), "ETIMEDOUT");
    let told: Vec<_> = std::iter::from_fn(|| reading.asked.try_recv().ok()).collect();
    assert!(told.iter().all(|asked| asked.number == 7));
    let count = |name: &str, by: &DeniedBy, refused: bool| {
        told.iter()
            .filter(|a| (a.name.as_str(), &a.by, a.refused) == (name, by, refused))
            .count()
    };
    let list = DeniedBy::List("pools".parse().unwrap());
    assert_eq!(count("good.example", &list, true), 5);
    let class = DeniedBy::Class("denying".parse().unwrap());
    assert_eq!(count("other.example", &class, true), 2);
    let port = DeniedBy::ListPort("pools".parse().unwrap(), 3333);
    assert_eq!(count("brief.example", &port, false), 1);

    policy.mode = Mode::Observe;
    reading.nft().load(&policy, &[], &servers).unwrap();
    let answer = ask(&mut alice, "udp", "good.example", "A");
    assert_eq!(
        answer,
        format!("NOERROR {OTHER4}"),
        "observing refuses nothing"
    );
    assert!(!reading.asked.try_recv().unwrap().refused);
    let list = link
        .node
        .exec("nft", &["list", "table", "inet", "hubwarden"]);
    assert!(!list.contains(" drop"), "{list}");
}

#[test]
fn what_a_resolver_of_this_node_was_told_counts_and_a_strangers_word_does_not() {
    tracked_or_not(|| {
        let (link, slice, system) = (Link::new(), Slice::new(), Slice::new());
        let mut host = host(&link);
        host.tell(&format!("serve {THIRD4}"));
        let resolved = system.cgroup("resolved.service");
        let mut stub = Agent::new(&link.node, Some(&resolved));
        let mut stranger = Agent::new(&link.node, Some(&system.cgroup("stranger.service")));
        let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
        let mut policy = named_policy(&["good.example", "brief.example"]);
        policy.relays = vec![crate::bed::cgroup_id(&resolved)];
        policy.resolvers.push("127.0.0.53".parse().unwrap());
        let reading = Reading::new(&link.node, &policy, &[], &[alice.admitted(1, "named")]);
        // Somebody who is nobody's server, and a relay that asks somebody else.
        assert_eq!(
            ask(&mut stranger, "udp", "good.example", "A"),
            format!("NOERROR {OTHER4}")
        );
        let other = stub.tell(&format!("ask udp {THIRD4} good.example A"));
        assert_eq!(other, format!("NOERROR {OTHER4}"));
        assert_eq!(alice.reach("tcp", OTHER4, 80), REFUSED);
        // As over D-Bus: the relay asks, and no packet of the answer comes to alice.
        assert_eq!(
            ask(&mut stub, "udp", "brief.example", "A"),
            format!("NOERROR {OTHER4}")
        );
        assert_eq!(alice.reach("tcp", OTHER4, 80), "ok");

        // Over the stub: asked on loopback, by the relay outside.
        assert_eq!(stub.tell(&format!("relay 127.0.0.53 {HOST4}")), "ok");
        drop(reading);
        link.node
            .within(|| Kernel::open().unwrap().remove().unwrap());
        policy.relays.clear();
        let _reading = Reading::new(&link.node, &policy, &[], &[alice.admitted(1, "named")]);
        assert_eq!(alice.reach("tcp", OTHER4, 80), REFUSED);
        let answer = alice.tell("ask udp 127.0.0.53 good.example A");
        assert_eq!(answer, format!("NOERROR {OTHER4}"));
        assert_eq!(alice.reach("tcp", OTHER4, 80), "ok");
    });
}

#[test]
fn a_queue_that_another_holds_is_named() {
    let netns = Netns::new();
    netns.within(|| {
        use nft::{Error, nfqueue::Queue};
        let _first = Queue::hold(&[(7, false)]).unwrap();
        let error = Queue::hold(&[(7, false)]).unwrap_err();
        assert!(matches!(error, Error::QueueTaken { queue: 7 }), "{error}");
    });
}
