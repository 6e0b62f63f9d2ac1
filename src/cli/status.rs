//! `hubwarden status`.

use super::Failure;
use super::answer::{ask, show, whose};
use super::table::Table;
use crate::control::{NodeStatus, ServerStatus};
use crate::coverage::UncoveredStatus;
use quantities::{CoreSeconds, Plain};
use serde::Serialize;
use std::fmt::Write;

/// What `--json` prints; fields are only ever added.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    node: NodeStatus,
    servers: Vec<ServerStatus>,
}

pub(super) fn status(json: bool) -> Result<(), Failure> {
    let report = ask(async |client| {
        Ok(Report {
            node: client.status().await?,
            servers: client.servers().await?,
        })
    })?;
    show(&report, json, in_words)
}

fn in_words(report: &Report) -> String {
    let node = &report.node;
    let mut text = String::new();
    let state = match (node.off, node.mode.as_str()) {
        (true, _) => "switched off: nothing is limited or refused (`hubwarden on` resumes)",
        (false, "enforce") => "enforce: verdicts are carried out",
        _ => "observe: verdicts are only reported, nothing is changed",
    };
    let _ = writeln!(text, "hubwarden {} — {state}", node.version);
    if !node.cpu_controller {
        let _ = writeln!(
            text,
            "CPU limits have no effect here: the cpu controller is not on cgroup v2."
        );
    }
    if !node.egress_loaded && !node.off {
        let _ = writeln!(
            text,
            "The packet rules are NOT loaded; journalctl -u hubwarden says why."
        );
    }
    for (sensor, why) in &node.lacks {
        let _ = writeln!(text, "{}.", lack(sensor, why));
    }
    if let Some(line) = names(&node.names) {
        let _ = writeln!(text, "{line}");
    }
    if report.servers.is_empty() {
        let _ = writeln!(text, "No servers.");
    } else {
        text.push('\n');
        text.push_str(&table(report));
    }
    for row in &node.uncovered {
        let _ = writeln!(text, "\nNOT COVERED: {}", row.text);
    }
    let said = |cgroup: &&(String, String)| node.uncovered.iter().any(|row| row.cgroup == cgroup.0);
    for (cgroup, why) in node.unknown.iter().filter(|one| !said(one)) {
        let cgroup = Plain(cgroup);
        let _ = writeln!(text, "\nNot known as a server: {cgroup}: {why}.");
    }
    text
}

/// What does not work here, without a full stop.
pub(super) fn lack(what: &str, why: &str) -> String {
    let why = Plain(why.trim_end_matches('.'));
    match what {
        "egress" => format!("Packet rules: {why}"),
        "systemd" => format!("systemd: {why}"),
        "shares" => format!("Shares: {why}"),
        "accounts" => format!("Accounts: {why}"),
        "new servers" => format!("New servers: {why}"),
        _ => format!("Miners, by {what}: down or impaired: {why}"),
    }
}

/// What became of resolvers' answers; nothing while there were none.
fn names(counts: &[(String, u64)]) -> Option<String> {
    let words = |(name, count): &(String, u64)| {
        let (of, what) = name.split_once('_')?;
        (*count > 0).then(|| format!("{} {} {count}", Plain(of), Plain(what)))
    };
    let words: Vec<String> = counts.iter().filter_map(words).collect();
    (!words.is_empty()).then(|| format!("Names, since the daemon started: {}.", words.join(", ")))
}

fn table(report: &Report) -> String {
    let lacks = |server: &ServerStatus, what: fn(&UncoveredStatus) -> bool| {
        let mut rows = report.node.uncovered.iter();
        rows.any(|row| row.cgroup == server.cgroup && !what(row))
    };
    let heads = [
        "USER", "CPU", "LIMIT", "CREDITS", "STATE", "MINING", "EGRESS", "UNIT",
    ];
    let mut table = Table::new(heads);
    for server in &report.servers {
        table.row([
            whose(&server.user, &server.server),
            format!("{:.2}", server.cpu_cores),
            match lacks(server, |row| row.cpu) {
                false => limit(server),
                true => "NOT HELD".to_owned(),
            },
            match server.credits_unlimited {
                true => "unlimited".to_owned(),
                false => format!(
                    "{:.0} % ({})",
                    100.0 * share(server),
                    CoreSeconds(server.credits_core_seconds)
                ),
            },
            match server.granted {
                true => format!("{} (grant)", server.stage),
                false => server.stage.clone(),
            },
            mining(server).to_owned(),
            match lacks(server, |row| row.packets) {
                false => Plain(&server.class).to_string(),
                true => "NOT HELD".to_owned(),
            },
            Plain(&server.unit).to_string(),
        ]);
    }
    table.text()
}

/// The limit in force, in cores.
pub(super) fn limit(server: &ServerStatus) -> String {
    match server.limit_cores {
        0.0 => "-".to_owned(),
        limit => format!("{limit:.2}"),
    }
}

/// What is left of a server's credits: nothing to 1.
pub(super) fn share(server: &ServerStatus) -> f64 {
    match server.credits_size_core_seconds > 0.0 {
        true => server.credits_core_seconds / server.credits_size_core_seconds,
        false => 0.0,
    }
}

/// What evidence of mining amounts to.
pub(super) fn mining(server: &ServerStatus) -> &str {
    match server.evidence.as_str() {
        "none" => "-",
        level => level,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A node that enforces.
    pub fn node() -> NodeStatus {
        NodeStatus {
            version: "1".into(),
            mode: "enforce".into(),
            off: false,
            egress_loaded: true,
            cpu_controller: true,
            uncovered: Vec::new(),
            unknown: vec![("/jupyter.slice/x.service".into(), "no template fits".into())],
            lacks: vec![("rounding".into(), "no types\u{1b}".into())],
            names: vec![("answers_read".into(), 0), ("packets_dropped".into(), 0)],
        }
    }

    /// A throttled server of this user's.
    pub fn server(user: &str) -> ServerStatus {
        ServerStatus {
            user: user.into(),
            server: String::new(),
            spawner: "systemd".into(),
            unit: "jupyter-alice.service".into(),
            cgroup: "/jupyter.slice/jupyter-alice.service".into(),
            uid: 1001,
            cpu_cores: 0.251,
            credits_core_seconds: 0.0,
            credits_size_core_seconds: 3600.0,
            credits_unlimited: false,
            granted: false,
            stage: "throttled".into(),
            class: "standard".into(),
            limit_cores: 0.25,
            evidence: "none".into(),
        }
    }

    fn report(user: &str) -> Report {
        Report {
            node: node(),
            servers: vec![server(user)],
        }
    }

    #[test]
    fn table_shows_a_server_in_one_line() {
        let text = in_words(&report("alice"));
        assert!(
            text.contains(
                "alice  0.25  0.25   0 % (0 core-seconds)  throttled  -       standard  jupyter-alice.service\n"
            ),
            "{text}"
        );
        assert!(
            text.contains("Miners, by rounding: down or impaired: no types\\u{1b}.\n"),
            "{text}"
        );
        assert!(
            text.contains("Not known as a server: /jupyter.slice/x.service: no template fits.")
        );
    }

    #[test]
    fn what_does_not_hold_a_server_is_not_shown_as_if_it_did_and_to_each_of_one_s_own() {
        let mut report = report("alice");
        report.node.uncovered.push(UncoveredStatus {
            kind: "unit-network".into(),
            weight: "bad".into(),
            users: vec!["alice".into()],
            uids: Vec::new(),
            more_users: 0,
            cgroup: "/jupyter.slice/jupyter-alice.service".into(),
            cpu: true,
            packets: false,
            text: "alice: not wholly covered".into(),
            config: String::new(),
        });
        let mut other = report.node.uncovered[0].clone();
        other.cgroup = "/jupyter.slice/jupyter-bob.service".into();
        other.text = "bob: not covered".into();
        report.node.uncovered.push(other);
        assert!(in_words(&report).contains("bob"));
        report.node = report.node.for_one(&report.servers, 1001);
        let text = in_words(&report);
        assert!(!text.contains("bob"), "{text}");
        let line = "alice  0.25  0.25   0 % (0 core-seconds)  throttled  -       NOT HELD  jupyter-alice.service\n";
        assert!(text.contains(line), "{text}");
        assert!(
            text.contains("NOT COVERED: alice: not wholly covered\n"),
            "{text}"
        );
    }

    #[test]
    fn what_became_of_resolvers_answers_is_shown_once_there_were_any() {
        let mut report = report("alice");
        assert!(!in_words(&report).contains("Names"));
        report.node.names[0].1 = 120;
        report.node.names[1].1 = 2;
        let text = in_words(&report);
        let line = "Names, since the daemon started: answers read 120, packets dropped 2.\n";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn a_users_several_servers_are_told_apart_and_unlimited_credits_are_no_number() {
        let mut report = report("alice");
        let mut lab = server("alice");
        lab.server = "lab".into();
        lab.credits_unlimited = true;
        lab.granted = true;
        lab.stage = "free".into();
        lab.evidence = "suspicious".into();
        report.servers.push(lab);
        let text = in_words(&report);
        let (default, named) = (
            "alice      0.25  0.25   0 % (0 core-seconds)  throttled     -           standard",
            "alice/lab  0.25  0.25   unlimited             free (grant)  suspicious  standard",
        );
        assert!(text.contains(default) && text.contains(named), "{text}");
    }

    #[test]
    fn a_users_name_cannot_paint_on_the_terminal() {
        let text = in_words(&report("\u{1b}[2Jmallory\u{202e}"));
        assert!(text.contains("\\u{1b}[2Jmallory\\u{202e}"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }
}
