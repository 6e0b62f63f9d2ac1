use super::*;
use crate::config::{Config, Template};

fn facts(user: &str) -> UnitFacts {
    UnitFacts {
        transient: true,
        user: Some(user.to_owned()),
        uid: Some(1001),
        dynamic_user: false,
        ..UnitFacts::default()
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

#[test]
fn an_account_that_is_written_otherwise_is_the_same_by_its_uid() {
    let unit = "jupyter-otto.service";
    let hub = Config::default().hub;
    let expected = expected_accounts(&UnitName(unit.into()), &hub);
    assert_eq!(
        expected,
        ["otto".to_owned(), "jupyter-otto".to_owned()].into()
    );
    let mut facts = facts("Otto@ad.example.org");
    assert!(matches!(found(unit, &facts), Finding::Unknown(_)));
    facts.other_names.insert("otto".into());
    assert!(
        matches!(found(unit, &facts), Finding::Server(server) if server.user.as_str() == "otto")
    );
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
        let Finding::Server(server) = with_the_hubs_word(unit, facts, &[listed("alice")]) else {
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
