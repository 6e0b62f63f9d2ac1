//! Whom servers may ask for names.

use crate::config::{Egress, Resolvers};
use std::net::IpAddr;
use std::path::Path;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const BEHIND_STUB: &str = "/run/systemd/resolve/resolv.conf";

/// Whom servers may ask for names now.
pub(crate) fn resolvers(egress: &Egress) -> Vec<IpAddr> {
    match &egress.resolvers {
        Resolvers::Fixed(addresses) => addresses.clone(),
        Resolvers::Auto => {
            let read = |path| {
                std::fs::read_to_string(Path::new(path)).map(|text: String| nameservers(&text))
            };
            let mut resolvers = read(RESOLV_CONF).unwrap_or_default();
            // A container has the resolvers behind the stub: Docker gives it those.
            if resolvers.iter().any(is_stub) {
                resolvers.extend(read(BEHIND_STUB).unwrap_or_default());
            }
            resolvers
        }
    }
}

/// Whether it is systemd-resolved on this node (`systemd-resolved.service(8)`).
fn is_stub(address: &IpAddr) -> bool {
    [[127, 0, 0, 53], [127, 0, 0, 54]]
        .iter()
        .any(|stub| *address == IpAddr::from(*stub))
}

/// The `nameserver` lines of resolv.conf(5); without any the C library asks this node itself.
fn nameservers(text: &str) -> Vec<IpAddr> {
    let found: Vec<IpAddr> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        // A zone as in fe80::1%eth0 says which link, not who.
        .filter_map(|rest| rest.trim().split(['%', ' ', '\t']).next()?.parse().ok())
        .collect();
    if found.is_empty() {
        return vec![IpAddr::from([127, 0, 0, 1])];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers_are_read_as_the_c_library_does() {
        let text = "# nameserver 192.0.2.1\nsearch lab\nnameserver 127.0.0.53\n\
                    nameserver\tfe80::1%eth0\nnameserver x\n";
        let expected: Vec<IpAddr> = vec!["127.0.0.53".parse().unwrap(), "fe80::1".parse().unwrap()];
        assert_eq!(nameservers(text), expected);
        assert_eq!(nameservers(""), ["127.0.0.1".parse::<IpAddr>().unwrap()]);
    }
}
