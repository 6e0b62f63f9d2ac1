//! `hubwarden status`.

use super::{Failure, runtime};
use crate::control::{Client, NodeStatus, ServerStatus};
use crate::hub::HubUser;
use crate::units::CoreSeconds;
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
    runtime()?.block_on(async {
        let connection = crate::sd_bus::connect().await.map_err(Failure::new)?;
        let client = Client::new(&connection).await.map_err(Failure::new)?;
        let report = Report {
            node: client.status().await.map_err(Failure::new)?,
            servers: client.servers().await.map_err(Failure::new)?,
        };
        let text = if json {
            serde_json::to_string_pretty(&report).map_err(Failure::new)?
        } else {
            in_words(&report)
        };
        // A closed pipe (`| head`) is the reader's choice.
        let _ = std::io::Write::write_all(
            &mut std::io::stdout(),
            format!("{}\n", text.trim_end()).as_bytes(),
        );
        Ok(())
    })
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
    for (sense, why) in &node.lacks {
        let why = why.trim_end_matches('.').escape_debug();
        let _ = match sense.as_str() {
            "egress" => writeln!(text, "Packet rules: {why}."),
            _ => writeln!(text, "Miners, by {sense}: blind or impaired: {why}."),
        };
    }
    if report.servers.is_empty() {
        let _ = writeln!(text, "No servers.");
    } else {
        text.push('\n');
        text.push_str(&table(&report.servers));
    }
    for (cgroup, why) in &node.unknown {
        let cgroup = cgroup.escape_debug();
        let _ = writeln!(text, "\nNot known as a server: {cgroup}: {why}.");
    }
    text
}

fn table(servers: &[ServerStatus]) -> String {
    let heads = ["USER", "CPU", "LIMIT", "CREDITS", "RUNG", "EGRESS", "UNIT"];
    let mut rows: Vec<[String; 7]> = vec![heads.map(str::to_owned)];
    for server in servers {
        let share = 100.0 * server.credits_core_seconds / server.credits_size_core_seconds;
        let user = HubUser(server.user.clone()).to_string();
        rows.push([
            user,
            format!("{:.2}", server.cpu_cores),
            match server.limit_cores {
                0.0 => "-".to_owned(),
                limit => format!("{limit:.2}"),
            },
            format!(
                "{share:.0} % ({})",
                CoreSeconds(server.credits_core_seconds)
            ),
            match server.granted {
                true => format!("{} (grant)", server.rung),
                false => server.rung.clone(),
            },
            server.class.clone(),
            server.unit.escape_debug().to_string(),
        ]);
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = rows
                .iter()
                .map(|row| row[column].chars().count().min(40))
                .max()
                .unwrap_or(0);
            let cell: String = if cell.chars().count() > 40 && column + 1 < row.len() {
                cell.chars().take(39).chain(['…']).collect()
            } else {
                cell.clone()
            };
            let _ = write!(line, "{cell:width$}  ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
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
            unknown: vec![("/jupyter.slice/x.service".into(), "no template fits".into())],
            lacks: vec![("rounding".into(), "no types\u{1b}".into())],
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
            rung: "throttled".into(),
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
                "alice  0.25  0.25   0 % (0 core-seconds)  throttled  standard  jupyter-alice.service\n"
            ),
            "{text}"
        );
        assert!(
            text.contains("Miners, by rounding: blind or impaired: no types\\u{1b}.\n"),
            "{text}"
        );
        assert!(
            text.contains("Not known as a server: /jupyter.slice/x.service: no template fits.")
        );
    }

    #[test]
    fn a_users_name_cannot_paint_on_the_terminal() {
        let text = in_words(&report("\u{1b}[2Jmallory\u{202e}"));
        assert!(text.contains("\\u{1b}[2Jmallory\\u{202e}"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }
}
