//! One survey: all processes, all places, all rows.

use super::judge::Group;
use super::remedy::{propose, remedies};
use super::{
    Facts, Known, ListedAt, Location, Looks, MOST_PROCESSES, MOST_ROWS, MOST_USERS, Missing,
    Process, Remedy, Watch,
};
use quantities::{CgroupPath, HubUser};
use std::collections::{BTreeMap, BTreeSet};

/// Ancestors of a process that are looked at.
const MOST_ANCESTORS: usize = 64;

/// A place that is not wholly covered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uncovered {
    /// The users there: [`MOST_USERS`] at most.
    pub who: Vec<Who>,
    /// Users beyond these.
    pub more_users: usize,
    /// Where: the cgroup of a unit, a container or a login slice; `None` where nothing was found.
    pub place: Option<CgroupPath>,
    /// Processes there that are a single-user server by their arguments.
    pub servers: usize,
    /// What it lacks.
    pub missing: Missing,
    /// What mends it.
    pub remedy: Remedy,
}

/// Who is not covered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// A hub user, by facts or by the hub's word.
    User(HubUser),
    /// A Unix user.
    Uid {
        /// The uid.
        uid: u32,
        /// The account's name, where it has one.
        account: Option<String>,
        /// The hub user that the processes say they are; any text.
        says: Option<String>,
    },
}

/// What one survey found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// Rows, the weightiest first: by weight, kind, place and user.
    pub rows: Vec<Uncovered>,
    /// Rows beyond [`MOST_ROWS`].
    pub more_rows: usize,
    /// Processes that were not looked at.
    pub unseen: usize,
    /// Whether uid rules hold what users run outside their servers.
    pub uid_rules: bool,
    /// Whether the hub's API is configured.
    pub api: bool,
}

/// What tells one row from another, however its words change.
pub(super) type Key = (&'static str, Option<CgroupPath>);

impl Uncovered {
    pub(super) fn key(&self) -> Key {
        (self.missing.kind(), self.place.clone())
    }
}

/// Computes what is not covered. Takes time in proportion to the processes, and no more than
/// [`MOST_PROCESSES`] of them.
pub fn survey(facts: &Facts, watch: &Watch) -> Survey {
    let mut processes: Vec<&Process> = facts.processes.iter().collect();
    processes.sort_by_key(|process| process.pid);
    let beyond = processes.len().saturating_sub(MOST_PROCESSES);
    processes.truncate(MOST_PROCESSES);
    // Many processes share a cgroup.
    let mut places: BTreeMap<&CgroupPath, (Location, Option<&Known>)> = BTreeMap::new();
    for process in &processes {
        let cgroup = process.cgroup.path();
        let entry = places.entry(cgroup);
        entry.or_insert_with(|| (Location::of(cgroup), watch.known_of(cgroup)));
    }
    let known = |process: &Process| {
        places
            .get(process.cgroup.path())
            .and_then(|(_, known)| *known)
    };
    let by_pid = processes.iter().map(|one| (one.pid, (*one, known(one))));
    let by_pid: BTreeMap<u32, (&Process, Option<&Known>)> = by_pid.collect();
    let mut groups: BTreeMap<&Location, Group<'_>> = BTreeMap::new();
    for process in &processes {
        let Some((place, known)) = places.get(process.cgroup.path()) else {
            continue;
        };
        let group = groups.entry(place);
        let group = group.or_insert_with(|| Group::new(place.clone(), *known));
        group.add(process, ancestor(process, &by_pid), watch);
    }
    let mut rows: Vec<Row> = not_found(&mut groups, facts, watch).into_iter().collect();
    let configured = |group: &Group<'_>| !group.hubs.is_empty() && watch.is_hubs(&group.place);
    let other_hub = groups.values().any(configured);
    for group in groups.values() {
        for missing in group.missing(facts, watch, other_hub) {
            let mut who = group.who(&missing, facts);
            let more_users = who.len().saturating_sub(MOST_USERS);
            who.truncate(MOST_USERS);
            rows.push((group.place.clone(), group.servers, who, more_users, missing));
        }
    }
    rows.sort_by(
        |(place, _, who, _, missing), (b_place, _, b_who, _, b_missing)| {
            let (a, b) = (missing, b_missing);
            (a.weight(), a, place, who).cmp(&(b.weight(), b, b_place, b_who))
        },
    );
    let more_rows = rows.len().saturating_sub(MOST_ROWS);
    rows.truncate(MOST_ROWS);
    let proposals = rows
        .iter()
        .map(|(place, .., missing)| propose(missing, place, watch));
    let remedies = remedies(proposals.collect(), watch);
    let rows = rows.into_iter().zip(remedies);
    let row = |((place, servers, who, more_users, missing), remedy): (Row, Remedy)| Uncovered {
        who,
        more_users,
        place: (missing != Missing::NotFound).then_some(place.cgroup),
        servers,
        missing,
        remedy,
    };
    Survey {
        rows: rows.map(row).collect(),
        more_rows,
        unseen: facts.unseen + beyond,
        uid_rules: watch.naming.uid_rules,
        api: watch.naming.api,
    }
}

type Row = (Location, usize, Vec<Who>, usize, Missing);

/// Notes the hub's words with the places that they name; one row for all of which nothing is found.
fn not_found(
    groups: &mut BTreeMap<&Location, Group<'_>>,
    facts: &Facts,
    watch: &Watch,
) -> Option<Row> {
    let mut listed: BTreeMap<&ListedAt, BTreeSet<&HubUser>> = BTreeMap::new();
    for one in &watch.listed {
        listed.entry(&one.place).or_default().insert(&one.user);
    }
    let mut users: BTreeSet<&str> = BTreeSet::new();
    for group in groups.values_mut() {
        let here = group.listed_as().and_then(|name| listed.remove(&name));
        group.listed.extend(here.into_iter().flatten().cloned());
        // The account of a server that LocalProcessSpawner starts.
        let accounts = group.others.iter();
        users.extend(
            accounts
                .filter_map(|(uid, _)| facts.accounts.get(uid))
                .map(String::as_str),
        );
    }
    let mapped = watch.known.values().filter_map(|known| match known {
        Known::Server { user, .. } => Some(user.as_str()),
        _ => None,
    });
    users.extend(mapped);
    let is_found = |user: &HubUser, place: &ListedAt| {
        let unsaid = *place == ListedAt::Unsaid;
        unsaid && users.contains(user.as_str())
    };
    let missing = listed.iter().flat_map(|(place, users)| {
        let users = users.iter().filter(|user| !is_found(user, place));
        users.map(|user| (**user).clone())
    });
    let missing: BTreeSet<HubUser> = missing.collect();
    if missing.is_empty() {
        return None;
    }
    let more_users = missing.len().saturating_sub(MOST_USERS);
    let who = missing.into_iter().take(MOST_USERS).map(Who::User);
    let nowhere = Location::of(&CgroupPath::new(""));
    Some((nowhere, 0, who.collect(), more_users, Missing::NotFound))
}

/// The server in another place, or the server process in this one, that a process descends from; its user
/// where that is known.
fn ancestor(
    process: &Process,
    by_pid: &BTreeMap<u32, (&Process, Option<&Known>)>,
) -> Option<Option<HubUser>> {
    let mut next = process.parent;
    for _ in 0..MOST_ANCESTORS {
        let (parent, known) = by_pid.get(&next?)?;
        if let Some(Known::Server { user, .. }) = known {
            return Some(Some(user.clone()));
        }
        let looks = parent.said.as_ref().and_then(|said| said.looks);
        if looks == Some(Looks::Server) {
            return Some(None);
        }
        next = parent.parent;
    }
    None
}
