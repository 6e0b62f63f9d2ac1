//! Scans told from programs that speak with many hosts.

use std::collections::BTreeMap;

use hubwarden::{
    egress::{CgroupId, FanOut},
    evidence::{Fact, scan},
};

use crate::bed::{Agent, HOST4, HOST6, Link, Slice, cgroup_id};

/// What each cgroup's connections amount to now, in the node's network.
fn facts(link: &Link, least: usize) -> BTreeMap<CgroupId, Fact> {
    let seen = link.node.within(|| FanOut::from_hosts(least).unwrap());
    let fact = |(id, fan_out): (CgroupId, FanOut)| {
        let (hosts, port) = (fan_out.hosts(), fan_out.port());
        Some((id, scan::fan_out(hosts, fan_out.established, port)?))
    };
    seen.into_iter().filter_map(fact).collect()
}

#[test]
fn a_scan_is_seen_and_programs_that_speak_with_many_hosts_are_not() {
    let (link, slice) = (Link::new(), Slice::new());
    let mut host = Agent::new(&link.host, None);
    host.listen("tcp", "::", 443);
    // What pip, dask and a browser find: hosts that answer.
    link.host.ip("address add 10.90.0.0/16 dev lo");
    // What a scan finds mostly: nobody.
    link.host.ip("route add blackhole 10.91.0.0/16");
    link.host.ip("route add blackhole fd91::/64");

    let unit = |name: &str| slice.cgroup(name);
    let (scanner, scanner6) = (unit("scanner.service"), unit("scanner6.service"));
    let mut agents = Vec::new();
    for (cgroup, orders) in [
        (&scanner, vec!["scan 10.91.0.0 200 443".to_owned()]),
        (&scanner6, vec!["scan fd91::1 100 22".to_owned()]),
        // Many workers that answer, and a few that are down.
        (
            &unit("dask.service"),
            vec![
                "scan 10.90.0.0 300 443".to_owned(),
                "scan 10.91.1.0 70 443".to_owned(),
            ],
        ),
        (
            &unit("browser.service"),
            vec![
                "scan 10.90.1.0 40 443".to_owned(),
                "scan 10.91.2.0 12 443".to_owned(),
            ],
        ),
        // A mirror that is down, tried over both families again and again.
        (
            &unit("pip.service"),
            vec![
                "scan 10.91.3.0 5 443".to_owned(),
                format!("scan {HOST6} 1 443"),
            ],
        ),
        (&unit("apt.service"), vec![format!("scan {HOST4} 1 443")]),
    ] {
        let mut agent = Agent::new(&link.node, Some(cgroup));
        for order in orders {
            assert_eq!(agent.tell(&order), "ok", "{order}");
        }
        agents.push(agent);
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    let (hosts, port) = (200, Some(443));
    let (hosts6, port6) = (100, Some(22));
    assert_eq!(
        facts(&link, scan::HOSTS),
        BTreeMap::from([
            (cgroup_id(&scanner), Fact::Scan { hosts, port }),
            (
                cgroup_id(&scanner6),
                Fact::Scan {
                    hosts: hosts6,
                    port: port6
                }
            ),
        ])
    );
    drop(agents);
    assert!(facts(&link, scan::HOSTS).is_empty(), "it is over");
}
