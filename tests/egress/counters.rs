//! What each server sent, as its element counts it.

use egress::{Firewall, Sent};

use crate::{
    bed::{Agent, HOST4, Link, Slice},
    outside::{loaded, policy},
};

#[test]
fn a_servers_element_counts_what_it_sends_and_nobody_elses() {
    let (link, slice) = (Link::new(), Slice::new());
    let mut host = Agent::new(&link.host, None);
    host.listen("tcp", "::", 80);
    let mut alice = Agent::new(&link.node, Some(&slice.cgroup("alice.service")));
    let deep = slice.cgroup("system-x.slice/x@1.service");
    let mut deep = Agent::new(&link.node, Some(&deep));
    let servers = [alice.admitted(1, "standard"), deep.admitted(2, "standard")];
    let mut nft = loaded(&link.node, &policy(), &[slice.id()], &servers);
    let sent = |nft: &mut dyn Firewall, at: usize| -> Sent {
        let all = nft.sent().unwrap();
        let found = all.iter().find(|s| s.cgroup == servers[at].cgroup);
        *found.unwrap()
    };
    assert_eq!(
        (sent(&mut nft, 0).packets, sent(&mut nft, 1).packets),
        (0, 0)
    );
    assert_eq!(alice.reach("tcp", HOST4, 80), "ok");
    // The end of the connection is sent after the answer to us.
    std::thread::sleep(std::time::Duration::from_millis(200));
    let first = sent(&mut nft, 0);
    assert!(first.packets >= 3 && first.bytes >= 3 * 40, "{first:?}");
    assert_eq!(sent(&mut nft, 1).packets, 0);
    deep.reach("udp", HOST4, 4444);
    let refused = sent(&mut nft, 1);
    assert!(refused.packets >= 1, "{refused:?}");
    assert_eq!(sent(&mut nft, 0), first);
    assert_eq!(nft.verify().unwrap(), [], "counts are no difference");
}
