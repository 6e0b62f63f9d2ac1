//! Five thousand servers.

use std::time::{Duration, Instant};

use egress::{Admitted, CgroupId, Firewall, Kernel, Mode, Policy};

use crate::bed::Netns;

fn server(number: u32) -> Admitted {
    let class = "standard".parse().unwrap();
    Admitted {
        cgroup: CgroupId(1_000_000 + u64::from(number)),
        level: 2,
        class,
        number,
    }
}

#[test]
fn five_thousand_servers_load_and_come_and_go_one_by_one() {
    let netns = Netns::new();
    netns.within(|| {
        let mut nft = Kernel::open().unwrap();
        let policy = Policy::standard(Mode::Enforce);
        let servers: Vec<_> = (1..=5000).map(server).collect();
        let start = Instant::now();
        nft.load(&policy, &[CgroupId(7)], &servers).unwrap();
        let load = start.elapsed();
        let start = Instant::now();
        nft.load(&policy, &[CgroupId(7)], &servers).unwrap();
        let again = start.elapsed();

        let (mut adds, mut forgets) = (Vec::new(), Vec::new());
        for number in 5001..5101 {
            let start = Instant::now();
            nft.admit(&[server(number)]).unwrap();
            adds.push(start.elapsed());
            let start = Instant::now();
            nft.forget(&[server(number - 100).cgroup]).unwrap();
            forgets.push(start.elapsed());
        }
        let start = Instant::now();
        assert_eq!(nft.verify().unwrap(), []);
        let verify = start.elapsed();
        let median = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            times[times.len() / 2]
        };
        let (add, forget) = (median(&mut adds), median(&mut forgets));
        println!(
            "load {load:?}, replace {again:?}, admit p50 {add:?}, forget p50 {forget:?}, \
             verify {verify:?}"
        );
        nft.remove().unwrap();
    });
    assert_eq!(netns.exec("nft", &["list", "ruleset"]), "");
}
