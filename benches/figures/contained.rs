//! Containers for the bench: processes with a network of their own behind the port of a bridge, and
//! an engine that knows half of them.
//!
//! To the packet rules they are what Docker's are: a port that is there before the first
//! instruction runs, a scope that the engine names, and nothing else.

use crate::unguarded::{AT_ONCE, Process, finish, run_all};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The network that containers are on, which is the bridge's name.
pub const NETWORK: &str = "hubbr";
/// What the other end reaches them by.
pub const SUBNETS: [&str; 2] = ["10.73.0.0/16", "fd73::/64"];

/// The bridge, in the present network namespace, which goes on what is not its own.
pub fn make_network() {
    run_all([
        format!("ip link add {NETWORK} type bridge"),
        format!("ip link set {NETWORK} up"),
        format!("ip address add 10.73.0.1/16 dev {NETWORK}"),
        format!("ip address add fd73::1/64 dev {NETWORK} nodad"),
    ]);
    // Of the present namespace alone.
    for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        std::fs::write(Path::new("/proc/sys/net").join(setting), "1").expect("forwarding");
    }
}

/// A container's id, of which the engine and the name of its cgroup tell.
fn id(number: usize) -> String {
    format!("{number:064x}")
}

/// The cgroup of a container in its slice.
pub fn scope(slice: &Path, number: usize) -> PathBuf {
    slice.join(format!("docker-{}.scope", id(number)))
}

/// Starts these containers, some at a time, and waits for their ends.
pub fn start(slice: &Path, numbers: std::ops::Range<usize>) {
    let mut running: Vec<Process> = Vec::new();
    for number in numbers {
        running.push(container(slice, number));
        if running.len() >= AT_ONCE {
            finish(running.remove(0));
        }
    }
    running.into_iter().for_each(finish);
}

/// A container that begins to send once its network is there.
fn container(slice: &Path, number: usize) -> Process {
    let cgroup = scope(slice, number);
    std::fs::create_dir(&cgroup).expect("a container's cgroup");
    let enter = r#"echo $$ > "$0/cgroup.procs" && exec unshare --net sh -c \
        'echo up; read go; exec "$0" unguarded-sender' "$1""#;
    let mut child = Command::new("sh")
        .args(["-c", enter])
        .arg(&cgroup)
        .arg(std::env::current_exe().expect("our own path"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a container");
    let mut line = String::new();
    let said = child.stdout.take().expect("its output");
    BufReader::new(said).read_line(&mut line).expect("a word");
    let pid = child.id();
    let (high, low) = (number / 250, number % 250 + 2);
    let inside = |command: &str| format!("nsenter -n -t {pid} ip {command}");
    run_all([
        format!("ip link add port{number} type veth peer name eth0 netns {pid}"),
        format!("ip link set port{number} master {NETWORK} up"),
        inside("link set lo up"),
        inside("link set eth0 up"),
        inside(&format!("address add 10.73.{high}.{low}/16 dev eth0")),
        inside(&format!(
            "address add fd73::{:x}/64 dev eth0 nodad",
            number + 2
        )),
        inside("route add default via 10.73.0.1"),
        inside("-6 route add default via fd73::1"),
    ]);
    let mut go = child.stdin.take().expect("its input");
    go.write_all(b"go\n").expect("a word to it");
    Process(child)
}

/// Answers as Docker does to who asks about a container. Every other one is a user's by its
/// configuration; of the rest it says nothing that would make them anybody's.
pub fn engine(socket: &Path) {
    let listener = UnixListener::bind(socket).expect("a socket");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Who asks may be killed meanwhile.
            let _ = answer(stream);
        }
    });
}

fn answer(mut stream: UnixStream) -> std::io::Result<()> {
    let mut request = String::new();
    let mut reader = BufReader::new(stream.try_clone()?);
    while reader.read_line(&mut request)? > 2 {}
    let asked = request.split('/').nth(2).unwrap_or_default();
    let number = usize::from_str_radix(asked, 16);
    let (status, body) = match number {
        Ok(number) => {
            let environment = match number % 2 {
                0 => format!(r#"["JUPYTERHUB_USER=c{number}"]"#),
                _ => "[]".to_owned(),
            };
            let body = format!(
                r#"{{"Id":"{asked}","Name":"/jupyter-c{number}","Config":{{"Env":{environment}}}}}"#
            );
            ("200 OK", body)
        }
        Err(_) => ("404 Not Found", "{}".to_owned()),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
