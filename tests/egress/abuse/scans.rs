//! Scans of servers, of users outside them and of containers, and programs that are none.

use std::{collections::BTreeMap, time::Duration};

use egress::{Firewall, Kernel, Mode, Place, Refused, UidRule, UidRules};
use policy::finding::Fact;

use super::{PATIENCE, contained, facts, open_policy, scanned, seen, world};
use crate::bed::{Agent, HOST4, HOST6, Link, Slice};
use crate::bridges::Bed;
use crate::outside::loaded;

const ALICE: u32 = 71_001;
const BOB: u32 = 71_002;

/// A line of a program that scans: silent hosts, over both families; hosts that are there, but a
/// port where nobody listens, or one that the class does not have.
const SCANS: [(&str, u32, u16); 4] = [
    ("scan 10.91.0.0 200 443", 200, 443),
    ("scan fd91::1 100 443", 100, 443),
    ("scan 10.90.0.0 150 444", 150, 444),
    ("scan 10.90.0.0 120 22", 120, 22),
];

/// A program's name, what it does, and how many hosts are left of it that did not answer, and did.
type Program = (&'static str, Vec<String>, Option<(usize, usize)>);

/// Programs that speak with many.
fn programs() -> Vec<Program> {
    let line = |text: &str| text.to_owned();
    let ports = 2000..2040;
    vec![
        // Many workers that answer, and some that are down.
        (
            "dask",
            vec![
                line("scan 10.90.0.0 300 443"),
                line("scan 10.91.1.0 70 443"),
            ],
            Some((70, 300)),
        ),
        // A scheduler, on many ports of workers that are there.
        (
            "scheduler",
            ports.map(|port| format!("scan {HOST4} 1 {port}")).collect(),
            None,
        ),
        (
            "browser",
            vec![
                line("scan 10.90.1.0 100 443"),
                line("scan fd90::1 40 443"),
                line("scan 10.91.2.0 12 443"),
            ],
            Some((12, 140)),
        ),
        // A mirror that is down, tried over both families again and again, and one that is not.
        (
            "pip",
            vec![
                line("scan 10.91.3.0 5 443"),
                format!("scan {HOST6} 1 443"),
                line("scan 10.91.3.0 5 443"),
            ],
            Some((5, 1)),
        ),
        ("apt", vec![line("scan 10.90.9.0 3 80")], None),
    ]
}

fn does(agent: &mut Agent, orders: &[String]) {
    for order in orders {
        assert_eq!(agent.tell(order), "ok", "{order}");
    }
}

/// Has each scan a while to be answered, and finds each by its number.
fn all_are_seen(nft: &mut Kernel, numbers: impl IntoIterator<Item = u32>, what: &str) {
    assert_eq!(facts(nft), BTreeMap::new(), "it may still be answered");
    std::thread::sleep(PATIENCE);
    let expected = numbers.into_iter().zip(SCANS);
    let expected = expected.map(|(number, (_, hosts, port))| (number, scanned(hosts, port)));
    assert_eq!(facts(nft), expected.collect(), "{what}");
    let different = nft.verify().unwrap();
    assert_eq!(different, [], "what packets fill is no difference");
}

#[test]
fn a_scan_of_a_server_s_is_seen_whether_hosts_say_no_or_nothing_or_are_refused() {
    for mode in [Mode::Enforce, Mode::Observe] {
        let (link, slice) = (Link::new(), Slice::new());
        let _host = world(&link);
        let units = [
            "a.service",
            "b.service",
            "c.service",
            "system-x.slice/x@1.service",
        ];
        let mut agents: Vec<Agent> = units
            .iter()
            .map(|unit| Agent::new(&link.node, Some(&slice.cgroup(unit))))
            .collect();
        let admitted = (1..)
            .zip(&agents)
            .map(|(number, agent)| agent.admitted(number, "open"));
        let servers: Vec<_> = admitted.collect();
        let mut nft = loaded(&link.node, &open_policy(mode), &[slice.id()], &servers);
        for (agent, (order, ..)) in agents.iter_mut().zip(&SCANS) {
            assert_eq!(agent.tell(order), "ok");
        }
        all_are_seen(&mut nft, 1..=4, &format!("{mode:?}"));
    }
}

#[test]
fn a_scan_of_one_hosts_ports_is_seen_whether_the_host_says_no_or_the_class_does() {
    let (link, slice) = (Link::new(), Slice::new());
    let _host = world(&link);
    let mut agents: Vec<Agent> = ["a.service", "b.service"]
        .iter()
        .map(|unit| Agent::new(&link.node, Some(&slice.cgroup(unit))))
        .collect();
    let admitted = (1..).zip(&agents);
    let servers: Vec<_> = admitted
        .map(|(number, agent)| agent.admitted(number, "open"))
        .collect();
    let mut nft = loaded(
        &link.node,
        &open_policy(Mode::Enforce),
        &[slice.id()],
        &servers,
    );
    // Forty of these are answered; the second are ports that the class does not have.
    let scans = [(1_960..2_160, 160), (500..600, 100)];
    for (agent, (ports, _)) in agents.iter_mut().zip(&scans) {
        let orders: Vec<_> = ports
            .clone()
            .map(|port| format!("scan {HOST4} 1 {port}"))
            .collect();
        does(agent, &orders);
    }
    std::thread::sleep(PATIENCE);
    let fact = |ports| Fact::PortScan { ports, looks: 1 };
    let expected = BTreeMap::from([(1, fact(scans[0].1)), (2, fact(scans[1].1))]);
    assert_eq!(facts(&mut nft), expected);
}

#[test]
fn a_scan_of_a_container_s_is_seen_at_its_port() {
    let bed = Bed::new(4);
    let _host = world(&bed.link);
    let (mut agents, mut nft) = contained(&bed, 4, &open_policy(Mode::Enforce));
    for (agent, (order, ..)) in agents.iter_mut().zip(&SCANS) {
        assert_eq!(agent.tell(order), "ok");
    }
    all_are_seen(&mut nft, 1..=4, "containers");
}

/// Users outside their servers by slice and by uid, with the driver that judges them.
struct Outside {
    // The agents end before their cgroups and their network do.
    session: Agent,
    job: Agent,
    _slices: [Slice; 3],
    link: Link,
    uid_rules: UidRules,
    server: egress::Admitted,
}

impl Outside {
    fn new() -> Self {
        let link = Link::new();
        let (jupyter, users, system) = (Slice::new(), Slice::new(), Slice::new());
        let server = Agent::of(&link.node, Some(&jupyter.cgroup("a.service")), ALICE);
        let session = Agent::of(&link.node, Some(&users.cgroup("user-1.slice")), ALICE);
        let job = Agent::of(&link.node, Some(&system.cgroup("cron.service")), BOB);
        let place = |agent: &Agent, number| {
            let admitted = agent.admitted(number, "open");
            Place {
                cgroup: admitted.cgroup,
                level: admitted.level,
                number,
            }
        };
        let uid_rule = |uid, number, slice| UidRule {
            uid,
            class: "open".parse().unwrap(),
            number: UidRule::NUMBER_MIN + number,
            slice,
            servers: Vec::new(),
        };
        let all = [
            uid_rule(ALICE, 1, Some(place(&session, 2))),
            uid_rule(BOB, 2, None),
        ];
        let uid_rules = UidRules {
            by_uid: all.into_iter().map(|one| (one.uid, one)).collect(),
            ..UidRules::default()
        };
        Self {
            server: server.admitted(1, "open"),
            link,
            _slices: [jupyter, users, system],
            session,
            job,
            uid_rules,
        }
    }

    fn loaded(&self) -> Kernel {
        self.link.node.within(|| {
            let mut nft = Kernel::open().unwrap();
            let servers = std::slice::from_ref(&self.server);
            nft.load_with_uid_rules(&open_policy(Mode::Enforce), &[], servers, &self.uid_rules)
                .unwrap();
            nft
        })
    }
}

/// By the number of a user's slice, and of a user without one.
const SESSION: u32 = 2;
const JOB: u32 = UidRule::NUMBER_MIN + 2;

#[test]
fn a_scan_outside_the_server_is_seen_by_slice_and_by_uid() {
    for scan in SCANS.chunks(2) {
        let mut outside = Outside::new();
        let _host = world(&outside.link);
        let mut nft = outside.loaded();
        for (agent, (order, ..)) in [&mut outside.session, &mut outside.job]
            .into_iter()
            .zip(scan)
        {
            assert_eq!(agent.tell(order), "ok");
        }
        std::thread::sleep(PATIENCE);
        let fact = |at: usize| scanned(scan[at].1, scan[at].2);
        let expected = BTreeMap::from([(SESSION, fact(0)), (JOB, fact(1))]);
        assert_eq!(facts(&mut nft), expected);
    }
}

#[test]
fn nobody_is_accused_by_uid_where_answers_do_not_show_it() {
    for key in ["ip_early_demux", "tcp_early_demux"] {
        let mut outside = Outside::new();
        let _host = world(&outside.link);
        let setting = format!("net.ipv4.{key}=0");
        outside.link.node.exec("sysctl", &["-qw", &setting]);
        let mut nft = outside.loaded();
        let (order, how, port) = SCANS[0];
        for agent in [&mut outside.session, &mut outside.job] {
            assert_eq!(agent.tell(order), "ok");
        }
        std::thread::sleep(PATIENCE);
        let facts = outside.link.node.within(|| facts(&mut nft));
        assert_eq!(facts, BTreeMap::from([(SESSION, scanned(how, port))]));
    }
}

#[test]
fn programs_of_servers_that_speak_with_many_hosts_are_no_scans() {
    let (link, slice) = (Link::new(), Slice::new());
    let _host = world(&link);
    let programs = programs();
    let mut agents = Vec::new();
    let mut servers = Vec::new();
    for (number, (name, ..)) in (1..).zip(&programs) {
        let agent = Agent::new(&link.node, Some(&slice.cgroup(&format!("{name}.service"))));
        servers.push(agent.admitted(number, "open"));
        agents.push(agent);
    }
    let policy = open_policy(Mode::Enforce);
    let mut nft = loaded(&link.node, &policy, &[slice.id()], &servers);
    for (agent, (_, orders, _)) in agents.iter_mut().zip(&programs) {
        does(agent, orders);
    }
    std::thread::sleep(PATIENCE);
    assert_eq!(facts(&mut nft), BTreeMap::new());
    let seen = seen(&mut nft);
    for (number, (name, _, left)) in (1..).zip(&programs) {
        // Of who was answered by everybody nothing is left.
        assert_eq!(seen.get(&number), left.as_ref(), "{name}");
    }
    assert_eq!(nft.refused().unwrap(), []);
}

#[test]
fn programs_in_containers_that_speak_with_many_hosts_are_no_scans() {
    let programs = programs();
    let bed = Bed::new(programs.len());
    let _host = world(&bed.link);
    let policy = open_policy(Mode::Enforce);
    let (mut agents, mut nft) = contained(&bed, programs.len(), &policy);
    for (agent, (_, orders, _)) in agents.iter_mut().zip(&programs) {
        does(agent, orders);
    }
    std::thread::sleep(PATIENCE);
    assert_eq!(facts(&mut nft), BTreeMap::new());
    let seen = seen(&mut nft);
    for (number, (name, _, left)) in (1..).zip(&programs) {
        assert_eq!(seen.get(&number), left.as_ref(), "{name}");
    }
    let refused = nft.refused().unwrap();
    let held = |one: &&Refused| one.connections + one.flooding + one.spoofed > 0;
    assert_eq!(refused.iter().find(held), None);
}

#[test]
fn programs_outside_servers_that_speak_with_many_hosts_are_no_scans() {
    for (name, orders, left) in programs() {
        let mut outside = Outside::new();
        let _host = world(&outside.link);
        let mut nft = outside.loaded();
        does(&mut outside.session, &orders);
        does(&mut outside.job, &orders);
        std::thread::sleep(PATIENCE);
        assert_eq!(facts(&mut nft), BTreeMap::new(), "{name}");
        let seen = seen(&mut nft);
        for number in [SESSION, JOB] {
            assert_eq!(seen.get(&number), left.as_ref(), "{name} {number}");
        }
    }
}

#[test]
fn what_was_tried_before_is_not_fresh() {
    let (link, slice) = (Link::new(), Slice::new());
    let _host = world(&link);
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let policy = open_policy(Mode::Enforce);
    let mut nft = loaded(&link.node, &policy, &[], &[alice.admitted(1, "open")]);
    alice.tell("scan 10.91.0.0 80 443");
    std::thread::sleep(PATIENCE + Duration::from_secs(1));
    // The same once more, and some that are new; neither makes the old ones new.
    alice.tell("scan 10.91.0.0 80 443");
    alice.tell("scan 10.91.1.0 20 443");
    let fresh = |nft: &mut Kernel, since| {
        let all = nft.attempts(1, Duration::from_millis(since)).unwrap();
        all.first().map(|one| (one.unanswered.len(), one.fresh))
    };
    assert_eq!(fresh(&mut nft, 30_000), Some((80, 80)));
    assert_eq!(fresh(&mut nft, 500), Some((80, 0)));
    std::thread::sleep(PATIENCE);
    assert_eq!(fresh(&mut nft, 2_000), Some((100, 20)));
}
