use super::*;
use crate::config::{Config, Template};
use crate::hub::Person;

fn id() -> String {
    "0123456789abcdef".repeat(4)
}

fn docker() -> ContainerCgroup {
    ContainerCgroup::of_name(&format!("docker-{}.scope", id())).unwrap()
}

fn facts(name: &str, user: Option<&str>, server: Option<&str>) -> ContainerFacts {
    ContainerFacts {
        name: name.to_owned(),
        users: user.map(str::to_owned).into_iter().collect(),
        servers: server.map(str::to_owned).into_iter().collect(),
        addresses: BTreeSet::new(),
        first_process: None,
        runs_hub: false,
    }
}

fn listed(user: &str, server: &str) -> Listed {
    Listed {
        user: HubUser(user.to_owned()),
        server: server.to_owned(),
    }
}

fn the_hub_says(user: &str, server: &str) -> HubDirectory {
    let mut directory = HubDirectory::default();
    directory.add_person(HubUser(user.to_owned()), Person::default());
    directory.add_container(&id(), listed(user, server));
    directory
}

fn found(facts: Option<&ContainerFacts>, directory: &HubDirectory) -> Result<Listed, String> {
    whose(&docker(), facts, &Config::default().hub, directory).0
}

fn contradiction(facts: Option<&ContainerFacts>, directory: &HubDirectory) -> Option<String> {
    whose(&docker(), facts, &Config::default().hub, directory).1
}

fn nobody() -> HubDirectory {
    HubDirectory::default()
}

#[test]
fn cgroups_of_containers_are_told_from_others() {
    let id = id();
    let seen = |name: String| ContainerCgroup::of_name(&name).map(|c| (c.engine, c.control));
    let docker = |control| Some((Engine::Docker, control));
    let podman = |control| Some((Engine::Podman, control));
    assert_eq!(seen(format!("docker-{id}.scope")), docker(Control::Systemd));
    assert_eq!(seen(id.clone()), docker(Control::Cgroup));
    assert_eq!(seen(format!("libpod-{id}.scope")), podman(Control::Systemd));
    assert_eq!(seen(format!("libpod-{id}")), podman(Control::Cgroup));
    for other in [
        format!("libpod-conmon-{id}.scope"),
        format!("{id}.scope"),
        format!("docker-{id}"),
        format!("docker-{id}.service"),
        format!("docker-{}.scope", &id[1..]),
        format!("docker-{}.scope", id.to_uppercase()),
        "docker-.scope".to_owned(),
        String::new(),
    ] {
        assert_eq!(seen(other.clone()), None, "{other}");
    }
}

#[test]
fn the_spawners_environment_tells_user_and_server() {
    let facts = facts("jupyter-alice--lab", Some("alice"), Some("Lab"));
    assert_eq!(found(Some(&facts), &nobody()), Ok(listed("alice", "Lab")));
}

#[test]
fn odd_names_map_to_their_user() {
    for (user, container) in [
        ("a-b", "jupyter-a-2db"),
        ("Zoë@x.org", "jupyter--5ao-c3-ab-40x-2eorg"),
        ("$(id)", "jupyter--24-28id-29"),
    ] {
        let facts = facts(container, Some(user), Some(""));
        assert_eq!(found(Some(&facts), &nobody()), Ok(listed(user, "")));
    }
}

#[test]
fn a_name_that_a_user_chose_lets_nobody_go() {
    let facts = facts("jupyter-bob", Some("alice"), None);
    assert_eq!(found(Some(&facts), &nobody()), Ok(listed("alice", "")));
    let why = contradiction(Some(&facts), &nobody()).unwrap();
    assert!(
        why.contains("by its name it is bob's, but its JUPYTERHUB_USER is alice"),
        "{why}"
    );
}

#[test]
fn the_hub_is_no_server_whatever_its_container_is_called() {
    let hub = &Config::default().hub;
    let identify = |facts: &ContainerFacts, directory: &HubDirectory| {
        let unit = UnitName("x".into());
        identify_container(&docker(), &unit, Some(facts), hub, directory).finding
    };
    let mut facts = facts("jupyter-hub", None, None);
    facts.runs_hub = true;
    let mut directory = nobody();
    directory.add_person(HubUser("hub".into()), Person::default());
    assert!(matches!(
        identify(&facts, &directory),
        Finding::NotAServer(_)
    ));
    assert!(is_other_container(&facts, hub));
    // A user who may choose the program is still the user.
    facts.users.insert("alice".into());
    assert!(matches!(identify(&facts, &nobody()), Finding::Server(_)));
    assert!(!is_other_container(&facts, hub));
}

#[test]
fn a_name_of_another_template_contradicts_nobody() {
    for name in ["lab-of-alice", "jupyter-alice-lab", "jupyter-a-b"] {
        let facts = facts(name, Some("alice"), None);
        assert_eq!(
            found(Some(&facts), &nobody()),
            Ok(listed("alice", "")),
            "{name}"
        );
    }
}

#[test]
fn the_hubs_word_is_enough_and_comes_first() {
    let directory = the_hub_says("alice", "Lab");
    let expected = Ok(listed("alice", "Lab"));
    assert_eq!(found(None, &directory), expected);
    let odd = facts("whatever", None, None);
    assert_eq!(found(Some(&odd), &directory), expected);
    // The name is the spawner's business once the hub has spoken.
    let renamed = facts("jupyter-bob", Some("alice"), None);
    assert_eq!(found(Some(&renamed), &directory), expected);
}

#[test]
fn docker_s_word_stands_against_the_hub_s() {
    let facts = facts("jupyter-bob", Some("bob"), None);
    let mut directory = the_hub_says("alice", "");
    assert_eq!(found(Some(&facts), &directory), Ok(listed("bob", "")));
    let why = contradiction(Some(&facts), &directory).unwrap();
    assert!(why.contains("alice's") && why.contains("is bob"), "{why}");
    directory.add_container(&id(), listed("bob", ""));
    assert_eq!(found(Some(&facts), &directory), Ok(listed("bob", "")));
    let why = contradiction(Some(&facts), &directory).unwrap();
    assert!(why.contains("one of alice and one of bob"), "{why}");
    let agreed = the_hub_says("bob", "");
    assert_eq!(contradiction(Some(&facts), &agreed), None);
}

#[test]
fn a_container_that_two_users_servers_name_is_nobodys_without_an_engine_s_word() {
    let mut directory = the_hub_says("alice", "");
    directory.add_container(&id(), listed("alice", "lab"));
    assert_eq!(found(None, &directory), Ok(listed("alice", "")));
    directory.add_container(&id(), listed("bob", ""));
    let why = found(None, &directory).unwrap_err();
    assert!(why.contains("one of alice and one of"), "{why}");
}

#[test]
fn two_users_in_one_environment_are_nobodys() {
    let mut facts = facts("x", Some("alice"), None);
    facts.users.insert("bob".to_owned());
    let why = found(Some(&facts), &nobody()).unwrap_err();
    assert!(why.contains("both alice and bob"), "{why}");
}

#[test]
fn a_name_alone_counts_only_for_somebody_the_hub_knows() {
    let facts = facts("jupyter-alice--lab", None, None);
    let why = found(Some(&facts), &nobody()).unwrap_err();
    assert!(why.contains("no JUPYTERHUB_USER"), "{why}");
    let mut directory = nobody();
    directory.add_person(HubUser("alice".into()), Person::default());
    assert_eq!(found(Some(&facts), &directory), Ok(listed("alice", "lab")));
}

#[test]
fn other_containers_are_left_alone() {
    let why = found(Some(&facts("nginx\u{1b}[2J", None, None)), &nobody()).unwrap_err();
    assert!(why.contains("so no hub's spawner made it"), "{why}");
    assert!(!why.contains('\u{1b}'), "{why}");
    let why = found(None, &nobody()).unwrap_err();
    assert!(why.contains("container 0123456789ab"), "{why}");
}

#[test]
fn a_template_of_ones_own_is_followed() {
    let mut hub = Config::default().hub;
    hub.container_names = vec![Template::new("hub1-", "-nb")];
    let facts = facts("hub1-bob-nb", Some("alice"), None);
    assert!(whose(&docker(), Some(&facts), &hub, &nobody()).1.is_some());
}
