use super::*;
use crate::config::{Config, Problem};
use crate::http::Endpoint;

fn hub(text: &str) -> Hub {
    Config::parse(&format!("[hub]\n{text}")).unwrap().hub
}

fn problem(text: &str) -> String {
    let problems = Config::parse(&format!("[hub]\n{text}")).unwrap_err();
    problems.first().map(Problem::to_string).unwrap()
}

#[test]
fn the_api_is_an_address_a_port_and_a_path() {
    let url = |text: &str| hub(&format!("api_url = \"{text}\"")).api_url.unwrap();
    let found = url("http://127.0.0.1:15001/hub/api/");
    assert_eq!(found.to_string(), "http://127.0.0.1:15001/hub/api");
    let found = url("http://[::1]:8081/hub/api");
    assert_eq!(found.to_string(), "http://[::1]:8081/hub/api");
    assert_eq!(hub("api_url = \"none\"").api_url, None);
    let found = url("http+unix://%2Frun%2Fhub%2Fa.sock/hub/api");
    assert_eq!(found.endpoint, Endpoint::Unix("/run/hub/a.sock".into()));
    let text = "http+unix://%2Frun%2Fhub%2Fa.sock/hub/api";
    assert_eq!(found.to_string(), text);
    for (bad, why) in [
        ("https://hub.example.org/hub/api", "no TLS is spoken"),
        ("127.0.0.1:15001", "expected \"none\" or such as"),
        ("http://127.0.0.1/hub/api", "the port is missing"),
        ("http://127.0.0.1:0/hub/api", "`0` is no port"),
        ("http://a@b:1/", "`a@b` is no host"),
        ("http://a:1/x?y", "a path without `?`"),
        ("http+unix://run%2Fhub.sock/hub/api", "no absolute path"),
        ("http+unix://%2Frun%2F..%2Fhub.sock/", "no absolute path"),
        ("http+unix://%2Frun%2/", "no absolute path"),
        ("http+unix://%00/", "no absolute path"),
    ] {
        let problem = problem(&format!("api_url = \"{bad}\""));
        assert!(problem.contains(why), "{bad}: {problem}");
    }
}

#[test]
fn who_may_answer_for_the_hub_is_a_unit_a_container_or_a_machine() {
    let found =
        hub("api_peers = [\"traefik.service\", \"container:hub_1\", \"192.0.2.7\", \"fd00::7\"]");
    assert_eq!(
        found.api_peers,
        [
            ApiPeer::Unit("traefik.service".into()),
            ApiPeer::Container("hub_1".into()),
            ApiPeer::Address("192.0.2.7".parse().unwrap()),
            ApiPeer::Address("fd00::7".parse().unwrap()),
        ]
    );
    for here in ["127.0.0.1", "::1", "0.0.0.0", "::ffff:127.0.0.1"] {
        let problem = problem(&format!("api_peers = [\"{here}\"]"));
        assert!(
            problem.contains("any user of this node"),
            "{here}: {problem}"
        );
    }
    for bad in [
        "traefik",
        "a/b.service",
        "container:",
        "container:-a",
        "container:a/b",
    ] {
        let problem = problem(&format!("api_peers = [\"{bad}\"]"));
        assert!(
            problem.contains("expected a unit such as"),
            "{bad}: {problem}"
        );
    }
}

#[test]
fn parents_become_the_paths_they_mean() {
    let found = hub("container_parents = [\"a-b.slice\", \"/hub/users\", \"c.slice\"]");
    assert_eq!(
        found.container_parents,
        ["a.slice/a-b.slice", "hub/users", "c.slice"]
    );
    for bad in ["", "/", "a/../b", "a--b.slice", "-a.slice"] {
        let problem = problem(&format!("container_parents = [\"{bad}\"]"));
        assert!(problem.contains("expected a cgroup parent"), "{problem}");
    }
}

#[test]
fn networks_are_names_and_nothing_that_a_request_could_misread() {
    let found = hub("container_networks = [\"jupyterhub\", \"br-0a_b.c\"]");
    assert_eq!(found.container_networks, ["jupyterhub", "br-0a_b.c"]);
    for bad in ["", "-a", "a/b", "a b", "a?b"] {
        let problem = problem(&format!("container_networks = [\"{bad}\"]"));
        assert!(problem.contains("expected a Docker network"), "{problem}");
    }
}

#[test]
fn the_hub_stops_servers_only_where_it_can_be_asked() {
    assert_eq!(hub("").stop_by, StopBy::Systemd);
    let url = "api_url = \"http://127.0.0.1:8081/hub/api\"\n";
    assert_eq!(hub(&format!("{url}stop_by = \"hub\"")).stop_by, StopBy::Hub);
    assert!(problem("stop_by = \"hub\"").contains("set it too"));
    let problem = problem(&format!("{url}stop_by = \"me\""));
    assert!(
        problem.contains("expected \"systemd\" or \"hub\""),
        "{problem}"
    );
}

#[test]
fn engines_can_be_switched_off() {
    let found = hub("docker = \"none\"\npodman = \"/run/p.sock\"");
    assert_eq!(
        (found.docker, found.podman),
        (None, Some("/run/p.sock".into()))
    );
    assert!(problem("docker = \"docker.sock\"").contains("an absolute path"));
    assert!(problem("hub_units = [\"jupyterhub\"]").contains("expected a service"));
}
