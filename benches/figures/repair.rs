//! How long the packet rules stay wrong after somebody else changed them: the real daemon with
//! 5,000 servers and a table that it does not own, as before kernel 6.9.

use crate::bed::Bed;
use crate::daemon::{self, runtime};
use crate::figure;
use egress::{CgroupId, Error, Firewall, Kernel, Mode, Policy};
use hubwarden::daemon::run as run_daemon;
use nix::sched::{CloneFlags, unshare};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

const SERVERS: usize = 5_000;
const TIMES: usize = 30;
/// Until everybody is found.
const SETTLE: Duration = Duration::from_secs(15);
/// Without a change for so long, the last one is done with.
const QUIET: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(5);
/// How often the generation is asked for.
const LOOK: Duration = Duration::from_micros(200);

/// A process of its own, since it changes its network namespace.
pub fn child() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace of our own (root is needed)");
    let bed = Bed::new(SERVERS);
    let slice = std::fs::metadata(bed.slice()).expect("the slice").ino();
    let state = tempfile::tempdir().expect("a directory");
    let (finish, finished) = oneshot::channel::<()>();
    let faults = std::thread::spawn(move || {
        let took = faults(CgroupId(slice));
        let _ = finish.send(());
        took
    });
    runtime().block_on(async {
        let parts = daemon::told_of_intrusions(&bed.root, state.path());
        let shutdown = async { drop(finished.await) };
        run_daemon(parts, shutdown).await.expect("the daemon runs");
    });
    let by_fault = faults.join().expect("faults and repairs");
    for (name, took) in &by_fault {
        let (p50, most) = (took[took.len() / 2], took[took.len() - 1]);
        eprintln!("{name}: p50 {p50:.1} ms, at most {most:.1} ms");
    }
    let mut took: Vec<f64> = by_fault.into_values().flatten().collect();
    took.sort_by(f64::total_cmp);
    let p99 = took[(took.len() * 99).div_ceil(100) - 1];
    eprintln!("{} repairs, p50 {:.1} ms", took.len(), took[took.len() / 2]);
    figure("egress_repair_p99_ms", p99, "ms");
}

/// A change by another.
enum Fault<'a> {
    /// By a netlink socket of ours.
    Own(&'a str, &'a dyn Fn(&mut Kernel) -> Result<(), Error>),
    /// By a program.
    Program(&'a [&'a str]),
}

/// Milliseconds from each fault until the daemon's repair was committed, both by the generation
/// that the kernel gives the rules: to be told of what changed would cost the writer of it.
fn faults(slice: CgroupId) -> BTreeMap<String, Vec<f64>> {
    std::thread::sleep(SETTLE);
    let mut another = Kernel::open().expect("nftables");
    let mut watch = Kernel::open().expect("nftables");
    let policy = Policy::standard(Mode::Enforce);
    let table = |nft: &mut Kernel| nft.remove();
    let content = |nft: &mut Kernel| nft.load(&policy, &[slice], &[]);
    let element = |nft: &mut Kernel| nft.set_guarded(&[]);
    // What nftables.service does when it is restarted: its file begins with a flush.
    let restart = tempfile::NamedTempFile::new().expect("a file");
    let text = "flush ruleset\ntable inet filter {\n}\n";
    std::fs::write(restart.path(), text).expect("written");
    let restart = restart.path().to_str().expect("text");
    let faults = [
        Fault::Own("the table deleted by netlink", &table),
        Fault::Own("the table replaced by one without servers", &content),
        Fault::Own("one element deleted", &element),
        Fault::Program(&["flush", "ruleset"]),
        Fault::Program(&["-f", restart]),
        Fault::Program(&["flush", "map", "inet", "hubwarden", "servers2"]),
        Fault::Program(&["delete", "table", "inet", "hubwarden"]),
    ];
    let mut took: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for _ in 0..TIMES {
        for fault in &faults {
            let before = settled(&mut watch);
            let begun = match fault {
                Fault::Own(_, fault) => {
                    fault(&mut another).expect("a change by another");
                    Instant::now()
                }
                Fault::Program(arguments) => {
                    let mut nft = std::process::Command::new("nft");
                    let mut child = nft.args(*arguments).spawn().expect("nft");
                    let begun = after(&mut watch, before);
                    let status = child.wait().expect("nft's end");
                    assert!(status.success(), "{arguments:?}");
                    begun
                }
            };
            let mended = after(&mut watch, before.wrapping_add(1));
            let name = match fault {
                Fault::Own(name, _) => (*name).to_owned(),
                Fault::Program(["-f", _]) => "nftables.service restarted".to_owned(),
                Fault::Program(arguments) => format!("nft {}", arguments.join(" ")),
            };
            let ms = mended.duration_since(begun).as_secs_f64() * 1e3;
            took.entry(name).or_default().push(ms);
        }
    }
    for times in took.values_mut() {
        times.sort_by(f64::total_cmp);
    }
    took
}

/// The rules' generation once nothing has changed for a while: what the daemon does for other
/// reasons is not a repair.
fn settled(watch: &mut Kernel) -> u32 {
    let mut last = (watch.generation().expect("a number"), Instant::now());
    while last.1.elapsed() < QUIET {
        std::thread::sleep(LOOK);
        let now = watch.generation().expect("a number");
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
    last.0
}

/// When the rules' generation was another than this for the first time.
fn after(watch: &mut Kernel, generation: u32) -> Instant {
    let begun = Instant::now();
    while watch.generation().expect("a number") == generation {
        assert!(begun.elapsed() < PATIENCE, "nobody changes the rules");
        std::thread::sleep(LOOK);
    }
    Instant::now()
}
