//! `hubwarden check`: what this node gives hubwarden, and where users are out of its reach.

mod coverage;
mod families;
mod packet_rules;
mod resolvers;

use super::answer::{connect, say};
use super::{Failure, runtime};
use crate::config::{Config, ThrottleWhen};
use crate::control::NodeStatus;
use crate::daemon::Connections;
use cgroup::{find_root, has_cpu_controller};
use egress::{Class, Firewall, Kernel, lies_in};
use ipnet::IpNet;
use nix::sys::socket::SockaddrStorage;
use nix::unistd::Group;
use quantities::HubUser;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;

/// How a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// As it should be.
    Good,
    /// hubwarden works, and an admin should know this.
    Note,
    /// Something that was asked for does not work.
    Bad,
}

struct Report {
    lines: Vec<(Weight, String)>,
}

impl Report {
    fn add(&mut self, weight: Weight, line: impl Into<String>) {
        self.lines.push((weight, line.into()));
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for (weight, line) in &self.lines {
            let word = match weight {
                Weight::Good => "good",
                Weight::Note => "note",
                Weight::Bad => "BAD ",
            };
            let _ = writeln!(text, "{word}  {line}");
        }
        text
    }

    fn when(&mut self, good: bool, otherwise: Weight, yes: &str, no: &str) {
        match good {
            true => self.add(Weight::Good, yes),
            false => self.add(otherwise, no),
        }
    }
}

pub(super) fn check(file: &Path) -> Result<(), Failure> {
    let mut report = Report { lines: Vec::new() };
    let config = match Config::load(file) {
        Ok(config) => {
            report.add(
                Weight::Good,
                format!("configuration: {} is good", file.display()),
            );
            config
        }
        Err(error) => {
            report.add(Weight::Bad, format!("configuration: {error}"));
            Config::default()
        }
    };
    for line in config.advice() {
        report.add(Weight::Note, format!("configuration: {line}"));
    }
    near(&mut report, &config, &own_networks());
    resolvers::resolvers_by_the_configuration(&mut report, &config);
    connections(&mut report, Connections::read());
    families::families(&mut report);
    kernel(&mut report, &config);
    let supervises = runtime()?.block_on(daemon(&mut report));
    match supervises {
        Some(status) => coverage::by_the_daemon(&mut report, &status),
        None => coverage::by_the_configuration(&mut report, &config),
    }
    ways_out(&mut report, &config);
    say(&report.text())?;
    match report
        .lines
        .iter()
        .filter(|(weight, _)| *weight == Weight::Bad)
        .count()
    {
        0 => Ok(()),
        1 => Err(Failure::new("1 thing does not work")),
        count => Err(Failure::new(format!("{count} things do not work"))),
    }
}

/// The networks that this node is in, each with its interface; not those of its own bridges.
fn own_networks() -> Vec<(String, IpNet)> {
    let ip = |address: &SockaddrStorage| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
    };
    let mut networks = Vec::new();
    // What cannot be read is not told of.
    for one in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let (Some(address), Some(mask)) = (&one.address, &one.netmask) else {
            continue;
        };
        let (Some(address), Some(mask)) = (ip(address), ip(mask)) else {
            continue;
        };
        let bridge = Path::new("/sys/class/net").join(&one.interface_name);
        if bridge.join("bridge").exists() {
            continue;
        }
        if let Ok(network) = IpNet::with_netmask(address, mask) {
            networks.push((one.interface_name, network.trunc()));
        }
    }
    networks
}

/// Private networks beside this node that classes do not reach. On a node that was set up before
/// such networks were closed, servers may have got their data from there.
fn near(report: &mut Report, config: &Config, networks: &[(String, IpNet)]) {
    let egress = &config.egress;
    for (interface, network) in networks {
        if !lies_in(network, &egress.private) || lies_in(network, &egress.denied) {
            continue;
        }
        let shut = |class: &Class| {
            let opens = |net: &IpNet| net.contains(network) || network.contains(net);
            !class.services.is_empty() && !class.is_selective() && !class.networks.iter().any(opens)
        };
        let classes = egress.classes.iter().filter(|(_, class)| shut(class));
        let classes: Vec<&str> = classes.map(|(name, _)| name.as_str()).collect();
        if classes.is_empty() {
            continue;
        }
        let line = format!(
            "private: this node is in {network} ({}), of which egress class {} reaches only the \
             resolvers; to open it or a part of it, add that to networks of the class",
            interface.escape_debug(),
            classes.join(", "),
        );
        report.add(Weight::Note, line);
    }
}

/// How much room the kernel's table of connections has; without tracking there is none to fill.
fn connections(report: &mut Report, connections: Option<Connections>) {
    let Some(connections) = connections else {
        return;
    };
    let what = connections.in_words();
    match connections.are_many() {
        false => report.add(Weight::Good, format!("connections: {what}")),
        true => report.add(
            Weight::Bad,
            format!(
                "connections: {what}; once it is full, new connections fail on the whole node: look at \
                 hubwarden flows, or raise net.netfilter.nf_conntrack_max"
            ),
        ),
    }
}

/// What the kernel and systemd have to give.
fn kernel(report: &mut Report, config: &Config) {
    match find_root() {
        Ok(root) => {
            report.when(
                has_cpu_controller(&root),
                Weight::Bad,
                "cgroups: CPU limits have an effect",
                "cgroups: the cpu controller is not on cgroup v2, so CPU limits have no effect; \
                 boot with systemd.unified_cgroup_hierarchy=1",
            );
        }
        Err(error) => report.add(Weight::Bad, format!("cgroups: {error}")),
    }
    let contended = config.limits.cpu.throttle_when == ThrottleWhen::Contended;
    report.when(
        Path::new("/proc/pressure/cpu").exists(),
        if contended { Weight::Bad } else { Weight::Note },
        "pressure: the kernel counts who waits for the CPU",
        "pressure: the kernel does not count who waits for the CPU, so throttle_when = \
         \"contended\" never throttles; boot with psi=1",
    );
    if !nix::unistd::geteuid().is_root() {
        report.add(
            Weight::Note,
            "packet rules: only root can try them; use sudo",
        );
        return;
    }
    let tried = Kernel::open().and_then(|mut nft| {
        nft.probe()?;
        Ok((nft.queueing()?, nft))
    });
    match tried {
        Ok((queueing, mut nft)) => {
            report.add(Weight::Good, "packet rules: the kernel takes them");
            packet_rules::flushes(report);
            packet_rules::names(report, config, queueing);
            shaping(report, config, &mut nft);
        }
        Err(error) => report.add(Weight::Bad, format!("packet rules: {error}")),
    }
}

/// Whether classes can have what is too fast delayed. Only where one asks for it: to try it, a pair
/// of devices is made and taken away.
fn shaping(report: &mut Report, config: &Config, nft: &mut Kernel) {
    let mut classes = config.egress.classes.values();
    if !classes.any(|class| class.limits.shape) {
        return;
    }
    match nft.shaping() {
        Ok(()) => report.add(
            Weight::Good,
            "shape: the kernel delays what is too fast (HTB)",
        ),
        Err(error) => report.add(
            Weight::Bad,
            format!("shape: bandwidth is held by dropping, not by delaying: {error}"),
        ),
    }
}

/// What the daemon says, while it supervises.
async fn daemon(report: &mut Report) -> Option<NodeStatus> {
    let status = async {
        let client = connect().await?;
        client.status().await.map_err(Failure::new)
    };
    match status.await {
        Err(failure) => {
            report.add(Weight::Bad, format!("daemon: {}", failure.message));
            None
        }
        Ok(status) if status.off => {
            report.add(Weight::Note, "daemon: switched off; `hubwarden on` resumes");
            None
        }
        Ok(status) => {
            report.add(
                Weight::Good,
                format!("daemon: running, {} mode", status.mode),
            );
            report.when(
                status.egress_loaded,
                Weight::Bad,
                "daemon: its packet rules are in the kernel",
                "daemon: its packet rules are not in the kernel; journalctl -u hubwarden says why",
            );
            if status.lacks.is_empty() {
                report.add(Weight::Good, "miners: every sensor for them works here");
            }
            for (sensor, why) in &status.lacks {
                report.add(Weight::Note, super::status::lack(sensor, why));
            }
            Some(status)
        }
    }
}

/// Jobs that users have run at a time: cron's and at's run in the cgroup of whoever starts them.
fn timed_jobs(report: &mut Report, root: &Path, etc: &Path) {
    for (unit, what, close) in [
        ("cron.service", "cron jobs", "cron.allow"),
        ("crond.service", "cron jobs", "cron.allow"),
        ("atd.service", "at jobs", "at.allow"),
    ] {
        let runs = root.join("system.slice").join(unit).exists();
        if runs && !etc.join(close).exists() {
            let line = format!(
                "way out: users' {what} run in {unit}, where no credits count; an /etc/{close} \
                 that names only admins closes that"
            );
            report.add(Weight::Note, line);
        }
    }
}

/// Where hub users can run things that no credits count. ssh, lingering sessions and
/// `systemd-run --user` are not among them: those are in `user-UID.slice`, which is counted.
fn ways_out(report: &mut Report, config: &Config) {
    if let Ok(root) = find_root() {
        timed_jobs(report, &root, Path::new("/etc"));
    }
    for (group, why) in [
        ("docker", "may start containers as root"),
        (
            "jupyterhub-admins",
            "may become root without a password in TLJH",
        ),
        ("sudo", "may become root"),
    ] {
        let members = Group::from_name(group)
            .ok()
            .flatten()
            .map(|group| group.mem);
        let members = members.unwrap_or_default();
        if !members.is_empty() {
            let shown: Vec<String> = members
                .into_iter()
                .take(10)
                .map(|name| HubUser(name).to_string())
                .collect();
            let line = format!(
                "way out: members of group {group} {why}, and no control holds them: {}",
                shown.join(", ")
            );
            report.add(Weight::Note, line);
        }
    }
    if config.hub.api_url.is_none() && !config.groups.is_empty() {
        report.add(
            Weight::Bad,
            "groups: [groups.NAME] is configured, and hub.api_url is not, so nobody is known to \
             be in any group",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(root: &Path, etc: &Path) -> Vec<String> {
        let mut report = Report { lines: Vec::new() };
        timed_jobs(&mut report, root, etc);
        report.lines.into_iter().map(|(_, line)| line).collect()
    }

    #[test]
    fn a_private_network_beside_the_node_is_named_until_every_class_opens_some_of_it() {
        let near = |text: &str| {
            let config = Config::parse(text).unwrap();
            let networks = ["10.20.0.0/16", "203.0.113.0/24", "127.0.0.0/8", "fe80::/64"];
            let networks = networks.map(|net| ("eth0".to_owned(), net.parse().unwrap()));
            let mut report = Report { lines: Vec::new() };
            super::near(&mut report, &config, &networks);
            report.text()
        };
        let told = near("");
        assert!(
            told.starts_with(
                "note  private: this node is in 10.20.0.0/16 (eth0), of which egress class standard \
                 reaches only the resolvers;"
            ),
            "{told}"
        );
        assert_eq!(told.lines().count(), 1, "{told}");
        for fine in [
            "[egress]\nprivate = []\n",
            "[egress.classes.standard]\nnetworks = [\"10.20.7.0/24\"]\n",
            "[egress.classes.standard]\nnetworks = [\"10.0.0.0/8\"]\n",
            "[egress.classes.standard]\nnames = [\"pypi.org\"]\n",
        ] {
            assert_eq!(near(fine), "", "{fine}");
        }
    }

    #[test]
    fn cron_and_at_are_named_where_they_run_and_are_open_to_all() {
        let root = tempfile::tempdir().unwrap();
        let etc = tempfile::tempdir().unwrap();
        assert!(jobs(root.path(), etc.path()).is_empty());
        for unit in ["cron.service", "atd.service"] {
            std::fs::create_dir_all(root.path().join("system.slice").join(unit)).unwrap();
        }
        let named = jobs(root.path(), etc.path());
        assert_eq!(named.len(), 2, "{named:?}");
        assert!(named[0].contains("users' cron jobs run in cron.service"));
        assert!(named[0].contains("/etc/cron.allow that names only admins"));
        assert!(named[1].contains("users' at jobs run in atd.service"));
        std::fs::write(etc.path().join("cron.allow"), "root\n").unwrap();
        let named = jobs(root.path(), etc.path());
        assert_eq!(named.len(), 1, "{named:?}");
        assert!(named[0].contains("atd.service"));
    }
}
