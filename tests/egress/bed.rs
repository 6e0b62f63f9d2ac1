//! Network namespaces, cgroups and processes for the tests, all put away by `Drop`.
//!
//! Nothing of the host is touched: rules are made in a namespace of our own, cgroups below one
//! directory of our own.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Once,
};

use egress::{Admitted, CgroupId};
use nix::{fcntl, libc, sys::stat::Mode as FileMode};

/// The node's address and the outside host's, on the link between their namespaces.
pub const NODE4: &str = "192.0.2.1";
pub const NODE6: &str = "2001:db8:72::1";
pub const HOST4: &str = "192.0.2.2";
pub const HOST6: &str = "2001:db8:72::2";
/// On the outside host too: what a cloud answers metadata at.
pub const METADATA4: &str = "169.254.169.254";
pub const METADATA6: &str = "fd00:ec2::254";

pub fn must_be_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests make network namespaces: run as root"
    );
}

/// Run a program, and fail with its words if it does.
pub fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output();
    let out = out.unwrap_or_else(|error| panic!("{program} cannot be run: {error}; install it"));
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{program} {args:?} failed: {said}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

const NETNS: &str = "hw-test-";

/// A named network namespace with loopback up.
pub struct Netns(String);

impl Netns {
    pub fn new() -> Self {
        must_be_root();
        static OLD: Once = Once::new();
        OLD.call_once(|| {
            for name in test_support::left_in(Path::new("/run/netns"), NETNS) {
                run("ip", &["netns", "delete", &name]);
            }
        });
        let netns = Self(test_support::name(NETNS));
        run("ip", &["netns", "add", &netns.0]);
        netns.ip("link set lo up");
        netns
    }

    pub fn name(&self) -> &str {
        &self.0
    }

    /// Run `ip` in it.
    pub fn ip(&self, args: &str) -> String {
        let mut all = vec!["-n", &self.0];
        all.extend(args.split(' '));
        run("ip", &all)
    }

    /// Run a program in it.
    pub fn exec(&self, program: &str, args: &[&str]) -> String {
        let mut all = vec!["netns", "exec", &self.0, program];
        all.extend(args);
        run("ip", &all)
    }

    /// Call a function on a thread of its own that is in this namespace.
    pub fn within<T: Send>(&self, call: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.0);
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let flags = fcntl::OFlag::O_RDONLY | fcntl::OFlag::O_CLOEXEC;
                let fd = fcntl::open(path.as_str(), flags, FileMode::empty()).unwrap();
                let raw = std::os::fd::AsRawFd::as_raw_fd(&fd);
                // SAFETY: `setns` reads nothing but its two numbers; it moves only this thread,
                // which ends with this closure.
                let result = unsafe { libc::setns(raw, libc::CLONE_NEWNET) };
                assert_eq!(result, 0, "setns {path}");
                call()
            });
            match thread.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip")
            .args(["netns", "delete", &self.0])
            .status();
    }
}

/// The node under test and a host outside, joined by a link with addresses of both families.
pub struct Link {
    pub node: Netns,
    pub host: Netns,
}

impl Link {
    pub fn new() -> Self {
        let (node, host) = (Netns::new(), Netns::new());
        // While a link-local address is being made sure of, for a second or two, no neighbour is
        // asked for (`ndisc_send_ns`), and nothing that is forwarded arrives.
        for netns in [&node, &host] {
            for of in ["all", "default"] {
                let setting = format!("net.ipv6.conf.{of}.accept_dad=0");
                netns.exec("sysctl", &["-qw", &setting]);
            }
        }
        let peer = format!("type veth peer name host0 netns {}", host.name());
        node.ip(&format!("link add node0 {peer}"));
        for (netns, dev, v4, v6) in [
            (&node, "node0", NODE4, NODE6),
            (&host, "host0", HOST4, HOST6),
        ] {
            netns.ip(&format!("link set {dev} up"));
            netns.ip(&format!("address add {v4}/24 dev {dev}"));
            netns.ip(&format!("address add {v6}/64 dev {dev} nodad"));
        }
        host.ip(&format!("address add {METADATA4}/32 dev lo"));
        host.ip(&format!("address add {METADATA6}/128 dev lo nodad"));
        node.ip(&format!("route add default via {HOST4}"));
        node.ip(&format!("-6 route add default via {HOST6}"));
        Self { node, host }
    }
}

/// A directory of cgroups directly below the root, so that it is at level 1.
pub struct Slice(PathBuf);

impl Slice {
    pub fn new() -> Self {
        must_be_root();
        Self(test_support::make_cgroup(&cgroup_root()).unwrap())
    }

    pub fn id(&self) -> CgroupId {
        cgroup_id(&self.0)
    }

    /// A cgroup below it, at as many levels as the path has parts.
    pub fn cgroup(&self, path: &str) -> PathBuf {
        let path = self.0.join(path);
        fs::create_dir_all(&path).unwrap();
        path
    }
}

impl Drop for Slice {
    fn drop(&mut self) {
        test_support::remove_cgroup(&self.0);
    }
}

pub fn cgroup_id(path: &Path) -> CgroupId {
    CgroupId(fs::metadata(path).unwrap().ino())
}

fn cgroup_root() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ');
        (after.starts_with("cgroup2 ") && fields.nth(3)? == "/").then(|| fields.next())?
    });
    PathBuf::from(mount.expect("these tests need a cgroup2 mount: mount one"))
}

/// A process in a cgroup and a network namespace that does as it is told.
pub struct Agent {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    cgroup: Option<PathBuf>,
}

impl Agent {
    /// Start one; without a cgroup it stays in this process's.
    pub fn new(netns: &Netns, cgroup: Option<&Path>) -> Self {
        Self::of(netns, cgroup, 0)
    }

    /// The same under a uid.
    pub fn of(netns: &Netns, cgroup: Option<&Path>, uid: u32) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/egress/agent.py");
        let enter =
            cgroup.map(|cgroup| format!("echo $$ > '{}/cgroup.procs' && ", cgroup.display()));
        // It takes the uid on by itself: the script may be for root alone to read.
        let line = format!("{}exec python3 {script} {uid}", enter.unwrap_or_default());
        // Not `ip netns exec`: that hides the cgroups by a new /sys.
        let mut child = Command::new("nsenter")
            .args([
                &format!("--net=/run/netns/{}", netns.name()),
                "sh",
                "-c",
                &line,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let cgroup = cgroup.map(Path::to_owned);
        let mut agent = Self {
            child,
            to,
            from: BufReader::new(from),
            cgroup,
        };
        assert_eq!(
            agent.tell("hello"),
            "hello",
            "python3 is needed for these tests"
        );
        agent
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Say a line, get the answer's line.
    pub fn tell(&mut self, line: &str) -> String {
        writeln!(self.to, "{line}").unwrap();
        let mut answer = String::new();
        self.from.read_line(&mut answer).unwrap();
        answer.trim_end().to_owned()
    }

    /// Connect and exchange a few bytes: "ok", or the errno's name.
    pub fn reach(&mut self, transport: &str, address: &str, port: u16) -> String {
        self.tell(&format!("reach {transport} {address} {port}"))
    }

    /// Listen and echo.
    pub fn listen(&mut self, transport: &str, address: &str, port: u16) {
        assert_eq!(
            self.tell(&format!("listen {transport} {address} {port}")),
            "ok"
        );
    }

    /// Milliseconds that so many bytes take: those it `take`s to the other side, or is `give`n.
    pub fn moves(&mut self, what: &str, address: &str, bytes: u64) -> u64 {
        let answer = self.tell(&format!("move {what} {address} 80 {bytes}"));
        answer
            .parse()
            .unwrap_or_else(|_| panic!("{what}: {answer}"))
    }

    /// Segments that TCP in its network sent again.
    pub fn retransmitted(&mut self) -> u64 {
        self.tell("retransmitted").parse().unwrap()
    }

    pub fn admitted(&self, number: u32, class: &str) -> Admitted {
        let path = self.cgroup.as_ref().unwrap();
        let level = path
            .strip_prefix(cgroup_root())
            .unwrap()
            .components()
            .count();
        Admitted {
            cgroup: cgroup_id(path),
            level: u8::try_from(level).unwrap(),
            class: class.parse().unwrap(),
            number,
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
