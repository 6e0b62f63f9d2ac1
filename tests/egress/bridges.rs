//! Containers: judged by the port of the bridge that they are behind, whatever they send.

use std::{collections::BTreeSet, time::Duration};

use egress::{Bridges, CgroupId, Firewall, Kernel, Links, Mode, Policy, ServerPort};

use crate::{
    bed::{Agent, HOST4, HOST6, Link, NODE4, NODE6, Netns},
    outside::{REFUSED, assert_refused, policy},
    translated::bridges_call,
};

pub const BRIDGE4: &str = "10.80.0.1";
const BRIDGE6: &str = "fd80::1";

/// A node with a bridge that routes to the host outside, and containers on it.
pub struct Bed {
    pub link: Link,
    containers: Vec<Netns>,
}

pub fn address(container: usize) -> (String, String) {
    let last = container + 10;
    (format!("10.80.0.{last}"), format!("fd80::{last}"))
}

fn make_bridge(node: &Netns) {
    node.ip("link add br0 type bridge");
    node.ip("link set br0 address 02:00:00:00:80:01");
    node.ip("link set br0 up");
    node.ip(&format!("address add {BRIDGE4}/24 dev br0"));
    node.ip(&format!("address add {BRIDGE6}/64 dev br0 nodad"));
}

impl Bed {
    pub fn new(containers: usize) -> Self {
        let link = Link::new();
        let node = &link.node;
        make_bridge(node);
        for key in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"] {
            node.exec("sysctl", &["-qw", key]);
        }
        link.host.ip(&format!("route add 10.80.0.0/24 via {NODE4}"));
        link.host.ip(&format!("-6 route add fd80::/64 via {NODE6}"));
        let mut bed = Self {
            link,
            containers: Vec::new(),
        };
        for number in 0..containers {
            bed.add(number);
        }
        bed
    }

    fn add(&mut self, number: usize) {
        let container = Netns::new();
        let node = &self.link.node;
        let peer = format!("type veth peer name eth0 netns {}", container.name());
        node.ip(&format!("link add port{number} {peer}"));
        node.ip(&format!("link set port{number} master br0"));
        node.ip(&format!("link set port{number} up"));
        let (v4, v6) = address(number);
        container.ip("link set eth0 up");
        container.ip(&format!("address add {v4}/24 dev eth0"));
        container.ip(&format!("address add {v6}/64 dev eth0 nodad"));
        container.ip(&format!("route add default via {BRIDGE4}"));
        container.ip(&format!("-6 route add default via {BRIDGE6}"));
        self.containers.push(container);
    }

    pub fn agent(&self, container: usize) -> Agent {
        Agent::new(&self.containers[container], None)
    }

    /// The port that the agent's packets come in by, found as the daemon does.
    pub fn port_of(&self, agent: &Agent) -> u32 {
        self.link.node.within(|| {
            let mut links = Links::open().unwrap();
            let all = links.all().unwrap();
            let netns = links.netns_of(agent.pid()).unwrap().unwrap();
            let mut ports = all.iter().filter(|link| link.peer == Some(netns));
            let port = ports.next().unwrap();
            assert_eq!(ports.next(), None);
            assert!(port.master.is_some());
            port.index
        })
    }

    pub fn bridges(&self) -> Bridges {
        self.link.node.within(|| {
            let all = Links::open().unwrap().all().unwrap();
            let bridge = all.iter().find(|link| link.name == "br0").unwrap();
            assert!(bridge.bridge);
            Bridges {
                guarded: BTreeSet::from([bridge.name.clone()]),
                gateways: bridge.address.into_iter().collect(),
                ..Bridges::default()
            }
        })
    }

    pub fn load(&self, policy: &Policy, bridges: &Bridges) -> Kernel {
        self.link.node.within(|| {
            let mut nft = Kernel::open().unwrap();
            nft.set_bridges(bridges).unwrap();
            nft.load(policy, &[], &[]).unwrap();
            assert_eq!(nft.verify().unwrap(), []);
            nft
        })
    }
}

pub fn server(number: u32, container: usize) -> ServerPort {
    let (v4, v6) = address(container);
    ServerPort {
        cgroup: CgroupId(number.into()),
        number,
        class: "standard".parse().unwrap(),
        addresses: [v4.parse().unwrap(), v6.parse().unwrap()].into(),
    }
}

fn listening(agent: &mut Agent, ports: &[u16]) {
    for port in ports {
        agent.listen("tcp", "::", *port);
    }
}

#[test]
fn a_container_reaches_its_class_and_the_hub_and_no_other_container() {
    let bed = Bed::new(3);
    let mut host = Agent::new(&bed.link.host, None);
    listening(&mut host, &[22, 80, 443, 4444]);
    let mut node = Agent::new(&bed.link.node, None);
    listening(&mut node, &[22, 8081, 5432]);
    let (mut alice, mut bob, mut hub) = (bed.agent(0), bed.agent(1), bed.agent(2));
    listening(&mut bob, &[80, 8888]);
    listening(&mut hub, &[5432, 8081]);
    let ((bob4, bob6), (hub4, hub6)) = (address(1), address(2));
    let mut bridges = bed.bridges();
    let mut nft = bed.load(&policy(), &bridges);

    for to in [HOST4, HOST6, BRIDGE4, BRIDGE6] {
        for port in [80, 443, 5432] {
            assert_refused(&alice.reach("tcp", to, port), "not known");
        }
    }
    for to in [BRIDGE4, BRIDGE6] {
        assert_eq!(
            alice.reach("tcp", to, 8081),
            "ok",
            "the hub, from the start"
        );
    }

    let ports = [&alice, &bob, &hub].map(|agent| bed.port_of(agent));
    bridges.servers.insert(ports[0], server(1, 0));
    bridges.servers.insert(ports[1], server(2, 1));
    bridges.exempt.insert(ports[2]);
    bridges.on_guarded = ports.into();
    nft.set_bridges(&bridges).unwrap();
    assert_eq!(nft.verify().unwrap(), []);

    for (to, this_node) in [(HOST4, BRIDGE4), (HOST6, BRIDGE6)] {
        for port in [80, 443] {
            assert_eq!(alice.reach("tcp", to, port), "ok", "{to} {port}");
        }
        for port in [22, 4444] {
            assert_eq!(alice.reach("tcp", to, port), REFUSED, "{to} {port}");
        }
        assert_eq!(alice.reach("tcp", this_node, 8081), "ok", "the hub here");
        for port in [22, 5432] {
            assert_eq!(alice.reach("tcp", this_node, port), REFUSED, "{port} here");
        }
        assert_ne!(alice.tell(&format!("ping {to}")), "ok");
    }
    for to in [&bob4, &bob6] {
        for port in [80, 8888] {
            assert_ne!(alice.reach("tcp", to, port), "ok", "another's {to} {port}");
        }
    }
    for to in [&hub4, &hub6] {
        assert_eq!(alice.reach("tcp", to, 8081), "ok", "the hub's container");
        assert_ne!(alice.reach("tcp", to, 5432), "ok", "the hub's database");
    }
    // The proxy asks servers, from the hub's container and from this node.
    for to in [&bob4, &bob6] {
        assert_eq!(hub.reach("tcp", to, 8888), "ok", "{to}");
        assert_eq!(node.reach("tcp", to, 8888), "ok", "{to}");
    }
    for to in [HOST4, HOST6] {
        assert_eq!(hub.reach("tcp", to, 4444), "ok", "the hub is not held");
    }
    let sent = nft.sent().unwrap();
    let alices = sent.iter().find(|sent| sent.cgroup == CgroupId(1)).unwrap();
    assert!(alices.packets > 20, "{sent:?}");

    let observing = Policy {
        mode: Mode::Observe,
        ..policy()
    };
    nft.load(&observing, &[], &[]).unwrap();
    assert_eq!(nft.verify().unwrap(), []);
    for (to, port) in [(HOST4, 4444), (HOST6, 22), (&bob4, 8888), (BRIDGE4, 5432)] {
        assert_eq!(alice.reach("tcp", to, port), "ok", "observing: {to} {port}");
    }
    nft.remove().unwrap();
    assert_eq!(bed.link.node.exec("nft", &["list", "ruleset"]), "");
}

/// A resolver of the bridge's own, as Podman has it, and one of the policy on this node.
#[test]
fn a_container_whose_class_has_no_dns_asks_no_resolver_on_this_node() {
    let bed = Bed::new(2);
    let mut node = Agent::new(&bed.link.node, None);
    listening(&mut node, &[53, 8081]);
    for address in [BRIDGE4, BRIDGE6, NODE4] {
        node.listen("udp", address, 53);
    }
    let (mut alice, mut quinn) = (bed.agent(0), bed.agent(1));
    let mut bridges = bed.bridges();
    for (container, agent) in [&alice, &quinn].into_iter().enumerate() {
        let port = bed.port_of(agent);
        let server = server(container as u32 + 1, container);
        bridges.servers.insert(port, server);
        bridges.on_guarded.insert(port);
    }
    let mut policy = policy();
    policy.resolvers = vec![NODE4.parse().unwrap()];
    let mut nft = bed.load(&policy, &bridges);
    let port = bed.port_of(&quinn);
    let judged_by = |class: &str| {
        let mut bridges = bridges.clone();
        bridges.servers.get_mut(&port).unwrap().class = class.parse().unwrap();
        bridges
    };
    for (class, asks) in [("standard", true), ("nothing", false), ("standard", true)] {
        nft.set_bridges(&judged_by(class)).unwrap();
        assert_eq!(nft.verify().unwrap(), []);
        for address in [BRIDGE4, BRIDGE6, NODE4] {
            for transport in ["udp", "tcp"] {
                let answer = quinn.reach(transport, address, 53);
                assert_eq!(
                    answer == "ok",
                    asks,
                    "{class} {transport} {address}: {answer}"
                );
                assert_eq!(alice.reach(transport, address, 53), "ok", "{address}");
            }
            assert_eq!(quinn.reach("tcp", address, 8081), "ok", "{class}: the hub");
        }
        assert_ne!(quinn.reach("udp", NODE6, 53), "ok", "no resolver");
    }
    nft.set_bridges(&judged_by("nothing")).unwrap();
    policy.mode = Mode::Observe;
    nft.load(&policy, &[], &[]).unwrap();
    assert_eq!(nft.verify().unwrap(), []);
    assert_eq!(quinn.reach("udp", BRIDGE4, 53), "ok", "observing");
}

#[test]
fn a_bridge_that_goes_with_its_last_container_is_held_when_it_comes_back() {
    let bed = Bed::new(1);
    let mut host = Agent::new(&bed.link.host, None);
    host.listen("tcp", "::", 80);
    let mut unknown = bed.agent(0);
    for to in [HOST4, HOST6] {
        assert_eq!(unknown.reach("tcp", to, 80), "ok", "without rules");
    }
    let mut nft = bed.load(&policy(), &bed.bridges());
    for when in ["as it was", "when it came back"] {
        for to in [HOST4, HOST6] {
            assert_refused(&unknown.reach("tcp", to, 80), &format!("{to} {when}"));
        }
        let node = &bed.link.node;
        node.ip("link delete br0");
        make_bridge(node);
        node.ip("link set port0 master br0");
    }
    assert_eq!(nft.verify().unwrap(), []);
    nft.remove().unwrap();
}

#[test]
fn what_comes_anew_while_nobody_looks_is_the_hubs_by_its_address_or_a_new_users() {
    for call in [false, true] {
        let bed = Bed::new(3);
        bridges_call(&bed.link.node, call);
        let mut host = Agent::new(&bed.link.host, None);
        listening(&mut host, &[80, 4444]);
        let mut node = Agent::new(&bed.link.node, None);
        listening(&mut node, &[8081, 5432]);
        let (mut newcomer, mut bob, mut hub) = (bed.agent(0), bed.agent(1), bed.agent(2));
        listening(&mut bob, &[8888]);
        listening(&mut hub, &[5432, 8081]);
        let ((bob4, bob6), (hub4, hub6)) = (address(1), address(2));
        let mut bridges = bed.bridges();
        let port = bed.port_of(&bob);
        bridges.servers.insert(port, server(2, 1));
        bridges.on_guarded.insert(port);
        bridges.newcomers = Some("standard".parse().unwrap());
        bridges.others = [hub4.parse().unwrap(), hub6.parse().unwrap()].into();
        let mut nft = bed.load(&policy(), &bridges);

        let is_closed = |newcomer: &mut Agent, hub: &mut Agent, bob: &mut Agent| {
            for (to, this_node) in [(HOST4, BRIDGE4), (HOST6, BRIDGE6)] {
                assert_refused(&newcomer.reach("tcp", to, 80), "not known");
                assert_refused(&hub.reach("tcp", to, 80), "not known either");
                assert_eq!(newcomer.reach("tcp", this_node, 8081), "ok", "the hub");
                assert_eq!(bob.reach("tcp", to, 80), "ok", "a server");
            }
        };
        is_closed(&mut newcomer, &mut hub, &mut bob);
        nft.keep_watch(Duration::from_secs(60)).unwrap();
        assert_eq!(nft.verify().unwrap(), []);
        is_closed(&mut newcomer, &mut hub, &mut bob);

        assert_ne!(newcomer.reach("tcp", &bob4, 8888), "ok", "another's");
        bridges.exempt.insert(bed.port_of(&hub));
        bridges.on_guarded.insert(bed.port_of(&hub));
        nft.set_bridges(&bridges).unwrap();
        for to in [&hub4, &hub6] {
            assert_eq!(newcomer.reach("tcp", to, 8081), "ok", "the hub's container");
        }
        assert_ne!(newcomer.reach("tcp", &hub4, 5432), "ok", "its database");
        bridges.exempt.clear();
        bridges.on_guarded.remove(&bed.port_of(&hub));
        nft.set_bridges(&bridges).unwrap();

        nft.keep_watch(Duration::from_millis(1)).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        for (to, this_node) in [(HOST4, BRIDGE4), (HOST6, BRIDGE6)] {
            assert_eq!(newcomer.reach("tcp", to, 80), "ok", "as a new user's");
            assert_eq!(newcomer.reach("tcp", to, 4444), REFUSED, "and no more");
            assert_eq!(newcomer.reach("tcp", this_node, 8081), "ok", "the hub");
            assert_eq!(newcomer.reach("tcp", this_node, 5432), REFUSED, "the node");
            assert_eq!(hub.reach("tcp", to, 4444), "ok", "the hub, by its address");
            assert_eq!(hub.reach("tcp", this_node, 5432), "ok", "on this node too");
            assert_eq!(bob.reach("tcp", to, 4444), REFUSED, "a server");
        }
        for to in [&bob4, &bob6] {
            assert_eq!(hub.reach("tcp", to, 8888), "ok", "its proxy");
            assert_eq!(newcomer.reach("tcp", to, 8888), "ok", "it may be the proxy");
        }
        for to in [&hub4, &hub6] {
            assert_eq!(newcomer.reach("tcp", to, 8081), "ok", "the hub's container");
            assert_eq!(newcomer.reach("tcp", to, 5432), "ok", "its database");
            assert_eq!(bob.reach("tcp", to, 8081), "ok");
            assert_ne!(bob.reach("tcp", to, 5432), "ok", "a server's class holds");
        }
        // Their ports may have had other indexes, and others these.
        let mut stale = bridges.clone();
        stale.servers.insert(bed.port_of(&hub), server(3, 7));
        stale.exempt.insert(bed.port_of(&newcomer));
        nft.set_bridges(&stale).unwrap();
        for to in [HOST4, HOST6] {
            assert_eq!(hub.reach("tcp", to, 4444), "ok", "the hub, by its address");
            assert_eq!(newcomer.reach("tcp", to, 4444), REFUSED, "not the hub's");
            assert_eq!(newcomer.reach("tcp", to, 80), "ok", "but a new user's");
        }
        for to in [&hub4, &hub6] {
            assert_eq!(newcomer.reach("tcp", to, 8081), "ok", "the hub's container");
        }
        stale.others.clear();
        nft.set_bridges(&stale).unwrap();
        for (to, bob) in [(HOST4, &bob4), (HOST6, &bob6)] {
            assert_eq!(hub.reach("tcp", to, 4444), REFUSED, "it has a new address");
            assert_eq!(hub.reach("tcp", to, 80), "ok", "as a new user's");
            assert_eq!(hub.reach("tcp", bob, 8888), "ok", "it may be the proxy");
        }
        nft.set_bridges(&bridges).unwrap();
        // Whoever looks again finds that nobody did, and puts it right.
        assert_ne!(nft.verify().unwrap(), []);
        nft.keep_watch(Duration::from_secs(60)).unwrap();
        assert_eq!(nft.verify().unwrap(), []);
        is_closed(&mut newcomer, &mut hub, &mut bob);
        nft.remove().unwrap();
    }
}

#[test]
fn neither_a_packet_socket_nor_a_false_source_gets_past_the_port() {
    let bed = Bed::new(3);
    let mut host = Agent::new(&bed.link.host, None);
    for (address, port) in [(HOST4, 7777), (HOST6, 7777), (HOST4, 53), (HOST6, 53)] {
        host.tell(&format!("sink {address} {port}"));
    }
    let (mut alice, mut unknown) = (bed.agent(0), bed.agent(1));
    let mut bridges = bed.bridges();
    let port = bed.port_of(&alice);
    bridges.servers.insert(port, server(1, 0));
    bridges.on_guarded.insert(port);
    let mut nft = bed.load(&policy(), &bridges);
    let ((alice4, alice6), (bob4, bob6)) = (address(0), address(1));
    let gateway = "02:00:00:00:80:01";
    let send = |agent: &mut Agent, from: &str, to: &str, port: u16| {
        let order = format!("spoof eth0 {gateway} {from} {to} {port}");
        assert_eq!(agent.tell(&order), "ok", "{order}");
    };
    for (from, to) in [(&alice4, HOST4), (&alice6, HOST6)] {
        send(&mut alice, from, to, 7777);
    }
    for (from, to) in [(&bob4, HOST4), (&bob6, HOST6)] {
        for port in [53, 7777] {
            send(&mut alice, from, to, port);
            send(&mut unknown, from, to, port);
        }
    }
    assert_eq!(host.tell("sunk"), "0");
    // What its class allows passes, by whatever socket.
    for (from, to) in [(&alice4, HOST4), (&alice6, HOST6)] {
        send(&mut alice, from, to, 53);
    }
    assert_ne!(host.tell("sunk"), "0", "the spoofer works");
    nft.remove().unwrap();
}
