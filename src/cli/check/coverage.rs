//! Who is covered by nothing, as far as the configuration tells.

use super::{Report, Weight};
use crate::config::Config;
use crate::control::NodeStatus;
use crate::coverage::{Surveyor, check_lines};
use hubwarden_core::coverage::Weight as Row;
use sensors::workers::Holders;

/// What the daemon found.
pub(super) fn by_the_daemon(report: &mut Report, status: &NodeStatus) {
    if status.uncovered.is_empty() {
        let line = "coverage: limits and packet rules hold every single-user server found here";
        report.add(Weight::Good, line);
    }
    for row in &status.uncovered {
        let weight = match row.weight.as_str() {
            "note" => Weight::Note,
            _ => Weight::Bad,
        };
        report.add(weight, format!("coverage: {}", row.text));
    }
    let said = |cgroup: &str| status.uncovered.iter().any(|row| row.cgroup == cgroup);
    for (cgroup, why) in &status.unknown {
        if !said(cgroup) {
            let cgroup = cgroup.escape_debug();
            report.add(Weight::Note, format!("server: {cgroup} is nobody's: {why}"));
        }
    }
}

/// Places where users run and that this configuration does not cover. The daemon is not asked, so that it
/// need not run.
pub(super) fn by_the_configuration(report: &mut Report, config: &Config) {
    if !nix::unistd::geteuid().is_root() {
        let line = "coverage: only root can read what all processes are; use sudo";
        report.add(Weight::Note, line);
    }
    let survey = Surveyor::new(&Holders::default()).survey_by(config);
    let lines = check_lines(&survey);
    if lines.is_empty() {
        report.add(
            Weight::Good,
            "coverage: every single-user server found here is where the configuration has it \
             looked at",
        );
    }
    for (weight, line) in lines {
        let weight = match weight {
            Row::Bad => Weight::Bad,
            Row::Note => Weight::Note,
        };
        report.add(weight, format!("coverage: {line}"));
    }
}
