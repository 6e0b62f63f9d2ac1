use super::names::ReadNames;
use super::wire::{Message, request};
use super::*;
use crate::exec::Exec;
use crate::process::Process;
use std::time::Duration;
use test_support::{Bed, allowed};

/// Reads at once, in the calling thread: these processes hold nobody, and this is no hubwarden that could
/// be started as a worker. tests/evidence/ has one read by workers.
struct AtOnce(Exec, Vec<(u64, Process, Reading)>);

impl AtOnce {
    fn new() -> AtOnce {
        AtOnce(Exec::new().unwrap(), Vec::new())
    }
}

impl ReadNames for AtOnce {
    fn add(&mut self, _: &Owner, server: u64, process: Process) {
        let reading = match self.0.look(&process) {
            Ok(Some(pattern)) => Reading::Pattern(pattern),
            Ok(None) => Reading::Nothing,
            Err(_) => Reading::Gone,
        };
        self.1.push((server, process, reading));
    }

    fn read(&mut self) -> Vec<(u64, Process, Reading)> {
        std::mem::take(&mut self.1)
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        Vec::new()
    }

    fn held(&self) -> BTreeSet<Owner> {
        BTreeSet::new()
    }

    fn waits(&self) -> bool {
        false
    }
}

/// `None`, and said so, where the kernel does not tell us.
fn connector() -> Option<Connector> {
    let root = cgroup::find_root().unwrap_or_default();
    allowed(Connector::start(&root, AtOnce::new()))
}

fn matched(connector: &Connector) -> Vec<Matched> {
    let mut matched = Vec::new();
    for _ in 0..250 {
        matched.extend(connector.read());
        if !matched.is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    matched
}

#[test]
fn a_miner_is_told_that_a_guarded_server_starts_and_nobody_elses() {
    let (Some(connector), Some(bed), Some(other)) = (connector(), Bed::new(), Bed::new()) else {
        return;
    };
    connector.watch(&BTreeMap::from([(bed.id, bed.directory.clone())]));
    other.run("exec -a ./xmrig sleep 0.3");
    let below = bed.directory.join("below");
    std::fs::create_dir(&below).unwrap();
    for place in [&bed.directory, &below] {
        let mut miner = bed
            .command("echo $$ > \"$PLACE/cgroup.procs\"; exec -a ./xmrig sleep 20")
            .env("PLACE", place)
            .spawn()
            .unwrap();
        let told = matched(&connector);
        miner.kill().unwrap();
        miner.wait().unwrap();
        let wanted = Matched {
            cgroup: bed.id,
            pid: miner.id(),
            pattern: "xmrig",
        };
        assert_eq!(told, [wanted], "{}", place.display());
    }
    std::fs::remove_dir(below).unwrap();
    connector.watch(&BTreeMap::new());
    bed.run("exec -a ./xmrig sleep 0.3");
    assert_eq!(connector.read(), []);
}

#[test]
fn more_than_can_be_read_is_counted() {
    let (Some(connector), Some(bed)) = (connector(), Bed::new()) else {
        return;
    };
    connector.watch(&BTreeMap::from([(bed.id, bed.directory.clone())]));
    bed.run("for i in $(seq 400); do /bin/true; done");
    let mut missed = connector.missed();
    for _ in 0..100 {
        missed = connector.missed();
        if missed.too_fast + missed.ended > 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(missed.too_fast + missed.ended > 0, "{missed:?}");
    assert!(missed.overflows == 0, "{missed:?}");
}

#[test]
fn messages_of_another_shape_are_no_start() {
    let mut exec = request(7);
    exec.truncate(36);
    for word in [2u32, 0, 0, 0, 41, 42] {
        exec.extend(word.to_ne_bytes());
    }
    assert_eq!(Message::parse(&exec), Message::Exec { pid: 42 });
    let mut fork = exec.clone();
    fork[36] = 1;
    assert_eq!(Message::parse(&fork), Message::Other);
    let mut others = exec.clone();
    others[16] = 9;
    assert_eq!(Message::parse(&others), Message::Other);
    let mut answer = exec;
    answer[28] = 8;
    answer[36] = 0;
    assert_eq!(
        Message::parse(&answer),
        Message::Answer { to: 7, error: 41 }
    );
}

proptest::proptest! {
    #[test]
    fn no_message_makes_it_panic(bytes: Vec<u8>, length in 0usize..80) {
        let _ = Message::parse(&bytes);
        let mut real = request(1);
        real.resize(80, 2);
        let _ = Message::parse(&real[..length]);
    }
}

#[test]
fn in_another_network_namespace_it_says_that_it_cannot() {
    use nix::sched::{CloneFlags, unshare};
    let tried = std::thread::spawn(|| match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => Some(super::wire::Socket::subscribe().map(drop)),
        Err(_) => None,
    });
    match tried.join().unwrap() {
        Some(result) => {
            let error = result.unwrap_err().to_string();
            assert!(error.contains("the host's own network"), "{error}");
        }
        None => assert!(!nix::unistd::geteuid().is_root()),
    }
}

/// More starts than the queue holds: none is told, and who goes on is looked at.
#[test]
fn a_miner_whose_start_was_thrown_away_is_found_by_looking_again() {
    use super::wire::Socket;
    use nix::sys::socket::{setsockopt, sockopt::RcvBuf};
    let Some(bed) = Bed::new() else {
        return;
    };
    let Ok(socket) = Socket::subscribe() else {
        eprintln!("NOT TESTED, since the process connector does not work here");
        assert!(std::env::var_os("CI").is_none() || !nix::unistd::geteuid().is_root());
        return;
    };
    // The least that the kernel has: room for two or three.
    setsockopt(&socket.as_fd(), RcvBuf, &1).unwrap();
    bed.run("for i in $(seq 50); do /bin/true; done");
    let mut miner = bed.command("exec -a ./xmrig sleep 20").spawn().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let (tell, told) = sync_channel(MOST_WAITING);
    let shared = Arc::new(Shared {
        root: cgroup::find_root().unwrap(),
        guarded: Default::default(),
        counts: Default::default(),
        owners: Default::default(),
        held: Default::default(),
        end: eventfd(0, EventfdFlags::CLOEXEC).unwrap(),
        heard: eventfd(0, EventfdFlags::CLOEXEC).unwrap(),
    });
    shared.watch(&BTreeMap::from([(bed.id, bed.directory.clone())]));
    let mut reader = Reader::new(socket, Arc::clone(&shared), tell, AtOnce::new());
    let thread = std::thread::spawn(move || reader.read_until_the_end());
    let first = told.recv_timeout(Duration::from_secs(20));
    rustix::io::write(&shared.end, &1u64.to_ne_bytes()).unwrap();
    thread.join().unwrap();
    miner.kill().unwrap();
    miner.wait().unwrap();
    assert_eq!(first.unwrap().pid, miner.id());
    assert!(shared.counts().missed.overflows > 0);
}
