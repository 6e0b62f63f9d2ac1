//! Connections that servers begin, and whether anybody answers.
//!
//! What separates a scan from a busy program is that most of what a scan tries does not answer: it is
//! silent, it says no, or our own table refuses it. So the table remembers, by sender, each address
//! and port that a first packet (SYN) goes to, and forgets it when that answers (SYN with ACK).
//! What is left after some seconds is what did not. Programs that speak with those who answer leave
//! nothing behind, so the sets are nearly empty on a node where nobody scans.
//!
//! Of a container both packets pass its port of a bridge, where the table of the family `bridge` sees
//! them; of everybody else, output and input.
//!
//! The sets are bounded, and everybody's. Of one sender a bounded number of attempts is noted (`filled`),
//! so it takes many to fill a set; what is not noted is counted, and every packet goes on as if it had
//! been.

mod read;
mod rules;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use ipnet::IpNet;

use crate::filled;

pub use read::read;
pub use rules::{chains, not_noted, noting, on_bridges, sets};

/// How long an attempt is remembered that nobody answers, and how long a host that does.
const REMEMBERED: Duration = Duration::from_millis(filled::REMEMBERED_MS);
/// An answer may take so long: what was tried since then is not counted yet.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whom one sender tried to reach lately and was not answered by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// The number of the server, or of the user outside.
    pub number: u32,
    /// Hosts that did not answer, each with the ports that it was asked on. What was tried in the
    /// last three seconds may still be answered, and is left out.
    pub unanswered: BTreeMap<IpAddr, BTreeSet<u16>>,
    /// How many of these hosts were tried since the time that was asked for.
    pub fresh: usize,
    /// How many ports were tried since then of the host that was asked on most.
    pub fresh_ports: usize,
    /// How many hosts answered.
    pub answered: usize,
    /// Whether anybody on this node was answered by a host of the kind that most of these are, public
    /// or of private networks, so that the network is there at all.
    pub connected: bool,
}

impl Attempts {
    /// The port that most hosts are asked on, and by how many.
    pub fn port(&self) -> Option<(u16, usize)> {
        let mut ports: BTreeMap<u16, usize> = BTreeMap::new();
        for port in self.unanswered.values().flatten() {
            *ports.entry(*port).or_default() += 1;
        }
        ports.into_iter().max_by_key(|(_, hosts)| *hosts)
    }

    /// The host that was asked on most ports, and on how many.
    pub(super) fn most_asked(&self) -> Option<(IpAddr, usize)> {
        let ports = self
            .unanswered
            .iter()
            .map(|(host, ports)| (*host, ports.len()));
        ports.max_by_key(|(_, ports)| *ports)
    }

    /// On how many ports one host was asked at most.
    pub fn ports_of_one(&self) -> usize {
        self.most_asked().map_or(0, |(_, ports)| ports)
    }

    /// Whether most of the hosts are in these networks.
    fn are_within(&self, private: &[IpNet]) -> bool {
        let within = |host: &&IpAddr| private.iter().any(|net| net.contains(*host));
        self.unanswered.keys().filter(within).count() * 2 >= self.unanswered.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::private;

    #[test]
    fn the_port_most_asked_on_is_told_with_its_hosts() {
        let mut attempts = Attempts::default();
        for last in 0..20u8 {
            let ports = [22, 1000 + u16::from(last)].into();
            attempts.unanswered.insert([10, 0, 0, last].into(), ports);
        }
        assert_eq!(attempts.port(), Some((22, 20)));
        assert!(attempts.are_within(&private::usual()));
        for last in 0..21u8 {
            attempts
                .unanswered
                .insert([8, 8, 8, last].into(), [53].into());
        }
        assert!(!attempts.are_within(&private::usual()));
    }
}
