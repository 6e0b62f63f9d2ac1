//! Address families other than IP's whose sockets send past every packet rule, where a user gets one.
//!
//! The kernel loads the module of a family for whoever makes a socket of it (`net-pf-N`, kmod(8)).

use super::{Report, Weight};
use std::path::Path;
use std::process::Command;

/// A family, `AF_*` of `include/linux/socket.h`, by the name of its module.
struct Family {
    number: u32,
    module: &'static str,
    /// What it carries packets over.
    over: &'static str,
}

const FAMILIES: [Family; 6] = [
    Family {
        number: 21,
        module: "rds",
        over: "TCP connections of the kernel's own",
    },
    Family {
        number: 29,
        module: "can",
        over: "CAN interfaces",
    },
    Family {
        number: 30,
        module: "tipc",
        over: "the bearers that are set up",
    },
    Family {
        number: 31,
        module: "bluetooth",
        over: "Bluetooth adapters",
    },
    Family {
        number: 40,
        module: "vsock",
        over: "the machine that this one is a guest of",
    },
    Family {
        number: 43,
        module: "smc",
        over: "RDMA, once a TCP connection has agreed on it",
    },
];

/// Says which of them users can get a socket of, and how to close them.
pub(super) fn families(report: &mut Report) {
    let is_there = |family: &&Family| {
        Path::new("/sys/module").join(family.module).exists() || can_be_loaded(family.number)
    };
    let found: Vec<&Family> = FAMILIES.iter().filter(is_there).collect();
    let (weight, line) = in_words(&found);
    report.add(weight, line);
}

fn in_words(found: &[&Family]) -> (Weight, String) {
    if found.is_empty() {
        let line = "families: users can make no sockets that send past the packet rules";
        return (Weight::Good, line.to_owned());
    }
    let of = |family: &&Family| format!("{} (over {})", family.module, family.over);
    let lines = |family: &&Family| format!("install {} /bin/false", family.module);
    let line = format!(
        "families: sockets of {} send past the packet rules, and any user can make them. For servers, set \
         c.SystemdSpawner.unit_extra_properties = {{'RestrictAddressFamilies': 'AF_UNIX AF_INET AF_INET6 \
         AF_NETLINK'}}; for everybody, if nothing on this node needs them, write to \
         /etc/modprobe.d/families.conf: {}; and restart the node",
        found.iter().map(of).collect::<Vec<_>>().join(", "),
        found.iter().map(lines).collect::<Vec<_>>().join(", "),
    );
    (Weight::Note, line)
}

/// Whether modprobe would find a module for a family's number. Without modprobe the kernel loads none.
fn can_be_loaded(number: u32) -> bool {
    let asked = Command::new("modprobe")
        .args(["--quiet", "--show-depends", &format!("net-pf-{number}")])
        .output();
    asked.is_ok_and(|done| done.status.success() && loads(&String::from_utf8_lossy(&done.stdout)))
}

/// Whether what modprobe would do brings the module in.
fn loads(said: &str) -> bool {
    const NOTHING: [&str; 4] = ["/bin/false", "/bin/true", "/usr/bin/false", "/usr/bin/true"];
    let mut lines = said.lines().filter_map(|line| line.split_once(' '));
    let stopped = lines.clone().any(|(what, rest)| {
        what == "install"
            && rest
                .split_whitespace()
                .next()
                .is_some_and(|program| NOTHING.contains(&program))
    });
    !stopped && lines.any(|(what, _)| ["insmod", "install", "builtin"].contains(&what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_modprobe_would_do_is_understood() {
        // kmod 30 (Debian 12) and 34, `modprobe --quiet --show-depends net-pf-43`.
        assert!(loads(
            "insmod /lib/modules/6.1.0-28-amd64/kernel/net/smc/smc.ko \n"
        ));
        assert!(loads("builtin vsock\n"));
        assert!(loads("install /usr/local/sbin/log-and-load smc\n"));
        assert!(!loads("install /bin/false \n"));
        assert!(!loads(
            "insmod /lib/modules/6.1.0-28-amd64/kernel/drivers/infiniband/core/ib_core.ko \ninstall /bin/true\n"
        ));
        assert!(!loads(""));
    }

    #[test]
    fn each_is_named_with_what_closes_it() {
        let found: Vec<&Family> = FAMILIES.iter().filter(|one| one.number > 40).collect();
        let (weight, line) = in_words(&found);
        assert_eq!(weight, Weight::Note);
        assert!(line.contains("smc (over RDMA"), "{line}");
        assert!(line.contains("install smc /bin/false"), "{line}");
        assert_eq!(in_words(&[]).0, Weight::Good);
    }
}
