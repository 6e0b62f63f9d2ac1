//! From a unit and what systemd knows of it to a server.
//!
//! A unit's name alone never decides: `jupyter-alice-singleuser` is alice's under JupyterHub's
//! default template and alice-singleuser's under TLJH's. The Unix user that the unit runs as
//! does, and no hub user can start a system unit as somebody else. The hub's own word, where it is
//! to be had, comes before the templates: it knows which unit it started for whom. But it changes
//! nothing that name and Unix user prove, so that a false word neither takes a server from its user
//! nor makes it unknown, which in the guarded slice would cut it off the network.

use super::unix_user::unix_users;
use super::{Control, Listed, Server, Spawner, UnitName, matches_unix_user, unescape};
use crate::config::Hub;
use quantities::HubUser;
use std::collections::BTreeSet;

/// What systemd knows of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitFacts {
    /// Made by `systemd-run` or its like, as every spawned server is.
    pub transient: bool,
    /// The Unix user it runs as, by name; `None` where the uid has no account.
    pub user: Option<String>,
    /// Its uid, where it is known already.
    pub uid: Option<u32>,
    /// Runs as a user made up for it: the name proves nothing then.
    pub dynamic_user: bool,
    /// Names under which the user database knows the same uid, of those that were looked up: it may write an
    /// account otherwise than the spawner (`Otto`, `otto@ad.example.org`).
    pub other_names: BTreeSet<String>,
    /// Why it is not known yet who that is, though a spawner knew: the user database does not answer.
    pub not_yet: Option<String>,
}

/// What a unit is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// One hub user's server.
    Server(Server),
    /// A unit of the admin's: never acted on, and not held back by the guarded slice.
    NotAServer(String),
    /// Perhaps a server, but whose cannot be told: never acted on, and in the guarded slice it
    /// reaches nothing.
    Unknown(String),
}

/// What a unit or container is, and what the hub's word on it contradicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identified {
    /// What it is.
    pub finding: Finding,
    /// Why the hub's word was not taken, where it was not and another decided.
    pub contradiction: Option<String>,
}

impl From<Finding> for Identified {
    fn from(finding: Finding) -> Self {
        Identified {
            finding,
            contradiction: None,
        }
    }
}

/// Why a unit is no server, in words.
pub const HAS_FILE: &str = "it has a unit file, so an admin set it up and no spawner did";

/// Tells what a unit is; pure, so that every odd name is a test. `listed` is the hub's own word,
/// empty where it has said nothing.
pub fn identify(unit: &UnitName, facts: &UnitFacts, hub: &Hub, listed: &[Listed]) -> Identified {
    let Some(stem) = unit.as_str().strip_suffix(".service") else {
        let why = "it is no service, as every server of SystemdSpawner is";
        return Finding::Unknown(why.into()).into();
    };
    if !facts.transient {
        return Finding::NotAServer(HAS_FILE.into()).into();
    }
    if facts.uid == Some(0) && !facts.dynamic_user {
        let why = "it runs as root, whom no limit and no packet rule holds; give the user a Unix \
                   account of their own";
        return Finding::Unknown(why.into()).into();
    }
    let server = |user: HubUser, name: String| {
        Finding::Server(Server {
            user,
            name,
            spawner: Spawner::Systemd,
            unit: unit.clone(),
            uid: facts.uid,
            control: Control::Systemd,
        })
    };
    let runs_as = |name: &str| {
        let mut unix_users = facts.user.iter().chain(&facts.other_names);
        unix_users.any(|unix_user| {
            hub.unix_users
                .iter()
                .any(|template| matches_unix_user(template, name, unix_user))
        })
    };
    let (candidates, doubt) = candidates(stem, hub);
    // A user made up for the unit proves nothing; then the name decides, if it is unambiguous.
    let proven: Vec<&String> = candidates
        .iter()
        .filter(|name| facts.dynamic_user || runs_as(name))
        .collect();
    match (listed, &proven[..]) {
        ([], _) => {}
        // Nothing but the hub can tell.
        ([one], []) => return server(one.user.clone(), one.server.clone()).into(),
        ([one], proven) if facts.dynamic_user || proven.contains(&&one.user.0) => {
            return server(one.user.clone(), one.server.clone()).into();
        }
        ([one], [name]) => {
            return Identified {
                contradiction: Some(contradicts(one, &[name])),
                // SystemdSpawner has no named servers.
                finding: server(HubUser((*name).clone()), String::new()),
            };
        }
        ([one], proven) => return Finding::Unknown(contradicts(one, proven)).into(),
        ([a, b, ..], [name]) => {
            // Of this user's own servers it may name two; whose it is stands all the same.
            let mut named = listed.iter().filter(|one| one.user.0 == **name);
            let known = named.next().filter(|_| named.next().is_none());
            let of = known.map(|one| one.server.clone()).unwrap_or_default();
            return Identified {
                finding: server(HubUser((*name).clone()), of),
                contradiction: Some(two(a, b)),
            };
        }
        ([a, b, ..], _) => {
            let finding = match one_user(listed) {
                // Two servers of one user's: which of them does not matter.
                Some(user) if proven.is_empty() => server(user.clone(), String::new()),
                _ => Finding::Unknown(two(a, b)),
            };
            return finding.into();
        }
    }
    if candidates.is_empty() {
        return Finding::Unknown(match doubt {
            Some(why) => format!("its name cannot be read back to one user: {why}"),
            None => "its name fits none of hub.unit_names".into(),
        })
        .into();
    }
    let finding = match proven[..] {
        // SystemdSpawner has no named servers.
        [name] => server(HubUser(name.clone()), String::new()),
        [] => Finding::Unknown(format!(
            "it runs as {}, which hub.unix_users makes of none of the names it may carry ({})",
            match &facts.user {
                Some(user) => format!("Unix user {}", HubUser(user.clone())),
                None => "a uid without an account".to_owned(),
            },
            in_a_row(&candidates)
        )),
        _ => Finding::Unknown(format!(
            "it may belong to more than one user ({}); leave only the template your hub uses in \
             hub.unit_names, or set hub.api_url to have the hub's own word",
            in_a_row(&candidates)
        )),
    };
    finding.into()
}

/// The accounts as which a unit of this name may run, if it is a server.
pub fn expected_accounts(unit: &UnitName, hub: &Hub) -> BTreeSet<String> {
    let stem = unit.as_str().strip_suffix(".service").unwrap_or_default();
    let names = candidates(stem, hub).0;
    let accounts = names.iter().flat_map(|name| {
        let templates = hub.unix_users.iter();
        templates.flat_map(|template| unix_users(template, name))
    });
    accounts.collect()
}

/// The hub says another than whom name and Unix user prove.
fn contradicts(one: &Listed, proven: &[&String]) -> String {
    let proven: Vec<String> = proven
        .iter()
        .map(|name| HubUser((*name).clone()).to_string())
        .collect();
    format!(
        "the hub's API says that it is {}'s, but by its name and Unix user it is {}'s",
        one.user,
        proven.join("'s or ")
    )
}

/// The user of all of these, if it is one.
pub(super) fn one_user(listed: &[Listed]) -> Option<&HubUser> {
    let first = &listed.first()?.user;
    listed.iter().all(|one| one.user == *first).then_some(first)
}

/// The names that the templates read in a unit's name, and what was wrong with one that none did.
fn candidates(stem: &str, hub: &Hub) -> (BTreeSet<String>, Option<&'static str>) {
    let mut names = BTreeSet::new();
    let mut doubt = None;
    for text in hub.unit_names.iter().filter_map(|name| name.extract(stem)) {
        match unescape(text) {
            Ok(name) => drop(names.insert(name)),
            Err(why) => doubt = Some(why),
        }
    }
    (names, doubt)
}

/// The hub contradicts itself.
pub(super) fn two(a: &Listed, b: &Listed) -> String {
    format!(
        "the hub's API gives it to two servers, one of {} and one of {}",
        a.user, b.user
    )
}

fn in_a_row(names: &BTreeSet<String>) -> String {
    let shown: Vec<String> = names
        .iter()
        .map(|name| HubUser(name.clone()).to_string())
        .collect();
    shown.join(", ")
}

#[cfg(test)]
mod tests;
