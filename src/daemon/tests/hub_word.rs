//! The hub's own word, from a made-up hub on loopback.

use super::*;
use crate::config::ApiUrl;
use crate::http::Stranger;
use crate::http::fake::Service;
use hubwarden_core::coverage::{Missing, Remedy, Uncovered};
use quantities::{CgroupPath, HubUser};
use std::sync::atomic::{AtomicBool, Ordering};

struct Hub {
    says_so: Arc<AtomicBool>,
    _service: Service,
    _token: tempfile::NamedTempFile,
}

/// A hub that knows of carol in jupyter-x, once it says so at all.
fn hub(node: &mut Node) -> Hub {
    let says_so = Arc::new(AtomicBool::new(true));
    let says = Arc::clone(&says_so);
    let service = Service::jupyterhub(move |_| {
        if !says.load(Ordering::Relaxed) {
            return (503, "restarting".into());
        }
        let state = r#"{"":{"state":{"unit_name":"jupyter-x"}}}"#;
        let user = format!(r#"{{"name":"carol","groups":["staff"],"servers":{state}}}"#);
        let page = format!(r#"{{"items":[{user}],"_pagination":{{"next":null}}}}"#);
        (200, page)
    });
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "s3cret").unwrap();
    node.config.hub.token_file = token.path().to_owned();
    node.config.hub.api_url = Some(ApiUrl {
        endpoint: service.endpoint().clone(),
        prefix: "/hub/api".into(),
    });
    Hub {
        says_so,
        _service: service,
        _token: token,
    }
}

/// A server in `jupyter-x.service` that runs as a Unix user of which no template tells anything.
fn spawn_x(node: &Node, unix_user: &str) {
    node.spawn("x");
    let mut systemd = node.systemd.0.borrow_mut();
    let facts = systemd.facts.get_mut("jupyter-x.service").unwrap();
    facts.user = Some(unix_user.to_owned());
}

fn users(daemon: &mut Running) -> Vec<String> {
    let shell = &daemon.shell;
    let guarded = |entry: &Cgroup| match entry {
        Cgroup::Server(guarded) => Some(guarded.server.user.to_string()),
        _ => None,
    };
    shell
        .registry
        .entries
        .values()
        .filter_map(guarded)
        .collect()
}

#[test]
fn who_no_template_knows_is_known_by_the_hubs_word() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let _hub = hub(&mut node);
        spawn_x(&node, "u1001");
        let (mut daemon, _journal) = node.start();
        node.tick(&mut daemon, 1).await;
        assert!(users(&mut daemon).is_empty());
        daemon.poll_hub().await;
        daemon.quiet().await;
        assert_eq!(users(&mut daemon), ["carol"]);
        let shell = &daemon.shell;
        let person = shell
            .hub
            .directory
            .person(&HubUser("carol".into()))
            .unwrap();
        assert_eq!(person.groups, ["staff"]);
    });
}

#[test]
fn a_place_that_was_shown_as_not_covered_is_surveyed_once_it_is_held() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let _hub = hub(&mut node);
        spawn_x(&node, "u1001");
        let (mut daemon, _journal) = node.start();
        node.tick(&mut daemon, 1).await;
        let row = Uncovered {
            who: Vec::new(),
            more_users: 0,
            place: Some(CgroupPath::new("jupyter.slice/jupyter-x.service")),
            servers: 1,
            missing: Missing::Unmapped {
                why: "no template fits".into(),
            },
            remedy: Remedy::Advice(String::new()),
        };
        daemon.shell.hub.coverage.survey.rows = vec![row];
        daemon.poll_hub().await;
        daemon.quiet().await;
        assert_eq!(users(&mut daemon), ["carol"]);
        let soon = Time(node.clock.0 + Duration::from_secs(1));
        assert!(daemon.due.take(soon).survey);
    });
}

#[test]
fn a_server_that_the_hub_gives_to_somebody_else_stays_its_user_s() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let _hub = hub(&mut node);
        spawn_x(&node, "jupyter-x");
        let (mut daemon, journal) = node.start();
        node.tick(&mut daemon, 1).await;
        assert_eq!(users(&mut daemon), ["x"]);
        spin(&mut node, &mut daemon, "x").await;
        assert_eq!(node.quota("x"), Some(0.25));
        for _ in 0..3 {
            daemon.poll_hub().await;
            daemon.quiet().await;
            node.tick(&mut daemon, 1).await;
        }
        assert_eq!(users(&mut daemon), ["x"]);
        assert_eq!(node.quota("x"), Some(0.25));
        assert!(node.firewall.rules().loaded);
        assert_eq!(
            node.firewall.rules().admitted.len(),
            1,
            "it has its network"
        );
        let told = node.read(&journal);
        assert_eq!(told.matches("says that it is carol's").count(), 1, "{told}");
    });
}

#[test]
fn a_stranger_at_the_hub_s_address_is_logged_once_and_changes_nothing() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let hub = hub(&mut node);
        spawn_x(&node, "u1001");
        let (mut daemon, journal) = node.start();
        node.tick(&mut daemon, 1).await;
        for turn in 0..3 {
            // A user can have another cgroup each time.
            node.systemd.0.borrow_mut().stranger = Some(Stranger {
                text: format!("uid 1001 in cgroup /{turn} listens there"),
                kind: "127.0.0.1:15001 1001".to_owned(),
            });
            daemon.poll_hub().await;
        }
        assert!(users(&mut daemon).is_empty());
        assert!(hub._service.asked().is_empty(), "no token was sent");
        let told = node.read(&journal);
        assert_eq!(told.matches("listens there").count(), 1, "{told}");
        // It is gone, and the hub is back.
        node.systemd.0.borrow_mut().stranger = None;
        daemon.poll_hub().await;
        daemon.quiet().await;
        assert_eq!(users(&mut daemon), ["carol"]);
    });
}

#[test]
fn a_hub_that_is_down_is_told_once_and_its_last_word_stands() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let hub = hub(&mut node);
        spawn_x(&node, "u1001");
        let (mut daemon, journal) = node.start();
        daemon.poll_hub().await;
        node.tick(&mut daemon, 1).await;
        hub.says_so.store(false, Ordering::Relaxed);
        daemon.poll_hub().await;
        daemon.poll_hub().await;
        node.tick(&mut daemon, 1).await;
        assert_eq!(users(&mut daemon), ["carol"]);
        let told = node.read(&journal);
        assert_eq!(told.matches("status 503 (restarting)").count(), 1, "{told}");
        assert!(!told.contains("s3cret"), "{told}");
    });
}

#[test]
fn a_group_s_limits_hold_as_soon_as_the_hub_names_its_members() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let groups = "[groups.staff.cpu]\nlimit = \"0.75 cores\"\n";
        node.config.groups = Config::parse(groups).unwrap().groups;
        let _hub = hub(&mut node);
        // Known as carol's by the hub alone: the first word says whose, and which groups.
        spawn_x(&node, "u1001");
        let (mut daemon, _journal) = node.start();
        daemon.poll_hub().await;
        daemon.quiet().await;
        assert_eq!(users(&mut daemon), ["carol"]);
        assert_eq!(node.quota("x"), Some(0.75));
    });
}
