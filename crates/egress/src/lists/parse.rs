//! Lists in the forms that feeds come in, line by line. What is wrong is named and passed over.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use ipnet::IpNet;

use super::Entries;
use super::forms::{Forms, Said};

/// Longest line that is looked at, bytes.
const LINE_MAX: usize = 1024;
/// Most of a line that a message repeats, characters.
const SHOWN: usize = 60;
/// The widest networks that a list can name; a slip of the pen must not cut everybody off.
const WIDEST: (u8, u8) = (8, 16);

/// A line that is no entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its number, from 1.
    pub line: usize,
    /// Its beginning, escaped.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}: {}", self.line, self.text, self.why)
    }
}

/// Read a list: plain names (`name`, `*.name`, `.name`, `||name^`), hosts files (`0.0.0.0 name`),
/// addresses and CIDR, `host:port` with and without a scheme, comments, and what [`Forms`] reads.
pub fn parse(bytes: &[u8]) -> (Entries, Vec<Problem>) {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let mut entries = Entries::default();
    let mut problems = Vec::new();
    let mut forms = Forms::default();
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let read = match std::str::from_utf8(line) {
            _ if line.len() > LINE_MAX => Err("longer than 1024 bytes"),
            Ok(line) => take(line.trim(), &mut forms, &mut entries),
            Err(_) => Err("not UTF-8"),
        };
        if let Err(why) = read {
            let text = String::from_utf8_lossy(line.get(..LINE_MAX).unwrap_or(line));
            let text = text.trim().chars().take(SHOWN).collect::<String>();
            problems.push(Problem {
                line: number,
                text: text.escape_debug().to_string(),
                why,
            });
        }
    }
    entries.settle();
    (entries, problems)
}

/// Adds what one line says.
fn take(line: &str, forms: &mut Forms, entries: &mut Entries) -> Result<(), &'static str> {
    if line.is_empty() || line.starts_with(['#', ';', '!']) || line.starts_with("//") {
        return Ok(());
    }
    let comment = [" #", "\t#", ";"]
        .into_iter()
        .filter_map(|begins| line.find(begins));
    let line = match comment.min() {
        Some(comment) => line.get(..comment).unwrap_or(line).trim_end(),
        None => line,
    };
    match forms.read(line)? {
        Said::Entries(words) => return words.iter().try_for_each(|word| take_one(word, entries)),
        Said::Nothing => return Ok(()),
        Said::Other => {}
    }
    let mut words = line.split_ascii_whitespace();
    let (Some(first), rest) = (words.next(), words) else {
        return Ok(());
    };
    let mut rest = rest.peekable();
    if rest.peek().is_none() {
        return take_one(first, entries);
    }
    // A hosts file: an address that leads nowhere, and names.
    let nowhere = |address: IpAddr| address.is_unspecified() || address.is_loopback();
    if !first.parse().is_ok_and(nowhere) {
        return Err("more than one word, and not a line of a hosts file");
    }
    for word in rest {
        // What every hosts file has besides.
        if word.starts_with("localhost") || word.starts_with("ip6-") || word == "broadcasthost" {
            continue;
        }
        if word.parse::<IpAddr>().is_err() {
            entries.names.push((name(word)?, None));
        }
    }
    Ok(())
}

/// Adds one word.
fn take_one(word: &str, entries: &mut Entries) -> Result<(), &'static str> {
    let word = word.strip_suffix(',').unwrap_or(word);
    let word = word.split_once("://").map_or(word, |(_, rest)| rest);
    if let Ok(address) = word.parse::<IpAddr>() {
        entries.networks.push(reachable(address)?.into());
    } else if let Ok(net) = word.parse::<IpNet>() {
        let widest = match net {
            IpNet::V4(_) => WIDEST.0,
            IpNet::V6(_) => WIDEST.1,
        };
        if net.prefix_len() < widest {
            return Err("too wide: /8 for IPv4 and /16 for IPv6 at the most");
        }
        reachable(net.network())?;
        entries.networks.push(net.trunc());
    } else if let Ok(endpoint) = word.parse::<SocketAddr>() {
        let address = reachable(endpoint.ip())?;
        let port = port(endpoint.port())?;
        entries.endpoints.push(SocketAddr::new(address, port));
    } else if let Some((host, number)) = word.split_once(':') {
        let number = number.strip_suffix('/').unwrap_or(number);
        let number = number.parse().map_err(|_| "a port is 1 to 65535")?;
        entries.names.push((name(host)?, Some(port(number)?)));
    } else {
        entries.names.push((name(word)?, None));
    }
    Ok(())
}

fn port(number: u16) -> Result<u16, &'static str> {
    match number {
        0 => Err("a port is 1 to 65535"),
        number => Ok(number),
    }
}

/// An address that a packet could leave the node for.
fn reachable(address: IpAddr) -> Result<IpAddr, &'static str> {
    let address = address.to_canonical();
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
        return Err("loopback, unspecified and multicast addresses are no hosts elsewhere");
    }
    Ok(address)
}

/// A host name, in lower case and without what says "and all below it".
fn name(word: &str) -> Result<String, &'static str> {
    let word = match word.strip_prefix("||") {
        // What an ad blocker's rule says after that is of pages, not of hosts.
        Some(rule) => rule.split_once('^').map_or(rule, |(host, _)| host),
        None => word,
    };
    let word = word.strip_prefix("*.").unwrap_or(word);
    let word = word.strip_prefix('.').unwrap_or(word);
    let word = word.strip_suffix('/').unwrap_or(word);
    let word = word.strip_suffix('.').unwrap_or(word);
    match word.split_once('/') {
        Some((address, _)) if address.parse::<IpAddr>().is_ok() => {
            return Err("no network: after / stands a number, up to 32 for IPv4 and 128 for IPv6");
        }
        Some(_) => return Err("a path, which packets do not show"),
        None => {}
    }
    if !word.is_ascii() {
        return Err("not ASCII; write internationalised names as xn--…");
    }
    let right = |label: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(plain)
    };
    if word.len() > 253 || !word.split('.').all(right) {
        return Err("neither a name nor an address");
    }
    match word.rsplit_once('.') {
        None => Err("a whole top-level domain"),
        Some((_, top)) if top.bytes().all(|b| b.is_ascii_digit()) => {
            Err("neither a name nor an address")
        }
        Some(_) => Ok(word.to_ascii_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> (Entries, Vec<String>) {
        let (entries, problems) = parse(text.as_bytes());
        (entries, problems.iter().map(Problem::to_string).collect())
    }

    #[test]
    fn the_forms_that_feeds_come_in_are_read() {
        let (entries, problems) = read(
            "\u{feff}# a feed\r\n; and another\n! and one more\n// yes\n\n\
             Pool.Example.com\r\n*.wild.example.net\n||adblock.example.org^\n\
             ||options.example.org^$third-party\n\
             127.0.0.1 localhost\n0.0.0.0 hosts.example.com second.example.com # both\n\
             192.0.2.7\n198.51.100.0/24 # a network\n2001:db8::/32\n\
             192.0.2.9:3333\n[2001:db9::1]:14444\nname.example.com:5555\n\
             stratum+tcp://scheme.example.com:3333/\n192.0.2.7\n",
        );
        assert_eq!(problems, [""; 0]);
        let nets = ["192.0.2.7/32", "198.51.100.0/24", "2001:db8::/32"];
        assert_eq!(entries.networks, nets.map(|net| net.parse().unwrap()));
        let endpoints = ["192.0.2.9:3333", "[2001:db9::1]:14444"];
        assert_eq!(entries.endpoints, endpoints.map(|e| e.parse().unwrap()));
        let names: Vec<_> = entries
            .names
            .iter()
            .map(|(n, p)| (n.as_str(), *p))
            .collect();
        assert_eq!(
            names,
            [
                ("adblock.example.org", None),
                ("hosts.example.com", None),
                ("name.example.com", Some(5555)),
                ("options.example.org", None),
                ("pool.example.com", None),
                ("scheme.example.com", Some(3333)),
                ("second.example.com", None),
                ("wild.example.net", None),
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_named_by_line_and_passed_over() {
        let (entries, problems) = read(
            "com\n0.0.0.0/0\n127.0.0.1\ngood.example.com\nexample.com/path\n1.2.3.4.5\n\
             example.com:99999\ntwo words\n192.0.2.1:0\n\u{1b}[31m.example\nmünchen.example\n::/3\n\
             192.0.2.0/33\n||a.example/path^\n@@||good.example^\n",
        );
        assert_eq!(entries.len(), 1);
        assert_eq!(
            problems,
            [
                "line 1: com: a whole top-level domain",
                "line 2: 0.0.0.0/0: too wide: /8 for IPv4 and /16 for IPv6 at the most",
                "line 3: 127.0.0.1: loopback, unspecified and multicast addresses are no hosts \
                 elsewhere",
                "line 5: example.com/path: a path, which packets do not show",
                "line 6: 1.2.3.4.5: neither a name nor an address",
                "line 7: example.com:99999: a port is 1 to 65535",
                "line 8: two words: more than one word, and not a line of a hosts file",
                "line 9: 192.0.2.1:0: a port is 1 to 65535",
                "line 10: \\u{1b}[31m.example: neither a name nor an address",
                "line 11: münchen.example: not ASCII; write internationalised names as xn--…",
                "line 12: ::/3: too wide: /8 for IPv4 and /16 for IPv6 at the most",
                "line 13: 192.0.2.0/33: no network: after / stands a number, up to 32 for IPv4 \
                 and 128 for IPv6",
                "line 14: ||a.example/path^: a path, which packets do not show",
                "line 15: @@||good.example^: neither a name nor an address",
            ]
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let (entries, problems) = parse(&bytes);
            prop_assert!(problems.iter().all(|problem| problem.text.len() < 1000));
            for (name, _) in entries.names {
                prop_assert!(name.bytes().all(|b| b.is_ascii_graphic()));
            }
        }

        #[test]
        fn any_line_of_plausible_signs_is_read_without_a_panic(line in "[a-z0-9.:/*|^\\[\\] -]{0,60}") {
            let _ = parse(line.as_bytes());
        }
    }
}
