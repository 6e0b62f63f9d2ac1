//! Whether others can answer for the resolvers that classes with names learn from.

use super::{Report, Weight};
use crate::config::Config;
use crate::daemon::resolvers;
use nix::sys::socket::SockaddrStorage;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The resolvers of this node's configuration.
pub(super) fn resolvers_by_the_configuration(report: &mut Report, config: &Config) {
    answered_by_others(report, config, &resolvers(&config.egress), &own_addresses());
}

/// An answer counts if it comes from a resolver's address to a question that was asked. A server that
/// works with somebody outside can tell that one beforehand what it will ask, from which port and under
/// which number; nothing but the way there keeps a false sender's answer from being the first. An
/// IPv4 address of this node's own comes in by no link (`ip_route_input_slow`: a martian source).
fn answered_by_others(
    report: &mut Report,
    config: &Config,
    resolvers: &[IpAddr],
    own: &BTreeSet<IpAddr>,
) {
    let mut classes = config.egress.classes.iter();
    if classes.all(|(_, class)| class.names.is_empty()) {
        return;
    }
    let ours = |one: &IpAddr| one.is_loopback() || (one.is_ipv4() && own.contains(one));
    let outside: BTreeSet<String> = resolvers
        .iter()
        .map(IpAddr::to_canonical)
        .filter(|address| !ours(address))
        .map(|address| address.to_string())
        .collect();
    if outside.is_empty() {
        let line = "names: the resolvers are on this node, so no other machine can answer for them";
        report.add(Weight::Good, line);
        return;
    }
    let outside: Vec<String> = outside.into_iter().collect();
    let line = format!(
        "names: {} is asked without encryption, and other machines may send packets from that address: \
         one that does, and is faster than the resolver, can answer what a server agreed with it to ask \
         with any address; run a resolver on this node that asks over TLS (systemd-resolved with \
         DNSOverTLS=yes, unbound) and set egress.resolvers to its loopback address",
        outside.join(", "),
    );
    report.add(Weight::Note, line);
}

/// The addresses of this node's interfaces.
fn own_addresses() -> BTreeSet<IpAddr> {
    let ip = |address: SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
    };
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    all.filter_map(|one| ip(one.address?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, resolvers: &[&str]) -> String {
        let config = Config::parse(text).unwrap();
        let resolvers: Vec<IpAddr> = resolvers.iter().map(|one| one.parse().unwrap()).collect();
        let own = ["10.0.0.5", "2001:db8::5"]
            .map(|one| one.parse().unwrap())
            .into();
        let mut report = Report { lines: Vec::new() };
        answered_by_others(&mut report, &config, &resolvers, &own);
        report.text()
    }

    #[test]
    fn a_resolver_on_another_machine_is_named_where_classes_have_names() {
        let named =
            "[egress.classes.lab]\nservices = [\"dns\", \"https\"]\nnames = [\"pypi.org\"]\n";
        assert_eq!(told("", &["192.0.2.1"]), "");
        let note = told(
            named,
            &["127.0.0.53", "192.0.2.1", "10.0.0.5", "::ffff:192.0.2.1"],
        );
        let asked = "note  names: 192.0.2.1 is asked without encryption";
        assert!(note.starts_with(asked), "{note}");
        // The kernel takes such a sender in by any link.
        let own = told(named, &["2001:db8::5"]);
        assert!(own.starts_with("note  names: 2001:db8::5 is"), "{own}");
        for own in ["127.0.0.53", "::1", "10.0.0.5"] {
            assert!(told(named, &[own]).starts_with("good  names: "), "{own}");
        }
    }
}
