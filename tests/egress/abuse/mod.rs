//! Abuse of the network: scans and floods told from programs that speak with many hosts, and held.

mod floods;
mod listed;
mod many;
mod scans;

use std::{collections::BTreeMap, time::Duration};

use egress::{
    Attempts, Class, Firewall, Kernel, Mode, Policy, Rate, Refusals, RefusedBy, ServerPort, Service,
};

use policy::finding::{Fact, scan};

use crate::bed::{Agent, Link, Netns};
use crate::bridges::{Bed, server};
use crate::limits::rate;
use crate::outside::policy;

/// What was tried may still be answered for three seconds.
const PATIENCE: Duration = Duration::from_millis(3_200);

/// A class that lets all through but 22, to private networks too, so that the other side answers or
/// does not.
fn open_policy(mode: Mode) -> Policy {
    let mut policy = Policy {
        mode,
        private: Vec::new(),
        ..policy()
    };
    let class = Class {
        services: vec![
            Service::tcp(80),
            Service::tcp(443),
            Service::tcp(444),
            Service {
                ports: 1000..=60_000,
                ..Service::tcp(0)
            },
            Service::udp(443),
        ],
        ..Class::standard()
    };
    policy.classes.insert("open".parse().unwrap(), class);
    policy
}

fn a_second(count: u32) -> Option<Rate> {
    rate(count, 1)
}

/// What each sender's attempts amount to at a first look.
fn facts(nft: &mut Kernel) -> BTreeMap<u32, Fact> {
    let fact = |seen: Attempts| {
        let look = scan::Look {
            unanswered: seen.unanswered.len(),
            fresh: seen.fresh,
            answered: seen.answered,
            port: seen.port(),
            ports: seen.ports_of_one(),
            fresh_ports: seen.fresh_ports,
        };
        Some((seen.number, scan::look(look, 0)?))
    };
    let seen = nft.attempts(scan::HOSTS, Duration::from_secs(30)).unwrap();
    seen.into_iter().filter_map(fact).collect()
}

/// How many hosts did not answer each sender, and how many did.
fn seen(nft: &mut Kernel) -> BTreeMap<u32, (usize, usize)> {
    let all = nft.attempts(1, Duration::from_secs(30)).unwrap();
    let counts = |one: Attempts| (one.number, (one.unanswered.len(), one.answered));
    all.into_iter().map(counts).collect()
}

fn scanned(hosts: u32, port: u16) -> Fact {
    Fact::Scan {
        hosts,
        answered: 0,
        port: Some(port),
        looks: 1,
    }
}

/// Hosts beyond the link: those that answer, those that say no, and those that are silent.
fn world(link: &Link) -> Agent {
    let mut host = Agent::new(&link.host, None);
    for port in [80, 443].into_iter().chain(2000..2040) {
        host.listen("tcp", "::", port);
    }
    link.host.ip("address add 10.90.0.0/16 dev lo");
    link.host.ip("-6 route add local fd90::/64 dev lo");
    link.host.ip("route add blackhole 10.91.0.0/16");
    link.host.ip("-6 route add blackhole fd91::/64");
    host
}

/// So many servers' containers of the class, numbered from 1.
fn contained(bed: &Bed, count: usize, policy: &Policy) -> (Vec<Agent>, Kernel) {
    let mut bridges = bed.bridges();
    let agents: Vec<Agent> = (0..count).map(|number| bed.agent(number)).collect();
    for (container, agent) in agents.iter().enumerate() {
        let port = bed.port_of(agent);
        let server = ServerPort {
            class: "open".parse().unwrap(),
            ..server(u32::try_from(container).unwrap() + 1, container)
        };
        bridges.servers.insert(port, server);
        bridges.on_guarded.insert(port);
    }
    let nft = bed.load(policy, &bridges);
    (agents, nft)
}

/// What the kernel told of while `act` ran.
fn told(node: &Netns, group: u16, act: impl FnOnce() + Send) -> Vec<RefusedBy> {
    node.within(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let mut refusals = Refusals::listen(group).unwrap();
            act();
            let mut told = Vec::new();
            let quiet = Duration::from_millis(200);
            while let Ok(next) = tokio::time::timeout(quiet, refusals.next()).await {
                told.push(next.unwrap().by);
            }
            told
        })
    })
}
