//! What users send from outside their servers: from their slices, and under their uids.

use egress::{Admitted, Firewall, Kernel, Mode, Place, Policy, UidRule, UidRules};

use crate::bed::{Agent, HOST4, HOST6, Link, METADATA4, NODE4, Slice, cgroup_id};
use crate::outside::{REFUSED, policy, tracked_or_not};

const ALICE: u32 = 71_001;
const BOB: u32 = 71_002;
const CAROL: u32 = 71_003;

fn place(admitted: &Admitted) -> Place {
    Place {
        cgroup: admitted.cgroup,
        level: admitted.level,
        number: admitted.number,
    }
}

pub fn uid_rule(uid: u32, class: &str, slice: Option<&Admitted>, servers: &[&Admitted]) -> UidRule {
    UidRule {
        uid,
        class: class.parse().unwrap(),
        number: UidRule::NUMBER_MIN + uid % 1000,
        slice: slice.map(place),
        servers: servers.iter().map(|server| place(server)).collect(),
    }
}

pub fn uid_rules(all: impl IntoIterator<Item = UidRule>) -> UidRules {
    UidRules {
        by_uid: all.into_iter().map(|one| (one.uid, one)).collect(),
        ..UidRules::default()
    }
}

fn host(link: &Link) -> Agent {
    let mut host = Agent::new(&link.host, None);
    for port in [80, 443, 4444] {
        host.listen("tcp", "::", port);
    }
    host
}

/// A driver in the node's namespace, with alice's server and people.
fn loaded(link: &Link, policy: &Policy, guarded: &Slice, all: (&[Admitted], &UidRules)) -> Kernel {
    link.node.within(|| {
        let mut nft = Kernel::open().unwrap();
        nft.load_with_uid_rules(policy, &[guarded.id()], all.0, all.1)
            .unwrap();
        nft
    })
}

#[test]
fn a_user_s_cron_job_session_and_server_obey_one_class_and_a_neighbour_s_nothing() {
    let link = Link::new();
    let (jupyter, users, system) = (Slice::new(), Slice::new(), Slice::new());
    let _host = host(&link);
    let at = |slice: &Slice, name: &str| slice.cgroup(name);
    let cron = at(&system, "cron.service");
    let mut server = Agent::of(&link.node, Some(&at(&jupyter, "alice.service")), ALICE);
    let mut session = Agent::of(&link.node, Some(&at(&users, "user-1.slice")), ALICE);
    let mut job = Agent::of(&link.node, Some(&cron), ALICE);
    let mut sudo = Agent::of(&link.node, None, ALICE);
    let mut bobs_job = Agent::of(&link.node, Some(&cron), BOB);
    let mut bobs_session = Agent::of(&link.node, Some(&at(&users, "user-2.slice")), BOB);
    let mut root = Agent::of(&link.node, Some(&cron), 0);
    let admitted = server.admitted(1, "standard");
    let slice = session.admitted(2, "standard");
    let alice = uid_rule(ALICE, "standard", Some(&slice), &[&admitted]);
    let mut nft = loaded(
        &link,
        &policy(),
        &jupyter,
        (std::slice::from_ref(&admitted), &uid_rules([alice])),
    );

    for agent in [&mut server, &mut session, &mut job, &mut sudo] {
        for address in [HOST4, HOST6] {
            assert_eq!(agent.reach("tcp", address, 80), "ok", "{address}");
            assert_eq!(agent.reach("tcp", address, 4444), REFUSED, "{address}");
            assert_ne!(agent.reach("udp", address, 443), "ok", "{address}");
        }
        assert_eq!(agent.reach("tcp", METADATA4, 80), REFUSED);
    }
    for agent in [&mut bobs_job, &mut bobs_session, &mut root] {
        assert_eq!(agent.reach("tcp", HOST4, 4444), "ok");
        assert_eq!(agent.reach("tcp", METADATA4, 80), "ok");
    }
    assert_eq!(nft.verify().unwrap(), []);

    // Another class holds from the next packet on, for flows that are open too.
    assert_eq!(job.tell(&format!("keep tcp {HOST4} 80")), "ok");
    let held = uid_rule(ALICE, "nothing", Some(&slice), &[&admitted]);
    nft.set_uid_rules(&uid_rules([held])).unwrap();
    assert_ne!(job.tell("again"), "ok");
    assert_eq!(session.reach("tcp", HOST4, 80), REFUSED);
    assert_eq!(nft.verify().unwrap(), []);
    nft.set_uid_rules(&UidRules::default()).unwrap();
    for agent in [&mut session, &mut job, &mut sudo] {
        assert_eq!(agent.reach("tcp", HOST4, 4444), "ok", "judged no more");
    }
    assert_eq!(server.reach("tcp", HOST4, 4444), REFUSED);
    assert_eq!(nft.verify().unwrap(), []);
}

/// As `/etc/subuid` has them, without a gap between two users' ranges.
#[test]
fn a_job_under_a_subordinate_uid_reaches_nothing_and_whoever_else_has_the_uid_what_they_did() {
    let link = Link::new();
    let (jupyter, users, system) = (Slice::new(), Slice::new(), Slice::new());
    let _host = host(&link);
    let cron = system.cgroup("cron.service");
    let mut server = Agent::of(&link.node, Some(&jupyter.cgroup("alice.service")), ALICE);
    let mut session = Agent::of(&link.node, Some(&users.cgroup("user-1.slice")), 100_007);
    let mut elsewhere = Agent::of(&link.node, None, 100_007);
    let mut job = |uid| Agent::of(&link.node, Some(&cron), uid);
    let mut jobs = [100_000, 165_535, 165_536, 165_600].map(&mut job);
    let mut others = [99_999, 165_601, 4_000_000].map(&mut job);
    let servers = [server.admitted(1, "standard")];
    let slice = session.admitted(2, "standard");
    let alice = uid_rule(ALICE, "standard", Some(&slice), &[&servers[0]]);
    let bob = uid_rule(BOB, "standard", None, &[]);
    let mut all = uid_rules([alice.clone(), bob.clone()]);
    all.jobs.insert(cgroup_id(&cron));
    all.add_subordinate(100_000, 165_535, alice.number);
    all.add_subordinate(165_536, 165_600, bob.number);
    // What is somebody's already stays that.
    all.add_subordinate(100_100, 165_550, bob.number);
    let mut nft = loaded(&link, &policy(), &jupyter, (&servers, &all));
    assert_eq!(nft.verify().unwrap(), []);
    for to in [HOST4, HOST6] {
        for job in &mut jobs {
            assert_eq!(job.reach("tcp", to, 80), REFUSED, "{to}");
        }
        for agent in others.iter_mut().chain([&mut elsewhere]) {
            assert_eq!(agent.reach("tcp", to, 4444), "ok", "{to}");
        }
        assert_eq!(session.reach("tcp", to, 80), "ok", "by its slice");
        assert_eq!(session.reach("tcp", to, 4444), REFUSED, "by its slice");
        assert_eq!(server.reach("tcp", to, 80), "ok", "{to}");
    }
    let observing = Policy {
        mode: Mode::Observe,
        ..policy()
    };
    link.node.within(|| {
        let loaded = nft.load_with_uid_rules(&observing, &[jupyter.id()], &servers, &all);
        loaded.unwrap();
    });
    assert_eq!(nft.verify().unwrap(), []);
    for job in &mut jobs {
        assert_eq!(job.reach("tcp", HOST4, 4444), "ok", "observing");
    }
    nft.set_uid_rules(&UidRules::default()).unwrap();
    assert_eq!(nft.verify().unwrap(), []);
}

#[test]
fn a_user_s_places_reach_each_other_s_listeners_and_nobody_else_s() {
    tracked_or_not(|| {
        let link = Link::new();
        let (jupyter, users, system) = (Slice::new(), Slice::new(), Slice::new());
        let cron = system.cgroup("cron.service");
        let mut hub = Agent::new(&link.node, Some(&system.cgroup("jupyterhub.service")));
        let mut server = Agent::of(&link.node, Some(&jupyter.cgroup("alice.service")), ALICE);
        let mut session = Agent::of(&link.node, Some(&users.cgroup("user-1.slice")), ALICE);
        let mut job = Agent::of(&link.node, Some(&cron), ALICE);
        let mut bobs = Agent::of(&link.node, Some(&jupyter.cgroup("bob.service")), BOB);
        for port in [8081, 8099] {
            hub.listen("tcp", "127.0.0.1", port);
        }
        let listeners = [(&mut server, 9001), (&mut session, 9002), (&mut bobs, 9003)];
        for (agent, port) in listeners {
            agent.listen("tcp", "::", port);
            agent.listen("udp", "::", port);
        }
        job.listen("tcp", "127.0.0.1", 9004);
        let servers = [server.admitted(1, "standard"), bobs.admitted(3, "standard")];
        let slice = session.admitted(2, "standard");
        let mut all = uid_rules([
            uid_rule(ALICE, "standard", Some(&slice), &[&servers[0]]),
            uid_rule(BOB, "standard", None, &[&servers[1]]),
        ]);
        all.jobs.insert(cgroup_id(&cron));
        let nft = loaded(&link, &policy(), &jupyter, (&servers, &all));

        for address in ["127.0.0.1", NODE4, "::1"] {
            for agent in [&mut server, &mut session, &mut job] {
                for port in [9001, 9002] {
                    assert_eq!(agent.reach("tcp", address, port), "ok", "{address} {port}");
                    assert_eq!(agent.reach("udp", address, port), "ok", "{address} {port}");
                }
                assert_eq!(agent.reach("tcp", address, 9003), REFUSED, "{address}");
                assert_ne!(agent.reach("udp", address, 9003), "ok", "{address}");
            }
            for port in [9001, 9002] {
                assert_eq!(
                    bobs.reach("tcp", address, port),
                    REFUSED,
                    "{address} {port}"
                );
            }
        }
        assert_eq!(job.reach("tcp", "127.0.0.1", 9004), "ok", "its own");
        for agent in [&mut server, &mut session, &mut job] {
            assert_eq!(agent.reach("tcp", "127.0.0.1", 8081), "ok", "the hub");
            assert_eq!(agent.reach("tcp", "127.0.0.1", 8099), REFUSED, "its proxy");
        }
        for port in [9001, 9002, 9003, 9004] {
            assert_eq!(hub.reach("tcp", "127.0.0.1", port), "ok", "{port}");
        }
        drop(nft);
    });
}

#[test]
fn an_admin_s_ssh_connections_root_and_services_that_take_on_uids_are_left_alone() {
    let link = Link::new();
    let (jupyter, users, system) = (Slice::new(), Slice::new(), Slice::new());
    let mut outside = host(&link);
    let sssd = system.cgroup("sssd.service");
    let ssh = system.cgroup("ssh.service");
    // sshd takes connections as root; who serves one has the user's uid and is in the slice.
    let mut sshd = Agent::new(&link.node, Some(&ssh));
    let mut serves = Agent::new(&link.node, Some(&ssh));
    sshd.listen("tcp", "::", 22);
    serves.listen("tcp", "::", 2222);
    assert_eq!(outside.tell(&format!("keep tcp {NODE4} 2222")), "ok");
    let session = users.cgroup("user-1.slice");
    let mut root = Agent::new(&link.node, Some(&session));
    let mut shell = Agent::of(&link.node, Some(&session), ALICE);
    let mut krb5 = Agent::of(&link.node, Some(&sssd), ALICE);
    let mut other = Agent::of(&link.node, Some(&jupyter.cgroup("new.service")), ALICE);
    let slice = shell.admitted(2, "nothing");
    let mut all = uid_rules([uid_rule(ALICE, "nothing", Some(&slice), &[])]);
    all.identity_services.insert(cgroup_id(&sssd));
    let mut nft = loaded(&link, &policy(), &jupyter, (&[], &all));
    let moved = serves.tell(&format!("become {} {ALICE}", session.display()));
    assert_eq!(moved, "ok");

    assert_eq!(outside.tell("again"), "ok", "an open session goes on");
    assert_eq!(
        outside.reach("tcp", NODE4, 22),
        "ok",
        "and a new one begins"
    );
    assert_eq!(shell.reach("tcp", HOST4, 80), REFUSED);
    for agent in [&mut root, &mut krb5] {
        assert_eq!(agent.reach("tcp", HOST4, 4444), "ok");
    }
    // Where a unit is not known yet, a known uid does not help it.
    nft.set_uid_rules(&uid_rules([uid_rule(ALICE, "standard", None, &[])]))
        .unwrap();
    assert_eq!(shell.reach("tcp", HOST4, 80), "ok");
    assert_eq!(other.reach("tcp", HOST4, 80), REFUSED, "pending");
}

#[test]
fn what_users_send_from_outside_counts_against_the_limits_of_their_class() {
    let link = Link::new();
    let (jupyter, system) = (Slice::new(), Slice::new());
    let _host = host(&link);
    let cron = system.cgroup("cron.service");
    let mut job = Agent::of(&link.node, Some(&cron), ALICE);
    let mut other = Agent::of(&link.node, Some(&cron), CAROL);
    let mut server = Agent::of(&link.node, Some(&jupyter.cgroup("alice.service")), ALICE);
    let mut policy = policy();
    let standard = policy
        .classes
        .get_mut(&"standard".parse().unwrap())
        .unwrap();
    standard.limits.connections = Some(3.try_into().unwrap());
    standard.limits.bytes_per_day = Some(1 << 30);
    let servers = [server.admitted(1, "standard")];
    let all = uid_rules([
        uid_rule(ALICE, "standard", None, &[&servers[0]]),
        uid_rule(CAROL, "standard", None, &[]),
    ]);
    let mut nft = loaded(&link, &policy, &jupyter, (&servers, &all));
    for agent in [&mut job, &mut other, &mut server] {
        assert_eq!(agent.tell(&format!("hold tcp {HOST4} 80 5")), "3");
    }
    let traffic = nft.traffic().unwrap();
    let mut numbers: Vec<_> = traffic.iter().map(|one| one.number).collect();
    numbers.sort_unstable();
    assert_eq!(
        numbers,
        [1, UidRule::NUMBER_MIN + 1, UidRule::NUMBER_MIN + 3],
        "a packet counts once, for who sent it"
    );
    assert_eq!(nft.verify().unwrap(), []);
}

#[test]
fn observing_refuses_users_outside_nothing() {
    let link = Link::new();
    let (jupyter, users) = (Slice::new(), Slice::new());
    let _host = host(&link);
    let session = users.cgroup("user-1.slice");
    let mut shell = Agent::of(&link.node, Some(&session), ALICE);
    let mut sudo = Agent::of(&link.node, None, ALICE);
    sudo.listen("tcp", "127.0.0.1", 9000);
    let policy = Policy {
        mode: Mode::Observe,
        ..policy()
    };
    let slice = shell.admitted(2, "nothing");
    let all = uid_rules([uid_rule(ALICE, "nothing", Some(&slice), &[])]);
    let _nft = loaded(&link, &policy, &jupyter, (&[], &all));
    for agent in [&mut shell, &mut sudo] {
        for (address, port) in [(HOST4, 4444), (METADATA4, 80), ("127.0.0.1", 9000)] {
            assert_eq!(agent.reach("tcp", address, port), "ok", "{address} {port}");
        }
    }
}
