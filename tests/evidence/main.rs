//! The sensors before processes that do not want to be looked at: real ones, in a cgroup of our own.
//!
//! Asked of every one: nothing fails, nothing that a user wrote gets where it could be taken for
//! ours, and memory and time are bounded.

// A test may unwrap; the helpers of these are tests too.
#![allow(clippy::unwrap_used)]

mod bed;
mod deep;
mod degraded;
mod held;
mod planted;
mod storm;
mod stratum;

use bed::Bed;
use policy::finding::Fact;
use quantities::{Plain, Time};
use sensors::binary;
use sensors::constants::Constants;
use sensors::exec::Exec;
use sensors::process::Process;
use sensors::process_list::{self, ProcessList, Programs, Reader};
use sensors::set::Suspect;
use sensors::workers::{self, Worker};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// What takes longer than this waits for what does not come; no busy machine is that slow.
const QUICK: Duration = Duration::from_secs(60);

/// Looks at the bed's processes as the daemon does, so many times, and returns what was found.
fn look(bed: &Bed, rounds: u64) -> Vec<Fact> {
    look_until(bed, rounds, |_| false)
}

/// The same, until that was found: a process is looked into once it has had 50 ms of a processor, and on
/// a busy machine that may take long.
fn look_until(bed: &Bed, rounds: u64, is_found: impl Fn(&[Fact]) -> bool) -> Vec<Fact> {
    let mut sensors = bed::sensors();
    sensors.guard(BTreeMap::from([(bed.id, bed.directory.clone())]));
    let suspects = [Suspect {
        id: bed.id,
        directory: bed.directory.clone(),
        user: "alice".to_owned(),
    }];
    let mut facts = Vec::new();
    for round in 0..rounds {
        let now = Time(Duration::from_secs(round * 40));
        let begun = Instant::now();
        for found in sensors
            .look(&suspects, now)
            .into_iter()
            .chain(sensors.listen(now))
        {
            let words = found.evidence.to_string();
            assert!(!words.contains(char::is_control), "{words:?}");
            facts.push(found.evidence.fact);
        }
        assert!(begun.elapsed() < QUICK, "{:?}", begun.elapsed());
        if is_found(&facts) {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    facts
}

#[test]
fn what_a_killed_run_left_is_removed_and_nothing_of_whoever_is_alive() {
    let root = cgroup::find_root().unwrap();
    let [killed, alive] = [
        test_support::make_cgroup(&root),
        test_support::make_cgroup(&root),
    ];
    let (killed, alive) = (killed.unwrap(), alive.unwrap());
    // The same as if a process that has ended had made it.
    let mut other = std::process::Command::new("true").spawn().unwrap();
    other.wait().unwrap();
    let name = killed.file_name().unwrap().to_str().unwrap();
    let name = name.replace(
        &format!("-{}-", std::process::id()),
        &format!("-{}-", other.id()),
    );
    let left = root.join(&name);
    // Somebody else's, by another scheme, in another pid namespace.
    let others =
        ["hubwarden-test-x", &name.replace("test-4", "test-5")].map(|name| root.join(name));
    std::fs::create_dir_all(left.join("below")).unwrap();
    others
        .iter()
        .for_each(|other| std::fs::create_dir(other).unwrap());
    let mut inside = std::process::Command::new("sh")
        .args(["-c", "echo $$ > \"$0/below/cgroup.procs\"; exec sleep 600"])
        .arg(&left)
        .spawn()
        .unwrap();
    assert!(bed::comes(|| !std::fs::read(
        left.join("below/cgroup.procs")
    )
    .unwrap()
    .is_empty()));
    test_support::remove_left_cgroups(&root);
    let spared = [&killed, &alive, &others[0], &others[1]];
    let are_spared = spared.map(|one| one.exists());
    for one in spared {
        test_support::remove_cgroup(one);
    }
    assert!(!left.exists() && !inside.wait().unwrap().success());
    assert_eq!(are_spared, [true; 4]);
}

#[test]
fn command_lines_of_128_kb_of_anything_are_searched_and_nothing_of_them_is_told() {
    let bed = Bed::new();
    let mut long = vec![0xff; 100 << 10];
    long.extend(b"\n\x1b]0;free\x07\nEVIDENCE=none\n stratum+tcp://pool.example:1 \x1b[2J");
    long.resize(128 * 1024 - 1, b'\n');
    // The kernel takes 128 kB in one argument and 2 MB in all.
    let long = OsStr::from_bytes(&long);
    let child = bed.start(&[OsStr::new("compute"), long, long, long]);
    let named = Exec::new()
        .unwrap()
        .look(&Process::new(child.pid()))
        .unwrap();
    assert_eq!(named, Some("stratum+tcp://"));
    let is_named = |facts: &[Fact]| facts.contains(&Fact::Named("stratum+tcp://"));
    let facts = look_until(&bed, 600, is_named);
    assert!(is_named(&facts), "{facts:?}");
}

#[test]
fn a_program_file_named_to_paint_on_a_terminal_is_told_escaped() {
    let bed = Bed::new();
    let name = OsStr::from_bytes(b"\x1b]0;x\x07\nalice  0.00  free\xff \xe2\x80\xae");
    let child = bed.start_as(name, &[OsStr::new("compute")]);
    let command = workers::command(
        Path::new(env!("CARGO_BIN_EXE_hubwarden")),
        process_list::WORK,
    );
    let mut worker: Worker<Vec<u32>, Programs> = Worker::start(command).unwrap();
    worker.give(&vec![child.pid()]).unwrap();
    let programs = worker.answer_within(Duration::from_secs(60)).unwrap();
    let programs = programs.expect("an answer");
    let [(_, kind, program)] = &programs[..] else {
        panic!("{programs:?}");
    };
    assert_eq!(*kind, binary::look(&Process::new(child.pid())).unwrap());
    assert!(program.contains("alice  0.00  free"), "{program:?}");
    let shown = Plain(program).to_string();
    assert!(!shown.contains(char::is_control), "{shown:?}");
    assert!(!shown.contains('\u{202e}'), "{shown:?}");
    look(&bed, 2);
}

#[test]
fn a_process_that_changes_its_name_and_arguments_all_the_time_is_looked_at_all_the_same() {
    let bed = Bed::new();
    let room = "x".repeat(4096);
    let child = bed.start(&[OsStr::new("rename"), OsStr::new(&room)]);
    let process = Process::new(child.pid());
    let exec = Exec::new().unwrap();
    for _ in 0..200 {
        // Brackets and a state in the name shift no field.
        assert!(process.used_and_started().is_some());
        exec.look(&process).unwrap();
        binary::look(&process).unwrap();
    }
    assert!(!process.running_on(16).is_empty(), "its state is not read");
    look(&bed, 3);
}

#[test]
fn processes_that_die_while_they_are_looked_at_are_gone_and_no_error() {
    let bed = Bed::new();
    let (exec, constants) = (Exec::new().unwrap(), Constants::new().unwrap());
    let mut insight = ProcessList::default();
    for _ in 0..40 {
        let child = bed.start(&[OsStr::new("die")]);
        let process = Process::new(child.pid());
        for _ in 0..20 {
            let results = [
                exec.look(&process).map(drop),
                binary::look(&process).map(drop),
                constants.scan(&process).map(drop),
            ];
            for error in results.into_iter().filter_map(Result::err) {
                assert!(error.is_gone(), "{error}");
            }
        }
    }
    let place = process_list::Place {
        id: bed.id,
        owner: "alice".into(),
        directory: bed.directory.clone(),
    };
    let mut reader = Reader::default();
    insight.look(&[place], |pids| {
        let programs = |(owner, pids): (_, Vec<u32>)| (owner, reader.programs(&pids));
        pids.into_iter().map(programs).collect()
    });
}

#[test]
fn a_process_that_has_itself_traced_and_is_not_dumpable_is_read_all_the_same() {
    let bed = Bed::new();
    let (_parent, said) = bed.start_and_hear(&[OsStr::new("traced")]);
    let process = Process::new(said.trim().parse().unwrap());
    // It may not have written its code yet.
    let constants = Constants::new().unwrap();
    assert!(bed::comes(|| constants.scan(&process).unwrap().found == 7));
    assert!(process.used_and_started().unwrap().0 > 0, "it stands still");
}

#[test]
fn code_behind_a_mapping_of_16_terabytes_and_all_over_one_of_a_terabyte_is_found_in_time() {
    let bed = Bed::new();
    for way in ["behind", "within"] {
        let child = bed.start(&[OsStr::new(way)]);
        let constants = Constants::new().unwrap();
        // Looked at again and again, as the daemon does: it may not have written its code yet, and on
        // a busy machine a scan's time is soon over.
        let found = bed::comes(|| {
            let begun = Instant::now();
            let scan = constants.scan(&Process::new(child.pid())).unwrap();
            assert!(begun.elapsed() < QUICK, "{way}: {:?}", begun.elapsed());
            scan.found == 7
        });
        assert!(found, "{way}");
    }
    let plain = bed.start(&[OsStr::new("compute")]);
    let scan = Constants::new()
        .unwrap()
        .scan(&Process::new(plain.pid()))
        .unwrap();
    assert_eq!(
        scan.found, 0,
        "the test's own program has what it is to hide"
    );
}
