//! No unguarded packet: servers and containers started in a loop, each sending to where it may not
//! from its first instruction on, and the daemon killed half-way. What arrives is counted on the
//! other end.

use crate::daemon::{self, runtime};
use crate::{contained, figure};
use egress::Kernel;
use hubwarden::config::Config;
use hubwarden::daemon::run as run_daemon;
use nix::sched::{CloneFlags, unshare};
use quantities::Mode;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SERVERS: usize = 500;
const CONTAINERS: usize = 100;
/// Allowed by no class.
const PORT: u16 = 4444;
const FAR: [&str; 2] = ["192.0.2.2", "2001:db8:72::2"];
/// Senders that run at a time.
pub const AT_ONCE: usize = 16;
const PATIENCE: Duration = Duration::from_secs(60);

/// A process of its own, since it moves into network namespaces.
pub fn child() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace of our own (root is needed)");
    let arrived = Arc::new(AtomicU64::new(0));
    let far = far_end(&arrived);
    contained::make_network();
    let slice = Slice::new();
    let state = tempfile::tempdir().expect("a directory");
    contained::engine(&engine_socket(state.path()));
    let mut daemon = start_daemon(&slice, state.path());

    slice.start(0..SERVERS / 2);
    contained::start(&slice.0, 0..CONTAINERS / 2);
    daemon.end();
    contained::start(&slice.0, CONTAINERS / 2..CONTAINERS);
    slice.start(SERVERS / 2..SERVERS);
    std::thread::sleep(Duration::from_millis(200));
    let unguarded = arrived.load(Ordering::SeqCst);

    // Without the rules the same packets do arrive: it is the rules that held them back.
    egress::Firewall::remove(&mut Kernel::open().expect("nftables")).expect("removed");
    slice.start(SERVERS..SERVERS + 1);
    let by_servers = arrives_after(&arrived, unguarded, "a server");
    contained::start(&slice.0, CONTAINERS..CONTAINERS + 1);
    arrives_after(&arrived, by_servers, "a container");
    drop(far);
    #[allow(clippy::cast_precision_loss, reason = "a count of packets")]
    figure("unguarded_packets", unguarded as f64, "packets");
}

/// Waits until more has arrived than that; how much then has once nobody sends any more.
fn arrives_after(arrived: &AtomicU64, before: u64, who: &str) -> u64 {
    let begun = Instant::now();
    while arrived.load(Ordering::SeqCst) == before {
        assert!(
            begun.elapsed() < PATIENCE,
            "nothing of {who} arrives without rules"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(200));
    arrived.load(Ordering::SeqCst)
}

/// Where containers' engine is asked.
fn engine_socket(state: &Path) -> PathBuf {
    state.join("engine.sock")
}

/// The daemon, until it is killed.
pub fn daemon(slice: &str, state: &str) {
    runtime().block_on(async {
        let mount = cgroup::find_root().expect("cgroup v2 is mounted");
        let mut parts = daemon::told_of_intrusions(&mount, Path::new(state));
        let mut config = Config {
            mode: Mode::Enforce,
            ..Config::default()
        };
        config.hub.slice = slice.to_owned();
        // This machine's own servers and containers are nobody's here.
        config.hub.docker = Some(engine_socket(Path::new(state)));
        config.hub.podman = None;
        config.hub.container_networks = vec![contained::NETWORK.to_owned()];
        parts.config = config;
        let ready = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            println!("ready");
            std::future::pending::<()>().await;
        };
        run_daemon(parts, ready).await.expect("the daemon runs");
    });
}

fn start_daemon(slice: &Slice, state: &Path) -> Process {
    let mut daemon = Command::new(std::env::current_exe().expect("our own path"))
        .arg("unguarded-daemon")
        .arg(slice.name())
        .arg(state)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a daemon");
    let mut line = String::new();
    let said = daemon.stdout.take().expect("its output");
    BufReader::new(said).read_line(&mut line).expect("a word");
    assert_eq!(line, "ready\n", "the daemon did not start");
    Process(daemon)
}

/// What a server does, from its first instruction.
pub fn sender() {
    for _ in 0..20 {
        for far in FAR {
            let far: std::net::IpAddr = far.parse().expect("an address");
            let address = SocketAddr::from((far, PORT));
            let here = if address.is_ipv4() {
                "0.0.0.0:0"
            } else {
                "[::]:0"
            };
            if let Ok(socket) = UdpSocket::bind(here) {
                let _ = socket.send_to(b"x", address);
            }
            let _ = TcpStream::connect_timeout(&address, Duration::from_millis(20));
        }
    }
}

/// Runs these commands, words apart by single spaces.
pub fn run_all(commands: impl IntoIterator<Item = String>) {
    for line in commands {
        let mut words = line.split(' ');
        let status = Command::new(words.next().expect("a program"))
            .args(words)
            .status();
        assert!(status.is_ok_and(|status| status.success()), "{line} failed");
    }
}

/// The other end of a link, in a namespace that lives as long as what is returned; it counts
/// datagrams and connections.
fn far_end(arrived: &Arc<AtomicU64>) -> Process {
    // A process of its own keeps the namespace.
    let mut holder = Command::new("unshare")
        .args(["--net", "sh", "-c", "echo up; exec sleep 3600"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("a namespace");
    let mut line = String::new();
    let said = holder.stdout.take().expect("its output");
    BufReader::new(said).read_line(&mut line).expect("a word");
    let pid = holder.id();
    let [v4, v6] = contained::SUBNETS;
    run_all([
        "ip link set lo up".to_owned(),
        format!("ip link add near type veth peer name far netns {pid}"),
        "ip link set near up".to_owned(),
        "ip address add 192.0.2.1/24 dev near".to_owned(),
        "ip address add 2001:db8:72::1/64 dev near nodad".to_owned(),
        format!("nsenter -n -t {pid} ip link set far up"),
        format!("nsenter -n -t {pid} ip address add 192.0.2.2/24 dev far"),
        format!("nsenter -n -t {pid} ip address add 2001:db8:72::2/64 dev far nodad"),
        format!("nsenter -n -t {pid} ip route add {v4} via 192.0.2.1"),
        format!("nsenter -n -t {pid} ip route add {v6} via 2001:db8:72::1"),
    ]);
    let listeners = std::thread::spawn(move || {
        let path = format!("/proc/{pid}/ns/net");
        let namespace = std::fs::File::open(path).expect("the namespace");
        nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET).expect("into it");
        FAR.map(|far| {
            let address = SocketAddr::from((far.parse::<std::net::IpAddr>().expect("one"), PORT));
            let udp = UdpSocket::bind(address).expect("a socket");
            (udp, TcpListener::bind(address).expect("a socket"))
        })
    });
    for (udp, tcp) in listeners.join().expect("sockets") {
        let count = Arc::clone(arrived);
        std::thread::spawn(move || {
            while udp.recv(&mut [0; 16]).is_ok() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        let count = Arc::clone(arrived);
        std::thread::spawn(move || {
            while tcp.accept().is_ok() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    Process(holder)
}

/// A child that does not outlive what is measured, however that ends.
pub struct Process(pub Child);

impl Process {
    /// Kills it, as the kernel does when memory is short.
    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// A slice at the cgroup root, where the rules look for it, removed afterwards.
struct Slice(PathBuf);

impl Slice {
    fn new() -> Slice {
        let mount = cgroup::find_root().expect("cgroup v2 is mounted");
        let slice = mount.join(format!("hubwardenbench{}.slice", std::process::id()));
        std::fs::create_dir(&slice).expect("a cgroup of our own (root is needed)");
        Slice(slice)
    }

    fn name(&self) -> &str {
        let name = self.0.file_name().and_then(|name| name.to_str());
        name.expect("a name of ours")
    }

    fn server(&self, number: usize) -> PathBuf {
        self.0.join(format!("jupyter-user{number}.service"))
    }

    /// Starts these servers and waits for their ends.
    fn start(&self, numbers: std::ops::Range<usize>) {
        let myself = std::env::current_exe().expect("our own path");
        let mut running: Vec<Process> = Vec::new();
        for number in numbers {
            let cgroup = self.server(number);
            std::fs::create_dir(&cgroup).expect("a server's cgroup");
            let enter = r#"echo $$ > "$0/cgroup.procs" && exec "$1" unguarded-sender"#;
            let child = Command::new("sh")
                .args(["-c", enter])
                .arg(&cgroup)
                .arg(&myself)
                .spawn();
            running.push(Process(child.expect("a server")));
            if running.len() >= AT_ONCE {
                finish(running.remove(0));
            }
        }
        running.into_iter().for_each(finish);
    }
}

pub fn finish(mut server: Process) {
    let status = server.0.wait().expect("its end");
    assert!(status.success(), "a server could not run: {status}");
}

impl Drop for Slice {
    fn drop(&mut self) {
        for number in 0..=SERVERS {
            let _ = std::fs::remove_dir(self.server(number));
        }
        for number in 0..=CONTAINERS {
            let _ = std::fs::remove_dir(contained::scope(&self.0, number));
        }
        if let Err(error) = std::fs::remove_dir(&self.0) {
            eprintln!("{}: {error}; remove it by hand", self.0.display());
        }
    }
}
