//! What reading answers costs whoever asked: a question to a resolver on this node and back, over
//! a connected socket of a server's, in a class that reaches every name and in one that needs none.
//!
//! Each answer has an address that nobody knew, so each is learned before it goes on.

use crate::egress::{Servers, command, median};
use crate::figure;
use egress::names::{Counts, Queueing, Reader};
use egress::{Class, Firewall, Kernel, Mode, Policy};
use nix::sched::{CloneFlags, unshare};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const ROUNDS: usize = 20;
const QUESTIONS: usize = 100;
const RESOLVER: &str = "127.0.0.53:53";

/// A process of its own: it moves into cgroups and namespaces.
pub fn child() {
    let servers = Servers::new(1);
    let mut ways = [Way::new(&servers, false), Way::new(&servers, true)];
    for _ in 0..ROUNDS {
        for way in &mut ways {
            way.round();
        }
    }
    for way in ways {
        let learned = way.counts.tally().learned;
        let all = (ROUNDS * QUESTIONS) as u64;
        assert_eq!(
            learned,
            if way.named { all } else { 0 },
            "not what was meant"
        );
        let name = if way.named { "on" } else { "off" };
        figure(&format!("dns_reply_p50_us_{name}"), median(&way.us), "us");
        way.stop.store(true, Ordering::Relaxed);
    }
}

struct Way {
    named: bool,
    client: UdpSocket,
    us: Vec<f64>,
    asked: u16,
    counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
    _nft: Arc<Mutex<Kernel>>,
}

impl Way {
    /// Rules and sockets are made by a thread in a namespace of their own, which they keep.
    fn new(servers: &Servers, named: bool) -> Way {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET)
                    .expect("a network namespace of our own (root is needed)");
                command("ip link set lo up");
                Way::here(servers, named)
            });
            thread.join().expect("rules and sockets")
        })
    }

    fn here(servers: &Servers, named: bool) -> Way {
        let mut policy = Policy::standard(Mode::Enforce);
        policy.resolvers = vec![[127, 0, 0, 53].into()];
        if named {
            let class = Class {
                names: vec!["*".parse().expect("every name")],
                ..Class::standard()
            };
            policy
                .classes
                .insert("standard".parse().expect("a name"), class);
        }
        let mut nft = Kernel::open().expect("nftables");
        assert_ne!(
            nft.queueing().expect("an answer"),
            Queueing::Missing,
            "this kernel queues no packets: CONFIG_NFT_QUEUE, or CONFIG_NFT_COMPAT with \
             CONFIG_NETFILTER_XT_TARGET_NFQUEUE is needed"
        );
        nft.load(&policy, &[], &servers.admitted(1))
            .expect("loaded");
        let nft = Arc::new(Mutex::new(nft));
        let counts = Arc::new(Counts::default());
        let (tell, _asked) = mpsc::channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let mut reader = Reader::open(
            policy.dns_queue,
            Arc::clone(&nft),
            Arc::clone(&counts),
            tell,
        )
        .expect("a queue");
        let ends = Arc::clone(&stop);
        std::thread::spawn(move || reader.run(&ends));
        let resolver = UdpSocket::bind(RESOLVER).expect("a resolver's port");
        std::thread::spawn(move || resolve(&resolver));
        let client = servers.within(0, || {
            let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            client.connect(RESOLVER).expect("a route");
            client
        });
        client
            .set_read_timeout(Some(Duration::from_secs(5)))
            .expect("a patient socket");
        Way {
            named,
            client,
            us: Vec::new(),
            asked: 0,
            counts,
            stop,
            _nft: nft,
        }
    }

    fn round(&mut self) {
        let mut answer = [0; 512];
        for _ in 0..QUESTIONS {
            self.asked += 1;
            let question = question(self.asked);
            let begun = Instant::now();
            self.client.send(&question).expect("an accepted packet");
            let length = self.client.recv(&mut answer).expect("an answer");
            self.us.push(begun.elapsed().as_secs_f64() * 1e6);
            assert_eq!(answer[..2], question[..2]);
            assert!(length > question.len());
        }
    }
}

/// For `bench.example`, address.
fn question(number: u16) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    bytes.extend(b"\x05bench\x07example\0\0\x01\0\x01");
    bytes
}

/// Answers each question by an address made of its number.
fn resolve(socket: &UdpSocket) {
    let mut buffer = [0; 512];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
        let mut answer = buffer[..length].to_vec();
        answer[2] = 0x81;
        answer[3] = 0x80;
        answer[7] = 1;
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4]);
        // Of no private network: such an answer would not be learned.
        answer.extend([203, 0, buffer[0], buffer[1]]);
        if socket.send_to(&answer, peer).is_err() {
            return;
        }
    }
}
