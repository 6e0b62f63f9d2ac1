//! The table owned by a socket that a holder has, where the kernel takes an owned table away with its
//! socket (5.12 to 6.8). Newer kernels do the same to a table without `persist`.

use std::{
    io::ErrorKind,
    net::UdpSocket,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use egress::{Admitted, CgroupId, Error, Firewall, Kernel, Mode, Policy, RepairThread};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use std::os::fd::AsRawFd;
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::bed::{HOST4, Link, Netns, Slice};

const PORT: u16 = 4444;
/// A holder that is started just now answers within this on a busy machine.
const SOON: Duration = Duration::from_secs(8);

fn server(number: u32) -> Admitted {
    Admitted {
        cgroup: CgroupId(1_000_000 + u64::from(number)),
        level: 2,
        class: "standard".parse().unwrap(),
        number,
    }
}

fn load(nft: &mut Kernel, guarded: CgroupId) {
    let servers: Vec<_> = (1..=50).map(server).collect();
    let policy = Policy::standard(Mode::Enforce);
    nft.load(&policy, &[guarded], &servers).unwrap();
}

/// Where a holder listens, as systemd listens for it: whether one runs or not.
struct Place {
    directory: TempDir,
    listener: OwnedFd,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let flags = SockFlag::SOCK_CLOEXEC;
        let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
        let address = UnixAddr::new(&directory.path().join("table.sock")).unwrap();
        bind(listener.as_raw_fd(), &address).unwrap();
        listen(&listener, Backlog::new(8).unwrap()).unwrap();
        Self {
            directory,
            listener,
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("table.sock")
    }

    /// Starts a holder, with what systemd kept of an earlier one.
    fn start(&self, kept: Option<OwnedFd>) -> Holder {
        let (count, names) = match kept {
            Some(_) => (2, "listener:rules"),
            None => (1, "listener"),
        };
        let script = format!(
            "export LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES={names}; exec \"$1\" hold-table 3<&0 4<&1"
        );
        let stdout = kept.map_or_else(Stdio::null, Stdio::from);
        let child = Command::new("sh")
            .args(["-c", &script, "sh", env!("CARGO_BIN_EXE_hubwarden")])
            .stdin(self.listener.try_clone().unwrap())
            .stdout(stdout)
            .spawn();
        Holder(child.unwrap())
    }

    /// A daemon's writer, and whether its table is owned.
    fn writer(&self) -> Kernel {
        writer(&self.path())
    }
}

fn writer(holder: &Path) -> Kernel {
    let mut nft = Kernel::open().unwrap().held(holder);
    nft.follow_holder(SOON).unwrap();
    nft
}

struct Holder(Child);

impl Holder {
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn nft_may(netns: &Netns, change: &str) -> bool {
    let mut arguments = vec!["netns", "exec", netns.name(), "nft"];
    arguments.extend(change.split(' '));
    let output = Command::new("ip").args(arguments).output();
    output.unwrap().status.success()
}

fn stands(netns: &Netns) -> bool {
    nft_may(netns, "list table inet hubwarden")
}

/// What does not happen at once is waited for.
fn eventually(what: &str, mut question: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !question() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_held_table_is_out_of_others_reach_outlasts_its_writer_and_goes_with_the_next() {
    let (netns, place) = (Netns::new(), Place::new());
    let holder = place.start(None);
    netns.within(|| {
        let mut nft = place.writer();
        assert!(nft.owns(), "{:?}", nft.lacks());
        assert_eq!(nft.lacks(), None);
        load(&mut nft, CgroupId(7));
        for change in [
            "flush map inet hubwarden servers2",
            "delete table inet hubwarden",
        ] {
            assert!(!nft_may(&netns, change), "{change}");
        }
        assert!(nft_may(&netns, "flush ruleset"));
        assert_eq!(nft.verify().unwrap(), []);

        // A second writer waits for its turn, and cannot remove what is the first one's.
        let mut second = Kernel::open().unwrap().held(&place.path());
        second.follow_holder(Duration::from_millis(200)).unwrap();
        assert!(!second.owns());
        assert!(matches!(second.remove(), Err(Error::Owned)));
        drop(second);

        // Killed: nobody but a client of the holder's changes what it left.
        drop(nft);
        assert!(nft_may(&netns, "flush ruleset"));
        assert!(stands(&netns), "it went with its writer");
        let mut stranger = Kernel::open().unwrap();
        assert!(matches!(stranger.remove(), Err(Error::Owned)));
        let mut next = place.writer();
        assert!(next.owns());
        load(&mut next, CgroupId(8));
        next.admit(&[server(300)]).unwrap();
        assert_eq!(next.verify().unwrap(), []);

        // Switched off by whoever comes after a daemon that is dead.
        drop(next);
        place.writer().remove().unwrap();
        assert_eq!(netns.exec("nft", &["list", "ruleset"]), "");

        // And a holder that ends takes along what no writer has.
        load(&mut place.writer(), CgroupId(7));
        assert!(stands(&netns));
        holder.kill();
        eventually("gone with the holder", || !stands(&netns));
    });
}

#[test]
fn a_holder_that_is_killed_costs_no_rule_and_the_next_one_holds_the_same() {
    let (netns, place) = (Netns::new(), Place::new());
    let holder = place.start(None);
    netns.within(|| {
        let mut nft = place.writer();
        load(&mut nft, CgroupId(7));
        let port = nft.watch().unwrap().own;
        holder.kill();
        // The writer's own descriptor holds it as well.
        assert!(stands(&netns));
        let next = place.start(None);
        eventually("held again", || {
            nft.keep_held().unwrap();
            nft.is_held()
        });
        assert!(nft.owns());
        assert_eq!(nft.watch().unwrap().own, port);
        assert_eq!(nft.verify().unwrap(), []);
        drop(nft);
        assert!(stands(&netns), "the next holder holds nothing");
        let mut after = place.writer();
        assert_eq!(after.watch().unwrap().own, port);
        after.remove().unwrap();
        next.kill();
    });
}

#[test]
fn without_a_holder_the_table_is_nobodys_and_it_is_said_and_becomes_owned_once_there_is_one() {
    let netns = Netns::new();
    netns.within(|| {
        let place = Place::new();
        let nowhere = place.directory.path().join("nobody.sock");
        let mut nft = writer(&nowhere);
        assert!(!nft.owns());
        load(&mut nft, CgroupId(7));
        let said = nft.lacks().unwrap_or_default();
        assert!(
            said.contains("hubwarden-table.service does not hold them"),
            "{said}"
        );
        assert!(said.contains("nobody.sock"), "{said}");
        drop(nft);
        assert!(stands(&netns), "as before");

        // An update from a version that knows no holder: what it left is replaced.
        let holder = place.start(None);
        let mut nft = place.writer();
        load(&mut nft, CgroupId(7));
        assert!(nft.owns());
        assert!(!nft_may(&netns, "delete table inet hubwarden"));

        // And back: the holder ends for good, and the table stands without an owner.
        let Place {
            directory,
            listener,
        } = place;
        drop(listener);
        holder.kill();
        drop(directory);
        assert!(nft.keep_held().unwrap());
        assert!(!nft.owns());
        assert_eq!(nft.verify().unwrap(), []);
        drop(nft);
        assert!(stands(&netns));
        let mut older = Kernel::open().unwrap();
        load(&mut older, CgroupId(7));
        older.remove().unwrap();
    });
}

#[test]
fn a_holder_that_does_not_answer_is_done_without_and_used_once_it_does() {
    let (netns, place) = (Netns::new(), Place::new());
    netns.within(|| {
        // Connected, and nobody there to accept it.
        let mut nft = Kernel::open().unwrap().held(&place.path());
        nft.follow_holder(Duration::from_millis(100)).unwrap();
        assert!(!nft.owns());
        load(&mut nft, CgroupId(7));
        assert!(nft.lacks().unwrap_or_default().contains("not answered yet"));
        let begun = Instant::now();
        nft.keep_held().unwrap();
        assert!(begun.elapsed() < Duration::from_millis(100), "it waits");
        let _holder = place.start(None);
        eventually("held in the end", || nft.keep_held().is_ok() && nft.owns());
        assert_eq!(nft.verify().unwrap(), []);
        assert!(!nft_may(&netns, "delete table inet hubwarden"));
        nft.remove().unwrap();
    });
}

#[test]
fn what_a_holder_that_hangs_has_stands_and_is_changed_once_it_answers() {
    let (netns, place) = (Netns::new(), Place::new());
    let holder = place.start(None);
    netns.within(|| {
        load(&mut place.writer(), CgroupId(7));
        let pid = nix::unistd::Pid::from_raw(i32::try_from(holder.0.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
        let mut nft = Kernel::open().unwrap().held(&place.path());
        nft.follow_holder(Duration::from_millis(200)).unwrap();
        let policy = Policy::standard(Mode::Enforce);
        let refused = nft.load(&policy, &[CgroupId(7)], &[]);
        assert!(matches!(refused, Err(Error::Owned)), "{refused:?}");
        assert!(stands(&netns));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGCONT).unwrap();
        eventually("used", || nft.keep_held().is_ok() && nft.owns());
        load(&mut nft, CgroupId(7));
        assert_eq!(nft.verify().unwrap(), []);
        nft.remove().unwrap();
    });
}

#[test]
fn what_systemd_kept_of_a_killed_holder_is_held_by_the_next_while_no_writer_lives() {
    let (netns, place) = (Netns::new(), Place::new());
    let holder = place.start(None);
    netns.within(|| {
        let mut nft = place.writer();
        load(&mut nft, CgroupId(7));
        // Stands for systemd's duplicate.
        let kept = nft.socket().try_clone_to_owned().unwrap();
        drop(nft);
        holder.kill();
        assert!(stands(&netns));
        let _next = place.start(Some(kept));
        let mut nft = place.writer();
        assert!(nft.owns());
        load(&mut nft, CgroupId(7));
        assert_eq!(nft.verify().unwrap(), []);
        nft.remove().unwrap();
    });
}

#[test]
fn another_namespaces_table_is_neither_used_nor_let_go() {
    let (netns, other, place) = (Netns::new(), Netns::new(), Place::new());
    let _holder = place.start(None);
    netns.within(|| load(&mut place.writer(), CgroupId(7)));
    other.within(|| {
        let mut nft = place.writer();
        assert!(!nft.owns());
        load(&mut nft, CgroupId(7));
        let said = nft.lacks().unwrap_or_default();
        assert!(said.contains("another network namespace"), "{said}");
        nft.remove().unwrap();
    });
    assert!(stands(&netns));
    netns.within(|| place.writer().remove().unwrap());
}

#[test]
fn answers_that_a_killed_writer_did_not_read_are_not_taken_for_the_next_ones() {
    let (netns, place) = (Netns::new(), Place::new());
    let _holder = place.start(None);
    netns.within(|| {
        let mut nft = place.writer();
        load(&mut nft, CgroupId(7));
        // A dump of which nothing is read: killed in the middle of a reading.
        let mut request = Vec::new();
        for seq in 1..=3u32 {
            let kind: u16 = 10 << 8 | 10; // NFT_MSG_GETSET
            request.clear();
            request.extend(20u32.to_ne_bytes());
            request.extend(kind.to_ne_bytes());
            request.extend(0x301u16.to_ne_bytes());
            request.extend(seq.to_ne_bytes());
            request.extend([0; 8]);
            let _ = nix::sys::socket::send(
                nft.socket().as_raw_fd(),
                &request,
                nix::sys::socket::MsgFlags::MSG_DONTWAIT,
            );
        }
        drop(nft);
        for round in 0..3 {
            let mut next = place.writer();
            assert!(next.owns(), "{round}");
            load(&mut next, CgroupId(7));
            assert_eq!(next.verify().unwrap(), [], "{round}");
        }
        place.writer().remove().unwrap();
    });
}

/// A process in a guarded slice, and not admitted, that sends first packets to the host outside without
/// end; what of them arrives.
struct Sender {
    process: Child,
    outside: UdpSocket,
}

impl Sender {
    fn start(link: &Link, cgroup: &Path) -> Self {
        let outside = link.host.within(|| UdpSocket::bind((HOST4, PORT)).unwrap());
        outside.set_nonblocking(true).unwrap();
        let send = format!(
            "import socket\nwhile True:\n try:\n  s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n  \
             s.sendto(b'x', ('{HOST4}', {PORT}))\n except OSError: pass\n finally: s.close()"
        );
        let enter = format!("echo $$ >'{}/cgroup.procs'", cgroup.display());
        let process = Command::new("nsenter")
            .args([
                &format!("--net=/run/netns/{}", link.node.name()),
                "sh",
                "-c",
            ])
            .arg(format!("{enter} && exec python3 -c \"$0\""))
            .arg(&send)
            .spawn()
            .unwrap();
        Self { process, outside }
    }

    fn arrived(&self) -> usize {
        let next = || match self.outside.recv(&mut [0; 8]) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("{error}"),
            received => received.ok(),
        };
        std::iter::from_fn(next).count()
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn no_packet_leaves_while_others_flush_whatever_becomes_of_the_writer() {
    let (link, slice, place) = (Link::new(), Slice::new(), Place::new());
    let holder = place.start(None);
    let (node, done) = (&link.node, AtomicBool::new(false));
    // What an older version left: nobody's, and in force before anything sends.
    node.within(|| load(&mut Kernel::open().unwrap(), slice.id()));
    let sender = Sender::start(&link, &slice.cgroup("stranger"));
    let start = || {
        node.within(|| {
            let mut nft = place.writer();
            load(&mut nft, slice.id());
            nft
        })
    };
    let mut running = Some(start());
    let (flushes, leaked) = std::thread::scope(|scope| {
        let flusher = scope.spawn(|| {
            let mut count = 0;
            while !done.load(Ordering::Relaxed) {
                assert!(nft_may(node, "flush ruleset"));
                count += 1;
            }
            count
        });
        for round in 0..20 {
            std::thread::sleep(Duration::from_millis(50));
            assert!(running.as_ref().is_some_and(Kernel::owns), "{round}");
            // Killed and started again, the table loaded anew: as a daemon does.
            drop(running.take());
            std::thread::sleep(Duration::from_millis(50));
            running = Some(start());
        }
        holder.kill();
        std::thread::sleep(Duration::from_millis(100));
        done.store(true, Ordering::Relaxed);
        (flusher.join().unwrap(), sender.arrived())
    });
    // Without the rules it does send.
    running.unwrap().remove().unwrap();
    eventually("it sends", || sender.arrived() > 0);
    println!("figure egress_leaked_during_flush_held {leaked} packets in {flushes} flushes");
    assert_eq!(leaked, 0, "in {flushes} flushes");
    assert!(flushes > 20, "{flushes}");
}

#[test]
fn from_nobodys_to_owned_and_back_there_is_no_open_moment() {
    let (link, slice) = (Link::new(), Slice::new());
    link.node.within(|| {
        load(&mut Kernel::open().unwrap(), slice.id());
        let sender = Sender::start(&link, &slice.cgroup("stranger"));
        std::thread::sleep(Duration::from_millis(300));
        for round in 0..10 {
            let place = Place::new();
            let holder = place.start(None);
            let mut nft = place.writer();
            load(&mut nft, slice.id());
            assert!(nft.owns(), "{round}");
            std::thread::sleep(Duration::from_millis(30));
            // Gone for good.
            drop(place);
            holder.kill();
            assert!(nft.keep_held().unwrap(), "{round}");
            assert!(!nft.owns(), "{round}");
        }
        assert_eq!(sender.arrived(), 0);
        Kernel::open().unwrap().remove().unwrap();
        eventually("it sends", || sender.arrived() > 0);
    });
}

#[test]
fn a_writer_that_goes_on_with_another_socket_does_not_take_itself_for_another() {
    let (netns, place) = (Netns::new(), Place::new());
    let _holder = place.start(None);
    netns.within(|| {
        // What an earlier daemon left with the holder.
        load(&mut place.writer(), CgroupId(7));
        place.writer().remove().unwrap();
        let rules = Arc::new(Mutex::new(Kernel::open().unwrap().held(&place.path())));
        let repairs = RepairThread::open(Arc::clone(&rules)).unwrap();
        let (tell, mut told) = mpsc::channel(100);
        let thread = std::thread::spawn(move || repairs.run(&tell));
        load(&mut rules.lock().unwrap(), CgroupId(7));
        let before = rules.lock().unwrap().watch().unwrap().own;
        eventually("owned", || {
            let mut rules = rules.lock().unwrap();
            rules.keep_held().unwrap();
            rules.owns()
        });
        assert_ne!(rules.lock().unwrap().watch().unwrap().own, before);
        for number in 300..310 {
            rules.lock().unwrap().admit(&[server(number)]).unwrap();
            std::thread::sleep(Duration::from_millis(30));
        }
        assert!(told.try_recv().is_err(), "its own changes are repaired");
        assert_eq!(rules.lock().unwrap().verify().unwrap(), []);
        // Others' are heard as before, once they can be again.
        rules.lock().unwrap().remove().unwrap();
        drop(told);
        load(&mut Kernel::open().unwrap(), CgroupId(7));
        netns.exec("nft", &["delete", "table", "inet", "hubwarden"]);
        thread.join().unwrap().unwrap();
    });
}
