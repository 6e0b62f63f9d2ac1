use super::made_up::{ID, Node, of};
use crate::coverage::*;

const UNIT: &str = "jupyter.slice/jupyter-alice.service";

/// A server in a namespace with these interfaces, to which this bridge may lead.
fn server(cgroup: &str, devices: &[&str], bridge: Option<&str>) -> Node {
    let mut node = Node::new().server(cgroup).known(cgroup, of("alice"));
    node = node.with(|process| process.network = Network::Other(7));
    let namespace = Namespace {
        devices: devices.iter().map(|name| (*name).to_owned()).collect(),
        bridge: bridge.map(str::to_owned),
    };
    node.facts.namespaces.insert(7, namespace);
    node
}

fn docker() -> String {
    format!("system.slice/docker-{ID}.scope")
}

#[test]
fn a_container_behind_a_bridge_is_covered_and_one_with_macvlan_is_not() {
    assert_eq!(server(&docker(), &["eth0"], Some("br0")).kinds(), [""; 0]);
    let macvlan = server(&docker(), &["eth0"], None);
    assert_eq!(macvlan.kinds(), ["container-network"]);
    let line = macvlan.line();
    assert!(
        line.contains("container's network (eth0), as with macvlan"),
        "{line}"
    );
    assert!(
        line.contains("packet rules do not see what is sent there."),
        "{line}"
    );
    let mut known = server(&docker(), &["eth0"], None);
    if let Some(Known::Server { port, .. }) = known.watch.known.values_mut().next() {
        *port = true;
    }
    assert_eq!(known.kinds(), [""; 0]);
}

#[test]
fn what_limits_lack_hides_nothing_that_packet_rules_lack() {
    let hybrid = server(UNIT, &["veth7"], None)
        .with(|process| process.cgroup = Membership::Hybrid(process.cgroup.path().clone()));
    assert_eq!(hybrid.kinds(), ["cpu-on-v1", "unit-network"]);
}

#[test]
fn a_unit_in_a_namespace_of_its_own_is_named_unless_nothing_leaves_it() {
    let own = server(UNIT, &["veth7"], None);
    assert_eq!(own.kinds(), ["unit-network"]);
    assert!(
        own.line().contains("NetworkNamespacePath="),
        "{}",
        own.line()
    );
    assert_eq!(server(UNIT, &[], None).kinds(), [""; 0]);
}

#[test]
fn a_namespace_that_a_user_makes_within_a_server_is_no_row() {
    let node = server(UNIT, &["tap0"], None).process(UNIT);
    assert_eq!(node.kinds(), [""; 0]);
}

#[test]
fn a_container_in_the_nodes_network_is_seen_at_two_levels_only() {
    let host = |cgroup: &str| Node::new().server(cgroup).known(cgroup, of("alice"));
    assert_eq!(host(&docker()).kinds(), [""; 0]);
    let deep = host(&format!("a.slice/a-b.slice/a-b-c.slice/docker-{ID}.scope"));
    assert_eq!(deep.kinds(), ["cgroup-level"]);
    assert!(deep.line().contains("cgroup at level 4"), "{}", deep.line());
}

#[test]
fn what_the_daemon_could_not_do_is_a_row() {
    let known = |cpu: Option<&str>, packets: Option<&str>| Known::Server {
        user: quantities::HubUser("alice".into()),
        port: false,
        cpu: cpu.map(str::to_owned),
        packets: packets.map(str::to_owned),
    };
    let node = |known| Node::new().server(UNIT).known(UNIT, known);
    assert_eq!(
        node(known(Some("cpu.max is refused"), None)).kinds(),
        ["cpu-limits"]
    );
    assert_eq!(
        node(known(None, Some("the rules are not loaded"))).kinds(),
        ["packet-rules"]
    );
}

#[test]
fn a_network_that_could_not_be_read_is_no_accusation() {
    let node = Node::new().server(UNIT).known(UNIT, of("alice"));
    let node = node.with(|process| process.network = Network::Unknown);
    assert_eq!(node.kinds(), [""; 0]);
}
