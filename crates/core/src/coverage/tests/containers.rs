use super::made_up::{ID, Node, of};
use crate::coverage::*;

fn docker() -> String {
    format!("system.slice/docker-{ID}.scope")
}

fn podman() -> String {
    format!("machine.slice/libpod-{ID}.scope")
}

#[test]
fn an_engine_that_is_switched_off_is_named_with_its_key() {
    let off = |cgroup: &str| {
        let node = Node::new().server(cgroup);
        node.naming(|naming| (naming.docker, naming.podman) = (false, false))
            .line()
    };
    let line = off(&docker());
    assert!(line.contains("[hub] has docker = \"none\""), "{line}");
    assert!(line.ends_with(": docker = \"/run/docker.sock\""), "{line}");
    let line = off(&format!("{}/container", podman()));
    assert!(
        line.ends_with(": podman = \"/run/podman/podman.sock\""),
        "{line}"
    );
}

#[test]
fn a_parent_that_is_not_watched_is_written_as_cgroup_parent_has_it() {
    for (parent, value) in [
        ("a.slice/a-b.slice", "a-b.slice"),
        ("hub/users", "/hub/users"),
        ("hub.slice", "hub.slice"),
    ] {
        let name = if parent.ends_with(".slice") {
            format!("docker-{ID}.scope")
        } else {
            ID.to_owned()
        };
        let node = Node::new().server(&format!("{parent}/{name}"));
        let line = node.line();
        let remedy = format!("container_parents = [\"{value}\"]");
        assert!(line.ends_with(&remedy), "{line}");
    }
}

#[test]
fn a_container_that_nobody_knows_is_a_row_only_if_a_server_is_in_it() {
    let why = || "container db has no JUPYTERHUB_USER".to_owned();
    let unmapped = |node: Node| node.known(&docker(), Known::Unmapped { why: why() });
    assert_eq!(unmapped(Node::new().process(&docker())).kinds(), [""; 0]);
    assert_eq!(
        unmapped(Node::new().server(&docker())).kinds(),
        ["not-mapped"]
    );
    let listed = Node::new().listed("alice", ListedAt::Container(ID.into()));
    assert_eq!(unmapped(listed.process(&docker())).kinds(), ["not-mapped"]);
    let engine = Known::Pending {
        why: Some("Docker cannot be asked".into()),
    };
    assert_eq!(
        Node::new()
            .server(&docker())
            .known(&docker(), engine)
            .kinds(),
        ["not-mapped-yet"]
    );
}

#[test]
fn servers_in_the_hubs_own_container_are_in_the_hubs_cgroup() {
    let why = "container hub has no JUPYTERHUB_USER".to_owned();
    let node = Node::new().hub(&docker()).server(&docker());
    let node = node.known(&docker(), Known::Unmapped { why });
    assert_eq!(node.kinds(), ["not-mapped"]);
    let expected = Node::new().hub(&docker()).server(&docker());
    let expected = expected.known(&docker(), Known::Expected);
    assert_eq!(expected.kinds(), ["hub-cgroup"]);
    let alone = Node::new().hub(&docker()).known(&docker(), Known::Expected);
    assert_eq!(alone.kinds(), [""; 0]);
}

#[test]
fn containers_of_an_engine_that_a_user_runs_are_out_of_reach() {
    let login = "user.slice/user-990.slice";
    let cgroup = format!("{login}/user@990.service/user.slice/libpod-{ID}.scope/container");
    let rootless = Node::new().server(&cgroup).known(login, Known::Login);
    assert_eq!(rootless.kinds(), ["rootless-container"]);
    assert!(
        rootless.line().contains("Use root's Docker or Podman"),
        "{}",
        rootless.line()
    );
    let own = Node::new().server(&cgroup).known(login, of("alice"));
    assert_eq!(own.kinds(), [""; 0]);
    // Without the daemon's word a hub in the same login shows it.
    let hubs = Node::new()
        .hub(login)
        .server(&cgroup)
        .known(login, Known::Expected);
    assert_eq!(hubs.kinds(), ["other-hub", "rootless-container"]);
}
