use super::*;
use std::fs;

#[test]
fn a_process_is_found_in_a_child_that_comes_after_any_number_of_files() {
    let scope = tempfile::tempdir().unwrap();
    for number in 0..100 {
        fs::write(scope.path().join(format!("file.{number}")), "").unwrap();
    }
    let payload = scope.path().join("container/inner");
    fs::create_dir_all(&payload).unwrap();
    assert_eq!(processes(scope.path()), (vec![], true));
    fs::write(payload.join("cgroup.procs"), "11\n12\n13\n14\n15\n").unwrap();
    assert_eq!(processes(scope.path()).0, [11, 12, 13, 14]);
    fs::write(scope.path().join("cgroup.procs"), "1\n").unwrap();
    assert_eq!(processes(scope.path()).0[0], 1);
}

#[test]
fn a_container_that_hides_in_cgroups_stays_on_the_ports_it_had() {
    let scope = tempfile::tempdir().unwrap();
    for number in 0..=MOST_CGROUPS {
        fs::create_dir(scope.path().join(number.to_string())).unwrap();
    }
    let (pids, searched) = processes(scope.path());
    assert!(hides(&pids, searched));
    fs::write(scope.path().join("cgroup.procs"), "1\n2\n3\n4\n5\n6\n").unwrap();
    let (pids, searched) = processes(scope.path());
    assert!(
        !hides(&pids, searched),
        "more processes than are asked: {pids:?}"
    );

    let server = |id| ServerPort {
        cgroup: CgroupId(id),
        number: 1,
        class: ClassName::pending(),
        addresses: BTreeSet::new(),
    };
    let mut networks = Networks::default();
    networks.known.servers.insert(3, server(7));
    networks.known.servers.insert(4, server(8));
    networks.known.servers.insert(5, server(7));
    let link = |index, master| Link {
        index,
        name: format!("veth{index}"),
        address: None,
        master,
        peer: None,
        bridge: false,
        ethernet: true,
        up: true,
    };
    // The third has left its bridge, the sixth is new there.
    let all = [
        link(3, Some(2)),
        link(4, Some(2)),
        link(5, None),
        link(6, Some(2)),
    ];
    let before = |id| {
        networks
            .ports_before(CgroupId(id), &all)
            .iter()
            .map(|link| link.index)
            .collect::<Vec<_>>()
    };
    assert_eq!((before(7), before(9)), (vec![3], vec![]));
}

#[test]
fn the_first_process_counts_while_it_is_in_its_container() {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = text
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap();
    let own = CgroupPath::new(own);
    let mut networks = Networks::default();
    let note = Note {
        first_process: Some(std::process::id()),
        ..Note::default()
    };
    networks.notes.insert(own.clone(), note);
    assert_eq!(networks.first_process(&own), Some(std::process::id()));

    let scope = CgroupPath::new("/a/docker-1.scope");
    for (said, below) in [
        ("0::/a/docker-1.scope\n", true),
        ("1:cpu:/\n0::/a/docker-1.scope/init\n", true),
        ("0::/a/docker-1.scope2\n", false),
        ("0::/a\n", false),
        ("1:cpu:/a/docker-1.scope\n", false),
    ] {
        assert_eq!(is_below(said, &scope), below, "{said}");
    }
}
