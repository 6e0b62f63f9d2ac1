//! What is in a guarded slice and not known yet: it reaches the hub, and is reached by it, and nothing else.

use crate::bed::{Agent, HOST4, HOST6, Link, NODE4, Slice};
use crate::outside::{REFUSED, loaded, policy};

#[test]
fn a_unit_can_register_with_the_hub_before_it_is_known_and_reaches_nothing_else() {
    let link = Link::new();
    let slice = Slice::new();
    let mut host = Agent::new(&link.host, None);
    let mut node = Agent::new(&link.node, None);
    for port in [80, 443, 8081] {
        host.listen("tcp", "::", port);
    }
    for port in [22, 8081, 8001] {
        node.listen("tcp", "::", port);
    }
    host.listen("udp", HOST4, 53);
    let mut new = Agent::of(&link.node, Some(&slice.cgroup("new.service")), 71_001);
    let _nft = loaded(&link.node, &policy(), &[slice.id()], &[]);
    for here in ["127.0.0.1", "::1", NODE4] {
        assert_eq!(new.reach("tcp", here, 8081), "ok", "the hub at {here}");
        for port in [22, 8001] {
            assert_eq!(new.reach("tcp", here, port), REFUSED, "{here} {port}");
        }
    }
    for port in [80, 443, 8081] {
        for there in [HOST4, HOST6] {
            assert_eq!(new.reach("tcp", there, port), REFUSED, "{there} {port}");
        }
    }
    assert_ne!(new.reach("udp", HOST4, 53), "ok");
    // The hub looks whether it answers.
    new.listen("tcp", "127.0.0.1", 9999);
    assert_eq!(node.reach("tcp", "127.0.0.1", 9999), "ok");
}
