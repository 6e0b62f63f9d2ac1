//! What telling miners from training jobs costs: per context switch, per program started, per
//! packet, for the daemon, and for an honest program that is looked at.
//!
//! With and without, in turn, and the median of the differences: what disturbs both is left out.

use crate::{daemon, figure};
use aya::Btf;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use quantities::Time;
use sensors::program;
use sensors::rounding::Rounding;
use sensors::set::{self, Sensors, Suspect};
use sensors::starts::Starts;
use sensors::stratum::Stratum;
use sensors::{connector, process_list};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write, pipe};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const PAIRS: usize = 21;
const SWITCHES: u32 = 40_000;
const STARTS: u32 = 100;
const MESSAGES: u32 = 40_000;

pub fn run() {
    rounding();
    starts();
    stratum();
    honest();
    daemon::run_hot();
}

/// What `hubwarden worker` does.
pub fn work(work: &str) {
    let done = match work {
        set::WORK => set::work(),
        process_list::WORK => process_list::work(),
        connector::WORK => connector::work(),
        hubwarden::coverage::WORK => hubwarden::coverage::work(),
        other => panic!("no worker helps with {other:?}"),
    };
    done.expect("a job, and somebody to answer");
}

/// A cgroup of our own with one process, which works when it is told to and says how long it took.
struct Worker {
    id: u64,
    directory: PathBuf,
    child: Child,
    ask: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Worker {
    fn new(what: &str) -> Worker {
        let root = cgroup::find_root().expect("cgroup v2 is mounted");
        let directory = root.join(format!("hubwarden-bench-{}", std::process::id()));
        std::fs::create_dir(&directory).expect("a cgroup of our own (root is needed)");
        let mut child = Command::new("/bin/sh")
            .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
            .arg(directory.join("cgroup.procs"))
            .arg(std::env::current_exe().expect("our own path"))
            .args(["evidence-child", what])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child of our own");
        Worker {
            id: std::fs::metadata(&directory).expect("it is there").ino(),
            directory,
            ask: child.stdin.take().expect("a pipe"),
            said: BufReader::new(child.stdout.take().expect("a pipe")),
            child,
        }
    }

    /// How long one turn of its work took.
    fn work(&mut self) -> Duration {
        self.ask.write_all(b"\n").expect("it listens");
        let mut line = String::new();
        self.said.read_line(&mut line).expect("it answers");
        Duration::from_nanos(line.trim().parse().expect("nanoseconds"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for _ in 0..100 {
            if std::fs::remove_dir(&self.directory).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        eprintln!(
            "{} is still there; remove it by hand",
            self.directory.display()
        );
    }
}

/// The worker's side.
pub fn child(what: &str) {
    let mut work: Box<dyn FnMut()> = match what {
        "starts" => Box::new(|| {
            for _ in 0..STARTS {
                Command::new("/bin/true").status().expect("a start");
            }
        }),
        "messages" => {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
            let mut stream = TcpStream::connect(listener.local_addr().expect("its address"))
                .expect("a connection");
            stream.set_nodelay(true).expect("each write is a packet");
            let (mut other, _) = listener.accept().expect("the other end");
            std::thread::spawn(move || while other.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {});
            Box::new(move || {
                for _ in 0..MESSAGES {
                    stream.write_all(&[b'x'; 64]).expect("a message");
                }
            })
        }
        _ => Box::new(|| {
            let mut sum = 0.0f64;
            for term in 1..60_000_000u32 {
                sum += 1.0 / f64::from(term);
            }
            std::hint::black_box(sum);
        }),
    };
    for _line in std::io::stdin().lines() {
        let begun = Instant::now();
        work();
        println!("{}", begun.elapsed().as_nanos());
    }
}

/// The median of `with` less `without`, in nanoseconds, and of `without`.
fn paired(mut with: impl FnMut() -> Duration, mut without: impl FnMut() -> Duration) -> (f64, f64) {
    let (mut more, mut plain) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        // Who comes first changes, as the machine warms up.
        let (w, o) = match pair % 2 {
            0 => {
                let w = with();
                (w, without())
            }
            _ => {
                let o = without();
                (with(), o)
            }
        };
        more.push(w.as_nanos() as f64 - o.as_nanos() as f64);
        plain.push(o.as_nanos() as f64);
    }
    (median(&mut more), median(&mut plain))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Two threads on one CPU that wake each other, which is all that they do.
fn switches() -> Duration {
    let (mut from_a, mut to_b) = pipe().expect("a pipe");
    let (mut from_b, mut to_a) = pipe().expect("a pipe");
    let pin = || {
        let mut only = CpuSet::new();
        only.set(0).expect("the first CPU");
        sched_setaffinity(Pid::from_raw(0), &only).expect("the first CPU is ours");
    };
    std::thread::scope(|scope| {
        scope.spawn(move || {
            pin();
            let mut byte = [0];
            while from_a.read(&mut byte).is_ok_and(|n| n == 1) && to_a.write_all(&byte).is_ok() {}
        });
        let timed = scope.spawn(move || {
            pin();
            let begun = Instant::now();
            for _ in 0..SWITCHES / 2 {
                to_b.write_all(&[1]).expect("the other thread");
                from_b.read_exact(&mut [0]).expect("the other thread");
            }
            begun.elapsed()
        });
        timed.join().expect("it ends")
    })
}

fn rounding() {
    let types = Btf::from_sys_fs().expect("type information of the kernel");
    let rounding = std::cell::RefCell::new(Rounding::load(&types).expect("BPF (root is needed)"));
    let watch = |ids: &[u64]| {
        let ids: BTreeSet<u64> = ids.iter().copied().collect();
        rounding.borrow_mut().watch(&ids).expect("watched");
    };
    let (more, plain) = paired(
        || {
            watch(&[1]);
            switches()
        },
        || {
            watch(&[]);
            switches()
        },
    );
    figure("rounding_ns_per_switch", more / f64::from(SWITCHES), "ns");
    figure("switch_ns", plain / f64::from(SWITCHES), "ns");
}

fn starts() {
    let types = Btf::from_sys_fs().expect("type information of the kernel");
    let starts = std::cell::RefCell::new(Starts::load(&types).expect("BPF (root is needed)"));
    let worker = std::cell::RefCell::new(Worker::new("starts"));
    let turn = |watched: bool| {
        let mut worker = worker.borrow_mut();
        let ids = watched.then_some(worker.id).into_iter().collect();
        let mut starts = starts.borrow_mut();
        starts.watch(&ids).expect("watched");
        // More in one second are counted only: each turn has a second of its own.
        std::thread::sleep(Duration::from_millis(300));
        let time = worker.work();
        starts.read(|_| {});
        time
    };
    let (more, plain) = paired(|| turn(true), || turn(false));
    figure("exec_us_per_event", more / 1e3 / f64::from(STARTS), "us");
    figure("start_us", plain / 1e3 / f64::from(STARTS), "us");
}

fn stratum() {
    let stratum = std::cell::RefCell::new(Stratum::load().expect("BPF (root is needed)"));
    let worker = std::cell::RefCell::new(Worker::new("messages"));
    let packets = std::cell::Cell::new((0u64, 0u32));
    let turn = |watched: bool| {
        let mut worker = worker.borrow_mut();
        let server = (worker.id, worker.directory.clone());
        let servers: BTreeMap<u64, PathBuf> = watched.then_some(server).into_iter().collect();
        stratum.borrow_mut().watch(&servers).expect("listened to");
        let before = loopback_packets();
        let time = worker.work();
        let (sent, turns) = packets.get();
        packets.set((sent + loopback_packets() - before, turns + 1));
        time
    };
    let (more, plain) = paired(|| turn(true), || turn(false));
    // Answers of the other end are packets of the same cgroup.
    let (sent, turns) = packets.get();
    let a_turn = sent as f64 / f64::from(turns);
    figure("stratum_ns_per_skb", more / a_turn, "ns");
    figure("skb_ns", plain / a_turn, "ns");
}

fn loopback_packets() -> u64 {
    let path = "/sys/class/net/lo/statistics/tx_packets";
    let text = std::fs::read_to_string(path).expect("a loopback");
    text.trim().parse().expect("a number")
}

/// An honest program, looked at by all sensors once a second, and not looked at.
fn honest() {
    let sensors = std::cell::RefCell::new(Sensors::start_on(
        Path::new(program::TYPES),
        Path::new(env!("CARGO_BIN_EXE_hubwarden")),
    ));
    let worker = std::cell::RefCell::new(Worker::new("sums"));
    let begun = Instant::now();
    let turn = |watched: bool| {
        let mut worker = worker.borrow_mut();
        let suspect = Suspect {
            id: worker.id,
            directory: worker.directory.clone(),
            user: "alice".to_owned(),
        };
        let suspects: Vec<Suspect> = watched.then_some(suspect).into_iter().collect();
        sensors.borrow_mut().look(&suspects, Time(begun.elapsed()));
        let time = worker.work();
        sensors.borrow_mut().look(&suspects, Time(begun.elapsed()));
        time
    };
    turn(true);
    let (more, plain) = paired(|| turn(true), || turn(false));
    figure(
        "evidence_honest_slowdown_percent",
        100.0 * more / plain,
        "%",
    );
    figure("evidence_honest_turn_ms", plain / 1e6, "ms");
}
