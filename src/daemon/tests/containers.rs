//! Containers: a made-up Docker behind a real socket says whose they are.

use super::*;
use crate::http::{Endpoint, fake::Service};
use crate::hub::{Control, Spawner};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn scope() -> String {
    format!("docker-{ID}.scope")
}

/// A Docker with one container.
fn docker(node: &mut Node, name: &str, env: &str) -> Service {
    let (name, env) = (name.to_owned(), env.to_owned());
    let service = Service::unix(move |_| {
        let body = format!(r#"{{"Id":"{ID}","Name":"/{name}","Config":{{"Env":[{env}]}}}}"#);
        (200, body)
    });
    use_socket(node, service.endpoint());
    service
}

fn use_socket(node: &mut Node, endpoint: &Endpoint) {
    let Endpoint::Unix(socket) = endpoint else {
        unreachable!()
    };
    node.config.hub.docker = Some(socket.clone());
}

/// The container's cgroup, with what its owner holds.
fn start_container(node: &Node, cgroup: &str, owner: &str, settings: Controls) {
    use_cpu(node, cgroup, 0.0);
    let mut systemd = node.systemd.0.borrow_mut();
    systemd.settings.insert(owner.to_owned(), settings);
}

fn use_cpu(node: &Node, cgroup: &str, core_seconds: f64) {
    let directory = node.root.path().join(cgroup);
    std::fs::create_dir_all(&directory).unwrap();
    let usec = (core_seconds * 1e6) as u64;
    std::fs::write(directory.join("cpu.stat"), format!("usage_usec {usec}\n")).unwrap();
}

/// Ticks until the container's engine has answered and the answer was acted on.
async fn until(node: &mut Node, daemon: &mut Running, holds: impl Fn(&Shell) -> bool) {
    for _ in 0..200 {
        node.tick(daemon, 1).await;
        if holds(&daemon.shell) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came about");
}

fn server(shell: &Shell) -> Option<crate::hub::Server> {
    shell
        .registry
        .entries
        .values()
        .find_map(|entry| match entry {
            Cgroup::Server(guarded) => Some(guarded.server.clone()),
            _ => None,
        })
}

fn set_aside(shell: &Shell) -> bool {
    let other = |entry: &Cgroup| matches!(entry, Cgroup::Ignored { .. });
    shell.registry.entries.values().any(other)
}

async fn spin_container(node: &mut Node, daemon: &mut Running, cgroup: &str) {
    for second in 1..=100u32 {
        use_cpu(node, cgroup, f64::from(second) * 2.0);
        node.tick(daemon, 1).await;
    }
}

#[test]
fn a_container_s_scope_is_throttled_through_systemd() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let env = r#""JUPYTERHUB_USER=alice","JUPYTERHUB_SERVER_NAME=lab""#;
        let _docker = docker(&mut node, "jupyter-alice--lab", env);
        let cgroup = format!("system.slice/{}", scope());
        start_container(&node, &cgroup, &scope(), Controls::default());
        let (mut daemon, _journal) = node.start();
        until(&mut node, &mut daemon, |shell| server(shell).is_some()).await;
        let found = server(&daemon.shell).unwrap();
        assert_eq!((found.user.as_str(), found.name.as_str()), ("alice", "lab"));
        assert_eq!(found.spawner, Spawner::Docker);
        spin_container(&mut node, &mut daemon, &cgroup).await;
        let settings = node.systemd.0.borrow().settings[&scope()];
        assert_eq!(settings.quota, Some(Cores(0.25)));
    });
}

#[test]
fn a_container_without_a_unit_is_throttled_and_freed_by_its_own_files() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let _docker = docker(&mut node, "jupyter-alice", r#""JUPYTERHUB_USER=alice""#);
        let cgroup = format!("docker/{ID}");
        let owner = format!("/{cgroup}");
        let before = Controls {
            quota: None,
            period: Some(Duration::from_millis(100)),
            weight: Some(100),
            ..Controls::default()
        };
        start_container(&node, &cgroup, &owner, before);
        let (mut daemon, journal) = node.start();
        until(&mut node, &mut daemon, |shell| server(shell).is_some()).await;
        let found = server(&daemon.shell).unwrap();
        assert_eq!(found.control, Control::Cgroup);
        spin_container(&mut node, &mut daemon, &cgroup).await;
        let throttled = node.systemd.0.borrow().settings[&owner];
        assert_eq!(throttled.quota, Some(Cores(0.25)));
        assert_eq!(throttled.weight, Some(20));
        for _ in 0..100 {
            node.tick(&mut daemon, 1).await;
        }
        let freed = node.systemd.0.borrow().settings[&owner];
        assert_eq!((freed.quota, freed.weight), (Some(Cores(2.0)), Some(100)));
        let told = node.read(&journal);
        assert!(
            !told.contains("changed"),
            "our own rounding was told: {told}"
        );
    });
}

#[test]
fn a_container_that_no_hub_made_is_told_once_and_never_touched() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let _docker = docker(&mut node, "nginx", r#""PATH=/bin""#);
        let cgroup = format!("system.slice/{}", scope());
        start_container(&node, &cgroup, &scope(), Controls::default());
        let (mut daemon, journal) = node.start();
        until(&mut node, &mut daemon, set_aside).await;
        // Started again, it has the same id and another cgroup.
        std::fs::remove_dir_all(node.root.path().join(&cgroup)).unwrap();
        node.tick(&mut daemon, 1).await;
        start_container(&node, &cgroup, &scope(), Controls::default());
        until(&mut node, &mut daemon, set_aside).await;
        assert_eq!(node.systemd.0.borrow().applied, 0);
        let told = node.read(&journal);
        let times = told.matches("no known user's server").count();
        assert_eq!(times, 1, "{told}");
        assert!(told.contains("so no hub's spawner made it"), "{told}");
    });
}

/// Waits for the packet rules, with no tick meanwhile: are these containers known as nobody's?
async fn nobodys(node: &Node, daemon: &mut Running, expected: BTreeSet<CgroupId>) {
    for _ in 0..1000 {
        daemon.moments_later();
        if node.firewall.rules().uid_rules.identity_services == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let identity_services = node.firewall.rules().uid_rules.identity_services.clone();
    assert_eq!(identity_services, expected);
}

#[test]
fn a_container_is_nobodys_only_while_nobody_can_tell_whose_it_is() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        node.config.hub.docker = Some(socket.clone());
        let (mut daemon, _journal) = node.start();

        let cgroup = format!("system.slice/{}", scope());
        start_container(&node, &cgroup, &scope(), Controls::default());
        // Docker is being asked: it may be a user's, with the network of this node.
        daemon.rescan();
        daemon.shell.reconcile_network();
        assert_eq!(
            node.firewall.rules().uid_rules.identity_services,
            BTreeSet::new()
        );
        // Docker is down.
        let directory = std::fs::metadata(node.root.path().join(&cgroup)).unwrap();
        let id = CgroupId(std::os::unix::fs::MetadataExt::ino(&directory));
        node.tick(&mut daemon, 1).await;
        node.tick(&mut daemon, 1).await;
        nobodys(&node, &mut daemon, BTreeSet::from([id])).await;
        // Docker says whose it is.
        let service = docker(&mut node, "jupyter-alice", r#""JUPYTERHUB_USER=alice""#);
        let Endpoint::Unix(real) = service.endpoint() else {
            unreachable!()
        };
        std::fs::hard_link(real, &socket).unwrap();
        daemon.ask_again();
        nobodys(&node, &mut daemon, BTreeSet::new()).await;
        assert!(server(&daemon.shell).is_some());
    });
}

#[test]
fn a_docker_that_is_down_is_told_once_and_asked_again() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        node.config.hub.docker = Some(socket.clone());
        let other = ID.replace('0', "f");
        for id in [ID, &other] {
            let cgroup = format!("system.slice/docker-{id}.scope");
            start_container(&node, &cgroup, &scope(), Controls::default());
        }
        let (mut daemon, journal) = node.start();
        for _ in 0..5 {
            node.tick(&mut daemon, 1).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let told = node.read(&journal);
        assert_eq!(told.matches("Docker cannot be asked").count(), 1, "{told}");
        let status = daemon.shell.status();
        assert_eq!(status.unknown.len(), 2, "{:?}", status.unknown);
        let service = docker(&mut node, "jupyter-alice", r#""JUPYTERHUB_USER=alice""#);
        let Endpoint::Unix(real) = service.endpoint() else {
            unreachable!()
        };
        std::fs::hard_link(real, &socket).unwrap();
        until(&mut node, &mut daemon, |shell| server(shell).is_some()).await;
    });
}

#[test]
fn an_engine_that_never_answers_keeps_nobody_from_hearing_the_other_s_word_of_a_network() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let networks = ["hubnet".to_owned()];
        node.config.hub.container_networks = networks.to_vec();
        // It takes the question: as systemd does for a Podman that fails to start.
        let directory = tempfile::tempdir().unwrap();
        let podman = directory.path().join("podman.sock");
        let _held = std::os::unix::net::UnixListener::bind(&podman).unwrap();
        node.config.hub.podman = Some(podman);
        let made = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let is_made = std::sync::Arc::clone(&made);
        let service = Service::unix(move |asked| {
            assert_eq!(asked.target, "GET /networks/hubnet");
            match is_made.load(std::sync::atomic::Ordering::Relaxed) {
                true => (200, r#"{"Id":"0123456789abcdef","Driver":"bridge"}"#.into()),
                false => (404, "{}".into()),
            }
        });
        use_socket(&mut node, service.endpoint());
        let (mut daemon, _journal) = node.start();
        let known = |shell: &Shell| shell.network.containers.bridges.get("hubnet").cloned();
        daemon.follow_containers();
        for _ in 0..1000 {
            if !service.asked().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(known(&daemon.shell), None);
        made.store(true, std::sync::atomic::Ordering::Relaxed);
        // Podman's question is given up after twenty seconds only.
        for _ in 0..500 {
            // As when an interface comes.
            daemon.take_turns();
            daemon.follow_containers();
            if known(&daemon.shell).is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let bridge = known(&daemon.shell);
        assert_eq!(bridge.as_deref(), Some("br-0123456789ab"));
    });
}
