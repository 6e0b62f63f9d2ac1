use super::bed::{Bed, HOST, ID, Shown, kinds};
use crate::config::Config;
use crate::coverage::naming;
use hubwarden_core::coverage::{Known, Remedy, Survey, Watch};
use quantities::{CgroupPath, HubUser};

const SINGLE: [&str; 2] = ["/usr/bin/python3", "/usr/bin/jupyterhub-singleuser"];

fn line(survey: &Survey) -> String {
    let lines = crate::coverage::check_lines(survey);
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines[0].1.clone()
}

#[test]
fn a_tidy_node_is_covered_by_its_configuration() {
    let mut bed = Bed::new();
    bed.runs(1, "init.scope", &["/sbin/init"]);
    bed.runs(
        10,
        "system.slice/jupyterhub.service",
        &["python3", "-m", "jupyterhub.app"],
    );
    bed.runs(11, "system.slice/jupyter-alice.service", &SINGLE);
    bed.runs(12, "jupyter.slice/odd.service", &SINGLE);
    bed.runs(13, &format!("system.slice/docker-{ID}.scope"), &SINGLE);
    bed.runs(
        14,
        &format!("machine.slice/libpod-{ID}.scope/container"),
        &SINGLE,
    );
    bed.runs(
        15,
        "user.slice/user-1001.slice/session-1.scope",
        &["jupyter-lab"],
    );
    let survey = bed.by("");
    assert_eq!((kinds(&survey), survey.unseen), (vec![], 0));
    assert!(crate::coverage::check_lines(&survey).is_empty());
}

#[test]
fn each_set_up_that_no_configuration_covers_yet_is_named() {
    let docker = format!("hub/users/{ID}");
    for (cgroup, kind) in [
        ("jhub.slice/jhub-host.slice/jsu-alice.service", "unit-name"),
        ("system.slice/jsu-alice.service", "unit-name"),
        ("system.slice/jupyterhub.service", "hub-cgroup"),
        (&docker, "container-parent"),
        ("kubepods.slice/pod1", "other-manager"),
        ("", "no-unit"),
    ] {
        let mut bed = Bed::new();
        bed.runs(10, cgroup, &SINGLE);
        assert_eq!(kinds(&bed.by("")), [kind], "{cgroup}");
    }
}

#[test]
fn the_line_that_is_proposed_is_good_and_mends_the_row() {
    let docker = format!("hub/users/{ID}");
    let off = "[hub]\ndocker = \"none\"\npodman = \"none\"\n";
    let of_docker = format!("system.slice/docker-{ID}.scope");
    let of_podman = format!("machine.slice/libpod-{ID}.scope");
    for (cgroup, before) in [
        (&docker, "[hub]\n"),
        (&format!("hub \"x\"\\y/z/{ID}"), "[hub]\n"),
        (&of_docker, off),
        (&of_podman, off),
    ] {
        let mut bed = Bed::new();
        bed.runs(10, cgroup, &SINGLE);
        let survey = bed.by(before);
        let Remedy::Config(mends) = &survey.rows[0].remedy else {
            panic!("{survey:?}");
        };
        let key = mends.split_once(' ').unwrap().0;
        let stands = before.lines().filter(|one| !one.starts_with(key));
        let mut after: String = stands.map(|one| format!("{one}\n")).collect();
        after.push_str(mends);
        assert_eq!(kinds(&bed.by(&after)), [""; 0], "{after}");
    }
}

#[test]
fn a_unit_whose_account_is_known_has_its_template_proposed() {
    // The account of whoever runs this test; the file is that user's.
    let uid = nix::unistd::geteuid().as_raw();
    let Some(name) = crate::hub::name_of(uid) else {
        return;
    };
    let mut bed = Bed::new();
    let unit = format!("jsu-{name}.service");
    bed.runs(10, &format!("system.slice/{unit}"), &SINGLE);
    let survey = bed.by("");
    let Remedy::Config(mends) = &survey.rows[0].remedy else {
        panic!("{survey:?}");
    };
    assert!(mends.ends_with("\"jsu-{USERNAME}\"]"), "{mends}");
    let after = bed.by(&format!("[hub]\n{mends}"));
    assert_eq!(kinds(&after), [""; 0]);
}

#[test]
fn a_unit_that_is_not_transient_is_the_admins() {
    let mut bed = Bed::new();
    bed.runs(10, "system.slice/lab.service", &SINGLE);
    bed.unit_file("lab.service");
    assert_eq!(kinds(&bed.by("")), ["unit-file"]);
}

#[test]
fn a_hub_under_another_name_is_found_with_the_servers_in_its_cgroup() {
    let mut bed = Bed::new();
    let unit = "system.slice/jupyterhub-server.service";
    bed.runs(10, unit, &["/usr/bin/python3", "/usr/bin/jupyterhub"]);
    bed.runs(11, unit, &SINGLE);
    let survey = bed.by("");
    assert_eq!(kinds(&survey), ["hub-cgroup", "other-hub"]);
    let hub_units = "hub_units = [\"jupyterhub.service\", \"jupyterhub-server.service\"]";
    assert_eq!(survey.rows[1].remedy, Remedy::Config(hub_units.into()));
    let after = bed.by(&format!("[hub]\n{hub_units}"));
    assert_eq!(kinds(&after), ["hub-cgroup"]);
}

#[test]
fn an_environment_and_a_parent_are_enough() {
    let mut bed = Bed::new();
    bed.runs(10, "batch.slice/a.service", &SINGLE);
    let child = Shown {
        cgroup: "0::/other.slice/b.service",
        parent: 10,
        ..Shown::default()
    };
    bed.process(11, &child);
    let environment = Shown {
        cgroup: "0::/third.slice/c.service",
        environment: b"JUPYTERHUB_API_TOKEN=secret\0JUPYTERHUB_USER=\x1b[2Jeve\0",
        ..Shown::default()
    };
    bed.process(12, &environment);
    let survey = bed.by("");
    assert_eq!(kinds(&survey), ["unit-name"; 3]);
    let text = format!("{:?}", crate::coverage::check_lines(&survey));
    assert!(text.contains("u{1b}") && !text.contains('\u{1b}'), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn networks_of_their_own_are_named_with_their_interfaces() {
    let container = format!("0::/system.slice/docker-{ID}.scope");
    let with = |cgroup: &str, devices: &[&str], bridge: Option<&str>| {
        let mut bed = Bed::new();
        let shown = Shown {
            cgroup,
            network: HOST + 7,
            devices,
            ..Shown::default()
        };
        bed.process(10, &shown);
        if let Some(bridge) = bridge {
            bed.bridge(10, bridge);
        }
        bed.by("")
    };
    let macvlan = with(&container, &["lo", "eth0"], None);
    assert_eq!(kinds(&macvlan), ["container-network"]);
    assert!(line(&macvlan).contains("container's network (eth0)"));
    assert_eq!(
        kinds(&with(&container, &["lo", "eth0"], Some("br0"))),
        [""; 0]
    );
    assert_eq!(kinds(&with(&container, &["lo"], None)), [""; 0]);
    let unit = with(
        "0::/jupyter.slice/jupyter-a.service",
        &["lo", "veth0"],
        None,
    );
    assert_eq!(kinds(&unit), ["unit-network"]);
}

#[test]
fn cgroup_v1_and_hybrid_lines_are_read() {
    for (lines, kind) in [
        ("4:cpu,cpuacct:/jupyter-a\n1:name=systemd:/a", "cgroup-v1"),
        (
            "4:cpu,cpuacct:/x\n0::/jupyter.slice/jupyter-a.service",
            "cpu-on-v1",
        ),
    ] {
        let mut bed = Bed::new();
        let shown = Shown {
            cgroup: lines,
            arguments: b"jupyter-labhub\0",
            ..Shown::default()
        };
        bed.process(10, &shown);
        assert_eq!(kinds(&bed.by("")), [kind]);
    }
}

#[test]
fn the_kernels_threads_and_processes_that_end_are_no_rows() {
    let mut bed = Bed::new();
    let thread = Shown {
        cgroup: "0::/",
        arguments: b"",
        environment: b"",
        parent: 2,
        flags: 0x0020_8040,
        ..Shown::default()
    };
    bed.process(3, &thread);
    bed.runs(10, "x.slice/a.service", &SINGLE);
    std::fs::remove_file(bed.path("proc/10/cgroup")).unwrap();
    std::fs::create_dir_all(bed.path("proc/11")).unwrap();
    bed.runs(12, "x.slice/b.service (deleted)", &SINGLE);
    assert_eq!(kinds(&bed.by("")), [""; 0]);
}

#[test]
fn nothing_is_asked_of_processes_in_a_place_that_is_mapped() {
    let mut bed = Bed::new();
    bed.runs(10, "jupyter.slice/jupyter-a.service", &["jupyterhub"]);
    // A read of what is no file shows that it was asked.
    std::fs::remove_file(bed.path("proc/10/cmdline")).unwrap();
    let known = Known::Server {
        user: HubUser("a".into()),
        port: false,
        cpu: None,
        packets: None,
    };
    let cgroup = CgroupPath::new("jupyter.slice/jupyter-a.service");
    let watch = Watch {
        known: [(cgroup, known)].into(),
        uids: Default::default(),
        listed: Vec::new(),
        naming: naming(&Config::default()),
    };
    assert_eq!(kinds(&bed.with(&watch)), [""; 0]);
}
