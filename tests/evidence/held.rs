//! A program on a file system that does not answer (FUSE): whoever reads it waits in the kernel, where
//! not even SIGKILL wakes it.

use crate::QUICK;
use crate::bed::{Bed, Hostile, comes, sensors};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use policy::finding::Fact;
use quantities::Time;
use sensors::process::Process;
use sensors::set::Suspect;
use sensors::workers::Owner;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::time::{Duration, Instant};

/// What holds a process's reader, and the process.
fn start_held(bed: &Bed, way: &str) -> (Hostile, Process) {
    let file = bed.file("python");
    let (server, said) = bed.start_as_root_and_hear(&[OsStr::new(way), file.as_os_str()]);
    let held = said.trim().parse();
    let held = held.expect("a FUSE mount (/dev/fuse is needed)");
    (server, Process::new(held))
}

fn start(bed: &Bed) -> (Hostile, Process) {
    start_held(bed, "held")
}

fn suspect(bed: &Bed) -> Suspect {
    Suspect {
        id: bed.id,
        directory: bed.directory.clone(),
        user: "alice".to_owned(),
    }
}

/// A process that holds whoever reads it, in this way, and a miner of another user: the one is named as
/// not readable, the other as a miner.
fn holds_nobody_but_itself(way: &str) {
    let (bed, other) = (Bed::new(), Bed::new());
    let (server, held) = start_held(&bed, way);
    let miner = other.start(&[OsStr::new("within")]);
    let suspects = [suspect(&bed), suspect(&other)];
    let alice: Owner = "alice".into();
    let mut sensors = sensors();
    sensors.owned_by(BTreeMap::from([(bed.id, alice.clone())]));
    let mut found = Vec::new();
    let mut round = 0;
    let both = comes(|| {
        let now = Time(Duration::from_secs(round * 11));
        round += 1;
        let begun = Instant::now();
        found.extend(sensors.look(&suspects, now));
        found.extend(sensors.listen(now));
        // Workers that are in time are waited for, and no others.
        assert!(begun.elapsed() < 4 * QUICK, "{way}: {:?}", begun.elapsed());
        let of = |pid: u32, fact: Fact| {
            let mut of = found.iter().filter(|one| one.evidence.pid == pid);
            of.any(|one| one.evidence.fact == fact)
        };
        of(held.pid(), Fact::Unreadable) && of(miner.pid(), Fact::Constants { found: 7 })
    });
    assert!(both, "{way}: {found:?}, held: {:?}", sensors.held());
    let users = BTreeSet::from([alice.clone()]);
    assert_eq!(
        (sensors.held().users, sensors.held().trouble),
        (users, None),
        "{way}"
    );
    // Whoever reads waits in the kernel until nobody serves the file any more; then the user is read
    // again.
    drop((server, bed));
    let let_go = comes(|| {
        sensors.look(&[suspect(&other)], Time(Duration::from_secs(1000)));
        sensors.held().users.is_empty()
    });
    assert!(let_go, "{way}: still held");
}

#[test]
fn a_program_that_nobody_can_read_to_its_end_holds_nobody_but_itself() {
    holds_nobody_but_itself("held");
}

#[test]
fn a_process_that_holds_its_own_memory_lock_holds_nobody_but_itself() {
    holds_nobody_but_itself("locked");
}

#[test]
fn a_program_on_a_file_system_whose_server_is_stopped_holds_nobody_but_itself() {
    holds_nobody_but_itself("stopped");
}

#[test]
fn code_mapped_from_a_file_system_that_does_not_answer_holds_nobody_but_itself() {
    holds_nobody_but_itself("mapped");
}

#[test]
fn what_is_read_without_a_helper_cannot_be_held() {
    let bed = Bed::new();
    let (_server, held) = start_held(&bed, "locked");
    assert!(comes(|| state(held.pid()) == Some('D')), "it holds nothing");
    // A thread that may be left behind, so that a reader that is held fails this and does not hang it.
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for file in ["stat", "status", "comm", "cgroup", "net/dev"] {
            held.read(file, 1 << 16).unwrap();
            tell.send(file).unwrap();
        }
        std::fs::read_link(held.directory().join("exe")).unwrap();
        std::fs::read_link(held.directory().join("ns/net")).unwrap();
        held.running_on(16);
        tell.send("exe and threads").unwrap();
    });
    for file in [
        "stat",
        "status",
        "comm",
        "cgroup",
        "net/dev",
        "exe and threads",
    ] {
        assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok(file));
    }
    // And it is held: what needs its memory is not answered.
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(held.read("cmdline", 4096).is_ok()));
    assert!(told.recv_timeout(Duration::from_millis(500)).is_err());
}

/// Letter of the state of a process (proc_pid_stat(5)), of one that is there.
fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

fn child_of(pid: u32) -> Option<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let text = std::fs::read_to_string(path).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

#[test]
fn sensors_that_are_held_end_when_they_are_to_and_leave_nothing_of_theirs_to_who_is_held() {
    let bed = Bed::new();
    let (_server, held) = start(&bed);
    let (mut sensors, mut said) = bed.sensor();
    let unreadable = |line: serde_json::Value| {
        let reading = line["reading"].as_str().unwrap_or_default();
        line["pid"] == held.pid() && reading.contains("a file system that does not answer")
    };
    assert!(said.any(unreadable));
    let worker = child_of(sensors.pid()).unwrap();
    // What belongs to the daemon must not outlive it: a socket may own the packet rules.
    let link = |fd: u32| std::fs::read_link(format!("/proc/{worker}/fd/{fd}"));
    let jobs = link(0).unwrap();
    let ours: Vec<_> = (3..64)
        .filter_map(|fd| link(fd).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .filter(|link| link.contains(":[") || link.starts_with("anon_inode:"))
        .filter(|link| Some(&**link) != jobs.to_str())
        .collect();
    assert_eq!(ours, [""; 0]);

    assert!(sensors.can_be_killed(), "they wait for their worker");
    kill(Pid::from_raw(worker as i32), Signal::SIGKILL).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(state(worker), Some('D'), "it was not held at all");
    // And who is held ends once the file system does.
    drop(bed);
    assert!(comes(|| !matches!(state(worker), Some('D'))));
}
