//! Egress of what users run outside their servers.

use super::*;
use crate::config::Outside;
use ::egress::{ClassName, RefusedBy, UidRule};
use hubwarden_core::node::Input;
use std::os::unix::fs::MetadataExt;

fn id_of(node: &Node, path: &str) -> CgroupId {
    CgroupId(
        std::fs::metadata(node.root.path().join(path))
            .unwrap()
            .ino(),
    )
}

fn slice(node: &Node) -> CgroupId {
    id_of(node, "user.slice/user-1000.slice")
}

fn end_session(node: &Node) {
    std::fs::remove_dir_all(node.root.path().join("user.slice/user-1000.slice")).unwrap();
}

pub(super) fn judged(node: &Node) -> Vec<UidRule> {
    let rules = node.firewall.rules();
    rules.uid_rules.by_uid.values().cloned().collect()
}

/// The class that judges what alice does outside, if any does.
fn class(node: &Node) -> Option<String> {
    Some(judged(node).first()?.class.to_string())
}

fn refusal(number: u32, port: u16) -> Refusal {
    Refusal {
        number: Some(number),
        by: RefusedBy::Class("standard".parse().unwrap()),
        uid: Some(1000),
        protocol: 6,
        destination: "192.0.2.1".parse().unwrap(),
        port: Some(port),
    }
}

/// A node with alice's server as uid 1000 and a session of hers.
pub(super) async fn with_alice(mode: Mode) -> (Node, Running, std::sync::mpsc::Receiver<LogEntry>) {
    let mut node = Node::new(mode);
    node.spawn("alice");
    let (mut daemon, journal) = node.start();
    node.outside(0.0);
    node.tick(&mut daemon, 1).await;
    node.tick(&mut daemon, 1).await;
    (node, daemon, journal)
}

#[test]
fn a_server_s_user_is_judged_outside_by_the_same_class_until_the_last_server_ends() {
    on_a_node(async || {
        let (mut node, mut daemon, _journal) = with_alice(Mode::Enforce).await;
        let [uid_rule] = &judged(&node)[..] else {
            panic!("{:?}", judged(&node));
        };
        assert_eq!((uid_rule.uid, uid_rule.class.as_str()), (1000, "standard"));
        assert_eq!(uid_rule.slice.unwrap().cgroup, slice(&node));
        assert_eq!(uid_rule.slice.unwrap().level, 2);
        let server = id_of(&node, "jupyter.slice/jupyter-alice.service");
        assert_eq!(uid_rule.servers[0].cgroup, server);
        // The slice is the user's, and no server.
        assert!(!node.firewall.rules().admitted.contains_key(&slice(&node)));

        // A session that ends leaves the maps, and comes back as another cgroup.
        let before = slice(&node);
        // Held open, its number is not given to the next one: cgroups' never are.
        let _number = std::fs::File::open(node.root.path().join("user.slice/user-1000.slice"));
        end_session(&node);
        node.tick(&mut daemon, 1).await;
        assert_eq!(judged(&node)[0].slice, None);
        node.outside(0.0);
        node.tick(&mut daemon, 1).await;
        assert_eq!(judged(&node)[0].slice.unwrap().cgroup, slice(&node));
        assert_ne!(slice(&node), before);

        node.stop("alice");
        node.tick(&mut daemon, 1).await;
        assert_eq!(judged(&node), []);
        // Its CPU account goes on all the same.
        assert!(daemon.shell.guarded(slice(&node)).is_some());
        node.spawn("alice");
        node.tick(&mut daemon, 1).await;
        node.tick(&mut daemon, 1).await;
        assert_eq!(class(&node).as_deref(), Some("standard"));
    });
}

#[test]
fn who_shares_an_account_or_administers_the_node_is_left_alone_outside() {
    on_a_node(async || {
        let (mut node, mut daemon, _journal) = with_alice(Mode::Enforce).await;
        assert_eq!(judged(&node).len(), 1);
        node.spawn("bob");
        node.tick(&mut daemon, 1).await;
        node.tick(&mut daemon, 1).await;
        assert_eq!(judged(&node), [], "uid 1000 is both alice's and bob's");
        node.stop("bob");
        node.tick(&mut daemon, 1).await;
        assert_eq!(judged(&node).len(), 1);

        let admin = Account {
            name: Some("jupyter-carol".into()),
            admin: true,
            ..Account::default()
        };
        node.spawn_as("carol", 1002);
        node.spawn_as("dave", 0);
        node.systemd.0.borrow_mut().accounts.insert(1002, admin);
        node.tick(&mut daemon, 1).await;
        node.tick(&mut daemon, 1).await;
        let uids: Vec<_> = judged(&node).iter().map(|uid_rule| uid_rule.uid).collect();
        assert_eq!(uids, [1000]);
    });
}

#[test]
fn whoever_the_hub_runs_as_is_left_alone_outside() {
    on_a_node(async || {
        let (mut node, mut daemon, _journal) = with_alice(Mode::Enforce).await;
        let hub = UnitFacts {
            transient: false,
            user: Some("jupyter-alice".into()),
            uid: Some(1000),
            dynamic_user: false,
            ..UnitFacts::default()
        };
        let unit = "jupyterhub.service".to_owned();
        node.systemd.0.borrow_mut().facts.insert(unit, hub);
        daemon.ask_accounts();
        assert_eq!(judged(&node).len(), 1, "what was known stands meanwhile");
        node.tick(&mut daemon, 1).await;
        node.tick(&mut daemon, 1).await;
        assert_eq!(judged(&node), []);
    });
}

#[test]
fn a_restart_knows_who_is_judged_before_it_has_asked_anybody() {
    on_a_node(async || {
        let (node, mut daemon, _journal) = with_alice(Mode::Enforce).await;
        let before = judged(&node);
        daemon.save();
        drop(daemon);
        node.firewall.rules().uid_rules = UidRules::default();
        let (daemon, _journal) = node.start();
        // No task of it has run yet.
        let after = judged(&node);
        assert_eq!(after.len(), 1);
        assert_eq!(
            after[0].slice.unwrap().cgroup,
            before[0].slice.unwrap().cgroup
        );
        assert_eq!(after[0].servers.len(), 1);
        drop(daemon);
    });
}

#[test]
fn off_on_and_a_changed_configuration_are_followed() {
    on_a_node(async || {
        let (mut node, mut daemon, _journal) = with_alice(Mode::Enforce).await;
        daemon.switch_off("root").await.unwrap();
        assert_eq!(judged(&node), []);
        node.tick(&mut daemon, 1).await;
        assert_eq!(judged(&node), [], "off is off");
        daemon.switch_on("root").await.unwrap();
        assert_eq!(class(&node).as_deref(), Some("standard"));

        let mut adopt = |outside| {
            let shell = &mut daemon.shell;
            shell.config.egress.outside = outside;
            shell.reconcile_network();
        };
        adopt(Outside::Leave);
        assert_eq!(judged(&node), []);
        adopt(Outside::Judge);
        assert_eq!(judged(&node).len(), 1);
        // A class of one's own holds outside too.
        let lab: ClassName = "lab".parse().unwrap();
        let shell = &mut daemon.shell;
        let classes = &mut shell.config.egress.classes;
        classes.insert(lab.clone(), ::egress::Class::standard());
        let patch = Config::parse("[egress.classes.lab]\n[users.alice]\negress_class = \"lab\"\n");
        shell.config.users = patch.unwrap().users;
        shell.resolve_all();
        shell.load_egress();
        assert_eq!(class(&node).as_deref(), Some("lab"));
    });
}

/// Certain evidence against whoever has an account of their own.
fn accuse(daemon: &mut Running) {
    let accounts: Vec<CgroupId> = (daemon.shell.node.accounts().places())
        .filter_map(|(id, place)| place.lead().is_none().then_some(id))
        .collect();
    for id in accounts {
        let level = policy::finding::Strength::Certain;
        daemon.drive(Input::Accused(id, level, policy::FindingKind::Mining));
    }
}

#[test]
fn what_stands_in_for_a_server_s_class_holds_outside_and_ending_the_server_is_no_way_out() {
    on_a_node(async || {
        let (mut node, mut daemon, _journal) = with_alice(Mode::Enforce).await;
        accuse(&mut daemon);
        node.tick(&mut daemon, 1).await;
        assert_eq!(stage(&mut daemon, "alice"), Stage::Throttled);
        assert_eq!(class(&node).as_deref(), Some("quarantine"));
        node.stop("alice");
        node.tick(&mut daemon, 1).await;
        assert_eq!(class(&node).as_deref(), Some("quarantine"));
        for _ in 0..80 {
            node.tick(&mut daemon, 10).await;
        }
        assert_eq!(judged(&node), [], "it is over");
    });
}

#[test]
fn refusals_outside_are_told_with_the_user_s_name_and_never_with_the_one_before_s() {
    on_a_node(async || {
        let (mut node, mut daemon, journal) = with_alice(Mode::Enforce).await;
        node.read(&journal);
        let uid_rule = judged(&node)[0].clone();
        let (now, by_uid) = (node.clock, uid_rule.number);
        for _ in 0..2 {
            daemon.refused(&refusal(by_uid, 4444), now);
        }
        let told = node.read(&journal);
        assert_eq!(
            told,
            "what alice runs outside the server, as uid 1000, was refused TCP port 4444 of \
             192.0.2.1: egress class standard does not allow it."
        );
        daemon.refused(&refusal(uid_rule.slice.unwrap().number, 4444), now);
        let told = node.read(&journal);
        assert!(
            told.starts_with("what alice runs outside the server was refused TCP port 4444"),
            "{told}"
        );
        // The uid is another's now.
        node.stop("alice");
        end_session(&node);
        node.tick(&mut daemon, 1).await;
        node.spawn("erin");
        node.tick(&mut daemon, 1).await;
        node.tick(&mut daemon, 1).await;
        let after = judged(&node)[0].clone();
        assert_eq!(after.uid, 1000);
        assert_ne!(after.number, by_uid);
        node.read(&journal);
        daemon.refused(&refusal(by_uid, 4445), now);
        let told = node.read(&journal);
        assert!(!told.contains("alice") && !told.contains("erin"), "{told}");
        daemon.refused(&refusal(after.number, 4445), now);
        assert!(node.read(&journal).contains("what erin runs outside"));
    });
}

#[test]
fn what_is_sent_outside_counts_for_the_user_s_day() {
    on_a_node(async || {
        let (node, mut daemon, _journal) = with_alice(Mode::Enforce).await;
        let shell = &mut daemon.shell;
        let classes = &mut shell.config.egress.classes;
        for class in classes.values_mut() {
            class.limits.bytes_per_day = Some(1 << 40);
        }
        let number = judged(&node)[0].number;
        node.firewall.rules().traffic = vec![::egress::Traffic {
            sender: ::egress::Sender::Uid(1000),
            number,
            bytes: 700,
        }];
        shell.read_counters(node.clock);
        shell.count_traffic("2026-11-22");
        assert_eq!(shell.network.traffic.used("alice"), 700);
    });
}

#[test]
fn services_that_run_jobs_and_containers_of_nobody_are_known_to_the_rules() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let system = node.root.path().join("system.slice");
        for unit in ["cron.service", "sssd.service"] {
            std::fs::create_dir_all(system.join(unit)).unwrap();
        }
        node.spawn("alice");
        let (mut daemon, _journal) = node.start();
        node.tick(&mut daemon, 1).await;
        node.tick(&mut daemon, 1).await;
        let rules = node.firewall.rules();
        let cron = id_of(&node, "system.slice/cron.service");
        assert_eq!(rules.uid_rules.jobs, BTreeSet::from([cron]));
        let sssd = id_of(&node, "system.slice/sssd.service");
        assert_eq!(rules.uid_rules.identity_services, BTreeSet::from([sssd]));
    });
}

#[test]
fn an_account_that_several_share_has_nobody_s_slice() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        node.spawn("bob");
        let (mut daemon, _journal) = node.start();
        node.tick(&mut daemon, 1).await;
        node.outside(0.0);
        node.tick(&mut daemon, 1).await;
        assert_eq!(node.quota_of("user-1000.slice"), None);
        assert!(daemon.shell.guarded(slice(&node)).is_none());
        // As long as it is one user's it is hers, and what stood there comes back afterwards.
        node.stop("bob");
        node.tick(&mut daemon, 1).await;
        end_session(&node);
        node.tick(&mut daemon, 1).await;
        node.outside(0.0);
        node.tick(&mut daemon, 1).await;
        assert_eq!(node.quota_of("user-1000.slice"), Some(2.0));
        node.spawn("bob");
        node.tick(&mut daemon, 1).await;
        node.tick(&mut daemon, 1).await;
        assert_eq!(node.quota_of("user-1000.slice"), None);
        assert!(daemon.shell.guarded(slice(&node)).is_none());
    });
}

#[test]
fn who_may_become_root_is_followed_and_stays_known_while_the_user_database_is_away() {
    on_a_node(async || {
        let (node, mut daemon, _journal) = with_alice(Mode::Enforce).await;
        let becomes = |admin| {
            let mut systemd = node.systemd.0.borrow_mut();
            systemd.accounts.get_mut(&1000).unwrap().admin = admin;
        };
        let is_away = |away| node.systemd.0.borrow_mut().database_is_away = away;

        becomes(true);
        let later = |daemon: &mut Running| {
            let shell = &mut daemon.shell;
            shell.network.uid_egress.following.begin_anew();
        };
        later(&mut daemon);
        daemon.follow_accounts();
        assert!(eventually(&mut daemon, || judged(&node).is_empty()).await);
        // Without an answer the last one stands, and the next answer counts.
        becomes(false);
        is_away(true);
        for _ in 0..3 {
            later(&mut daemon);
            daemon.follow_accounts();
            daemon.quiet().await;
        }
        assert!(judged(&node).is_empty());
        is_away(false);
        later(&mut daemon);
        daemon.follow_accounts();
        assert!(eventually(&mut daemon, || judged(&node).len() == 1).await);
    });
}

#[test]
fn an_account_that_has_no_answer_yet_is_asked_again_and_not_taken_for_none() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        node.systemd.0.borrow_mut().database_is_away = true;
        let (mut daemon, _journal) = node.start();
        node.outside(0.0);
        node.tick(&mut daemon, 1).await;
        node.tick(&mut daemon, 1).await;
        assert!(daemon.shell.network.uid_egress.accounts.is_empty());
        let now = super::now();
        let minutes = Time(now.0 + Duration::from_secs(180));
        let lack = daemon.shell.accounts_lack(minutes);
        assert!(lack.unwrap().contains("has not answered for 3 min"));
        node.systemd.0.borrow_mut().database_is_away = false;
        daemon.shell.network.uid_egress.following.begin_anew();
        daemon.follow_accounts();

        daemon.quiet().await;
        assert!(daemon.shell.network.uid_egress.accounts.contains_key(&1000));
        assert_eq!(daemon.shell.accounts_lack(minutes), None);
    });
}

/// Gives what goes on beside the loop its time, for as long as it takes within reason.
async fn eventually(daemon: &mut Running, holds: impl Fn() -> bool) -> bool {
    for _ in 0..10_000 {
        daemon.moments_later();
        if holds() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    false
}
