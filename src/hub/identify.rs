//! From a unit and what systemd knows of it to a server.
//!
//! A unit's name alone never decides: `jupyter-alice-singleuser` is alice's under JupyterHub's
//! default template and alice-singleuser's under TLJH's. The Unix user that the unit runs as
//! does, and no hub user can start a system unit as somebody else. The hub's own word, where it is
//! to be had, comes before the templates: it knows which unit it started for whom. But it changes
//! nothing that name and Unix user prove, so that a false word neither takes a server from its user
//! nor makes it unknown, which in the guarded slice would cut it off the network.

use super::{Control, Listed, Server, Spawner, UnitName, matches_unix_user, unescape};
use crate::config::Hub;
use quantities::HubUser;
use std::collections::BTreeSet;

/// What systemd knows of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFacts {
    /// Made by `systemd-run` or its like, as every spawned server is.
    pub transient: bool,
    /// The Unix user it runs as, by name; `None` where the uid has no account.
    pub user: Option<String>,
    /// Its uid, where it is known already.
    pub uid: Option<u32>,
    /// Runs as a user made up for it: the name proves nothing then.
    pub dynamic_user: bool,
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

/// Tells what a unit is; pure, so that every odd name is a test. `listed` is the hub's own word,
/// empty where it has said nothing.
pub fn identify(unit: &UnitName, facts: &UnitFacts, hub: &Hub, listed: &[Listed]) -> Identified {
    let Some(stem) = unit.as_str().strip_suffix(".service") else {
        let why = "it is no service, as every server of SystemdSpawner is";
        return Finding::Unknown(why.into()).into();
    };
    if !facts.transient {
        let why = "it has a unit file, so an admin set it up and no spawner did";
        return Finding::NotAServer(why.into()).into();
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
        facts.user.as_ref().is_some_and(|unix_user| {
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
mod tests {
    use super::*;
    use crate::config::{Config, Template};

    fn facts(user: &str) -> UnitFacts {
        UnitFacts {
            transient: true,
            user: Some(user.to_owned()),
            uid: Some(1001),
            dynamic_user: false,
        }
    }

    fn found(unit: &str, facts: &UnitFacts) -> Finding {
        identify(
            &UnitName(unit.to_owned()),
            facts,
            &Config::default().hub,
            &[],
        )
        .finding
    }

    fn listed(user: &str) -> Listed {
        Listed {
            user: HubUser(user.to_owned()),
            server: String::new(),
        }
    }

    fn with_the_hubs_word(unit: &str, facts: &UnitFacts, listed: &[Listed]) -> Finding {
        whole_word(unit, facts, listed).finding
    }

    fn whole_word(unit: &str, facts: &UnitFacts, listed: &[Listed]) -> Identified {
        let hub = Config::default().hub;
        identify(&UnitName(unit.to_owned()), facts, &hub, listed)
    }

    /// The user, and whether a contradiction is to be logged.
    fn user_and_doubt(unit: &str, facts: &UnitFacts, listed: &[Listed]) -> (String, bool) {
        let found = whole_word(unit, facts, listed);
        match found.finding {
            Finding::Server(server) => (server.user.0, found.contradiction.is_some()),
            other => panic!("{unit}: {other:?}"),
        }
    }

    fn user_of(unit: &str, unix_user: &str) -> String {
        match found(unit, &facts(unix_user)) {
            Finding::Server(server) => server.user.0,
            other => panic!("{unit}: {other:?}"),
        }
    }

    #[test]
    fn the_unix_user_tells_the_templates_apart() {
        assert_eq!(
            user_of("jupyter-alice-singleuser.service", "alice"),
            "alice"
        );
        assert_eq!(
            user_of(
                "jupyter-alice-singleuser.service",
                "jupyter-alice-singleuser"
            ),
            "alice-singleuser"
        );
        assert_eq!(user_of("jupyter-alice.service", "jupyter-alice"), "alice");
    }

    #[test]
    fn odd_names_map_to_their_user() {
        for name in [
            "a@b.org",
            "a b",
            "zoë",
            "a-2db",
            "jupyterhub",
            "root",
            "$(id)",
            "a;b",
            "..",
            "-x",
        ] {
            let unit = format!("jupyter-{}.service", crate::hub::escape(name));
            assert_eq!(user_of(&unit, &format!("jupyter-{name}")), name);
        }
        let long = "x".repeat(200);
        let unix = "jupyter-xxxxxxxxxxxxxxxxxx-7597c";
        assert_eq!(user_of(&format!("jupyter-{long}.service"), unix), long);
    }

    #[test]
    fn somebody_elses_unix_user_proves_nothing() {
        let Finding::Unknown(why) = found("jupyter-alice.service", &facts("jupyter-bob")) else {
            panic!("mapped");
        };
        assert!(why.contains("jupyter-bob"), "{why}");
    }

    #[test]
    fn admins_units_are_no_servers() {
        let facts = UnitFacts {
            transient: false,
            ..facts("root")
        };
        let Finding::NotAServer(_) = found("jupyter-lab.service", &facts) else {
            panic!("taken for a server");
        };
    }

    #[test]
    fn dynamic_users_are_told_by_an_unambiguous_template_only() {
        let facts = UnitFacts {
            dynamic_user: true,
            user: None,
            ..facts("")
        };
        let Finding::Server(server) = found("jupyter-alice.service", &facts) else {
            panic!("not mapped");
        };
        assert_eq!(server.user.as_str(), "alice");
        let Finding::Unknown(why) = found("jupyter-alice-singleuser.service", &facts) else {
            panic!("guessed");
        };
        assert!(
            why.contains("more than one user (alice, alice-singleuser)"),
            "{why}"
        );
    }

    #[test]
    fn names_that_could_be_two_users_are_refused() {
        let Finding::Unknown(why) = found("jupyter-a\\x41.service", &facts("jupyter-aA")) else {
            panic!("guessed");
        };
        assert!(why.contains("backslash"), "{why}");
    }

    #[test]
    fn a_custom_unix_user_template_is_followed() {
        let mut hub = Config::default().hub;
        hub.unix_users = vec![Template::new("stud_", "")];
        let unit = UnitName("jupyter-alice.service".into());
        assert!(matches!(
            identify(&unit, &facts("stud_alice"), &hub, &[]).finding,
            Finding::Server(_)
        ));
        assert!(matches!(
            identify(&unit, &facts("jupyter-alice"), &hub, &[]).finding,
            Finding::Unknown(_)
        ));
    }

    #[test]
    fn the_hubs_word_comes_before_the_templates() {
        // A username_template of the hub's own that the configuration does not have.
        let odd = facts("u1001");
        for (unit, facts) in [
            ("jupyter-alice.service", &odd),
            ("alices-lab.service", &odd),
            ("jupyter-a\\x41.service", &facts("jupyter-aA")),
        ] {
            let Finding::Server(server) = with_the_hubs_word(unit, facts, &[listed("alice")])
            else {
                panic!("{unit} is not mapped");
            };
            assert_eq!(server.user.as_str(), "alice");
        }
    }

    #[test]
    fn the_hub_tells_dynamic_users_apart() {
        let facts = UnitFacts {
            dynamic_user: true,
            ..facts("")
        };
        let unit = "jupyter-alice-singleuser.service";
        let found = with_the_hubs_word(unit, &facts, &[listed("alice-singleuser")]);
        let Finding::Server(server) = found else {
            panic!("{found:?}");
        };
        assert_eq!(server.user.as_str(), "alice-singleuser");
    }

    #[test]
    fn name_and_unix_user_stand_against_the_hub_s_word() {
        let (unit, bobs) = ("jupyter-bob.service", facts("jupyter-bob"));
        for said in [
            vec![listed("mallory")],
            vec![listed("mallory"), listed("bob")],
            vec![listed("bob"), listed("mallory"), listed("carol")],
            vec![listed("mallory"), listed("carol")],
        ] {
            let found = user_and_doubt(unit, &bobs, &said);
            assert_eq!(found, ("bob".to_owned(), true), "{said:?}");
        }
        let found = user_and_doubt(unit, &bobs, &[listed("bob")]);
        assert_eq!(found, ("bob".to_owned(), false));
        let said = whole_word(unit, &bobs, &[listed("mallory")]);
        let why = said.contradiction.unwrap();
        assert!(
            why.contains("mallory's, but by its name and Unix user it is bob's"),
            "{why}"
        );
    }

    #[test]
    fn a_hub_that_contradicts_itself_decides_nothing_where_nothing_else_does() {
        let both = [listed("alice"), listed("bob")];
        let Finding::Unknown(why) = with_the_hubs_word("x.service", &facts("u1001"), &both) else {
            panic!("decided");
        };
        assert!(why.contains("one of alice and one of bob"), "{why}");
        let of = |server: &str| Listed {
            server: server.to_owned(),
            ..listed("alice")
        };
        let found = user_and_doubt("x.service", &facts("u1001"), &[of(""), of("lab")]);
        assert_eq!(found.0, "alice", "either of her servers is hers");
    }

    proptest::proptest! {
        /// No word of the hub's moves a server whose name and Unix user prove one user, nor makes
        /// it unknown or exempt.
        #[test]
        fn no_word_of_the_hub_moves_a_proven_server(
            said in proptest::collection::vec(("[a-c]|bob|jupyter-bob", "|lab"), 0..4),
        ) {
            let said: Vec<Listed> = said
                .into_iter()
                .map(|(user, server)| Listed { user: HubUser(user), server })
                .collect();
            let hub = Config::default().hub;
            let unit = UnitName("jupyter-bob.service".into());
            let found = identify(&unit, &facts("jupyter-bob"), &hub, &said);
            let Finding::Server(server) = found.finding else {
                panic!("{found:?}");
            };
            proptest::prop_assert_eq!(server.user.as_str(), "bob");
        }
    }

    #[test]
    fn not_even_the_hubs_word_makes_an_admins_unit_a_server() {
        let facts = UnitFacts {
            transient: false,
            ..facts("root")
        };
        let found = with_the_hubs_word("jupyter-lab.service", &facts, &[listed("lab")]);
        assert!(matches!(found, Finding::NotAServer(_)), "{found:?}");
    }

    #[test]
    fn a_unit_that_runs_as_root_is_nobody_s_server() {
        let facts = UnitFacts {
            uid: Some(0),
            ..facts("root")
        };
        let Finding::Unknown(why) = found("jupyter-root-singleuser.service", &facts) else {
            panic!("taken for a server");
        };
        assert!(why.contains("runs as root"), "{why}");
    }

    #[test]
    fn a_scope_in_the_slice_is_unknown() {
        assert!(matches!(
            found("jupyter-alice.scope", &facts("jupyter-alice")),
            Finding::Unknown(_)
        ));
    }
}
