//! Who is booked for stratum: who opens a connection to another host and speaks first, and no other.
//!
//! Two hosts of our own, a network namespace each; the guarded server is on one of them.

use crate::bed::Bed;
use policy::finding::Word;
use sensors::stratum::{Heard, Stratum};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Addresses of the host that the guarded server is on, and of the other one.
const HERE: [&str; 2] = ["198.51.100.1", "2001:db8::1"];
const THERE: [&str; 2] = ["198.51.100.2", "2001:db8::2"];
const PORT: u16 = 3333;

const LOGIN: &str = r#"{"id":1,"jsonrpc":"2.0","method":"login","params":{"login":"x"}}"#;
const SUBSCRIBE: &str = r#"{"id": 1, "method": "mining.subscribe", "params": []}"#;
const AUTHORIZE: &str = r#"{"params": ["a", "b"], "id": 2, "method": "mining.authorize"}"#;

/// A network namespace, which lasts as long as the process in it.
struct Host(Child);

impl Host {
    fn new() -> Host {
        let mut child = Command::new("unshare")
            .args([
                "--net",
                "sh",
                "-c",
                "ip link set lo up && echo there && exec cat",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare, of util-linux");
        let mut said = String::new();
        let out = child.stdout.as_mut().unwrap();
        BufReader::new(out).read_line(&mut said).unwrap();
        assert_eq!(said, "there\n");
        Host(child)
    }

    fn namespace(&self) -> String {
        format!("--net=/proc/{}/ns/net", self.0.id())
    }

    fn run(&self, script: &str) {
        let done = Command::new("nsenter")
            .args([&self.namespace(), "--", "sh", "-ec", script])
            .status();
        assert!(done.unwrap().success(), "{script}");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The guarded server's host, another one, and who listens.
struct Hosts {
    bed: Bed,
    here: Host,
    there: Host,
    stratum: Stratum,
}

impl Hosts {
    fn new() -> Hosts {
        let (here, there) = (Host::new(), Host::new());
        let other = there.0.id();
        here.run(&format!(
            "ip link add wire type veth peer name wire netns {other}"
        ));
        for (host, at) in [(&here, HERE), (&there, THERE)] {
            host.run(&format!(
                "ip addr add {}/24 dev wire; ip -6 addr add {}/64 dev wire nodad; ip link set wire up",
                at[0], at[1]
            ));
        }
        Hosts {
            bed: Bed::new(),
            here,
            there,
            stratum: Stratum::load().expect("BPF"),
        }
    }

    fn watched() -> Hosts {
        let mut hosts = Hosts::new();
        hosts.watch();
        hosts
    }

    fn watch(&mut self) {
        let servers = BTreeMap::from([(self.bed.id, self.bed.directory.clone())]);
        self.stratum.watch(&servers).unwrap();
    }

    /// The guarded server's end.
    fn server(&self, way: &str, address: &str, lines: &[&str]) -> Command {
        let mut command = self.bed.shell("exec \"$@\"");
        command.args(["nsenter", &self.here.namespace(), "--"]);
        talk(command, way, address, lines)
    }

    /// The other host's.
    fn neighbour(&self, way: &str, address: &str, lines: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args([&self.there.namespace(), "--"]);
        talk(command, way, address, lines)
    }

    /// What is heard of a conversation, once both ends have had their say.
    fn heard(&mut self, ends: [Command; 2]) -> Vec<Heard> {
        let ends = ends.map(|mut end| end.spawn().unwrap());
        for mut end in ends {
            let status = end.wait().unwrap();
            assert!(status.success(), "{status}");
        }
        self.stratum.read()
    }

    fn wanted(&self, word: Word) -> Heard {
        Heard {
            cgroup: self.bed.id,
            word,
            port: PORT,
        }
    }
}

fn talk(mut command: Command, way: &str, address: &str, lines: &[&str]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/evidence/talk.py");
    command
        .arg("python3")
        .arg(script)
        .args([way, address, &PORT.to_string()])
        .args(lines);
    command
}

#[test]
fn a_miners_first_words_are_heard_on_both_families_and_honest_ones_are_not() {
    let mut hosts = Hosts::watched();
    let spaced = r#"{"id": 1, "method": "login", "params": {"login": "x"}}"#;
    let turned = r#"{"params":{"login":"x"},"method":"login","id":1}"#;
    let hello = r#"{"id":0,"hello":"there"}"#;
    for there in THERE {
        for (says, word) in [
            (vec![LOGIN], Word::Login),
            (vec![spaced], Word::Login),
            (vec![turned], Word::Login),
            (vec![SUBSCRIBE, AUTHORIZE], Word::Subscribe),
            (vec![hello, AUTHORIZE], Word::Authorize),
        ] {
            let ends = [
                hosts.neighbour("take", there, &says),
                hosts.server("say", there, &says),
            ];
            let heard = hosts.heard(ends);
            assert!(heard.contains(&hosts.wanted(word)), "{says:?}: {heard:?}");
        }
        for says in [
            vec!["GET /a?mining.subscribe HTTP/1.1"],
            vec![r#"{"method":"logout","params":{}}"#],
            // A service of another kind, by the same envelope.
            vec![r#"{"jsonrpc":"2.0","id":1,"method":"login","params":{"user":"alice"}}"#],
            vec![r#"{"login":"alice","method":"hello"}"#],
            vec![r#"{"jsonrpc":"2.0","method":"initialize","params":{"mining":1}}"#],
            vec!["a first line of words", "and a second of them", SUBSCRIBE],
            vec!["{"],
        ] {
            let ends = [
                hosts.neighbour("take", there, &says),
                hosts.server("say", there, &says),
            ];
            assert_eq!(hosts.heard(ends), [], "{says:?}");
        }
    }
}

#[test]
fn an_echo_service_is_not_booked_for_what_others_send_to_it() {
    let mut hosts = Hosts::watched();
    // With cookies the server's socket is made when the connection stands already.
    for cookies in ["0", "2"] {
        let file = "/proc/sys/net/ipv4/tcp_syncookies";
        hosts.here.run(&format!("echo {cookies} > {file}"));
        for here in HERE {
            let ends = [
                hosts.server("repeat", here, &[]),
                hosts.neighbour("feed", here, &[LOGIN, SUBSCRIBE]),
            ];
            assert_eq!(hosts.heard(ends), [], "{here}, cookies {cookies}");
        }
    }
}

#[test]
fn who_repeats_what_came_by_a_connection_of_its_own_is_not_booked_for_it() {
    let mut hosts = Hosts::watched();
    for there in THERE {
        for (server, neighbour) in [
            ("fetch-and-repeat", "give"),
            ("greet-and-repeat", "give-after-greeting"),
        ] {
            let ends = [
                hosts.neighbour(neighbour, there, &[LOGIN, AUTHORIZE]),
                hosts.server(server, there, &[]),
            ];
            assert_eq!(hosts.heard(ends), [], "{server} {there}");
        }
    }
}

#[test]
fn a_connection_that_stood_before_anybody_listened_is_not_booked() {
    let mut hosts = Hosts::new();
    let mut taker = hosts.neighbour("take", THERE[0], &[LOGIN]).spawn().unwrap();
    let mut early = hosts
        .server("say-later", THERE[0], &[LOGIN])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let out = early.stdout.as_mut().unwrap();
    BufReader::new(out).read_line(&mut said).unwrap();
    assert_eq!(said, "connected\n");
    hosts.watch();
    early.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(early.wait().unwrap().success());
    assert!(taker.wait().unwrap().success());
    assert_eq!(hosts.stratum.read(), []);
    // The next connection is.
    let ends = [
        hosts.neighbour("take", THERE[0], &[LOGIN]),
        hosts.server("say", THERE[0], &[LOGIN]),
    ];
    assert_eq!(hosts.heard(ends), [hosts.wanted(Word::Login)]);
}

#[test]
fn what_does_not_leave_the_node_is_not_booked() {
    let mut hosts = Hosts::watched();
    let beside = |address: &str, hosts: &Hosts| {
        let mut command = Command::new("nsenter");
        command.args([&hosts.here.namespace(), "--"]);
        talk(command, "take", address, &[LOGIN])
    };
    for address in ["127.0.0.1", "::1", HERE[0], HERE[1]] {
        let ends = [
            beside(address, &hosts),
            hosts.server("say", address, &[LOGIN]),
        ];
        assert_eq!(hosts.heard(ends), [], "{address}");
    }
}

#[test]
fn a_socket_that_is_used_again_is_a_new_connection() {
    let mut hosts = Hosts::watched();
    let ends = [
        hosts.neighbour("take-three", THERE[0], &[]),
        hosts.server("say-again", THERE[0], &[LOGIN]),
    ];
    assert_eq!(hosts.heard(ends), [hosts.wanted(Word::Login)]);
}

#[test]
fn a_service_and_a_client_at_one_port_are_told_apart() {
    let mut hosts = Hosts::watched();
    let mut server = hosts
        .server("say-from-the-port-of-a-service", THERE[0], &[LOGIN])
        .spawn()
        .unwrap();
    let mut feed = hosts.neighbour("feed", HERE[0], &[SUBSCRIBE]);
    assert!(feed.status().unwrap().success());
    assert_eq!(hosts.stratum.read(), [], "the service");
    let mut take = hosts.neighbour("take", THERE[0], &[LOGIN]);
    assert!(take.status().unwrap().success());
    assert!(server.wait().unwrap().success());
    assert_eq!(
        hosts.stratum.read(),
        [hosts.wanted(Word::Login)],
        "the client"
    );
}

#[test]
fn a_miner_that_offers_multipath_is_heard() {
    let mut hosts = Hosts::watched();
    if !Path::new("/proc/sys/net/mptcp").exists() {
        eprintln!("NOT TESTED: this kernel has no MPTCP");
        return;
    }
    let ends = [
        hosts.neighbour("take", THERE[0], &[LOGIN]),
        hosts.server("say-by-mptcp", THERE[0], &[LOGIN]),
    ];
    assert_eq!(hosts.heard(ends), [hosts.wanted(Word::Login)]);
}

#[test]
fn who_is_guarded_no_more_is_not_listened_to() {
    let mut hosts = Hosts::watched();
    hosts.stratum.watch(&BTreeMap::new()).unwrap();
    let ends = [
        hosts.neighbour("take", THERE[0], &[LOGIN]),
        hosts.server("say", THERE[0], &[LOGIN]),
    ];
    assert_eq!(hosts.heard(ends), []);
}
