//! Private networks: closed to a class that does not name them, whoever of it sends, and by whatever
//! name they are called.

use egress::{Class, Firewall, Kernel, Mode, Policy, Refusal, RefusedBy, ServerPort};

use crate::{
    bed::{Agent, HOST4, HOST6, Link, Slice},
    bridges::{Bed, server},
    names::{OTHER4, Reading, ask, names},
    outside::{REFUSED, loaded, policy},
    refusals::told,
    uid_rules::{uid_rule, uid_rules},
};

/// What the class `lab` opens, on the outside host: by its own addresses and behind a translator.
const LAB: [&str; 3] = ["10.9.0.2", "fd09::2", "64:ff9b::a09:2"];
/// What nobody opens: a neighbour of what the lab opens, and one of each kind.
const CLOSED: [&str; 9] = [
    "10.9.1.2",
    "172.16.9.2",
    "192.168.9.2",
    "100.64.9.2",
    "198.18.9.2",
    "fd0a::2",
    "fec0::2",
    "64:ff9b::c0a8:902",
    "2002:a09:102::2",
];
const RESOLVER: &str = "10.9.1.53";

/// The outside host with all of these addresses and a resolver at a private one.
fn host(link: &Link) -> Agent {
    for address in LAB.iter().chain(&CLOSED).chain([&RESOLVER, &OTHER4]) {
        let (length, nodad) = match address.contains(':') {
            true => (128, " nodad"),
            false => (32, ""),
        };
        let order = format!("address add {address}/{length} dev lo{nodad}");
        link.host.ip(&order);
    }
    let mut host = Agent::new(&link.host, None);
    for port in [22, 80] {
        host.listen("tcp", "::", port);
    }
    for address in [RESOLVER, HOST4] {
        assert_eq!(host.tell(&format!("serve {address}")), "ok");
    }
    for record in [
        format!("lab.example A 300 {}", LAB[0]),
        format!("lab.example AAAA 300 {}", LAB[1]),
        format!("rebound.example A 300 {}", CLOSED[1]),
        format!("rebound.example AAAA 300 {}", CLOSED[7]),
        format!("both.example A 300 {OTHER4}"),
        format!("both.example A 300 {}", CLOSED[0]),
    ] {
        assert_eq!(host.tell(&format!("zone {record}")), "ok");
    }
    host
}

/// `standard` opens nothing, `lab` some, `only` the same and nothing else.
fn classes(mode: Mode) -> Policy {
    let mut policy = Policy { mode, ..policy() };
    policy.resolvers = vec![RESOLVER.parse().unwrap()];
    let networks = ["10.9.0.0/24", "fd09::/64"];
    let lab = Class {
        networks: networks.iter().map(|net| net.parse().unwrap()).collect(),
        ..Class::standard()
    };
    let only = Class {
        nowhere_else: true,
        ..lab.clone()
    };
    for (name, class) in [("lab", lab), ("only", only)] {
        policy.classes.insert(name.parse().unwrap(), class);
    }
    policy
}

/// What a sender of each class reaches.
fn judged(agent: &mut Agent, class: &str) {
    for address in CLOSED {
        assert_eq!(
            agent.reach("tcp", address, 80),
            REFUSED,
            "{class} {address}"
        );
    }
    let opened = class != "standard";
    for address in LAB {
        let expected = if opened { "ok" } else { REFUSED };
        assert_eq!(
            agent.reach("tcp", address, 80),
            expected,
            "{class} {address}"
        );
        assert_eq!(
            agent.reach("tcp", address, 22),
            REFUSED,
            "{class} {address}"
        );
    }
    for address in [HOST4, HOST6] {
        let expected = if class == "only" { REFUSED } else { "ok" };
        assert_eq!(
            agent.reach("tcp", address, 80),
            expected,
            "{class} {address}"
        );
    }
    assert_eq!(
        agent
            .tell(&format!("ask udp {RESOLVER} both.example A"))
            .split(' ')
            .next(),
        Some("NOERROR")
    );
    assert_eq!(
        agent
            .tell(&format!("ask tcp {RESOLVER} both.example A"))
            .split(' ')
            .next(),
        Some("NOERROR")
    );
}

#[test]
fn a_unit_reaches_a_private_network_where_its_class_names_it_and_the_internet_besides() {
    let (link, slice) = (Link::new(), Slice::new());
    let _host = host(&link);
    let all = ["standard", "lab", "only"];
    let mut agents = all.map(|class| Agent::new(&link.node, Some(&slice.cgroup(class))));
    let servers: Vec<_> = (1..)
        .zip(agents.iter().zip(all))
        .map(|(number, (agent, class))| agent.admitted(number, class))
        .collect();
    let mut nft = loaded(&link.node, &classes(Mode::Enforce), &[slice.id()], &servers);
    assert_eq!(nft.verify().unwrap(), []);
    for (agent, class) in agents.iter_mut().zip(all) {
        judged(agent, class);
    }
    // This node is itself, by whatever address.
    link.node.ip("address add 10.9.1.1/32 dev lo");
    agents[0].listen("tcp", "10.9.1.1", 7000);
    assert_eq!(agents[0].reach("tcp", "10.9.1.1", 7000), "ok");

    let observing = classes(Mode::Observe);
    link.node
        .within(|| nft.load(&observing, &[slice.id()], &servers).unwrap());
    for agent in &mut agents {
        for address in LAB.iter().chain(&CLOSED) {
            assert_eq!(
                agent.reach("tcp", address, 80),
                "ok",
                "observing: {address}"
            );
        }
    }
    let mut open = classes(Mode::Enforce);
    open.private = Vec::new();
    link.node
        .within(|| nft.load(&open, &[slice.id()], &servers).unwrap());
    assert_eq!(nft.verify().unwrap(), []);
    assert_eq!(
        agents[0].reach("tcp", CLOSED[1], 80),
        "ok",
        "nothing is private"
    );
}

#[test]
fn what_is_refused_for_being_private_is_told_so_and_what_is_no_service_is_not() {
    for mode in [Mode::Enforce, Mode::Observe] {
        let (link, slice) = (Link::new(), Slice::new());
        let _host = host(&link);
        let targets = [
            (CLOSED[0], 80),
            (CLOSED[5], 80),
            (CLOSED[1], 22),
            (LAB[0], 80),
        ];
        // Each a server of its own: of one, no more than a few packets are told of.
        let mut agents = targets.map(|(address, _)| {
            let cgroup = slice.cgroup(&address.replace(':', "-"));
            Agent::new(&link.node, Some(&cgroup))
        });
        let policy = classes(mode);
        let numbered = (1..).zip(&agents);
        let servers: Vec<_> = numbered
            .map(|(number, agent)| agent.admitted(number, "lab"))
            .collect();
        let _nft = loaded(&link.node, &policy, &[slice.id()], &servers);
        let (told, _) = told(&link.node, &policy, || {
            for (agent, (address, port)) in agents.iter_mut().zip(targets) {
                agent.reach("tcp", address, port);
            }
        });
        let by = |address: &str| {
            let mut of = told
                .iter()
                .filter(|one| one.destination.to_string() == address);
            of.next().map(|Refusal { by, .. }| by.clone())
        };
        let lab = || "lab".parse().unwrap();
        assert_eq!(by(CLOSED[0]), Some(RefusedBy::Private(lab())), "{told:?}");
        assert_eq!(by(CLOSED[5]), Some(RefusedBy::Private(lab())));
        assert_eq!(by(CLOSED[1]), Some(RefusedBy::Class(lab())));
        assert_eq!(by(LAB[0]), None);
    }
}

#[test]
fn a_container_reaches_a_private_network_where_its_class_names_it() {
    let bed = Bed::new(3);
    let _host = host(&bed.link);
    let all = ["standard", "lab", "only"];
    let mut agents = [0, 1, 2].map(|container| bed.agent(container));
    let mut bridges = bed.bridges();
    for (container, (agent, class)) in agents.iter().zip(all).enumerate() {
        let port = bed.port_of(agent);
        let class = class.parse().unwrap();
        let number = container as u32 + 1;
        bridges.servers.insert(
            port,
            ServerPort {
                class,
                ..server(number, container)
            },
        );
        bridges.on_guarded.insert(port);
    }
    let mut nft = bed.load(&classes(Mode::Enforce), &bridges);
    for (agent, class) in agents.iter_mut().zip(all) {
        judged(agent, class);
    }
    nft.load(&classes(Mode::Observe), &[], &[]).unwrap();
    for address in CLOSED {
        assert_eq!(
            agents[0].reach("tcp", address, 80),
            "ok",
            "observing: {address}"
        );
    }
}

#[test]
fn what_a_user_runs_outside_the_server_reaches_what_the_class_opens() {
    const UID: u32 = 71_005;
    let link = Link::new();
    let (jupyter, users) = (Slice::new(), Slice::new());
    let _host = host(&link);
    let server = Agent::of(&link.node, Some(&jupyter.cgroup("alice.service")), UID);
    let mut session = Agent::of(&link.node, Some(&users.cgroup("user-1.slice")), UID);
    let mut job = Agent::of(&link.node, None, UID);
    for class in ["standard", "lab"] {
        let admitted = server.admitted(1, class);
        let slice = session.admitted(2, class);
        let alice = uid_rule(UID, class, Some(&slice), &[&admitted]);
        let _nft = link.node.within(|| {
            let mut nft = Kernel::open().unwrap();
            let policy = classes(Mode::Enforce);
            nft.load_with_uid_rules(&policy, &[jupyter.id()], &[admitted], &uid_rules([alice]))
                .unwrap();
            assert_eq!(nft.verify().unwrap(), []);
            nft
        });
        judged(&mut session, class);
        judged(&mut job, class);
    }
}

/// Whoever holds a name can point it at the node's neighbours.
#[test]
fn a_name_that_resolves_to_a_private_address_opens_nothing() {
    let (link, slice) = (Link::new(), Slice::new());
    let _host = host(&link);
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let mut lena = Agent::new(&link.node, Some(&slice.cgroup("lena.service")));
    let mut policy = classes(Mode::Enforce);
    policy.resolvers.push(HOST4.parse().unwrap());
    let named = Class {
        names: names(&["*.example"]),
        ..Class::standard()
    };
    let lab = Class {
        networks: vec!["10.9.0.0/24".parse().unwrap()],
        ..named.clone()
    };
    policy.classes.insert("named".parse().unwrap(), named);
    policy.classes.insert("lab".parse().unwrap(), lab);
    let servers = [alice.admitted(1, "named"), lena.admitted(2, "lab")];
    let reading = Reading::new(&link.node, &policy, &[slice.id()], &servers);
    let learned = |set: &str| {
        link.node
            .exec("nft", &["list", "set", "inet", "hubwarden", set])
    };

    for (name, kind) in [
        ("rebound.example", "A"),
        ("rebound.example", "AAAA"),
        ("lab.example", "A"),
        ("lab.example", "AAAA"),
        ("both.example", "A"),
    ] {
        let answer = ask(&mut alice, "udp", name, kind);
        assert!(answer.starts_with("NOERROR "), "{name} {kind}: {answer}");
    }
    assert_eq!(reading.tally().closed, 5);
    for address in CLOSED.iter().chain(&LAB) {
        assert_eq!(alice.reach("tcp", address, 80), REFUSED, "{address}");
    }
    assert_eq!(
        alice.reach("tcp", OTHER4, 80),
        "ok",
        "the rest of an answer counts"
    );
    for (set, there) in [
        ("names4_named", &["192.0.2.3"][..]),
        ("names6_named", &[]),
        ("names4_lab", &["192.0.2.3", "10.9.0.2"]),
    ] {
        let list = learned(set);
        let found: Vec<&str> = [
            "192.0.2.3",
            "10.9.0.2",
            "10.9.1.2",
            "172.16.9.2",
            "fd09::2",
            "64:ff9b",
        ]
        .into_iter()
        .filter(|address| list.contains(address))
        .collect();
        assert_eq!(found, there, "{list}");
    }
    for address in [LAB[0], OTHER4] {
        assert_eq!(lena.reach("tcp", address, 80), "ok", "{address}");
    }
    assert_eq!(lena.reach("tcp", LAB[1], 80), REFUSED);
    assert_eq!(reading.nft().verify().unwrap(), []);
    // What an earlier policy let in goes with it.
    policy
        .classes
        .get_mut(&"lab".parse().unwrap())
        .unwrap()
        .networks
        .clear();
    reading
        .nft()
        .load(&policy, &[slice.id()], &servers)
        .unwrap();
    assert!(!learned("names4_lab").contains("10.9.0.2"));
    assert_eq!(lena.reach("tcp", LAB[0], 80), REFUSED);
    assert_eq!(lena.reach("tcp", OTHER4, 80), "ok");
}
