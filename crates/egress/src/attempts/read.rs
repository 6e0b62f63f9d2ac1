//! What the sets hold, read and put together.

use super::{
    Attempts, PATIENCE, REMEMBERED,
    rules::{answered, unanswered},
};
use crate::{
    Error, Netlink,
    installed::Installed,
    phrases::Family,
    private, readback,
    senders::Known,
    table::TABLE,
    uapi::{NFPROTO_BRIDGE, NFPROTO_INET},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

/// One element: a sender, an address, and where there is one a port.
struct Noted {
    number: u32,
    host: IpAddr,
    port: Option<u16>,
    age: Duration,
}

/// Whether a packet that comes in shows whose socket it is for. The kernel looks that up before our
/// rules where these are on, as they are unless an admin switched one off
/// (`Documentation/networking/ip-sysctl.rst`); the rules themselves look up the socket's cgroup and
/// not its owner. Without it, everybody would seem to be answered by nobody.
fn answers_show_a_uid() -> bool {
    ["ip_early_demux", "tcp_early_demux"].iter().all(|name| {
        let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"));
        text.is_ok_and(|text| text.trim() != "0")
    })
}

/// What the sets of one name hold.
fn all_noted(
    netlink: &mut Netlink,
    installed: &Installed,
    set: impl Fn(Known, Family) -> String,
) -> Result<Vec<Noted>, Error> {
    let here = Known::HERE
        .into_iter()
        .filter(|known| *known != Known::Uid || answers_show_a_uid())
        .map(|known| (NFPROTO_INET, known));
    let bridged = (!installed.bridges().is_empty()).then_some((NFPROTO_BRIDGE, Known::Port));
    let mut all = Vec::new();
    for (table, known) in here.chain(bridged) {
        for family in [Family::V4, Family::V6] {
            let elements = readback::elements(netlink, table, TABLE, &set(known, family))?;
            all.extend(elements.iter().filter_map(|element| {
                let (sender, host, port) = read_key(&element.key, known, family)?;
                let left = Duration::from_millis(element.timeout_ms);
                Some(Noted {
                    number: known.number(installed, sender)?,
                    host,
                    port,
                    age: REMEMBERED.saturating_sub(left),
                })
            }));
        }
    }
    Ok(all)
}

/// Of senders that at least `least` hosts did not answer, or one host on at least so many ports. Who
/// answered is only read where there is anybody of whom it matters.
///
/// # Errors
/// The table could not be read.
pub fn read(
    netlink: &mut Netlink,
    installed: &Installed,
    least: usize,
    since: Duration,
) -> Result<Vec<Attempts>, Error> {
    let mut found: BTreeMap<u32, Attempts> = BTreeMap::new();
    // By sender: hosts tried lately, each with how many of its ports.
    let mut fresh: BTreeMap<u32, BTreeMap<IpAddr, usize>> = BTreeMap::new();
    for noted in all_noted(netlink, installed, unanswered)? {
        if noted.age < PATIENCE {
            continue;
        }
        let attempts = found.entry(noted.number).or_default();
        attempts.number = noted.number;
        let ports = attempts.unanswered.entry(noted.host).or_default();
        ports.extend(noted.port);
        if noted.age < PATIENCE + since {
            let hosts = fresh.entry(noted.number).or_default();
            *hosts.entry(noted.host).or_default() += 1;
        }
    }
    found.retain(|_, attempts| {
        attempts.unanswered.len() >= least || attempts.ports_of_one() >= least
    });
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let private = private::usual();
    let within = |host: IpAddr| private.iter().any(|net| net.contains(&host));
    let (mut near, mut far) = (false, false);
    let mut hosts: BTreeSet<(u32, IpAddr)> = BTreeSet::new();
    for noted in all_noted(netlink, installed, answered)? {
        match within(noted.host) {
            true => near = true,
            false => far = true,
        }
        if let Some(attempts) = found.get_mut(&noted.number)
            && hosts.insert((noted.number, noted.host))
        {
            attempts.answered += 1;
        }
    }
    for (number, attempts) in &mut found {
        if let Some(hosts) = fresh.get(number) {
            attempts.fresh = hosts.len();
            let most = attempts.most_asked();
            let ports = most.and_then(|(host, _)| hosts.get(&host));
            attempts.fresh_ports = ports.copied().unwrap_or(0);
        }
        attempts.connected = match attempts.are_within(&private) {
            true => near,
            false => far,
        };
    }
    Ok(found.into_values().collect())
}

/// Splits a key into what the sender is known by, an address, and where there is one a port.
fn read_key(key: &[u8], known: Known, family: Family) -> Option<(&[u8], IpAddr, Option<u16>)> {
    let (sender, rest) = key.split_at_checked(known.len().into())?;
    let (host, rest) = match family {
        Family::V4 => {
            let (host, rest) = rest.split_first_chunk::<4>()?;
            (IpAddr::from(*host), rest)
        }
        Family::V6 => {
            let (host, rest) = rest.split_first_chunk::<16>()?;
            (IpAddr::from(*host), rest)
        }
    };
    let port = rest.first_chunk::<2>().copied().map(u16::from_be_bytes);
    Some((sender, host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_the_rules_write_them() {
        let host = IpAddr::from([192, 0, 2, 1]);
        let v4 = [&[7u8; 8][..], &[192, 0, 2, 1]].concat();
        let read = |key: &[u8], known, family| {
            read_key(key, known, family).map(|(sender, host, port)| (sender.len(), host, port))
        };
        assert_eq!(read(&v4, Known::Cgroup, Family::V4), Some((8, host, None)));
        let target = [&v4[..], &[1, 187, 0, 0]].concat();
        assert_eq!(
            read(&target, Known::Cgroup, Family::V4),
            Some((8, host, Some(443)))
        );
        let host = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]);
        let v6 = [&[7u8; 4][..], &[0xfd], &[0; 14], &[1]].concat();
        assert_eq!(read(&v6, Known::Port, Family::V6), Some((4, host, None)));
        assert_eq!(read(&v6[..9], Known::Uid, Family::V6), None);
        assert_eq!(read(&[], Known::Uid, Family::V4), None);
    }
}
