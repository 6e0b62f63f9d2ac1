//! A program on a file system that does not answer (FUSE): whoever reads it waits in the kernel, where
//! not even SIGKILL wakes it.

use crate::QUICK;
use crate::bed::{Bed, Hostile, comes, senses};
use hubwarden::evidence::Fact;
use hubwarden::evidence::process::Process;
use hubwarden::evidence::senses::{Found, Suspect};
use hubwarden::units::Time;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsStr;
use std::time::{Duration, Instant};

/// The file system's server, and the process that runs from it.
fn start(bed: &Bed) -> (Hostile, Process) {
    let file = bed.file("python");
    let (server, said) = bed.start_as_root_and_hear(&[OsStr::new("held"), file.as_os_str()]);
    let held = said.trim().parse();
    let held = held.expect("a FUSE mount (/dev/fuse is needed)");
    (server, Process::new(held))
}

#[test]
fn a_program_that_nobody_can_read_to_its_end_holds_nobody_but_itself() {
    let (bed, other) = (Bed::new(), Bed::new());
    let (_server, held) = start(&bed);
    let miner = other.start(&[OsStr::new("within")]);
    std::thread::sleep(Duration::from_millis(300));
    let suspect = |bed: &Bed| Suspect {
        id: bed.id,
        directory: bed.directory.clone(),
        user: "alice".to_owned(),
    };
    let suspects = [suspect(&bed), suspect(&other)];
    let mut senses = senses();
    let mut found = Vec::new();
    let mut held_once = false;
    let is_told = |found: &[Found], pid: u32, fact: Fact| {
        let mut of = found.iter().filter(|one| one.evidence.pid == pid);
        of.any(|one| one.evidence.fact == fact)
    };
    for round in 0..600 {
        let now = Time(Duration::from_secs(round * 11));
        let begun = Instant::now();
        found.extend(senses.look(&suspects, now));
        // One helper is waited for, at most, and then no more.
        assert!(begun.elapsed() < 2 * QUICK, "{:?}", begun.elapsed());
        assert!(!held_once || begun.elapsed() < QUICK);
        held_once |= senses.held() == (1, false);
        let miner_is_found = is_told(&found, miner.pid(), Fact::Constants { found: 7 });
        if miner_is_found && is_told(&found, held.pid(), Fact::Unreadable) {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(senses.held(), (1, false));
    let unreadable = is_told(&found, held.pid(), Fact::Unreadable);
    assert!(unreadable, "{found:?}");
    let constants = is_told(&found, miner.pid(), Fact::Constants { found: 7 });
    assert!(constants, "{found:?}");
    // Whoever reads waits in the kernel until nobody serves the file any more.
    drop(bed);
    for _ in 0..500 {
        senses.look(&[suspect(&other)], Time(Duration::from_secs(100)));
        if senses.held() == (0, false) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("still held");
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
fn senses_that_are_held_end_when_they_are_to_and_leave_nothing_of_theirs_to_who_is_held() {
    let bed = Bed::new();
    let (_server, held) = start(&bed);
    let (mut senses, mut said) = bed.sense();
    let unreadable = |line: serde_json::Value| {
        let reading = line["reading"].as_str().unwrap_or_default();
        line["pid"] == held.pid() && reading.contains("a file system that does not answer")
    };
    assert!(said.any(unreadable));
    let helper = child_of(senses.pid()).unwrap();
    // What belongs to the daemon must not outlive it: a socket may own the packet rules.
    let link = |fd: u32| std::fs::read_link(format!("/proc/{helper}/fd/{fd}"));
    let jobs = link(0).unwrap();
    let ours: Vec<_> = (3..64)
        .filter_map(|fd| link(fd).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .filter(|link| link.contains(":[") || link.starts_with("anon_inode:"))
        .filter(|link| Some(&**link) != jobs.to_str())
        .collect();
    assert_eq!(ours, [""; 0]);

    assert!(senses.can_be_killed(), "they wait for their helper");
    kill(Pid::from_raw(helper as i32), Signal::SIGKILL).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(state(helper), Some('D'), "it was not held at all");
    // And who is held ends once the file system does.
    drop(bed);
    assert!(comes(|| !matches!(state(helper), Some('D'))));
}
