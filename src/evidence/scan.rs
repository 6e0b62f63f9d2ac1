//! Abuse of the network, told from use of it.
//!
//! What separates a scan from a busy program is not how many hosts it speaks with: dask, pip, apt
//! and a browser speak with many at a time. It is that most of those that a scan tries do not
//! answer. Of a flood it is that its packets are many and small; a fast download answers with as
//! small ones, but the kernel gathers those, and they stay far below.

use super::Fact;

/// So many hosts that do not answer, at one moment, are no accident.
pub const HOSTS: usize = 64;
/// Small packets a second that nothing but a flood sends: a download at 10 Gbit/s acknowledges with
/// less than half of it.
const RATE: u64 = 100_000;
/// Small is at most this long on average, bytes.
const SMALL: u64 = 200;

/// What connections to `hosts` hosts that do not answer amount to, beside `established` ones that
/// stand; `port` is what most of the hosts are asked on, and by how many.
pub fn fan_out(hosts: usize, established: u64, port: Option<(u16, usize)>) -> Option<Fact> {
    let most_fail = hosts as u64 >= established;
    (hosts >= HOSTS && most_fail).then(|| Fact::Scan {
        hosts: u32::try_from(hosts).unwrap_or(u32::MAX),
        port: port
            .filter(|(_, asked)| asked * 10 >= hosts * 9)
            .map(|(port, _)| port),
    })
}

/// What this many packets and bytes in so many seconds amount to.
pub fn volume(packets: u64, bytes: u64, seconds: f64) -> Option<Fact> {
    if packets == 0 || seconds <= 0.0 || bytes / packets > SMALL {
        return None;
    }
    #[allow(clippy::cast_precision_loss, reason = "a rate, shown to people")]
    let rate = packets as f64 / seconds;
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded by the comparison and by the type"
    )]
    (rate >= RATE as f64).then(|| Fact::Flood {
        rate: rate.min(f64::from(u32::MAX)) as u32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_hosts_that_do_not_answer_are_a_scan() {
        let fact = fan_out(200, 3, Some((22, 200)));
        let (hosts, port) = (200, Some(22));
        assert_eq!(fact, Some(Fact::Scan { hosts, port }));
        let fact = fan_out(200, 3, Some((22, 100)));
        assert_eq!(fact, Some(Fact::Scan { hosts, port: None }));
    }

    #[test]
    fn many_hosts_that_answer_are_not() {
        // A dask cluster of 500 workers that comes up, a browser with 40 hosts, pip at a mirror that
        // is down, apt with three sources.
        for (hosts, established, asked) in [(80, 420, 80), (12, 28, 12), (4, 0, 4), (1, 3, 1)] {
            assert_eq!(fan_out(hosts, established, Some((443, asked))), None);
        }
    }

    #[test]
    fn many_small_packets_are_a_flood_and_many_large_ones_are_work() {
        assert_eq!(
            volume(1_500_000, 60_000_000, 5.0),
            Some(Fact::Flood { rate: 300_000 })
        );
        // An upload at 10 Gbit/s, and the acknowledgements of a download as fast.
        assert_eq!(volume(4_000_000, 6_000_000_000, 5.0), None);
        assert_eq!(volume(200_000, 13_000_000, 5.0), None);
        assert_eq!(volume(0, 0, 5.0), None);
        assert_eq!(volume(10, 100, 0.0), None);
    }
}
