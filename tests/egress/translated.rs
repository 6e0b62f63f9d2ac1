//! Packets that an admin's rules translate: judged by where they really go, and by what was asked for
//! where the one alone could be abused.

use std::net::IpAddr;

use egress::{Bridges, Class, Firewall, Kernel, Mode, Policy, RefusedBy, Service};

use crate::{
    bed::{Agent, HOST4, HOST6, METADATA4, METADATA6, NODE4, NODE6, Netns, Slice},
    bridges::{Bed, server},
    names::{Reading, named_policy},
    outside::{assert_refused, policy},
    refusals::told,
    uid_rules::{uid_rule, uid_rules},
};

/// Another container of the node's, as `docker run -p` has them: nobody's server.
const OTHER4: &str = "10.81.0.2";
const OTHER6: &str = "fd81::2";
const GATEWAY4: &str = "10.81.0.1";
const GATEWAY6: &str = "fd81::1";
/// Addresses of services that only rules know, as Kubernetes has them.
const VIP4: &str = "10.96.0.10";
const VIP6: &str = "fd96::10";
const RESOLVER_VIP4: &str = "10.96.0.53";
const RESOLVER_VIP6: &str = "fd96::53";
/// Where names ask for an address that no rule of the class is about.
const ELSEWHERE4: &str = "203.0.113.9";
const ELSEWHERE6: &str = "2001:db8:99::9";

/// Of the host outside, where it serves names.
const OTHER_HOST4: &str = "198.51.100.53";
const OTHER_HOST6: &str = "2001:db8:98::53";

/// The classes that each case is tried with, in the order of its expectations. `opening` is standard
/// that opens the other container's network and port 3128 of this node; `nothing` is a quarantine.
const CLASSES: [&str; 3] = ["standard", "opening", "nothing"];
const ALL: [bool; 3] = [true; 3];
const NONE: [bool; 3] = [false; 3];
const OPENING: [bool; 3] = [false, true, false];
const BUT_NOTHING: [bool; 3] = [true, true, false];

/// One translation, what is asked for, where that goes, and which classes reach it.
struct Case {
    what: &'static str,
    /// Of nft, in a chain of type nat.
    rule: &'static str,
    transport: &'static str,
    asked: &'static str,
    really: &'static str,
    units: [bool; 3],
    /// Where a container's is another.
    containers: [bool; 3],
}

const fn case(
    what: &'static str,
    (transport, asked): (&'static str, &'static str),
    (rule, really): (&'static str, &'static str),
    units: [bool; 3],
) -> Case {
    Case {
        what,
        rule,
        transport,
        asked,
        really,
        units,
        containers: units,
    }
}

/// A container cannot be told to have asked this node for what went elsewhere.
const fn units_only(case: Case) -> Case {
    Case {
        containers: NONE,
        ..case
    }
}

const CASES: [Case; 29] = [
    case(
        "a published port",
        ("tcp", "node 5432"),
        (
            "fib daddr type local tcp dport 5432 dnat to other:80",
            "other 80",
        ),
        OPENING,
    ),
    case(
        "a published port on which the class has a service, of one where it has none",
        ("tcp", "node 443"),
        (
            "fib daddr type local tcp dport 443 dnat to other:5432",
            "other 5432",
        ),
        NONE,
    ),
    case(
        "a published port of datagrams",
        ("udp", "node 5432"),
        (
            "fib daddr type local udp dport 5432 dnat to other:5432",
            "other 5432",
        ),
        NONE,
    ),
    case(
        "a port published at the address of a bridge",
        ("tcp", "gateway 5432"),
        (
            "fib daddr type local tcp dport 5432 dnat to other:80",
            "other 80",
        ),
        OPENING,
    ),
    case(
        "a port that leads to a host outside",
        ("tcp", "node 8888"),
        (
            "fib daddr type local tcp dport 8888 dnat to host:80",
            "host 80",
        ),
        BUT_NOTHING,
    ),
    case(
        "a port that leads to a service outside that no class has",
        ("tcp", "node 80"),
        (
            "fib daddr type local tcp dport 80 dnat to host:4444",
            "host 4444",
        ),
        NONE,
    ),
    case(
        "a port that leads to the cloud's metadata",
        ("tcp", "node 8888"),
        (
            "fib daddr type local tcp dport 8888 dnat to metadata:80",
            "metadata 80",
        ),
        NONE,
    ),
    case(
        "a redirect to a port of this node that the class opens",
        ("tcp", "host 80"),
        ("ip daddr host tcp dport 80 redirect to :3128", "here 3128"),
        OPENING,
    ),
    case(
        "a redirect to a port of this node that no class opens",
        ("tcp", "host 80"),
        ("ip daddr host tcp dport 80 redirect to :5433", "here 5433"),
        NONE,
    ),
    case(
        "a redirect to a port of this node where the class has a service elsewhere",
        ("tcp", "host 4444"),
        ("ip daddr host tcp dport 4444 redirect to :443", "here 443"),
        NONE,
    ),
    case(
        "questions to the resolver, redirected to another port here",
        ("udp", "host 53"),
        ("ip daddr host udp dport 53 redirect to :3128", "here 3128"),
        BUT_NOTHING,
    ),
    case(
        "a redirect of datagrams that are no questions for names",
        ("udp", "host 443"),
        ("ip daddr host udp dport 443 redirect to :3128", "here 3128"),
        NONE,
    ),
    case(
        "a redirect of the cloud's metadata to a port that the class opens",
        ("tcp", "metadata 80"),
        (
            "ip daddr metadata tcp dport 80 redirect to :3128",
            "here 3128",
        ),
        NONE,
    ),
    case(
        "a redirect of a private host to a port that the class opens",
        ("tcp", "vip 80"),
        ("ip daddr vip tcp dport 80 redirect to :3128", "here 3128"),
        NONE,
    ),
    case(
        "a redirect of the open network to a port that the class opens",
        ("tcp", "other 80"),
        ("ip daddr other tcp dport 80 redirect to :3128", "here 3128"),
        OPENING,
    ),
    case(
        "the cloud's metadata translated to a host outside",
        ("tcp", "metadata 80"),
        ("ip daddr metadata tcp dport 80 dnat to host:80", "host 80"),
        NONE,
    ),
    case(
        "a host outside translated to another container",
        ("tcp", "elsewhere 80"),
        (
            "ip daddr elsewhere tcp dport 80 dnat to other:80",
            "other 80",
        ),
        OPENING,
    ),
    case(
        "a virtual address translated to another container",
        ("tcp", "vip 80"),
        ("ip daddr vip tcp dport 80 dnat to other:80", "other 80"),
        OPENING,
    ),
    case(
        "a virtual address translated to a host outside",
        ("tcp", "vip 443"),
        ("ip daddr vip tcp dport 443 dnat to host:443", "host 443"),
        BUT_NOTHING,
    ),
    case(
        "a virtual address translated to a port of this node",
        ("tcp", "vip 443"),
        ("ip daddr vip tcp dport 443 dnat to node:443", "node 443"),
        NONE,
    ),
    units_only(case(
        "the hub's API in a container",
        ("tcp", "node 8081"),
        (
            "fib daddr type local tcp dport 8081 dnat to other:8081",
            "other 8081",
        ),
        ALL,
    )),
    units_only(case(
        "the hub's API in a container, on another port there",
        ("tcp", "node 15001"),
        (
            "fib daddr type local tcp dport 15001 dnat to other:5432",
            "other 5432",
        ),
        ALL,
    )),
    case(
        "the hub's API redirected to on this node",
        ("tcp", "node 9100"),
        (
            "fib daddr type local tcp dport 9100 redirect to :8081",
            "here 8081",
        ),
        ALL,
    ),
    case(
        "the port of the hub's API at another container",
        ("tcp", "node 9100"),
        (
            "fib daddr type local tcp dport 9100 dnat to other:8081",
            "other 8081",
        ),
        NONE,
    ),
    case(
        "a virtual address with the port of the hub's API",
        ("tcp", "vip 8081"),
        (
            "ip daddr vip tcp dport 8081 dnat to other:8081",
            "other 8081",
        ),
        NONE,
    ),
    units_only(case(
        "a port of this node that the class opens, in a container",
        ("tcp", "node 3128"),
        (
            "fib daddr type local tcp dport 3128 dnat to other:5432",
            "other 5432",
        ),
        OPENING,
    )),
    case(
        "a resolver at a virtual address",
        ("udp", "resolver 53"),
        (
            "ip daddr resolver udp dport 53 dnat to other:53",
            "other 53",
        ),
        BUT_NOTHING,
    ),
    case(
        "questions to a resolver at a virtual address, redirected to this node",
        ("tcp", "resolver 53"),
        (
            "ip daddr resolver tcp dport 53 redirect to :5433",
            "here 5433",
        ),
        BUT_NOTHING,
    ),
    case(
        "other resolvers translated to the node's",
        ("udp", "elsewhere 53"),
        ("udp dport 53 dnat to host:53", "host 53"),
        BUT_NOTHING,
    ),
];

/// The words of a case in addresses of a family. `here` is where a redirect of a sender's leads to.
fn addressed(word: &str, v6: bool, here: [&str; 2]) -> String {
    let pair = match word {
        "node" => [NODE4, NODE6],
        "gateway" => [GATEWAY4, GATEWAY6],
        "host" => [HOST4, HOST6],
        "other" => [OTHER4, OTHER6],
        "vip" => [VIP4, VIP6],
        "resolver" => [RESOLVER_VIP4, RESOLVER_VIP6],
        "metadata" => [METADATA4, METADATA6],
        "elsewhere" => [ELSEWHERE4, ELSEWHERE6],
        "serving" => [OTHER_HOST4, OTHER_HOST6],
        "here" => here,
        other => panic!("{other}"),
    };
    pair[usize::from(v6)].to_owned()
}

/// A place of a case: address and port.
fn place(words: &str, v6: bool, here: [&str; 2]) -> (String, u16) {
    let (word, port) = words.split_once(' ').unwrap();
    (addressed(word, v6, here), port.parse().unwrap())
}

/// The table of an admin's with this rule for both what this node sends and what it routes, and what
/// goes out has this node's address, so that answers come back through it.
fn translate(node: &Netns, rule: &str, v6: bool) {
    let family = if v6 { "ip6" } else { "ip" };
    let mut words = Vec::new();
    let mut to_address = false;
    for word in rule.split(' ') {
        let written = match word.split_once(':') {
            Some((target, port)) if to_address && !target.is_empty() => {
                let address = addressed(target, v6, [""; 2]);
                match v6 {
                    true => format!("[{address}]:{port}"),
                    false => format!("{address}:{port}"),
                }
            }
            _ if words.last().is_some_and(|last| last == "daddr") && word != "type" => {
                addressed(word, v6, [""; 2])
            }
            _ if word == "ip" => family.to_owned(),
            _ => word.to_owned(),
        };
        to_address = word == "to";
        words.push(written);
    }
    let rule = words.join(" ");
    let chain = |name: &str, hook: &str, rule: &str| {
        format!("chain {name} {{\n type nat hook {hook} ;\n {rule}\n}}\n")
    };
    let both = [
        chain("sent", "output priority -100", &rule),
        chain("routed", "prerouting priority -100", &rule),
        chain(
            "source",
            "postrouting priority 100",
            "oifname { \"node0\", \"docker0\" } masquerade",
        ),
    ];
    nft(
        node,
        &format!("table {family} admin {{\n{}}}", both.concat()),
    );
}

fn nft(node: &Netns, rules: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), rules).unwrap();
    node.exec("nft", &["-f", file.path().to_str().unwrap()]);
}

fn translate_no_more(node: &Netns, v6: bool) {
    let family = if v6 { "ip6" } else { "ip" };
    node.exec("nft", &["delete", "table", family, "admin"]);
}

/// A node with all that the cases lead to.
struct Node {
    bed: Bed,
    _other: Netns,
    _agents: Vec<Agent>,
}

impl Node {
    /// With so many containers of servers.
    fn new(containers: usize) -> Self {
        let bed = Bed::new(containers);
        let node = &bed.link.node;
        let other = Netns::new();
        let peer = format!("type veth peer name eth0 netns {}", other.name());
        node.ip(&format!("link add docker0 {peer}"));
        for (netns, dev, v4, v6) in [
            (node, "docker0", GATEWAY4, GATEWAY6),
            (&other, "eth0", OTHER4, OTHER6),
        ] {
            netns.ip(&format!("link set {dev} up"));
            netns.ip(&format!("address add {v4}/24 dev {dev}"));
            netns.ip(&format!("address add {v6}/64 dev {dev} nodad"));
        }
        let mut in_other = Agent::new(&other, None);
        let mut host = Agent::new(&bed.link.host, None);
        let mut here = Agent::new(node, None);
        for (agent, ports) in [
            (&mut in_other, &[53, 80, 5432, 8081][..]),
            (&mut host, &[80, 443, 4444]),
            (&mut here, &[80, 443, 3128, 5433, 8081]),
        ] {
            for port in ports {
                agent.listen("tcp", "::", *port);
            }
        }
        for (agent, addresses, ports) in [
            (&mut in_other, [OTHER4, OTHER6], &[53, 5432][..]),
            (&mut host, [HOST4, HOST6], &[53, 443]),
        ] {
            for address in addresses {
                for port in ports {
                    agent.listen("udp", address, *port);
                }
            }
        }
        // At each address for itself: else it answers from another than it was asked at.
        for address in LOOPBACK.iter().chain(&BRIDGE) {
            here.listen("udp", address, 3128);
        }
        Self {
            bed,
            _other: other,
            _agents: vec![in_other, host, here],
        }
    }

    fn netns(&self) -> &Netns {
        &self.bed.link.node
    }
}

fn classes(mode: Mode) -> Policy {
    let mut policy = Policy { mode, ..policy() };
    let resolvers = [RESOLVER_VIP4, RESOLVER_VIP6];
    policy
        .resolvers
        .extend(resolvers.map(|address| address.parse::<IpAddr>().unwrap()));
    let networks = ["10.81.0.0/24", "fd81::/64"];
    let opening = Class {
        networks: networks.map(|net| net.parse().unwrap()).to_vec(),
        loopback_ports: vec![3128],
        ..Class::standard()
    };
    policy.classes.insert("opening".parse().unwrap(), opening);
    policy
}

/// Tries all cases with a sender of each class, whose numbers are 1, 2 and 3 above `first`.
fn tried(
    node: &Node,
    load: &mut dyn FnMut(&Policy),
    (senders, first): (&mut [Agent], u32),
    expected: impl Fn(&Case) -> [bool; 3],
    here: [&str; 2],
) {
    let mut wrong = Vec::new();
    for mode in [Mode::Enforce, Mode::Observe] {
        let policy = classes(mode);
        for case in &CASES {
            for v6 in [false, true] {
                // What was told and counted of an earlier case is forgotten, and so are its flows.
                load(&policy);
                translate(node.netns(), case.rule, v6);
                let (address, port) = place(case.asked, v6, here);
                let mut answers = Vec::new();
                let trying = || {
                    for sender in senders.iter_mut() {
                        answers.push(sender.reach(case.transport, &address, port));
                    }
                };
                let told = told(node.netns(), &policy, trying).0;
                let (really, port) = place(case.really, v6, here);
                let really: IpAddr = really.parse().unwrap();
                let expected = expected(case);
                for (which, class) in CLASSES.iter().enumerate() {
                    let number = first + which as u32 + 1;
                    let answer = &answers[which];
                    let refused = told.iter().any(|refusal| refusal.number == Some(number));
                    let logged = told.iter().any(|refusal| {
                        refusal.number == Some(number)
                            && (refusal.destination, refusal.port) == (really, Some(port))
                    });
                    let good = match (mode, expected[which]) {
                        (Mode::Enforce, false) => {
                            !["ok", "EAGAIN", "EINPROGRESS"].contains(&answer.as_str()) && logged
                        }
                        (Mode::Observe, false) => answer == "ok" && logged,
                        (_, true) => answer == "ok" && !refused,
                    };
                    println!(
                        "{mode:?} IPv{} {class:8} {} {} ({} -> {}): {answer}{}",
                        if v6 { 6 } else { 4 },
                        case.transport,
                        case.what,
                        case.asked,
                        case.really,
                        if logged { ", logged" } else { "" },
                    );
                    if !good {
                        let should = expected[which];
                        wrong.push(format!(
                            "{mode:?} IPv6 {v6} {class} {} {}: {answer}, should be reached: {should}; \
                             told {told:?}",
                            case.transport, case.what
                        ));
                    }
                }
                translate_no_more(node.netns(), v6);
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

const LOOPBACK: [&str; 2] = ["127.0.0.1", "::1"];
/// A redirect of what is routed leads to the address of the bridge that it came in by.
const BRIDGE: [&str; 2] = ["10.80.0.1", "fd80::1"];

#[test]
fn a_unit_s_packets_are_judged_by_where_translation_leads() {
    let (node, slice) = (Node::new(0), Slice::new());
    let mut senders = CLASSES.map(|class| {
        let cgroup = slice.cgroup(&format!("{class}.service"));
        Agent::new(node.netns(), Some(&cgroup))
    });
    let mut servers = Vec::new();
    for (number, (sender, class)) in (1..).zip(senders.iter().zip(CLASSES)) {
        servers.push(sender.admitted(number, class));
    }
    let mut nft = node.netns().within(|| Kernel::open().unwrap());
    let mut load = |policy: &Policy| {
        nft.load(policy, &[slice.id()], &servers).unwrap();
        assert_eq!(nft.verify().unwrap(), []);
    };
    tried(
        &node,
        &mut load,
        (&mut senders, 0),
        |case| case.units,
        LOOPBACK,
    );
    // Whoever administers the node lists it with Debian 12's program.
    let list = node
        .netns()
        .exec("nft", &["list", "table", "inet", "hubwarden"]);
    for words in [
        "ct status dnat goto translated_opening",
        "fib daddr type local goto redirected_opening",
        "ct original ip daddr @denied4 goto refuse_opening",
        "ct original ip6 daddr @denied6 goto refuse_opening",
    ] {
        assert!(list.contains(words), "{words:?} is not in:\n{list}");
    }
}

#[test]
fn a_user_s_packets_from_outside_the_server_are_judged_by_where_translation_leads() {
    const FIRST: u32 = 72_000;
    let node = Node::new(0);
    let mut senders: Vec<Agent> = (1..=3)
        .map(|number| Agent::of(node.netns(), None, FIRST + number))
        .collect();
    let all = uid_rules((1..).zip(CLASSES).map(|(number, class)| {
        let mut one = uid_rule(FIRST + number, class, None, &[]);
        one.number = egress::UidRule::NUMBER_MIN + number;
        one
    }));
    let mut nft = node.netns().within(|| Kernel::open().unwrap());
    let mut load = |policy: &Policy| {
        nft.load_with_uid_rules(policy, &[], &[], &all).unwrap();
        assert_eq!(nft.verify().unwrap(), []);
    };
    let first = egress::UidRule::NUMBER_MIN;
    tried(
        &node,
        &mut load,
        (&mut senders, first),
        |case| case.units,
        LOOPBACK,
    );
}

#[test]
fn a_container_s_packets_are_judged_by_where_translation_leads() {
    let node = Node::new(3);
    bridges_call(node.netns(), false);
    let mut senders: Vec<Agent> = (0..3).map(|number| node.bed.agent(number)).collect();
    let mut bridges: Bridges = node.bed.bridges();
    for (number, (sender, class)) in senders.iter().zip(CLASSES).enumerate() {
        let port = node.bed.port_of(sender);
        let mut of_class = server(number as u32 + 1, number);
        of_class.class = class.parse().unwrap();
        bridges.servers.insert(port, of_class);
        bridges.on_guarded.insert(port);
    }
    let mut nft = node.netns().within(|| Kernel::open().unwrap());
    nft.set_bridges(&bridges).unwrap();
    let mut load = |policy: &Policy| {
        nft.load(policy, &[], &[]).unwrap();
        assert_eq!(nft.verify().unwrap(), []);
    };
    tried(
        &node,
        &mut load,
        (&mut senders, 0),
        |case| case.containers,
        BRIDGE,
    );
}

/// Whether what comes in by a bridge meets the rules of `inet` there and then (`br_netfilter`).
pub fn bridges_call(node: &Netns, call: bool) {
    for of in ["iptables", "ip6tables"] {
        let setting = format!("net.bridge.bridge-nf-call-{of}={}", u8::from(call));
        node.exec("sysctl", &["-qw", &setting]);
    }
}

/// There the kernel's reset does not have the address that was asked for, so the program waits.
#[test]
fn with_br_netfilter_a_container_reaches_no_more_by_a_published_port() {
    let node = Node::new(1);
    bridges_call(node.netns(), true);
    let mut alice = node.bed.agent(0);
    let mut bridges = node.bed.bridges();
    let port = node.bed.port_of(&alice);
    bridges.servers.insert(port, server(1, 0));
    bridges.on_guarded.insert(port);
    let policy = classes(Mode::Enforce);
    let _nft = node.bed.load(&policy, &bridges);
    for v6 in [false, true] {
        translate(node.netns(), CASES[0].rule, v6);
        let (address, port) = place(CASES[0].asked, v6, BRIDGE);
        let (really, really_port) = place(CASES[0].really, v6, BRIDGE);
        let (told, _) = told(node.netns(), &policy, || {
            assert_ne!(alice.reach("tcp", &address, port), "ok");
        });
        let destination = (really.parse().unwrap(), Some(really_port));
        assert_eq!((told[0].destination, told[0].port), destination);
        translate_no_more(node.netns(), v6);
    }
}

#[test]
fn any_address_of_this_node_is_this_node_and_own_listeners_stay_reached() {
    let (node, slice) = (Node::new(0), Slice::new());
    let netns = node.netns();
    netns.ip("route add local 203.0.113.0/24 dev lo");
    netns.ip("-6 route add local 2001:db8:99::/64 dev lo");
    let mut alice = Agent::new(netns, Some(&slice.cgroup("alice.service")));
    let mut bob = Agent::new(netns, Some(&slice.cgroup("bob.service")));
    for transport in ["tcp", "udp"] {
        alice.listen(transport, "::", 9001);
        bob.listen(transport, "::", 9002);
    }
    for address in LOOPBACK {
        alice.listen("udp", address, 9003);
    }
    let servers = [alice.admitted(1, "standard"), bob.admitted(2, "nothing")];
    let mut nft = netns.within(|| Kernel::open().unwrap());
    nft.load(&classes(Mode::Enforce), &[slice.id()], &servers)
        .unwrap();
    for address in [
        "127.0.0.1",
        "127.0.0.2",
        "127.255.255.254",
        "0.0.0.0",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:192.0.2.1",
        NODE4,
        NODE6,
        GATEWAY4,
        GATEWAY6,
        ELSEWHERE4,
        ELSEWHERE6,
    ] {
        for port in [80, 443, 3128, 5433, 9002] {
            assert_refused(&alice.reach("tcp", address, port), address);
        }
        assert_ne!(alice.reach("udp", address, 9002), "ok", "{address}");
        assert_eq!(
            alice.reach("tcp", address, 8081),
            "ok",
            "the hub at {address}"
        );
        assert_eq!(
            alice.reach("tcp", address, 9001),
            "ok",
            "its own, {address}"
        );
    }
    for address in ["127.0.0.1", "::1", NODE4, NODE6, GATEWAY4, GATEWAY6] {
        assert_eq!(
            alice.reach("udp", address, 9001),
            "ok",
            "its own, {address}"
        );
    }
    // Redirected to one's own listener, and to another's.
    for (tcp, udp, reached) in [(9001, 9003, true), (9002, 9002, false)] {
        for (transport, asked, port) in [("tcp", 4444, tcp), ("udp", 4445, udp)] {
            let rule = format!("{transport} dport {asked} redirect to :{port}");
            for (v6, host) in [(false, HOST4), (true, HOST6)] {
                translate(netns, &rule, v6);
                let answer = alice.reach(transport, host, asked);
                assert_eq!(answer == "ok", reached, "{rule} {host}: {answer}");
                translate_no_more(netns, v6);
            }
        }
    }
}

/// The kernel gives a datagram to a broadcast address to all who listen there, and tells of one. What
/// goes out comes back to them too.
#[test]
fn a_broadcast_reaches_nobody_s_listener_on_this_node() {
    let (node, slice) = (Node::new(0), Slice::new());
    let netns = node.netns();
    let mut alice = Agent::new(netns, Some(&slice.cgroup("alice.service")));
    let mut bob = Agent::new(netns, Some(&slice.cgroup("bob.service")));
    let mut outside = Agent::new(&node.bed.link.host, None);
    assert_eq!(bob.tell("sink 0.0.0.0 9002"), "ok");
    assert_eq!(outside.tell(&format!("sink {HOST4} 9002")), "ok");
    let servers = [alice.admitted(1, "datagrams"), bob.admitted(2, "standard")];
    let mut policy = classes(Mode::Enforce);
    let mut datagrams = Class::standard();
    datagrams.services.push(Service::udp(9002));
    policy
        .classes
        .insert("datagrams".parse().unwrap(), datagrams);
    let mut nft = netns.within(|| Kernel::open().unwrap());
    for to in ["127.255.255.255", "192.0.2.255"] {
        assert_eq!(alice.tell(&format!("sink {to} 9002")), "ok");
        nft.load(&policy, &[], &servers).unwrap();
        let flood = format!("flood {to} 9002 3");
        let (told, _) = told(netns, &policy, || {
            assert_eq!(alice.tell(&flood), "ok");
        });
        assert_eq!(bob.tell("sunk"), "0", "{to}");
        let first = told
            .first()
            .map(|refusal| (refusal.number, refusal.destination));
        assert_eq!(first, Some((Some(1), to.parse().unwrap())), "{told:?}");
    }
    assert_eq!(alice.tell(&format!("flood {HOST4} 9002 3")), "ok");
    assert_eq!(outside.tell("sunk"), "3", "the service itself");
    nft.remove().unwrap();
    assert_eq!(alice.tell("flood 127.255.255.255 9002 3"), "ok");
    assert_eq!(bob.tell("sunk"), "3", "it would be reached");
}

/// A resolver that is a name for others (Kubernetes' service, a redirect of all questions).
#[test]
fn what_a_translated_resolver_answers_is_read() {
    let (node, slice) = (Node::new(0), Slice::new());
    let netns = node.netns();
    let mut named = named_policy(&["good.example"]);
    named.resolvers = [RESOLVER_VIP4, RESOLVER_VIP6]
        .map(|address| address.parse().unwrap())
        .to_vec();
    let mut host = Agent::new(&node.bed.link.host, None);
    for (at, kind, address) in [
        (OTHER_HOST4, "A", ELSEWHERE4),
        (OTHER_HOST6, "AAAA", ELSEWHERE6),
    ] {
        let length = if kind == "A" { 32 } else { 128 };
        for address in [at, address] {
            let order = format!("address add {address}/{length} dev lo");
            node.bed.link.host.ip(&order);
        }
        assert_eq!(host.tell(&format!("serve {at}")), "ok");
        let record = format!("zone good.example {kind} 300 {address}");
        assert_eq!(host.tell(&record), "ok");
    }
    let mut alice = Agent::new(netns, Some(&slice.cgroup("alice.service")));
    let servers = [alice.admitted(1, "named")];
    let reading = Reading::new(netns, &named, &[], &servers);
    for (v6, vip, kind, address) in [
        (false, RESOLVER_VIP4, "A", ELSEWHERE4),
        (true, RESOLVER_VIP6, "AAAA", ELSEWHERE6),
    ] {
        assert_refused(&alice.reach("tcp", address, 80), "not asked for yet");
        let protocols = "meta l4proto { tcp, udp } th dport 53 dnat to serving:53";
        translate(netns, protocols, v6);
        for transport in ["udp", "tcp"] {
            let ask = format!("ask {transport} {vip} good.example {kind}");
            assert_eq!(
                alice.tell(&ask),
                format!("NOERROR {address}"),
                "{transport}"
            );
        }
        assert_eq!(alice.reach("tcp", address, 80), "ok", "{address}");
        translate_no_more(netns, v6);
    }
    assert_eq!(reading.nft().verify().unwrap(), []);
}

/// A rule has who asks from outside seem to be this node; the answer leaves all the same.
#[test]
fn an_answer_is_judged_by_who_gets_it_and_not_by_who_asked_it_seems() {
    let (node, slice) = (Node::new(0), Slice::new());
    let netns = node.netns();
    let mut outside = Agent::new(&node.bed.link.host, None);
    let mut alice = Agent::new(netns, Some(&slice.cgroup("alice.service")));
    alice.listen("tcp", "::", 8888);
    let servers = [alice.admitted(1, "standard")];
    let mut nft = netns.within(|| Kernel::open().unwrap());
    for (family, at, seems) in [("ip", NODE4, "127.0.0.1"), ("ip6", NODE6, "::1")] {
        nft_table(netns, family, seems);
        let mut policy = classes(Mode::Enforce);
        nft.load(&policy, &[], &servers).unwrap();
        assert_ne!(outside.reach("tcp", at, 8888), "ok", "{at}");
        policy.proxies = [HOST4, HOST6]
            .map(|host| host.parse::<IpAddr>().unwrap().into())
            .to_vec();
        nft.load(&policy, &[], &servers).unwrap();
        assert_eq!(outside.reach("tcp", at, 8888), "ok", "{at}");
    }
    let mut proxy = Agent::new(netns, None);
    for at in ["127.0.0.1", "::1", NODE4, NODE6] {
        assert_eq!(proxy.reach("tcp", at, 8888), "ok", "the proxy here at {at}");
    }
}

fn nft_table(node: &Netns, family: &str, seems: &str) {
    let chain = format!(
        "chain seen {{\n type nat hook input priority 100 ;\n tcp dport 8888 snat to {seems}\n}}\n"
    );
    nft(node, &format!("table {family} seen {{\n{chain}}}"));
}

#[test]
fn what_is_not_tracked_is_judged_as_it_stands() {
    let (node, slice) = (Node::new(0), Slice::new());
    let netns = node.netns();
    let chain = "chain raw {\n type filter hook output priority -300 ;\n notrack\n}\n\
                 chain in {\n type filter hook prerouting priority -300 ;\n notrack\n}\n";
    nft(netns, &format!("table inet untracked {{\n{chain}}}"));
    let mut alice = Agent::new(netns, Some(&slice.cgroup("alice.service")));
    alice.listen("tcp", "::", 9001);
    let servers = [alice.admitted(1, "standard")];
    let mut nft = netns.within(|| Kernel::open().unwrap());
    nft.load(&classes(Mode::Enforce), &[], &servers).unwrap();
    for address in ["127.0.0.1", "::1", NODE4, NODE6] {
        assert_eq!(alice.reach("tcp", address, 9001), "ok", "{address}");
        assert_eq!(alice.reach("tcp", address, 8081), "ok", "{address}");
        assert_refused(&alice.reach("tcp", address, 443), address);
    }
    for address in [HOST4, HOST6] {
        assert_eq!(alice.reach("tcp", address, 80), "ok", "{address}");
        assert_refused(&alice.reach("tcp", address, 4444), address);
    }
}

/// What is private is told so, with the host that it goes to.
#[test]
fn a_refusal_says_that_the_container_behind_a_published_port_is_in_a_private_network() {
    let (node, slice) = (Node::new(0), Slice::new());
    let mut alice = Agent::new(node.netns(), Some(&slice.cgroup("alice.service")));
    let servers = [alice.admitted(1, "standard")];
    let policy = classes(Mode::Enforce);
    let mut nft = node.netns().within(|| Kernel::open().unwrap());
    nft.load(&policy, &[], &servers).unwrap();
    translate(node.netns(), CASES[0].rule, false);
    let (told, _) = told(node.netns(), &policy, || {
        alice.reach("tcp", NODE4, 5432);
    });
    let refusal = &told[0];
    assert_eq!(refusal.by, RefusedBy::Private("standard".parse().unwrap()));
    assert_eq!(refusal.destination, OTHER4.parse::<IpAddr>().unwrap());
    assert_eq!((refusal.number, refusal.port), (Some(1), Some(80)));
}
