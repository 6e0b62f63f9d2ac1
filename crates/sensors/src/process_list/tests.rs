use super::*;
use proptest::prelude::*;
use std::os::unix::ffi::OsStringExt;

fn named(kind: Kind, path: &str) -> String {
    name(kind, Path::new(path))
}

#[test]
fn a_program_is_told_by_package_or_path() {
    assert_eq!(named(Kind::System, "/usr/bin/ffmpeg"), "/usr/bin/ffmpeg");
    assert_eq!(
        named(
            Kind::Own,
            "/home/a/v/lib/python3.11/site-packages/ray/core/raylet"
        ),
        "raylet of package ray"
    );
    assert_eq!(
        named(Kind::Conda, "/opt/conda/envs/geo/bin/gdalwarp"),
        "gdalwarp of environment geo"
    );
    assert_eq!(
        named(Kind::Conda, "/opt/conda/bin/gdalwarp"),
        "gdalwarp of conda"
    );
    assert_eq!(named(Kind::Deleted, "/tmp/x (deleted)"), "/tmp/x");
    assert_eq!(named(Kind::Memory, "/memfd:x (deleted)"), "/memfd:x");
}

#[test]
fn of_a_long_path_the_end_is_told() {
    let long = format!("/{}/program", "é".repeat(4000));
    let told = named(Kind::Own, &long);
    assert!(told.ends_with("é/program"), "{told}");
    assert_eq!(told.chars().count(), MOST_NAME + 1);
}

#[test]
fn many_groups_become_few_and_none_is_lost() {
    let group = |number: usize| Group {
        kind: Some(Kind::Own),
        program: format!("/home/a/{number}"),
        processes: 1,
        cpu: Cores(number as f64),
    };
    let all = few((0..100).map(group).collect());
    assert_eq!(all.len(), MOST_GROUPS);
    assert_eq!(all[0].program, "/home/a/99");
    assert_eq!(all.iter().map(|group| group.processes).sum::<usize>(), 100);
    assert!((all.iter().map(|group| group.cpu.0).sum::<f64>() - 4950.0).abs() < 1e-6);
    assert_eq!(all.last().unwrap().kind, None);
}

/// A directory that looks like a cgroup with these processes.
fn group_of(pids: &[u32]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let text: String = pids.iter().map(|pid| format!("{pid}\n")).collect();
    std::fs::write(directory.path().join("cgroup.procs"), text).unwrap();
    directory
}

#[test]
fn what_computes_is_told_from_what_sleeps() {
    let start = |program: &str, arguments: &[&str]| {
        std::process::Command::new(program)
            .args(arguments)
            .spawn()
            .unwrap()
    };
    let mut busy = start("sh", &["-c", "while :; do :; done"]);
    let mut idle = start("sleep", &["60"]);
    std::thread::sleep(Duration::from_millis(100));
    let directory = group_of(&[busy.id(), idle.id(), u32::MAX]);
    let mut insight = ProcessList::default();
    let servers = [Place {
        id: 7,
        owner: "alice".into(),
        directory: directory.path().to_owned(),
    }];
    let mut reader = Reader::default();
    let mut read = |pids: BTreeMap<Owner, Vec<u32>>| {
        let of = |(owner, pids): (Owner, Vec<u32>)| (owner, reader.programs(&pids));
        pids.into_iter().map(of).collect()
    };
    let groups = insight.look(&servers, &mut read).remove(&7).unwrap();
    let begun = Instant::now();
    let same = insight.look(&servers, &mut read).remove(&7).unwrap();
    let quick = begun.elapsed();
    // And where nothing can be read of the user's programs, what they use is known all the same.
    let mut unread = ProcessList::default();
    let unread = unread
        .look(&servers, |_| BTreeMap::new())
        .remove(&7)
        .unwrap();
    for child in [&mut busy, &mut idle] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert_eq!(groups.len(), 2, "{groups:?}");
    assert_eq!(groups[0].kind, Some(Kind::Interpreter), "{groups:?}");
    assert!(groups[0].cpu.0 > 0.05, "{groups:?}");
    assert_eq!(groups[1].cpu, Cores(0.0));
    assert!(groups[1].program.ends_with("/sleep"), "{groups:?}");
    assert_eq!(same, groups);
    assert_eq!(unread.len(), 1, "{unread:?}");
    assert_eq!(
        (unread[0].kind, unread[0].processes),
        (Some(Kind::Unreadable), 2)
    );
    assert!(unread[0].cpu.0 > 0.05, "{unread:?}");
    assert!(quick < BETWEEN, "{quick:?}");
}

proptest! {
    #[test]
    fn any_path_makes_a_short_name_without_nul(path: Vec<u8>) {
        let path = PathBuf::from(std::ffi::OsString::from_vec(path));
        for kind in [Kind::Own, Kind::Conda, Kind::Deleted] {
            let name = name(kind, &path);
            prop_assert!(name.chars().count() <= MOST_NAME + 1);
            prop_assert!(!name.contains('\0'));
        }
    }
}
