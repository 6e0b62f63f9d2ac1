//! Abuse of the network, told from use of it.
//!
//! What separates a scan from a busy program is not how many hosts it speaks with: dask, pip, apt
//! and a browser speak with many at a time. It is that most of those that a scan tries do not
//! answer, and that it goes on to others; or of one host, that most of its ports do not. Of a flood it
//! is that its packets are many and small; a fast download answers with as small ones, but the kernel
//! gathers those, and they stay far below.

use super::Fact;

/// So many hosts that do not answer, within a minute, are no accident.
pub const HOSTS: usize = 64;
/// So many ports of one host that do not answer, within a minute, are none either: a program that
/// starts many workers on one host knows which ports they have.
pub const PORTS: usize = HOSTS;
/// A scan goes on while so many of them were tried since the last look.
const FRESH: usize = 8;
/// What was seen at so many looks in a row is abuse, and nobody's mistake.
pub const SUSTAINED: u32 = 4;
/// Of a sustained scan at least so many hosts do not answer, nine in ten of them on one port.
const MANY: u32 = 128;
/// Of one host, so many ports.
const MANY_PORTS: u32 = 512;
/// And so many times as many as do answer.
const TIMES: u32 = 4;
/// Small packets a second that nothing but a flood sends: a download at 10 Gbit/s acknowledges with
/// less than half of it.
const RATE: u64 = 100_000;
/// Small is at most this long on average, bytes.
const SMALL: u64 = 200;
/// Who loses this part of all packets to a limit does not heed it.
const HEEDLESS: u64 = 10;

/// What a look at the connections that a server began lately shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// Hosts that did not answer.
    pub unanswered: usize,
    /// How many of them were tried since the look before.
    pub fresh: usize,
    /// Hosts that answered.
    pub answered: usize,
    /// The port that most of those that did not are asked on, and by how many.
    pub port: Option<(u16, usize)>,
    /// On how many ports one host did not answer, at most.
    pub ports: usize,
    /// How many of these were tried since the look before.
    pub fresh_ports: usize,
}

/// What a look amounts to, after `before` looks in a row that did.
pub fn look(look: Look, before: u32) -> Option<Fact> {
    fan_out(look, before).or_else(|| all_ports(look, before))
}

fn fan_out(look: Look, before: u32) -> Option<Fact> {
    let hosts = look.unanswered;
    let most_fail = hosts >= look.answered;
    (hosts >= HOSTS && look.fresh >= FRESH && most_fail).then(|| Fact::Scan {
        hosts: count(hosts),
        answered: count(look.answered),
        port: look
            .port
            .filter(|(_, asked)| asked * 10 >= hosts * 9)
            .map(|(port, _)| port),
        looks: before.saturating_add(1),
    })
}

fn all_ports(look: Look, before: u32) -> Option<Fact> {
    (look.ports >= PORTS && look.fresh_ports >= FRESH).then(|| Fact::PortScan {
        ports: count(look.ports),
        looks: before.saturating_add(1),
    })
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Whether a scan of one host's ports goes on, and is of no few.
pub fn is_sustained_of_ports(ports: u32, looks: u32) -> bool {
    looks >= SUSTAINED && ports >= MANY_PORTS
}

/// Whether a scan goes on, fails, and asks everybody the same.
pub fn is_sustained(hosts: u32, answered: u32, port: Option<u16>, looks: u32) -> bool {
    looks >= SUSTAINED && hosts >= MANY && port.is_some() && hosts >= answered.saturating_mul(TIMES)
}

/// What one sender sent within some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Volume {
    /// Packets.
    pub packets: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// How many of them the packet rules held for being too many.
    pub held: u64,
}

/// What so much in so many seconds amounts to, after `before` looks in a row at which it did.
///
/// Who heeds a limit loses few packets to it; who floods sends on.
pub fn volume(sent: Volume, seconds: f64, before: u32) -> Option<Fact> {
    let packets = sent.packets.max(sent.held);
    if packets == 0 || seconds <= 0.0 {
        return None;
    }
    #[allow(clippy::cast_precision_loss, reason = "a rate, shown to people")]
    let rate = packets as f64 / seconds;
    #[allow(clippy::cast_precision_loss, reason = "a constant far below")]
    let small = sent.bytes / packets <= SMALL && rate >= RATE as f64;
    let heedless = sent.held > 0 && sent.held >= packets / HEEDLESS;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded by the comparison and by the type"
    )]
    (small || heedless).then(|| Fact::Flood {
        rate: rate.min(f64::from(u32::MAX)) as u32,
        looks: before.saturating_add(1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Strength::{self, High, Suspicious};

    fn strength(seen: Look, before: u32) -> Option<Strength> {
        super::look(seen, before).map(|fact| fact.strength())
    }

    fn look(unanswered: usize, fresh: usize, answered: usize, on_one_port: usize) -> Look {
        Look {
            unanswered,
            fresh,
            answered,
            port: Some((22, on_one_port)),
            ports: 1,
            fresh_ports: 1,
        }
    }

    #[test]
    fn a_scan_of_one_hosts_ports_is_told_from_programs_with_many_connections_to_one_host() {
        let one = |ports, fresh_ports| Look {
            ports,
            fresh_ports,
            ..look(1, 1, 0, 1)
        };
        for (who, seen, first, later) in [
            ("all ports", one(1_200, 100), Some(Suspicious), Some(High)),
            (
                "some ports",
                one(300, 100),
                Some(Suspicious),
                Some(Suspicious),
            ),
            ("it is over", one(1_200, 0), None, None),
            (
                "40 workers of one host that are down",
                one(40, 40),
                None,
                None,
            ),
            (
                "100 workers that are gone, asked again",
                one(100, 4),
                None,
                None,
            ),
        ] {
            assert_eq!(strength(seen, 0), first, "{who}");
            assert_eq!(
                strength(seen, SUSTAINED - 1),
                later,
                "{who}, at look after look"
            );
        }
        // Of many hosts, and of many ports of some: the first says more.
        let both = Look {
            ports: 600,
            fresh_ports: 100,
            ..look(200, 40, 3, 200)
        };
        let fact = super::look(both, 0);
        assert!(
            matches!(fact, Some(Fact::Scan { hosts: 200, .. })),
            "{fact:?}"
        );
    }

    #[test]
    fn scans_are_told_from_programs_that_speak_with_many() {
        const LONG: u32 = SUSTAINED - 1;
        for (who, look, first, later) in [
            (
                "ssh, a whole network",
                look(200, 40, 3, 200),
                Some(Suspicious),
                Some(High),
            ),
            (
                "a scan that finds some",
                look(200, 40, 50, 200),
                Some(Suspicious),
                Some(High),
            ),
            (
                "many ports",
                look(200, 40, 3, 100),
                Some(Suspicious),
                Some(Suspicious),
            ),
            (
                "few hosts",
                look(100, 40, 0, 100),
                Some(Suspicious),
                Some(Suspicious),
            ),
            (
                "half of them answer",
                look(200, 40, 150, 200),
                Some(Suspicious),
                Some(Suspicious),
            ),
            ("it is over", look(200, 0, 3, 200), None, None),
            (
                "dask, 500 workers, 80 of them down",
                look(80, 80, 420, 80),
                None,
                None,
            ),
            (
                "dask, workers that are gone, asked again and again",
                look(300, 0, 0, 300),
                None,
                None,
            ),
            ("a browser with 40 hosts", look(12, 12, 28, 12), None, None),
            ("pip, a mirror that is down", look(4, 0, 1, 4), None, None),
            ("apt, three sources", look(1, 1, 2, 1), None, None),
            (
                "a crawler, a tenth of its hosts dead",
                look(120, 40, 1080, 120),
                None,
                None,
            ),
        ] {
            assert_eq!(strength(look, 0), first, "{who}");
            assert_eq!(strength(look, LONG), later, "{who}, at look after look");
        }
    }

    #[test]
    fn a_scan_names_its_port_if_it_has_one() {
        for (asked, port) in [(200, Some(22)), (180, Some(22)), (179, None)] {
            let (hosts, answered, looks) = (200, 3, 1);
            let fact = Fact::Scan {
                hosts,
                answered,
                port,
                looks,
            };
            assert_eq!(super::look(look(200, 40, 3, asked), 0), Some(fact));
        }
    }

    #[test]
    fn many_small_packets_are_a_flood_and_many_large_ones_are_work() {
        let flood = |rate, looks| Some(Fact::Flood { rate, looks });
        let sent = |packets, bytes, held| Volume {
            packets,
            bytes,
            held,
        };
        let five_seconds = |sent| volume(sent, 5.0, 0);
        let small = sent(1_500_000, 60_000_000, 0);
        assert_eq!(five_seconds(small), flood(300_000, 1));
        // An upload at 10 Gbit/s, and the acknowledgements of a download as fast.
        assert_eq!(five_seconds(sent(4_000_000, 6_000_000_000, 0)), None);
        assert_eq!(five_seconds(sent(200_000, 13_000_000, 0)), None);
        assert_eq!(five_seconds(sent(0, 0, 0)), None);
        assert_eq!(five_seconds(sent(5, 500, 0)), None);
        assert_eq!(volume(sent(10, 100, 0), 0.0, 0), None);
        // What the rules had to hold is one, however long its packets are; but an upload over QUIC
        // that runs into the limit slows down.
        let held = volume(sent(500_000, 600_000_000, 250_000), 5.0, SUSTAINED - 1);
        assert_eq!(held, flood(100_000, SUSTAINED));
        assert_eq!(five_seconds(sent(260_000, 330_000_000, 10_000)), None);
        // Outside servers only what is held is counted.
        assert_eq!(five_seconds(sent(0, 0, 50_000)), flood(10_000, 1));
        assert_eq!(held.map(|fact| fact.strength()), Some(High));
        assert_eq!(
            flood(60_000, 1).map(|fact| fact.strength()),
            Some(Suspicious)
        );
    }
}
