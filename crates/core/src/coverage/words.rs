//! Rows in words, the same for `status`, `check` and the journal.

use super::{Lacks, Manager, Missing, Remedy, Uncovered, Weight, Who};
use quantities::{CgroupPath, Plain};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Users and places that a line names; the others are counted.
const MOST_NAMED: usize = 5;
const MOST_PLACES: usize = 3;
/// Characters of what a user or another program chose that are shown.
const LONGEST: usize = 120;

/// Rows of one kind with one remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// How it matters.
    pub weight: Weight,
    /// The kind, [`Missing::kind`].
    pub kind: &'static str,
    /// The rows.
    pub rows: Vec<Uncovered>,
    /// What is so, why, and what mends it: sentences without the last full stop, since a line of
    /// configuration may end them.
    pub text: String,
}

/// Joins rows that have one reason and one remedy; the order stays.
pub fn lines(rows: &[Uncovered], uid_rules: bool) -> Vec<Line> {
    let mut at: BTreeMap<(&Remedy, String), usize> = BTreeMap::new();
    let mut joined: Vec<(Weight, &'static str, Vec<Uncovered>)> = Vec::new();
    for row in rows {
        let of = (&row.remedy, why(&row.missing));
        let index = *at.entry(of).or_insert(joined.len());
        match joined.get_mut(index) {
            Some((.., rows)) => rows.push(row.clone()),
            None => joined.push((row.missing.weight(), row.missing.kind(), vec![row.clone()])),
        }
    }
    let line = |(weight, kind, rows): (_, _, Vec<Uncovered>)| Line {
        weight,
        kind,
        text: text(&rows, uid_rules),
        rows,
    };
    joined.into_iter().map(line).collect()
}

fn text(rows: &[Uncovered], uid_rules: bool) -> String {
    let Some(first) = rows.first() else {
        return String::new();
    };
    let users: BTreeSet<&Who> = rows.iter().flat_map(|row| &row.who).collect();
    let more: usize = rows.iter().map(|row| row.more_users).sum();
    let mut named: Vec<String> = users
        .iter()
        .take(MOST_NAMED)
        .map(|who| who.to_string())
        .collect();
    let left = users.len().saturating_sub(MOST_NAMED) + more;
    if left > 0 {
        named.push(format!("{left} more"));
    }
    let places: BTreeSet<&CgroupPath> = rows.iter().filter_map(|row| row.place.as_ref()).collect();
    let mut shown: Vec<String> = places
        .iter()
        .take(MOST_PLACES)
        .map(|place| cut(&place.to_string()))
        .collect();
    if places.len() > MOST_PLACES {
        shown.push(format!("{} more", places.len() - MOST_PLACES));
    }
    let mut text = String::new();
    if !named.is_empty() {
        text.push_str(&named.join(", "));
        text.push_str(": ");
    }
    text.push_str(match first.missing {
        Missing::OtherHub { .. } => "runs a hub",
        Missing::NotFound => "not found on this node",
        Missing::Login | Missing::OutsideServer { .. } => "not wholly covered",
        _ if first.missing.lacks(uid_rules) != Lacks::ALL => "not wholly covered",
        _ => "not covered",
    });
    if !shown.is_empty() {
        text.push_str(&format!(" in {}", shown.join(", ")));
    }
    let servers: usize = rows.iter().map(|row| row.servers).sum();
    if first.missing == Missing::HubsCgroup && servers > 0 {
        let plural = if servers == 1 { "" } else { "s" };
        text.push_str(&format!(" ({servers} single-user server{plural})"));
    }
    text.push_str(&format!(": {}", why(&first.missing)));
    let consequence = match first.missing.lacks(uid_rules) {
        Lacks {
            cpu: true,
            packets: true,
        } => ", so neither CPU limits nor packet rules hold there. ",
        Lacks {
            cpu: true,
            packets: false,
        } => ", so CPU limits do not hold there. ",
        Lacks {
            cpu: false,
            packets: true,
        } => ", so packet rules do not see what is sent there. ",
        Lacks {
            cpu: false,
            packets: false,
        } => ". ",
    };
    let consequence = match first.missing {
        Missing::NotFound => ". ",
        _ => consequence,
    };
    text.push_str(consequence);
    text.push_str(first.remedy.to_string().trim_end_matches('.'));
    text
}

/// Why a place is not covered: a clause.
fn why(missing: &Missing) -> String {
    match missing {
        Missing::HubsCgroup => "servers run in the hub's own cgroup, as LocalProcessSpawner and \
            SudoSpawner leave them; hubwarden does not act there, since it would throttle the hub"
            .to_owned(),
        Missing::OtherHub { second: false } => {
            "its unit is not in hub_units, so hubwarden does not recognise it as the hub".to_owned()
        }
        Missing::OtherHub { second: true } => {
            "its unit is not in hub_units, and another hub is; hubwarden asks one hub's API, and \
             maps servers of the second one by unit name, Unix user and engine alone"
                .to_owned()
        }
        Missing::UnitName { .. } => "the unit's name fits no template in unit_names".to_owned(),
        Missing::UnitFile => "the unit has a unit file, so no spawner made it".to_owned(),
        Missing::EngineOff(engine) => format!(
            "[hub] has {} = \"none\", so its containers are not looked at",
            engine.as_str().to_lowercase()
        ),
        Missing::ContainerParent { parent } => {
            format!("containers below {} are not looked at", cut(parent))
        }
        Missing::Rootless => "the container belongs to an engine that a user runs".to_owned(),
        Missing::OtherManager(manager) => match manager {
            Manager::Kubernetes => "Kubernetes made this cgroup",
            Manager::Lxc => "LXC made this cgroup",
            Manager::Machined => "a virtual machine or nspawn container runs there",
            Manager::Slurm => "Slurm made this cgroup",
            Manager::Unknown => "no spawner that hubwarden knows made this cgroup",
        }
        .to_owned(),
        Missing::Login => {
            "it is a login session, and no server of this Unix user is known".to_owned()
        }
        Missing::OutsideServer { timed: true } => {
            "jobs run in the cgroup of the service that starts them, where no credits count"
                .to_owned()
        }
        Missing::OutsideServer { timed: false } => {
            "the process runs in a service that is no server".to_owned()
        }
        Missing::NoUnit => "the process is in the root cgroup or in none of a unit's".to_owned(),
        Missing::Unmapped { why } => format!("its user cannot be told: {}", cut(why)),
        Missing::Pending { why } => format!("its user is not known yet: {}", cut(why)),
        Missing::Unread => {
            "processes of this user hold up whoever reads their arguments, and may be \
            a server"
                .to_owned()
        }
        Missing::CgroupV1 => "this node has cgroup v1".to_owned(),
        Missing::CpuOnV1 => "the CPU controller is on cgroup v1".to_owned(),
        Missing::Cpu { why } | Missing::Packets { why } => cut(why),
        Missing::ContainerNetwork { devices } => format!(
            "no port of a known bridge leads to the container's network ({}), as with macvlan, \
             ipvlan or an interface that was moved there",
            in_a_row(devices)
        ),
        Missing::UnitNetwork { devices } => format!(
            "the unit is in a network namespace of its own ({}), as with NetworkNamespacePath=",
            in_a_row(devices)
        ),
        Missing::Level { level } => format!(
            "it is in the node's network with its cgroup at level {level}, at which packet rules do \
             not look"
        ),
        Missing::NotFound => {
            "the hub lists a running server, and no unit, container or process of it is known here"
                .to_owned()
        }
    }
}

/// Other people's text: escaped and of bounded length.
fn cut(text: &str) -> String {
    let text = Plain(text.trim_end_matches('.')).to_string();
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text,
    }
}

fn in_a_row(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| cut(text)).collect();
    texts.join(", ")
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::User(user) => f.write_str(&cut(user.as_str())),
            Who::Uid { uid, account, says } => {
                match account {
                    Some(name) => write!(f, "{} (uid {uid})", cut(name))?,
                    None => write!(f, "uid {uid}")?,
                }
                match says {
                    Some(says) if Some(says) != account.as_ref() => {
                        write!(f, " that says it is \"{}\"", cut(says).escape_default())
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remedy::Config(line) => {
                write!(f, "Set in [hub] of /etc/hubwarden/config.toml: {line}")
            }
            Remedy::Boot(word) => write!(f, "Boot with {word}"),
            Remedy::Advice(text) => f.write_str(text),
        }
    }
}
