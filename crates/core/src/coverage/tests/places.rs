use super::made_up::{ID, Node, of, says};
use crate::coverage::*;
use quantities::HubUser;

const HUB: &str = "system.slice/jupyterhub.service";
const ALICE: &str = "jupyter.slice/jupyter-alice.service";

#[test]
fn a_node_on_which_all_servers_are_mapped_has_no_row() {
    let node = Node::new()
        .hub(HUB)
        .server(ALICE)
        .known(ALICE, of("alice"))
        .process("system.slice/ssh.service")
        .listed("alice", ListedAt::Unit("jupyter-alice.service".into()))
        .listed("alice", ListedAt::Unsaid);
    assert_eq!(node.survey().rows, []);
}

#[test]
fn a_unit_in_any_slice_lacks_only_a_name_that_fits() {
    let unit = "jhub.slice/jhub-host.slice/jsu-alice.service";
    let node = Node::new().server(unit).account(1001, "alice");
    assert_eq!(
        node.line(),
        "alice (uid 1001): not covered in /jhub.slice/jhub-host.slice/jsu-alice.service: the unit's name \
         fits no template in unit_names, so neither CPU limits nor packet rules hold there. Set in [hub] of \
         /etc/hubwarden/config.toml: unit_names = [\"jupyter-{USERNAME}\", \"jsu-{USERNAME}\"]"
    );
}

#[test]
fn a_unit_name_that_no_template_fits_yields_the_template() {
    let jsu = "system.slice/jsu-alice.service";
    let by_account = Node::new().server(jsu).account(1001, "jupyter-alice");
    let by_hub = Node::new()
        .process(jsu)
        .listed("alice", ListedAt::Unit("jsu-alice.service".into()));
    for node in [by_account, by_hub] {
        let line = node.line();
        let remedy = "Set in [hub] of /etc/hubwarden/config.toml: \
                      unit_names = [\"jupyter-{USERNAME}\", \"jsu-{USERNAME}\"]";
        assert!(line.ends_with(remedy), "{line}");
    }
}

#[test]
fn templates_of_several_rows_are_one_line() {
    let node = Node::new()
        .server("system.slice/jsu-alice.service")
        .server("system.slice/lab-bob.service")
        .with(|process| process.uid = 1002)
        .account(1001, "alice")
        .account(1002, "bob");
    let all = "unit_names = [\"jupyter-{USERNAME}\", \"jsu-{USERNAME}\", \"lab-{USERNAME}\"]";
    for row in node.survey().rows {
        assert_eq!(row.remedy, Remedy::Config(all.into()));
    }
}

#[test]
fn what_a_process_says_proposes_no_template() {
    let node = Node::new()
        .process("system.slice/sys-tem.service")
        .with(|process| {
            process.said = Some(Said {
                environment: true,
                user: Some("tem".into()),
                ..Said::default()
            });
        });
    let line = node.line();
    assert!(line.contains("that says it is \"tem\""), "{line}");
    assert!(!line.contains("unit_names = ["), "{line}");
}

#[test]
fn servers_in_the_hubs_cgroup_are_one_row_whatever_the_unit_is_called() {
    for unit in ["jupyterhub.service", "jupyterhub-server.service"] {
        let cgroup = format!("system.slice/{unit}");
        let node = Node::new()
            .hub(&cgroup)
            .server(&cgroup)
            .server(&cgroup)
            .with(|process| process.uid = 1002)
            .account(1001, "alice");
        let rows = node.survey().rows;
        assert_eq!(rows[0].missing, Missing::HubsCgroup);
        assert_eq!((rows[0].who.len(), rows[0].servers), (2, 2));
        let other = (unit != "jupyterhub.service").then_some("other-hub");
        assert_eq!(node.kinds().get(1).copied(), other);
    }
}

#[test]
fn a_hub_alone_or_with_its_services_is_no_row() {
    let node = Node::new()
        .hub(HUB)
        .process(HUB)
        .with(|process| process.uid = 0);
    assert_eq!(node.kinds(), [""; 0]);
}

#[test]
fn a_second_hub_is_told_from_one_under_another_name() {
    let other = "system.slice/jupyter-hub.service";
    let only = Node::new().hub(other);
    let line = only.line();
    assert!(line.contains("does not recognise it as the hub"), "{line}");
    let remedy = "hub_units = [\"jupyterhub.service\", \"jupyter-hub.service\"]";
    assert!(line.ends_with(remedy), "{line}");
    let second = Node::new().hub(HUB).hub(other);
    assert!(
        second.line().contains("asks one hub's API"),
        "{}",
        second.line()
    );
}

#[test]
fn a_unit_with_a_unit_file_is_the_admins() {
    let unit = "system.slice/lab.service";
    let mut node = Node::new().server(unit);
    node.facts.unit_files.insert("lab.service".into());
    assert_eq!(node.kinds(), ["unit-file"]);
    let known = Node::new().server(unit).known(unit, Known::NotAServer);
    assert_eq!(known.kinds(), ["unit-file"]);
    let quiet = Node::new().process(unit).known(unit, Known::NotAServer);
    assert_eq!(quiet.kinds(), [""; 0]);
}

#[test]
fn a_login_session_is_a_row_unless_its_user_has_a_known_server() {
    let login = "user.slice/user-1001.slice";
    let session = format!("{login}/session-3.scope");
    let alone = Node::new().server(&session).known(login, Known::Login);
    assert_eq!(alone.kinds(), ["login-session"]);
    let followed = Node::new().server(&session).known(login, of("alice"));
    assert_eq!(followed.kinds(), [""; 0]);
    let asked_nobody = Node::new().server(&session).known(login, Known::Expected);
    assert_eq!(asked_nobody.kinds(), [""; 0]);
}

#[test]
fn a_process_that_a_server_started_elsewhere_is_its_users() {
    let node = Node::new()
        .process(ALICE)
        .known(ALICE, of("alice"))
        .process("batch.slice/job-7.service")
        .with(|process| process.parent = Some(10));
    let rows = node.survey().rows;
    assert_eq!(rows[0].who, [Who::User(HubUser("alice".into()))]);
    assert_eq!(rows[0].missing.kind(), "unit-name");
}

#[test]
fn a_hub_users_job_in_cron_is_a_row_by_its_uid_alone() {
    let mut node = Node::new().process("system.slice/cron.service");
    node.watch.uids.insert(1001, HubUser("alice".into()));
    let line = node.line();
    assert!(
        line.starts_with("alice: not wholly covered in /system.slice/cron.service"),
        "{line}"
    );
    assert!(
        line.contains("so CPU limits do not hold there. An /etc/cron.allow"),
        "{line}"
    );
    let survey = node.survey();
    assert_eq!(survey.rows[0].missing.weight(), Weight::Note);
}

#[test]
fn a_server_without_a_known_user_has_the_reason_and_the_hubs_api() {
    let why = || "it runs as a uid without an account".to_owned();
    let node = Node::new()
        .process(ALICE)
        .known(ALICE, Known::Unmapped { why: why() });
    let line = node.line();
    assert!(
        line.contains("its user cannot be told: it runs as a uid without"),
        "{line}"
    );
    assert!(line.contains("api_url = \"http"), "{line}");
    let asked = node.naming(|naming| naming.api = true);
    assert!(
        asked
            .line()
            .contains("The hub's API does not name it either")
    );
    let nss = Known::Pending {
        why: Some("the user database does not answer".into()),
    };
    let pending = Node::new().process(ALICE).known(ALICE, nss);
    assert!(
        pending
            .line()
            .contains("not known yet: the user database does not answer")
    );
    let new = Node::new()
        .process(ALICE)
        .known(ALICE, Known::Pending { why: None });
    assert_eq!(new.kinds(), [""; 0]);
}

#[test]
fn places_that_nobody_can_watch_say_why() {
    for (cgroup, kind, words) in [
        (
            "kubepods.slice/pod1/x",
            "other-manager",
            "does not supervise Kubernetes",
        ),
        (
            "lxc.payload.c1/system.slice/x.service",
            "other-manager",
            "LXC made this cgroup",
        ),
        (
            "machine.slice/machine-qemu.scope",
            "other-manager",
            "system of its own",
        ),
        (
            "system.slice/slurmstepd.scope/job_1",
            "other-manager",
            "Slurm owns",
        ),
        (
            "machine.slice/odd.scope",
            "other-manager",
            "no spawner that hubwarden knows",
        ),
        ("", "no-unit", "hold the whole system"),
        ("init.scope", "no-unit", "hold the whole system"),
    ] {
        let node = Node::new().server(cgroup);
        assert_eq!(node.kinds(), [kind], "{cgroup}");
        assert!(node.line().contains(words), "{}", node.line());
    }
}

#[test]
fn cgroup_v1_and_hybrid_hierarchies_are_rows_with_the_word_to_boot_with() {
    let at = |kind: fn(_) -> Membership, known| {
        Node::new()
            .server(ALICE)
            .with(|process| process.cgroup = kind(process.cgroup.path().clone()))
            .known(ALICE, known)
    };
    let hybrid = at(Membership::Hybrid, of("alice"));
    assert_eq!(hybrid.kinds(), ["cpu-on-v1"]);
    assert!(
        hybrid
            .line()
            .ends_with("Boot with systemd.unified_cgroup_hierarchy=1")
    );
    assert_eq!(at(Membership::V1, of("alice")).kinds(), ["cgroup-v1"]);
    assert_eq!(
        Node::new()
            .server("x")
            .with(|one| one.cgroup = Membership::V1(one.cgroup.path().clone()))
            .kinds(),
        ["cgroup-v1"]
    );
}

#[test]
fn a_user_who_holds_up_readers_is_a_row_and_root_is_none() {
    let held = |process: &mut Process| (process.said, process.unread) = (None, true);
    let node = Node::new().process("system.slice/odd.service").with(held);
    let node = node
        .process("system.slice/odd.service")
        .with(held)
        .with(|one| one.uid = 0);
    assert_eq!(node.kinds(), ["not-readable"]);
    assert!(node.line().starts_with("uid 1001: "), "{}", node.line());
}

#[test]
fn a_listed_server_of_which_nothing_is_here_is_a_note() {
    let node = Node::new()
        .listed("alice", ListedAt::Unit("jupyter-alice.service".into()))
        .listed("bob", ListedAt::Container(ID.into()))
        .listed("carol", ListedAt::Unsaid);
    let line = node.line();
    assert!(
        line.starts_with("alice, bob, carol: not found on this node: the hub lists"),
        "{line}"
    );
    assert_eq!(node.survey().rows[0].missing.weight(), Weight::Note);
    // LocalProcessSpawner says no place, and the account shows whose the process is.
    let local = Node::new()
        .server(HUB)
        .account(1001, "carol")
        .listed("carol", ListedAt::Unsaid);
    assert_eq!(local.kinds(), ["hub-cgroup"]);
}

#[test]
fn rows_are_ordered_by_weight_kind_and_place_and_bounded() {
    let mut node = Node::new().listed("zoe", ListedAt::Unsaid);
    for number in 0..MOST_ROWS {
        node = node.server(&format!("system.slice/jsu-{number:04}.service"));
    }
    let survey = node.survey();
    assert_eq!((survey.rows.len(), survey.more_rows), (MOST_ROWS, 1));
    assert!(
        survey
            .rows
            .is_sorted_by_key(|row| (row.missing.weight(), row.place.clone()))
    );
    let users = (0..60).fold(Node::new(), |node, number| {
        node.server(HUB).with(|one| one.uid = 2000 + number)
    });
    let rows = users.survey().rows;
    assert_eq!((rows[0].who.len(), rows[0].more_users), (MOST_USERS, 10));
    assert!(
        users.line().contains("uid 2004, 55 more: not covered"),
        "{}",
        users.line()
    );
}

#[test]
fn a_word_of_another_hub_does_not_make_a_users_process_covered() {
    // A user who calls a process a hub, in a place of the user's, is no hub of ours.
    let node = Node::new().hub(ALICE).known(ALICE, of("alice"));
    assert_eq!(node.kinds(), [""; 0]);
    let said = Node::new()
        .server("system.slice/x.service")
        .with(|process| {
            process.said.as_mut().unwrap().user = Some("root\u{1b}[2J\"".into());
        });
    let line = said.line();
    assert!(!line.contains('\u{1b}') && line.contains("u{1b}"), "{line}");
    assert_eq!(says(Looks::Hub).looks, Some(Looks::Hub));
}
