use super::*;
use crate::http::fake::{Service, run};
use std::collections::BTreeSet;

fn container() -> ContainerCgroup {
    ContainerCgroup::of_name(&format!("docker-{}.scope", "ab".repeat(32))).unwrap()
}

fn asked(
    answer: impl Fn() -> (u16, String) + Send + 'static,
) -> (Result<ContainerFacts, EngineError>, Service) {
    let service = Service::unix(move |_| answer());
    let Endpoint::Unix(socket) = service.endpoint() else {
        unreachable!()
    };
    (run(inspect(&container(), socket)), service)
}

/// As Docker 28 answers, shortened.
fn body(id: &str, env: &str) -> String {
    format!(
        r#"{{"Id":"{id}","Created":"2026-01-01T00:00:00Z","State":{{"Status":"running","Pid":42}},
        "Name":"/jupyter-a-2db","HostConfig":{{"NetworkMode":"bridge"}},
        "Config":{{"Hostname":"x","User":"1000","Env":{env},"Labels":{{"maintainer":"x"}}}}}}"#
    )
}

#[test]
fn name_and_environment_are_read() {
    let env =
        r#"["PATH=/bin","JUPYTERHUB_USER=a-b","JUPYTERHUB_USER_X=no","JUPYTERHUB_SERVER_NAME="]"#;
    let (facts, service) = asked(move || (200, body(&"ab".repeat(32), env)));
    let facts = facts.unwrap();
    assert_eq!(facts.name, "jupyter-a-2db");
    assert_eq!(facts.users, BTreeSet::from(["a-b".to_owned()]));
    assert_eq!(facts.servers, BTreeSet::from([String::new()]));
    let target = format!("GET /containers/{}/json", "ab".repeat(32));
    assert_eq!(service.asked()[0].target, target);
}

#[test]
fn a_hub_and_its_proxy_are_known_by_what_they_were_made_to_run() {
    let runs_hub = |command: &'static str| {
        let body = body(&"ab".repeat(32), "null");
        let (facts, _service) = asked(move || (200, body.replacen(r#""Env":null"#, command, 1)));
        facts.unwrap().runs_hub
    };
    for command in [
        r#""Cmd":["jupyterhub","--config","/srv/x.py"],"Entrypoint":null"#,
        r#""Cmd":["-f","x"],"Entrypoint":["tini","-g","--","/usr/local/bin/jupyterhub"]"#,
        r#""Cmd":null,"Entrypoint":"/entry configurable-http-proxy --port 80""#,
        r#""Cmd":["traefik"]"#,
    ] {
        assert!(runs_hub(command), "{command}");
    }
    for command in [
        r#""Cmd":["jupyterhub-singleuser"]"#,
        r#""Cmd":["start-notebook.sh","--hub=jupyterhub"],"Entrypoint":[]"#,
        r#""Cmd":null"#,
    ] {
        assert!(!runs_hub(command), "{command}");
    }
}

#[test]
fn addresses_are_read_once_the_network_is_made() {
    let body = |ends: &str| {
        body(&"ab".repeat(32), "[]").replacen(
            r#""HostConfig""#,
            &format!(r#""NetworkSettings":{{"Networks":{ends}}},"HostConfig""#),
            1,
        )
    };
    let made = r#"{"hub":{"IPAddress":"172.18.0.3","GlobalIPv6Address":"fd00::3"},
        "other":{"IPAddress":"172.19.0.2","GlobalIPv6Address":""}}"#;
    let (facts, _service) = asked(move || (200, body(made)));
    let addresses: Vec<String> = facts
        .unwrap()
        .addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(addresses, ["172.18.0.3", "172.19.0.2", "fd00::3"]);
    let not_yet = r#"{"hub":{"IPAddress":"","GlobalIPv6Address":""}}"#;
    let (facts, _service) = asked(move || (200, body(not_yet)));
    assert!(facts.unwrap().addresses.is_empty());
    let (facts, _service) = asked(move || (200, body("null")));
    assert!(facts.unwrap().addresses.is_empty());
}

#[test]
fn the_hub_s_container_is_known_by_addresses_and_published_ports() {
    let service = Service::unix(|asked| {
        assert!(asked.target.starts_with("GET /containers/jupyter-a"));
        let settings = r#""NetworkSettings":{"Networks":{"hub":{"IPAddress":"172.18.0.2"}},
            "Ports":{"8081/tcp":[{"HostIp":"127.0.0.1","HostPort":"15001"}],"53/udp":
            [{"HostIp":"","HostPort":"53"}],"8000/tcp":null}},"HostConfig""#;
        let body = body(&"ab".repeat(32), "[]");
        (200, body.replacen(r#""HostConfig""#, settings, 1))
    });
    let Endpoint::Unix(socket) = service.endpoint() else {
        unreachable!()
    };
    let mut hub = crate::config::Config::default().hub;
    hub.docker = Some(socket.to_owned());
    let of = |name: &str| run(hub_container(Engine::Docker, name, &hub));
    assert!(
        of("jupyter-a").unwrap_err().is_gone(),
        "another's id or name"
    );
    let found = of("jupyter-a-2db").unwrap();
    assert_eq!(found.id, "ab".repeat(32));
    assert!(!found.is_server);
    assert_eq!(
        found.addresses,
        BTreeSet::from(["172.18.0.2".parse().unwrap()])
    );
    assert_eq!(found.published, BTreeSet::from([15001]));
}

#[test]
fn a_container_without_an_environment_is_no_error() {
    let (facts, _service) = asked(|| (200, body(&"ab".repeat(32), "null")));
    assert!(facts.unwrap().users.is_empty());
}

#[test]
fn a_container_that_is_no_more_is_gone() {
    let (facts, _service) = asked(|| (404, r#"{"message":"No such container"}"#.into()));
    assert!(facts.unwrap_err().is_gone());
}

#[test]
fn an_engines_refusal_is_quoted() {
    let (facts, _service) = asked(|| (500, "out of \u{1b}[1mspace".into()));
    let text = facts.unwrap_err().to_string();
    assert_eq!(
        text,
        "Docker, asked about container abababababab: status 500: out of \\u{1b}[1mspace"
    );
}

#[test]
fn an_answer_about_another_container_proves_nothing() {
    let (facts, _service) = asked(|| (200, body("cd", "[]")));
    assert!(facts.is_err());
}

#[test]
fn an_engine_that_is_not_there_comes_with_a_remedy() {
    let mut hub = crate::config::Config::default().hub;
    hub.podman = Some("/nonexistent/podman.sock".into());
    let podman = ContainerCgroup {
        engine: Engine::Podman,
        ..container()
    };
    let text = run(container_facts(&podman, &hub)).unwrap_err().to_string();
    assert!(
        text.starts_with("Podman cannot be asked: /nonexistent/podman.sock cannot be reached")
            && text.contains("systemctl enable --now podman.socket"),
        "{text}"
    );
    hub.podman = None;
    let text = run(container_facts(&podman, &hub)).unwrap_err().to_string();
    assert_eq!(text, "hub.podman is \"none\"");
}
