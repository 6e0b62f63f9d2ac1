//! Where new servers are started, and which slices are guarded.

use super::*;
use std::os::unix::fs::MetadataExt;

impl Node {
    fn system(&self) -> PathBuf {
        self.state.path().join("system")
    }

    /// Where the drop-in has new servers started, if anywhere.
    fn placed(&self) -> Option<String> {
        let drop_in = "run/systemd/system/jupyter-.service.d/10-hubwarden.conf";
        let text = std::fs::read_to_string(self.system().join(drop_in)).ok()?;
        let slice = text.lines().find_map(|line| line.strip_prefix("Slice="));
        slice.map(str::to_owned)
    }

    /// A spawner that asks for a slice of its own starts a server there.
    fn spawn_in(&self, user: &str, slice: &str, path: &str) {
        self.spawn(user);
        let (unit, from) = (Node::unit(user), self.directory(user));
        let to = self.root.path().join(path);
        std::fs::create_dir_all(&to).unwrap();
        std::fs::rename(from, to.join(&unit)).unwrap();
        let transient = self.system().join("run/systemd/transient");
        std::fs::create_dir_all(&transient).unwrap();
        std::fs::write(transient.join(unit), format!("[Service]\nSlice={slice}\n")).unwrap();
    }

    fn admins_unit(&self, name: &str, path: &str) {
        std::fs::create_dir_all(self.root.path().join(path).join(name)).unwrap();
        let facts = UnitFacts {
            transient: false,
            user: None,
            uid: Some(0),
            dynamic_user: false,
            ..UnitFacts::default()
        };
        self.systemd
            .0
            .borrow_mut()
            .facts
            .insert(name.to_owned(), facts);
    }

    /// The guarded slices, by name.
    fn guarded(&self) -> Vec<String> {
        let ids = self.firewall.rules().guarded.clone();
        let entries = std::fs::read_dir(self.root.path()).unwrap().flatten();
        let mut names: Vec<String> = entries
            .filter(|entry| ids.contains(&CgroupId(entry.metadata().unwrap().ino())))
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn new_servers_are_placed_only_while_verdicts_are_carried_out() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Observe);
        let (mut daemon, _journal) = node.start();
        assert_eq!(node.placed(), None);
        node.config.mode = Mode::Enforce;
        daemon.adopt(node.config.clone(), "root");
        assert_eq!(node.placed().as_deref(), Some("jupyter.slice"));
        node.config.hub.slice = "hub.slice".into();
        daemon.adopt(node.config.clone(), "root");
        assert_eq!(node.placed().as_deref(), Some("hub.slice"));
        daemon.switch_off("root").await.unwrap();
        assert_eq!(node.placed(), None);
        daemon.switch_on("root").await.unwrap();
        assert_eq!(node.placed().as_deref(), Some("hub.slice"));
        // What a daemon leaves that is killed, `off` without one takes away.
        drop(daemon);
        assert!(node.off_without_daemon().await.is_empty());
        assert_eq!(node.placed(), None);
    });
}

#[test]
fn a_spawners_own_slice_stays_and_is_guarded_as_it_is() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn_in("alice", "jhub-host.slice", "jhub.slice/jhub-host.slice");
        let (mut daemon, _journal) = node.start();
        daemon.quiet().await;
        daemon.moments_later();
        assert_eq!(stage(&mut daemon, "alice"), Stage::Free);
        assert_eq!(node.placed(), None);
        assert_eq!(node.guarded(), ["jhub.slice", "jupyter.slice"]);
        assert_eq!(daemon.shell.placement_lack(), None);
        // The next daemon knows it before anybody is there.
        daemon.save();
        drop(daemon);
        std::fs::remove_dir_all(node.root.path().join("jhub.slice/jhub-host.slice")).unwrap();
        let (mut daemon, journal) = node.start();
        assert_eq!(node.placed(), None);
        assert_eq!(node.guarded(), ["jhub.slice", "jupyter.slice"]);
        // Who comes and is nobody's is held there as in the configured slice.
        node.spawn_in("eve", "jhub-host.slice", "jhub.slice/jhub-host.slice");
        let odd = UnitFacts {
            transient: true,
            user: Some("somebody".into()),
            uid: Some(1234),
            dynamic_user: false,
            ..UnitFacts::default()
        };
        node.systemd
            .0
            .borrow_mut()
            .facts
            .insert(Node::unit("eve"), odd);
        node.tick(&mut daemon, 1).await;
        let told = node.read(&journal);
        assert!(
            told.contains("since it is in the guarded slice it reaches no network"),
            "{told}"
        );
    });
}

#[test]
fn a_spawners_own_slice_is_kept_from_the_first_server_on_that_asks_for_it() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let (mut daemon, _journal) = node.start();
        node.tick(&mut daemon, 1).await;
        // It was moved by the drop-in, as the very first one is: the slice that it asks for is not there.
        node.spawn("alice");
        let transient = node.system().join("run/systemd/transient");
        std::fs::create_dir_all(&transient).unwrap();
        let text = "[Service]\nSlice=jhub-host.slice\n";
        std::fs::write(transient.join(Node::unit("alice")), text).unwrap();
        daemon.poll_tree();
        daemon.quiet().await;
        assert_eq!(node.placed(), None);
        let started = node.systemd.0.borrow().started.clone();
        assert!(started.contains("jhub.slice"), "{started:?}");
    });
}

#[test]
fn a_slice_in_which_an_admins_service_runs_is_not_guarded_and_that_is_said() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn_in("alice", "science.slice", "science.slice");
        let (mut daemon, _journal) = node.start();
        daemon.quiet().await;
        daemon.moments_later();
        assert_eq!(node.guarded(), ["jupyter.slice", "science.slice"]);
        node.admins_unit("postgresql.service", "science.slice");
        node.tick(&mut daemon, 1).await;
        node.tick(&mut daemon, 1).await;
        assert_eq!(node.guarded(), ["jupyter.slice"]);
        let lack = daemon.shell.placement_lack().unwrap();
        assert!(
            lack.contains("science.slice, where other services run too"),
            "{lack}"
        );
        // Also while it is stopped: it may come back when no daemon runs.
        std::fs::remove_dir_all(node.root.path().join("science.slice/postgresql.service")).unwrap();
        node.tick(&mut daemon, 1).await;
        assert_eq!(node.guarded(), ["jupyter.slice"]);
    });
}

#[test]
fn a_slice_of_a_spawners_with_the_hub_in_it_is_guarded_at_no_moment() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let (mut daemon, _journal) = node.start();
        node.tick(&mut daemon, 1).await;
        // The hub was in a slice that nobody had any reason to look at.
        node.admins_unit("jupyterhub.service", "jupyterhub.slice");
        node.spawn_in("alice", "jupyterhub.slice", "jupyterhub.slice");
        daemon.poll_tree();
        for turns in 0..50 {
            tokio::task::yield_now().await;
            daemon.moments_later();
            assert_eq!(node.guarded(), ["jupyter.slice"], "after {turns} turns");
        }
        assert_eq!(stage(&mut daemon, "alice"), Stage::Free);
    });
}

#[test]
fn an_admins_unit_in_the_guarded_slice_is_open_from_the_first_rules_of_the_next_daemon_on() {
    on_a_node(async || {
        let node = Node::new(Mode::Enforce);
        node.admins_unit("postgresql.service", "jupyter.slice");
        let (mut daemon, _journal) = node.start();
        daemon.quiet().await;
        let admitted = || {
            let rules = node.firewall.rules();
            let classes = rules.admitted.values().map(|one| one.class.clone());
            classes.collect::<Vec<_>>()
        };
        assert_eq!(admitted(), [quantities::ClassName::exempt()]);
        daemon.save();
        drop(daemon);
        node.firewall.rules().admitted.clear();
        // No task of it has run yet.
        let (_daemon, _journal) = node.start();
        assert_eq!(admitted(), [quantities::ClassName::exempt()]);
    });
}

#[test]
fn a_unit_that_has_a_file_is_open_from_the_very_first_rules_on() {
    on_a_node(async || {
        let node = Node::new(Mode::Enforce);
        let units = node.system().join("etc/systemd/system");
        std::fs::create_dir_all(&units).unwrap();
        std::fs::write(units.join("jupyter-hub.service"), "").unwrap();
        std::fs::write(units.join("site@.service"), "").unwrap();
        node.admins_unit("jupyter-hub.service", "jupyter.slice");
        node.admins_unit("site@one.service", "jupyter.slice");
        // A name like that of a file does not make a spawner's unit an admin's.
        std::fs::write(units.join(Node::unit("alice")), "").unwrap();
        node.spawn_in("alice", "jupyter.slice", "jupyter.slice");
        let (mut daemon, _journal) = node.start();
        // No task of it has run yet.
        let classes = || {
            let rules = node.firewall.rules();
            let classes = rules.admitted.values().map(|one| one.class.to_string());
            classes.collect::<Vec<_>>()
        };
        assert_eq!(classes(), ["exempt", "exempt"]);
        daemon.quiet().await;
        assert_eq!(stage(&mut daemon, "alice"), Stage::Free);
    });
}

#[test]
fn an_admins_unit_that_the_drop_in_moved_is_not_moved_again() {
    on_a_node(async || {
        let node = Node::new(Mode::Enforce);
        let (mut daemon, _journal) = node.start();
        daemon.quiet().await;
        let units = node.system().join("etc/systemd/system");
        std::fs::create_dir_all(&units).unwrap();
        std::fs::write(units.join("jupyter-hub.service"), "").unwrap();
        node.admins_unit("jupyter-hub.service", "jupyter.slice");
        daemon.poll_tree();
        daemon.quiet().await;
        let stays = "run/systemd/system/jupyter-hub.service.d/10-hubwarden.conf";
        let text = std::fs::read_to_string(node.system().join(stays)).unwrap();
        assert!(text.contains("stays where it is"), "{text}");
    });
}

#[test]
fn each_tick_says_for_how_long_new_containers_are_looked_at() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        let (mut daemon, _journal) = node.start();
        let rules = node.firewall.clone();
        let watched = || rules.rules().watched.take();
        let wanted = 3 * node.config.tick + Duration::from_secs(5);
        for _ in 0..2 {
            node.tick(&mut daemon, 1).await;
            assert_eq!(watched(), Some(wanted));
        }
        daemon.switch_off("root").await.unwrap();
        let _ = watched();
        node.tick(&mut daemon, 1).await;
        assert_eq!(watched(), None, "there are no rules");
    });
}

#[test]
fn a_slice_with_the_hub_in_it_is_not_guarded() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.config.hub.hub_units = vec!["jupyter-hub.service".into()];
        let (mut daemon, _journal) = node.start();
        assert_eq!(node.guarded(), ["jupyter.slice"]);
        node.admins_unit("jupyter-hub.service", "jupyter.slice");
        node.tick(&mut daemon, 1).await;
        node.tick(&mut daemon, 1).await;
        assert_eq!(node.guarded(), Vec::<String>::new());
    });
}
