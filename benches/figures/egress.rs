//! What the packet rules cost a packet and a change, with a few servers and with thousands.
//!
//! Each ruleset stands in a network namespace of its own with a link that leads nowhere, and every
//! packet is sent by a socket of the same server. Rounds take turns, so that noise meets all alike.

use crate::figure;
use egress::{Admitted, CgroupId, Firewall, Kernel, Mode, Policy, Service, Tracking};
use nix::sched::{CloneFlags, unshare};
use std::net::UdpSocket;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROUNDS: usize = 41;
/// Packets of a round; fewer where each costs a hundred times as much.
const PACKETS: u32 = 5_000;
const PACKETS_LINEAR: u32 = 250;
const MOST: usize = 5_000;
const PORT: u16 = 4000;

pub fn run() {
    for child in [
        "egress-child",
        "names-child",
        "repair-child",
        "unguarded-child",
    ] {
        let myself = std::env::current_exe().expect("our own path");
        let output = Command::new(myself)
            .arg(child)
            .stderr(Stdio::inherit())
            .output()
            .expect("a child of our own");
        assert!(output.status.success(), "the child failed");
        print!("{}", String::from_utf8_lossy(&output.stdout));
    }
}

/// A process of its own: it moves into cgroups and namespaces.
pub fn child() {
    let servers = Servers::new(MOST);
    let one = |count: usize| {
        let policy = policy();
        Way::new(&servers, &format!("{count}"), |link| {
            link.map(&policy, count)
        })
    };
    let tracking = |name: &str, by_others, most: u32| {
        let policy = Policy {
            tracking: Tracking {
                by_others,
                most: most.try_into().ok(),
            },
            ..policy()
        };
        Way::new(&servers, name, |link| link.map(&policy, MOST))
    };
    let mut ways = vec![
        Way::new(&servers, "none", |_| None),
        one(1),
        one(100),
        one(1_000),
        one(MOST),
        // The same where nothing is tracked, and where entries of the kernel's table are counted.
        tracking("untracked_5000", false, 0),
        tracking("entries_counted_5000", true, 65_536),
        Way::new(&servers, "linear_5000", |link| link.linear()),
    ];
    for _ in 0..ROUNDS {
        for way in &mut ways {
            way.round();
        }
    }
    for way in &ways {
        let name = format!("egress_ns_per_packet_{}", way.name);
        figure(&name, median(&way.ns), "ns");
    }
    let (few, many) = (&ways[1].ns, &ways[4].ns);
    let paired = |some: &[f64], others: &[f64]| {
        let ratios = some.iter().zip(others).map(|(some, other)| some / other);
        median(&ratios.collect::<Vec<f64>>())
    };
    figure("egress_ratio_5000_to_1", paired(many, few), "x");
    for way in &ways[5..7] {
        let name = format!("egress_ratio_{}_to_5000", way.name);
        figure(&name, paired(&way.ns, many), "x");
    }
    let nft = ways[4].nft.as_mut().expect("rules of ours");
    changes(nft, &servers);
}

/// What it takes to admit one more, and to load everybody.
fn changes(nft: &mut Kernel, servers: &Servers) {
    let everybody = servers.admitted(MOST);
    let one = &everybody[MOST / 2];
    let mut adds = Vec::new();
    for _ in 0..201 {
        nft.forget(&[one.cgroup]).expect("forgotten");
        let begun = Instant::now();
        nft.admit(std::slice::from_ref(one)).expect("admitted");
        adds.push(ms(begun));
    }
    figure("egress_add_one_of_5000_p50_ms", median(&adds), "ms");
    let mut loads = Vec::new();
    for _ in 0..9 {
        let begun = Instant::now();
        nft.load(&policy(), &[], &everybody).expect("loaded");
        loads.push(ms(begun));
    }
    figure("egress_load_5000_ms", median(&loads), "ms");
}

fn policy() -> Policy {
    let mut policy = Policy::standard(Mode::Enforce);
    for class in policy.classes.values_mut() {
        class.services.push(Service::udp(PORT));
    }
    policy
}

/// One ruleset with a socket behind it.
struct Way {
    name: String,
    socket: UdpSocket,
    /// What one packet took, by round.
    ns: Vec<f64>,
    packets: u32,
    nft: Option<Kernel>,
}

impl Way {
    /// Rules are made by `load` in a namespace of their own, by a thread that then ends: the
    /// socket keeps the namespace.
    fn new(servers: &Servers, name: &str, load: impl Fn(&Link) -> Option<Kernel> + Sync) -> Way {
        let made = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET)
                    .expect("a network namespace of our own (root is needed)");
                let link = Link::new(servers);
                let nft = load(&link);
                (link.socket(), nft)
            });
            thread.join().expect("rules and a socket")
        });
        Way {
            name: name.to_owned(),
            socket: made.0,
            ns: Vec::new(),
            packets: if name.starts_with("linear") {
                PACKETS_LINEAR
            } else {
                PACKETS
            },
            nft: made.1,
        }
    }

    fn round(&mut self) {
        let payload = [0; 64];
        let begun = Instant::now();
        for _ in 0..self.packets {
            self.socket.send(&payload).expect("an accepted packet");
        }
        let took = begun.elapsed().as_secs_f64();
        self.ns.push(took * 1e9 / f64::from(self.packets));
    }
}

/// The calling thread's namespace, with a link whose other end takes nothing.
struct Link<'a> {
    servers: &'a Servers,
}

impl<'a> Link<'a> {
    fn new(servers: &'a Servers) -> Link<'a> {
        for line in [
            "ip link set lo up",
            "ip link add out type veth peer name end",
            "ip link set out up",
            "ip link set end up",
            "ip address add 192.0.2.1/24 dev out",
            // Nobody's address, so the other end drops it before its own stack looks at it.
            "ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev out nud permanent",
        ] {
            command(line);
        }
        Link { servers }
    }

    fn map(&self, policy: &Policy, count: usize) -> Option<Kernel> {
        let mut nft = Kernel::open().expect("nftables");
        let admitted = self.servers.admitted(count);
        nft.load(policy, &[], &admitted).expect("loaded");
        Some(nft)
    }

    /// A rule a server, the sender's the last.
    fn linear(&self) -> Option<Kernel> {
        let slice = self.servers.slice.file_name().expect("a name");
        let slice = slice.to_str().expect("text");
        let mut rules = String::from(
            "table inet linear {\nchain output {\n\
             type filter hook output priority -10; policy accept;\n",
        );
        for number in (0..MOST).rev() {
            rules += &format!("socket cgroupv2 level 2 \"{slice}/u{number}.service\" accept\n");
        }
        rules += "}\n}\n";
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), rules).expect("written");
        // The nft program looks paths up in one place, wherever cgroup v2 is mounted.
        let mount = cgroup::find_root().expect("cgroup v2 is mounted");
        let bind = match mount.to_str() {
            Some("/sys/fs/cgroup") => String::new(),
            _ => format!("mount --bind {} /sys/fs/cgroup && ", mount.display()),
        };
        let line = format!("{bind}exec nft -f {}", file.path().display());
        let status = Command::new("unshare")
            .args(["--mount", "sh", "-c", &line])
            .status();
        assert!(status.is_ok_and(|status| status.success()), "{line} failed");
        None
    }

    fn socket(&self) -> UdpSocket {
        self.servers.within(0, || {
            let socket = UdpSocket::bind("192.0.2.1:0").expect("a socket");
            socket.connect(("192.0.2.2", PORT)).expect("a route");
            socket
        })
    }
}

/// Runs a line of words.
pub fn command(line: &str) {
    let mut words = line.split(' ');
    let program = words.next().expect("a program");
    let status = Command::new(program).args(words).status();
    assert!(status.is_ok_and(|status| status.success()), "{line} failed");
}

/// Cgroups of servers at level 2, where most are, below a slice of our own.
pub struct Servers {
    slice: PathBuf,
    ids: Vec<CgroupId>,
}

impl Servers {
    /// Makes so many.
    pub fn new(count: usize) -> Servers {
        let mount = cgroup::find_root().expect("cgroup v2 is mounted");
        let slice = mount.join(format!("hubwarden-bench-egress-{}", std::process::id()));
        std::fs::create_dir(&slice).expect("a cgroup of our own (root is needed)");
        let mut servers = Servers {
            slice,
            ids: Vec::new(),
        };
        for number in 0..count {
            let path = servers.path(number);
            std::fs::create_dir(&path).expect("a server's cgroup");
            let ino = std::fs::metadata(&path).expect("made just now").ino();
            servers.ids.push(CgroupId(ino));
        }
        servers
    }

    fn path(&self, number: usize) -> PathBuf {
        self.slice.join(format!("u{number}.service"))
    }

    /// The first of them, each with a number.
    pub fn admitted(&self, count: usize) -> Vec<Admitted> {
        let admit = |(number, cgroup): (u32, &CgroupId)| Admitted {
            cgroup: *cgroup,
            level: 2,
            class: "standard".parse().expect("a name"),
            number,
        };
        (1..).zip(&self.ids[..count]).map(admit).collect()
    }

    /// Calls this with the process in a server's cgroup: a socket keeps the one it was made in.
    pub fn within<T>(&self, number: usize, call: impl FnOnce() -> T) -> T {
        let enter = |cgroup: &Path| {
            std::fs::write(cgroup.join("cgroup.procs"), "0").expect("a cgroup to be in");
        };
        enter(&self.path(number));
        let value = call();
        enter(self.slice.parent().expect("the root"));
        value
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for number in 0..self.ids.len() {
            let _ = std::fs::remove_dir(self.path(number));
        }
        if let Err(error) = std::fs::remove_dir(&self.slice) {
            eprintln!("{}: {error}; remove it by hand", self.slice.display());
        }
    }
}

fn ms(begun: Instant) -> f64 {
    Duration::as_secs_f64(&begun.elapsed()) * 1e3
}

/// The middle one.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
