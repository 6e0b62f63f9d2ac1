//! What people are told who ask why, and what runs.

use super::*;
use policy::finding::Fact;

/// A process that computes until it is dropped.
struct Busy(std::process::Child);

impl Busy {
    fn new() -> Busy {
        let computes = ["-c", "while :; do :; done"];
        let child = std::process::Command::new("sh").args(computes).spawn();
        Busy(child.unwrap())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_case_is_explained_with_its_readings_and_what_would_have_changed_it() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Enforce);
        node.spawn("alice");
        node.spawn("bob");
        let (mut daemon, _journal) = node.start();
        let mut used = 0.0;
        for _ in 0..5 {
            node.busy_second(&mut daemon, "bob", &mut used).await;
        }
        let constants = [Fact::Constants { found: 7 }];
        node.finds(&mut daemon, "bob", &constants).await;
        node.busy_second(&mut daemon, "bob", &mut used).await;

        let shell = &daemon.shell;
        let explained = shell.explain("bob", None, node.clock);
        let [bob] = &explained[..] else {
            panic!("{explained:?}");
        };
        assert_eq!(bob.server.evidence, "high");
        assert_eq!(bob.server.stage, "throttled");
        assert!(
            bob.reason.contains("evidence that it mines is high"),
            "{bob:?}"
        );
        assert!(bob.hot_seconds >= 1.0, "{bob:?}");
        assert_eq!(bob.signs.len(), 1);
        assert!(bob.signs[0].reading.contains("7 of RandomX's 7 constants"));
        assert_eq!(bob.signs[0].seconds_ago, 1.0);
        let without = ("Without what constants found".to_owned(), "none".to_owned());
        assert!(bob.counterfactuals.contains(&without), "{bob:?}");

        let alice = &shell.explain("alice", None, node.clock)[0];
        assert_eq!(
            (alice.server.evidence.as_str(), alice.signs.len()),
            ("none", 0)
        );
        assert_eq!(alice.hot_seconds, -1.0);
        assert!(shell.explain("mallory", None, node.clock).is_empty());
    });
}

#[test]
fn a_user_is_told_of_their_own_servers_only() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Observe);
        node.spawn("alice");
        let (mut daemon, _journal) = node.start();
        node.tick(&mut daemon, 1).await;
        let hers = daemon.shell.servers()[0].uid;
        let told = |uid| daemon.shell.explain("alice", uid, node.clock).len();
        assert_eq!(told(Some(hers)), 1);
        assert_eq!(told(Some(hers + 1)), 0);
        assert_eq!(daemon.processes(Some(hers)).await.unwrap().len(), 1);
        assert_eq!(daemon.processes(Some(hers + 1)).await.unwrap(), []);
    });
}

#[test]
fn processes_are_told_by_server_with_what_its_user_runs_outside() {
    on_a_node(async || {
        let mut node = Node::new(Mode::Observe);
        node.spawn("alice");
        node.outside(0.0);
        let (inside, outside) = (Busy::new(), Busy::new());
        let slice = node.root.path().join("user.slice/user-1000.slice");
        for (directory, process) in [(node.directory("alice"), &inside), (slice, &outside)] {
            let pid = format!("{}\n", process.0.id());
            std::fs::write(directory.join("cgroup.procs"), pid).unwrap();
        }
        let (mut daemon, _journal) = node.start();
        node.tick(&mut daemon, 1).await;
        let told = daemon.processes(None).await.unwrap();
        assert_eq!(told.len(), 1, "{told:?}");
        // Both run the same program.
        assert_eq!(told[0].groups.len(), 1, "{told:?}");
        let group = &told[0].groups[0];
        assert_eq!((group.kind.as_str(), group.processes), ("interpreter", 2));
        assert!(group.cpu_cores > 0.04, "{told:?}");
    });
}
