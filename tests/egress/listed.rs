//! Deny lists: refused whatever the class allows, told in the list's name, however long.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use egress::{
    CgroupId, Firewall, Kernel, Mode, Policy, Refusals, RefusedBy,
    lists::{Entries, List, Names, parse},
};
use ipnet::IpNet;

use crate::{
    bed::{Agent, HOST4, HOST6, Link, Netns, Slice},
    outside::{REFUSED, loaded, policy},
};

fn list(name: &str, text: &str) -> List {
    let (entries, problems) = parse(text.as_bytes());
    assert_eq!(problems, []);
    List {
        name: name.parse().unwrap(),
        source: String::new(),
        imported: 0,
        entries,
    }
}

#[test]
fn a_listed_destination_is_refused_and_told_in_the_lists_name() {
    const OTHER4: &str = "192.0.2.3";
    const OTHER6: &str = "2001:db8:72::3";
    let (link, slice) = (Link::new(), Slice::new());
    link.host.ip(&format!("address add {OTHER4}/24 dev host0"));
    link.host
        .ip(&format!("address add {OTHER6}/64 dev host0 nodad"));
    let mut host = Agent::new(&link.host, None);
    for port in [80, 443, 53] {
        host.listen("tcp", "::", port);
    }
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let lists = [
        list("ports", &format!("{HOST4}:443\n[{HOST6}]:443")),
        list(
            "nets",
            &format!("{OTHER4}\n2001:db8:72::3/128\n{HOST4}:443"),
        ),
    ];
    let policy = Policy {
        lists: Arc::new(lists.to_vec()),
        ..policy()
    };
    let servers = [alice.admitted(1, "standard")];
    let mut nft = loaded(&link.node, &policy, &[slice.id()], &servers);
    assert_eq!(nft.verify().unwrap(), []);

    let told = link.node.within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let mut refusals = Refusals::listen(policy.log_group).unwrap();
            for address in [HOST4, HOST6] {
                assert_eq!(alice.reach("tcp", address, 80), "ok", "{address}");
                assert_eq!(alice.reach("tcp", address, 443), REFUSED, "{address}");
            }
            for address in [OTHER4, OTHER6] {
                assert_eq!(alice.reach("tcp", address, 80), REFUSED, "{address}");
            }
            assert_eq!(
                alice.reach("tcp", HOST4, 53),
                "ok",
                "a resolver of the policy"
            );
            let mut told = Vec::new();
            let quiet = Duration::from_millis(200);
            while let Ok(next) = tokio::time::timeout(quiet, refusals.next()).await {
                let next = next.unwrap();
                assert_eq!(next.number, Some(1));
                told.push((next.by, next.destination, next.port));
            }
            told
        })
    });
    for (name, address, port) in [
        ("ports", HOST4, 443),
        ("ports", HOST6, 443),
        ("nets", OTHER4, 80),
        ("nets", OTHER6, 80),
    ] {
        let by = RefusedBy::List(name.parse().unwrap());
        let address: IpAddr = address.parse().unwrap();
        assert!(
            told.contains(&(by, address, Some(port))),
            "{name} {address}: {told:?}"
        );
    }
}

#[test]
fn a_hundred_thousand_entries_load_and_read_back_equal() {
    let netns = Netns::new();
    netns.within(|| {
        // Every second address, so that nothing merges.
        let address = |n: u32| IpAddr::from(Ipv4Addr::from(0x1400_0000 + 2 * n));
        let entries = Entries {
            networks: (0..100_000).map(|n| IpNet::from(address(n))).collect(),
            endpoints: (0..100_000)
                .map(|n| SocketAddr::new(address(n), 3333))
                .collect(),
            names: (0..100_000)
                .map(|n| (format!("pool{n}.example.com"), None))
                .collect(),
        };
        let list = List {
            entries,
            ..list("large", "")
        };
        let names = Names::new(std::slice::from_ref(&list));
        assert!(names.find("eu.pool99999.example.com").is_some());
        assert!(names.find("pool100000.example.com").is_none());
        let policy = Policy {
            lists: Arc::new(vec![list]),
            ..Policy::standard(Mode::Enforce)
        };
        let mut nft = Kernel::open().unwrap();
        let begun = Instant::now();
        nft.load(&policy, &[CgroupId(7)], &[]).unwrap();
        let first = begun.elapsed();
        let begun = Instant::now();
        nft.load(&policy, &[CgroupId(7)], &[]).unwrap();
        let again = begun.elapsed();
        let begun = Instant::now();
        assert_eq!(nft.verify().unwrap(), []);
        println!(
            "load {first:?}, replace {again:?}, verify {:?}",
            begun.elapsed()
        );
    });
}
