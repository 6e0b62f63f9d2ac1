//! `hubwarden explain`: how one user's servers stand, and why.

use super::Failure;
use super::answer::{ask, show};
use super::table::Table;
use crate::control::{Explanation, ProcessGroup, ServerProcesses};
use quantities::HubUser;
use quantities::{CoreSeconds, Cores, Plain, in_words};
use serde::Serialize;
use std::fmt::Write;
use std::time::Duration;

/// What `--json` prints of one server; fields are only ever added.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    explanation: Explanation,
    processes: Vec<ProcessGroup>,
}

pub(super) fn explain(user: &str, json: bool) -> Result<(), Failure> {
    let (explained, processes) = ask(async |client| {
        let explained = client.explain(user).await?;
        Ok((explained, client.processes().await))
    })?;
    // What is known stays worth telling where processes cannot be looked at.
    let (processes, trouble) = match processes {
        Ok(processes) => (processes, None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let reports: Vec<Report> = explained
        .into_iter()
        .map(|explanation| Report {
            processes: groups_of(&explanation.server.cgroup, &processes),
            explanation,
        })
        .collect();
    show(&reports, json, |reports| {
        let in_full = |report| in_full(report, trouble.as_deref());
        let texts: Vec<String> = reports.iter().map(in_full).collect();
        texts.join("\n")
    })
}

/// The groups of the server in this cgroup.
pub(super) fn groups_of(cgroup: &str, processes: &[ServerProcesses]) -> Vec<ProcessGroup> {
    processes
        .iter()
        .find(|server| server.cgroup == cgroup)
        .map(|server| server.groups.clone())
        .unwrap_or_default()
}

fn in_full(report: &Report, trouble: Option<&str>) -> String {
    let explained = &report.explanation;
    let server = &explained.server;
    let user = HubUser(server.user.clone());
    let mut text = String::new();
    let _ = write!(text, "{user}'s server");
    if !server.server.is_empty() {
        let _ = write!(text, " {}", Plain(&server.server));
    }
    let _ = writeln!(text, " in {}", Plain(&server.unit));
    let _ = write!(text, "  state     {}", server.stage);
    if let Some(time) = seconds(explained.stage_seconds) {
        let _ = write!(text, ", for {}", in_words(time));
    }
    if server.granted {
        text.push_str(" (an admin's grant holds)");
    }
    text.push('\n');
    if !explained.reason.is_empty() {
        let _ = writeln!(text, "  because   {}", explained.reason);
    }
    let limit = match server.limit_cores {
        0.0 => "without a limit".to_owned(),
        limit => format!("of {}", Cores(limit)),
    };
    let _ = writeln!(text, "  CPU       {:.2} cores {limit}", server.cpu_cores);
    let credits = match server.credits_unlimited {
        true => "unlimited".to_owned(),
        false => format!(
            "{} of {}",
            CoreSeconds(server.credits_core_seconds),
            CoreSeconds(server.credits_size_core_seconds)
        ),
    };
    let _ = writeln!(text, "  credits   {credits}");
    let _ = writeln!(text, "  egress    {}", Plain(&server.class));
    text.push_str(&of_mining(explained));
    match trouble {
        Some(why) => {
            let _ = writeln!(text, "\nProcesses: {}.", Plain(why));
        }
        None => text.push_str(&of_processes(&report.processes)),
    }
    text
}

fn of_mining(explained: &Explanation) -> String {
    let mut text = format!("\nEvidence of mining: {}. ", explained.server.evidence);
    let _ = match seconds(explained.hot_seconds) {
        Some(hot) => writeln!(text, "It has used much CPU for {}.", in_words(hot)),
        None => writeln!(text, "It does not use much CPU now."),
    };
    let mut table = Table::new(["FOUND", "BY", "PROVES", "READING"]);
    for sign in &explained.signs {
        let ago = seconds(sign.seconds_ago).unwrap_or_default();
        table.row([
            format!("{} ago", in_words(ago)),
            sign.sensor.clone(),
            sign.level.clone(),
            Plain(&sign.reading).to_string(),
        ]);
    }
    if explained.signs.is_empty() {
        text.push_str("  Nothing was found.\n");
    } else {
        text.push_str(&table.indented());
    }
    if !explained.counterfactuals.is_empty() {
        text.push_str("What would have changed that:\n");
        for (change, level) in &explained.counterfactuals {
            let _ = writeln!(text, "  {change}: {level}.");
        }
    }
    text.push_str("What is looked for:\n");
    for rule in &explained.rules {
        let _ = writeln!(text, "  {rule}.");
    }
    text
}

/// The kinds of process and their CPU.
pub(super) fn of_processes(groups: &[ProcessGroup]) -> String {
    let mut table = Table::new(["CPU", "COUNT", "KIND", "PROGRAM"]);
    for group in groups {
        table.row([
            format!("{:.2}", group.cpu_cores),
            group.processes.to_string(),
            group.kind.clone(),
            Plain(&group.program).to_string(),
        ]);
    }
    match groups.is_empty() {
        true => "\nNo process.\n".to_owned(),
        false => format!("\nProcesses, by program:\n{}", table.indented()),
    }
}

fn seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Sign;

    fn report(program: &str) -> Report {
        Report {
            explanation: Explanation {
                server: crate::cli::status::tests::server("bob"),
                stage_seconds: 240.0,
                reason: "evidence that it mines is certain".into(),
                hot_seconds: 300.0,
                signs: vec![Sign {
                    sensor: "constants".into(),
                    level: "high".into(),
                    reading: "process 412: 7 of RandomX's 7 constants are in its memory".into(),
                    seconds_ago: 180.0,
                }],
                counterfactuals: vec![("Without what constants found".into(), "suspicious".into())],
                rules: vec!["high: 4 of RandomX's 7 constants in memory".into()],
            },
            processes: vec![ProcessGroup {
                kind: "no-python".into(),
                program: program.into(),
                processes: 2,
                cpu_cores: 1.98,
            }],
        }
    }

    #[test]
    fn a_case_is_told_with_readings_times_and_what_would_have_changed_it() {
        let text = in_full(&report("/home/bob/python"), None);
        for part in [
            "bob's server in jupyter-alice.service\n",
            "  state     throttled, for 4 min\n",
            "  because   evidence that it mines is certain\n",
            "It has used much CPU for 5 min.",
            "3 min ago  constants  high    process 412: 7 of RandomX's 7 constants",
            "  Without what constants found: suspicious.\n",
            "  1.98  2      no-python  /home/bob/python\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
    }

    #[test]
    fn a_programs_name_cannot_paint_on_the_terminal_nor_add_a_line() {
        let text = in_full(&report("/tmp/\u{1b}[2J\nstage free\u{202e}"), None);
        assert!(
            text.contains(r"/tmp/\u{1b}[2J\u{a}stage free\u{202e}"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn where_processes_cannot_be_looked_at_the_rest_is_told() {
        let text = in_full(&report("x"), Some("a file is slow to read"));
        assert!(
            text.contains("Processes: a file is slow to read."),
            "{text}"
        );
        assert!(text.contains("Evidence of mining"), "{text}");
    }
}
