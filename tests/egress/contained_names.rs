//! Host names for containers: what they are answered is read on its way to them.

use egress::{
    Bridges, Firewall, Policy, ServerPort,
    lists::{List, parse},
    names::DeniedBy,
};

use crate::{
    bed::Agent,
    bridges::{BRIDGE4, Bed, server},
    names::{OTHER4, Reading, THIRD4, ask, host, named_policy, names},
    outside::REFUSED,
};

fn with(bed: &Bed, agents: &[&Agent], class: &str) -> Bridges {
    let mut bridges = bed.bridges();
    for (number, agent) in agents.iter().enumerate() {
        let port = bed.port_of(agent);
        let class = class.parse().unwrap();
        let server = server(number as u32 + 1, number);
        bridges.servers.insert(port, ServerPort { class, ..server });
        bridges.on_guarded.insert(port);
    }
    bridges
}

/// `named` denies a name; so do `standard` and a list.
fn policy() -> Policy {
    let mut policy = named_policy(&["good.example", "*.sub.example", "other.example"]);
    for class in policy.classes.values_mut() {
        class.deny_names = names(&["other.example"]);
    }
    let (entries, problems) = parse(b"www.sub.example\n");
    assert_eq!(problems, []);
    policy.lists = vec![List {
        name: "feed".parse().unwrap(),
        source: "here".to_owned(),
        imported: 0,
        entries,
    }]
    .into();
    policy
}

#[test]
fn a_container_reaches_what_names_resolve_to_and_is_told_that_denied_ones_do_not_exist() {
    let bed = Bed::new(2);
    let _host = host(&bed.link);
    let (mut alice, bob) = (bed.agent(0), bed.agent(1));
    let mut reading = Reading::new(&bed.link.node, &policy(), &[], &[]);
    let bridges = with(&bed, &[&alice, &bob], "named");
    reading.nft().set_bridges(&bridges).unwrap();
    assert_eq!(reading.nft().verify().unwrap(), []);

    assert_eq!(alice.reach("tcp", OTHER4, 80), REFUSED);
    for transport in ["udp", "tcp"] {
        let answer = ask(&mut alice, transport, "good.example", "A");
        assert_eq!(answer, format!("NOERROR {OTHER4}"), "{transport}");
    }
    assert_eq!(alice.reach("tcp", OTHER4, 80), "ok");
    for (transport, name) in [("udp", "other.example"), ("tcp", "www.sub.example")] {
        let answer = ask(&mut alice, transport, name, "A");
        assert_eq!(answer, "NXDOMAIN", "{transport} {name}");
        let asked = reading.asked.try_recv().unwrap();
        assert_eq!((asked.number, asked.name.as_str()), (1, name));
        assert!(asked.refused);
        assert_eq!(matches!(asked.by, DeniedBy::List(_)), transport == "tcp");
    }
    assert_eq!(alice.reach("tcp", THIRD4, 80), REFUSED);

    // Another in her place, with her address: asked about under its own number.
    let mut next = bed.bridges();
    let port = bed.port_of(&alice);
    let class = "named".parse().unwrap();
    next.servers.insert(
        port,
        ServerPort {
            class,
            ..server(7, 0)
        },
    );
    reading.nft().set_bridges(&next).unwrap();
    assert_eq!(reading.nft().verify().unwrap(), []);
    assert_eq!(ask(&mut alice, "udp", "other.example", "A"), "NXDOMAIN");
    assert_eq!(reading.asked.try_recv().unwrap().number, 7);
}

#[test]
fn denied_names_are_refused_to_containers_of_classes_without_names_too() {
    let bed = Bed::new(1);
    let _host = host(&bed.link);
    let mut alice = bed.agent(0);
    let mut policy = policy();
    policy.classes.retain(|_, class| class.names.is_empty());
    let mut reading = Reading::new(&bed.link.node, &policy, &[], &[]);
    reading
        .nft()
        .set_bridges(&with(&bed, &[&alice], "standard"))
        .unwrap();
    assert_eq!(reading.nft().verify().unwrap(), []);
    assert_eq!(
        ask(&mut alice, "udp", "good.example", "A"),
        format!("NOERROR {OTHER4}")
    );
    assert_eq!(ask(&mut alice, "udp", "other.example", "A"), "NXDOMAIN");
    assert_eq!(reading.asked.try_recv().unwrap().number, 1);
}

#[test]
fn a_resolver_on_the_bridge_serves_its_containers_and_what_it_answers_is_read() {
    let bed = Bed::new(1);
    let mut alice = bed.agent(0);
    let _host = host(&bed.link);
    let mut resolver = Agent::new(&bed.link.node, None);
    assert_eq!(resolver.tell(&format!("serve {BRIDGE4}")), "ok");
    for record in [
        format!("good.example A 300 {OTHER4}"),
        format!("other.example A 300 {THIRD4}"),
    ] {
        assert_eq!(resolver.tell(&format!("zone {record}")), "ok");
    }
    let mut reading = Reading::new(&bed.link.node, &policy(), &[], &[]);
    reading
        .nft()
        .set_bridges(&with(&bed, &[&alice], "named"))
        .unwrap();
    let mut ask_here =
        |transport: &str, name: &str| alice.tell(&format!("ask {transport} {BRIDGE4} {name} A"));
    assert_eq!(ask_here("udp", "good.example"), format!("NOERROR {OTHER4}"));
    assert_eq!(ask_here("tcp", "good.example"), format!("NOERROR {OTHER4}"));
    assert_eq!(ask_here("udp", "other.example"), "NXDOMAIN");
    assert_eq!(reading.asked.try_recv().unwrap().number, 1);
    assert_eq!(alice.reach("tcp", OTHER4, 80), "ok");
    // Names are all that it may be asked for.
    assert_ne!(alice.reach("udp", BRIDGE4, 5353), "ok");
}
