//! Cgroups that a user made below the server's own: nested beyond `PATH_MAX`, and very many.

use crate::bed::{Bed, comes, sensors};
use hubwarden::act::{Named, Stopper};
use policy::finding::Fact;
use quantities::Time;
use quantities::{CgroupId, CgroupPath};
use rustix::fs::{Mode, OFlags, mkdirat, openat};
use sensors::process::Process;
use sensors::set::Suspect;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::Duration;

/// Rounds within which a busy process is looked into: one, and room for a machine that is too busy to
/// let a round do its share.
const ROUNDS: u64 = 10;
/// And one among 20,000 cgroups, of which such a machine may look at some hundreds in a round.
const MOST_ROUNDS: u64 = 1000;

/// A program of a miner's name that computes, and that ends with the test.
struct Miner(Child);

impl Miner {
    /// In this cgroup.
    fn start(directory: &OwnedFd) -> Miner {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let procs = openat(directory, "cgroup.procs", flags, Mode::empty()).unwrap();
        let mut command = Command::new("/bin/sh");
        command
            .arg0("xmrig")
            .args(["-c", "while :; do :; done", "xmrig"]);
        // SAFETY: one system call between fork and exec, on memory that is there already.
        unsafe {
            command.pre_exec(move || {
                rustix::io::write(&procs, b"0")?;
                Ok(())
            });
        }
        let miner = Miner(command.spawn().unwrap());
        // So much that it is worth looking into.
        assert!(comes(|| miner.process().ticks().unwrap() >= 10));
        miner
    }

    fn process(&self) -> Process {
        Process::new(self.0.id())
    }
}

impl Drop for Miner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn open(bed: &Bed) -> OwnedFd {
    File::open(&bed.directory).unwrap().into()
}

fn make(directory: &OwnedFd, name: &str) -> OwnedFd {
    mkdirat(directory, name, Mode::RWXU).unwrap();
    openat(directory, name, OFlags::DIRECTORY, Mode::empty()).unwrap()
}

/// 40 levels below, which is more than a path can name.
fn nest(bed: &Bed) -> OwnedFd {
    let name = "-".repeat(255);
    (0..40).fold(open(bed), |above, _| make(&above, &name))
}

fn suspect(bed: &Bed, user: &str) -> Suspect {
    Suspect {
        id: bed.id,
        directory: bed.directory.clone(),
        user: user.to_owned(),
    }
}

/// The round in which the sensors name each of these processes, by cgroup id; until all are named.
fn named_in(suspects: &[Suspect], wanted: &[(u64, u32)]) -> Vec<u64> {
    let mut sensors = sensors();
    let mut named = BTreeMap::new();
    for round in 0..MOST_ROUNDS {
        let found = sensors.look(suspects, Time(Duration::from_secs(40 * round)));
        for found in found {
            if found.evidence.fact == Fact::Named("xmrig") {
                named.entry((found.id, found.evidence.pid)).or_insert(round);
            }
        }
        if wanted.iter().all(|one| named.contains_key(one)) {
            return wanted.iter().map(|one| named[one]).collect();
        }
    }
    panic!("{wanted:?} are wanted, and these were named: {named:?}");
}

#[test]
fn a_miner_beyond_path_max_is_named_and_can_be_ended() {
    let bed = Bed::new();
    let mut miner = Miner::start(&nest(&bed));
    let pid = miner.process().pid();
    named_in(&[suspect(&bed, "alice")], &[(bed.id, pid)]);

    let root = cgroup::find_root().unwrap();
    let path = CgroupPath::new(bed.directory.strip_prefix(&root).unwrap().to_str().unwrap());
    let started = miner.process().started().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let processes = [Named { pid, started }];
    let stopper = Stopper::new(&root);
    let ended = runtime.block_on(stopper.end(&path, CgroupId(bed.id), &processes));
    assert_eq!(ended.unwrap(), 1);
    assert!(!miner.0.wait().unwrap().success());
    drop(miner);
    test_support::remove_cgroup(&bed.directory);
    assert!(!bed.directory.exists());
}

#[test]
fn twenty_thousand_empty_cgroups_of_one_user_hide_no_miner_of_another() {
    let (alices, bobs) = (Bed::new(), Bed::new());
    let top = open(&alices);
    for number in 0..20_000 {
        mkdirat(&top, format!("{number}"), Mode::RWXU).unwrap();
    }
    let alices_miner = Miner::start(&make(&top, "a"));
    let bobs_miner = Miner::start(&open(&bobs));
    let suspects = [suspect(&alices, "alice"), suspect(&bobs, "bob")];
    let wanted = [(&bobs, &bobs_miner), (&alices, &alices_miner)];
    let wanted = wanted.map(|(bed, miner)| (bed.id, miner.process().pid()));
    let rounds = named_in(&suspects, &wanted);
    assert!(rounds[0] < ROUNDS, "bob's was named in round {}", rounds[0]);
}
