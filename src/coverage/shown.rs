//! Rows as `status`, `check` and the journal show them: the same words everywhere.

use crate::report::{Kind, Level, LogEntry};
use hubwarden_core::coverage::{Difference, Remedy, Survey, Uncovered, Weight, Who, lines};
use quantities::Plain;
use serde::{Deserialize, Serialize};

/// Users that a field of the journal names.
const MOST_IN_FIELD: usize = 10;

/// A place that is not covered, for D-Bus and `--json`; fields are only ever added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, zbus::Type)]
pub struct UncoveredStatus {
    /// What it lacks, in one word of `hubwarden_core::coverage::Missing::kind`.
    pub kind: String,
    /// `bad` or `note`.
    pub weight: String,
    /// Hub users there, as the hub has them; 50 at most.
    pub users: Vec<String>,
    /// Uids there of which no hub user is known.
    pub uids: Vec<u32>,
    /// Users beyond these.
    pub more_users: u32,
    /// The cgroup; empty where nothing was found.
    pub cgroup: String,
    /// Whether CPU limits hold there.
    pub cpu: bool,
    /// Whether packet rules do.
    pub packets: bool,
    /// In words, with the remedy.
    pub text: String,
    /// The line for `[hub]` in hubwarden's configuration that mends it; empty where there is none.
    pub config: String,
}

/// Every row, for programs.
pub fn statuses(survey: &Survey) -> Vec<UncoveredStatus> {
    let rows = survey.rows.iter();
    rows.map(|row| status(row, survey.uid_rules)).collect()
}

fn status(row: &Uncovered, uid_rules: bool) -> UncoveredStatus {
    let users = row.who.iter().filter_map(|who| match who {
        Who::User(user) => Some(user.as_str().to_owned()),
        Who::Uid { .. } => None,
    });
    let uids = row.who.iter().filter_map(|who| match who {
        Who::Uid { uid, .. } => Some(*uid),
        Who::User(_) => None,
    });
    let lacks = row.missing.lacks(uid_rules);
    let line = lines(std::slice::from_ref(row), uid_rules).pop();
    UncoveredStatus {
        kind: row.missing.kind().to_owned(),
        weight: word(row.missing.weight()).to_owned(),
        users: users.collect(),
        uids: uids.collect(),
        more_users: u32::try_from(row.more_users).unwrap_or(u32::MAX),
        cgroup: row
            .place
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        cpu: !lacks.cpu,
        packets: !lacks.packets,
        text: line.map(|line| line.text).unwrap_or_default(),
        config: match &row.remedy {
            Remedy::Config(line) => line.clone(),
            _ => String::new(),
        },
    }
}

fn word(weight: Weight) -> &'static str {
    match weight {
        Weight::Bad => "bad",
        Weight::Note => "note",
    }
}

/// One line for each reason, for `check` and for `status` in words. Empty if all is covered.
pub fn check_lines(survey: &Survey) -> Vec<(Weight, String)> {
    let mut all: Vec<(Weight, String)> = lines(&survey.rows, survey.uid_rules)
        .into_iter()
        .map(|line| (line.weight, line.text))
        .collect();
    all.extend(beyond(survey.more_rows, survey.unseen).map(|text| (Weight::Bad, text)));
    all
}

/// That not everything had room.
fn beyond(rows: usize, processes: usize) -> Option<String> {
    let rows = (rows > 0).then(|| format!("{rows} more places are not covered"));
    let processes = (processes > 0).then(|| {
        format!("{processes} more processes were not looked at, so whether they are covered is not known")
    });
    let all: Vec<String> = rows.into_iter().chain(processes).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// Entries for the journal: one for each reason that is new, and one for each that is over.
pub fn entries(difference: &Difference, uid_rules: bool) -> Vec<LogEntry> {
    let mut entries = Vec::new();
    for line in lines(&difference.new, uid_rules) {
        let level = match line.weight {
            Weight::Bad => Level::Warning,
            Weight::Note => Level::Notice,
        };
        let message = match line.rows.first().map(|row| &row.remedy) {
            // A line to copy ends without a full stop.
            Some(Remedy::Config(_) | Remedy::Boot(_)) | None => line.text.clone(),
            Some(Remedy::Advice(_)) => format!("{}.", line.text),
        };
        let entry = LogEntry::new(Kind::NotCovered, level, message);
        entries.push(fields(entry, &line.rows).with("REASON", line.kind));
    }
    if let Some(text) = difference
        .beyond
        .and_then(|(rows, processes)| beyond(rows, processes))
    {
        let entry = LogEntry::new(Kind::NotCovered, Level::Warning, format!("{text}."));
        entries.push(entry);
    }
    for line in lines(&difference.over, uid_rules) {
        let cgroups: Vec<String> = line
            .rows
            .iter()
            .take(MOST_IN_FIELD)
            .map(|row| match (&row.place, row.who.first()) {
                (Some(place), _) => Plain(&place.to_string()).to_string(),
                (None, Some(who)) => who.to_string(),
                (None, None) => String::new(),
            })
            .collect();
        let more = line.rows.len().saturating_sub(MOST_IN_FIELD);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        let message = format!(
            "Covered now, or gone ({}): {}{more}.",
            line.kind,
            cgroups.join(", ")
        );
        let entry = LogEntry::new(Kind::CoveredAgain, Level::Notice, message);
        entries.push(fields(entry, &line.rows).with("REASON", line.kind));
    }
    entries
}

/// The places of an entry, a field each. Users are named in its text alone: an entry is of several, and what
/// `HUB_USER` finds is what was decided about one.
fn fields(mut entry: LogEntry, rows: &[Uncovered]) -> LogEntry {
    for place in rows
        .iter()
        .filter_map(|row| row.place.as_ref())
        .take(MOST_IN_FIELD)
    {
        entry = entry.with("CGROUP", place);
    }
    entry
}
