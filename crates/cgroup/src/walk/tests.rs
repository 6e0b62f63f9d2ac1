use super::*;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use test_support::Bed;

const LONG: Duration = Duration::from_secs(60);
/// As long as the kernel allows.
const NAME: &str = concat!(
    "------------------------------------------------------------------------------------------",
    "------------------------------------------------------------------------------------------",
    "---------------------------------------------------------------------------"
);

fn open(directory: &Path) -> OwnedFd {
    File::open(directory).unwrap().into()
}

fn make(directory: &OwnedFd, name: &str) -> OwnedFd {
    rustix::fs::mkdirat(directory, name, Mode::RWXU).unwrap();
    openat(directory, name, DIRECTORY, Mode::empty()).unwrap()
}

/// A cgroup so many levels below.
fn nest(top: &Path, levels: usize, name: &str) -> OwnedFd {
    (0..levels).fold(open(top), |above, _| make(&above, name))
}

/// A process that sleeps in there.
fn sleep_in(directory: &OwnedFd) -> Child {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let procs = openat(directory, "cgroup.procs", flags, Mode::empty()).unwrap();
    let mut command = Command::new("sleep");
    // SAFETY: one system call between fork and exec, on memory that is there already.
    unsafe {
        command.pre_exec(move || {
            rustix::io::write(&procs, b"0")?;
            Ok(())
        });
    }
    command.arg("600").spawn().unwrap()
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn everything() -> Budget {
    Budget::new(usize::MAX, usize::MAX, LONG)
}

#[test]
fn a_process_is_found_beyond_path_max() {
    assert_eq!(NAME.len(), 255);
    let Some(bed) = Bed::new() else {
        return;
    };
    let deepest = nest(&bed.directory, 40, NAME);
    let child = sleep_in(&deepest);
    let mut walk = Walk::new(&bed.directory).unwrap();
    let mut found = Vec::new();
    assert!(walk.go_on(everything(), &mut found));
    assert_eq!(found, [child.id()]);
    assert_eq!(walk.seen().depth, 40);
    assert!(!walk.seen().lost);
    end(child);
}

#[test]
fn a_walk_goes_on_where_it_stopped_and_finds_each_process_once() {
    let Some(bed) = Bed::new() else {
        return;
    };
    let mut children = Vec::new();
    for branch in ["a", "b", "c"] {
        let mut above = make(&open(&bed.directory), branch);
        for _ in 0..4 {
            children.extend([sleep_in(&above), sleep_in(&above)]);
            make(&above, "empty");
            above = make(&above, "below");
        }
    }
    let mut expected: Vec<u32> = children.iter().map(Child::id).collect();
    expected.sort_unstable();
    for (cgroups, processes) in [(1, usize::MAX), (usize::MAX, 1), (2, 3), (1, 1)] {
        let mut walk = Walk::new(&bed.directory).unwrap();
        let mut found = Vec::new();
        let mut turns = 1;
        while !walk.go_on(Budget::new(cgroups, processes, LONG), &mut found) {
            turns += 1;
        }
        found.sort_unstable();
        assert_eq!(found, expected, "{cgroups} cgroups, {processes} processes");
        assert!(turns >= 12 / cgroups.min(processes), "{turns}");
        // 3 branches of 4, an empty one in each, 3 empty ones at the ends, and the top.
        assert_eq!(walk.seen().cgroups, 28);
        assert!(!walk.seen().lost);
    }
    children.into_iter().for_each(end);
}

#[test]
fn a_walk_survives_the_removal_of_where_it_is() {
    let Some(bed) = Bed::new() else {
        return;
    };
    let top = open(&bed.directory);
    let above = make(&top, "above");
    let child = sleep_in(&make(&above, "below"));
    let mut walk = Walk::new(&bed.directory).unwrap();
    let mut found = Vec::new();
    while found.is_empty() {
        assert!(!walk.go_on(Budget::new(1, 1, LONG), &mut found));
    }
    end(child);
    let removed = |directory: &OwnedFd, name| {
        (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            rustix::fs::unlinkat(directory, name, rustix::fs::AtFlags::REMOVEDIR).is_ok()
        })
    };
    assert!(removed(&above, "below") && removed(&top, "above"));
    let later = sleep_in(&make(&top, "later"));
    assert!(walk.go_on(everything(), &mut found));
    assert!(!walk.seen().lost);
    // The next one finds what came meanwhile.
    assert_eq!(
        processes(&bed.directory, everything()),
        (vec![later.id()], true)
    );
    end(later);
}

#[test]
fn no_time_and_no_cgroup_are_no_finding() {
    let Some(bed) = Bed::new() else {
        return;
    };
    let child = sleep_in(&open(&bed.directory));
    let none = Budget::new(usize::MAX, usize::MAX, Duration::ZERO);
    assert_eq!(processes(&bed.directory, none), (vec![], false));
    assert_eq!(
        processes(&bed.directory, everything()),
        (vec![child.id()], true)
    );
    end(child);
    let gone = bed.directory.join("gone");
    assert_eq!(processes(&gone, everything()), (vec![], true));
}

#[test]
fn twenty_thousand_empty_cgroups_are_passed_by_within_a_budget() {
    let Some(bed) = Bed::new() else {
        return;
    };
    let top = open(&bed.directory);
    let many = 20_000;
    for number in 0..many {
        rustix::fs::mkdirat(&top, format!("{number}"), Mode::RWXU).unwrap();
    }
    let child = sleep_in(&make(&top, "a"));
    let mut walk = Walk::new(&bed.directory).unwrap();
    let mut found = Vec::new();
    let mut most = 0;
    loop {
        let before = walk.seen().cgroups;
        let done = walk.go_on(Budget::new(1000, usize::MAX, LONG), &mut found);
        most = most.max(walk.seen().cgroups - before);
        if done {
            break;
        }
    }
    assert_eq!(most, 1000);
    assert_eq!(found, [child.id()]);
    assert_eq!(walk.seen().cgroups, many + 2);
    end(child);
}

#[test]
fn half_a_number_at_the_end_names_no_process() {
    let directory = tempfile::tempdir().unwrap();
    let mut text = "1234567\n".repeat(MOST_IN_ONE - 1);
    text.push_str("42\n7654321\n");
    std::fs::write(directory.path().join("cgroup.procs"), text).unwrap();
    let (found, all) = processes(directory.path(), everything());
    assert!(!all);
    assert_eq!(found, [1_234_567, 42]);
}
