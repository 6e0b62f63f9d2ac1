use super::*;
use crate::config::Config;
use crate::http::fake::{Service, run};
use crate::hub::Account;
use crate::sd_bus::SdBusError;
use quantities::CgroupPath;
use std::net::SocketAddr;

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A systemd that knows one unit, `hub.service`, which runs as uid 998.
struct Systemd;

impl Units for Systemd {
    async fn facts(&self, unit: &UnitName) -> Result<UnitFacts, SdBusError> {
        match unit.as_str() {
            "hub.service" => Ok(facts(Some(998))),
            _ => Err(SdBusError::Gone(unit.clone())),
        }
    }

    async fn account(&self, _: u32) -> Result<Account, crate::hub::NotNow> {
        Ok(Account::default())
    }
}

fn facts(uid: Option<u32>) -> UnitFacts {
    UnitFacts {
        transient: false,
        user: None,
        uid,
        dynamic_user: false,
        ..UnitFacts::default()
    }
}

fn hub(more: &str) -> Hub {
    let text = format!(
        "[hub]\nhub_units = [\"hub.service\", \"root.service\"]\n\
         api_url = \"http://127.0.0.1:15001/hub/api\"\npodman = \"none\"\n{more}"
    );
    Config::parse(&text).unwrap().hub
}

fn at() -> SocketAddr {
    "127.0.0.1:15001".parse().unwrap()
}

fn judged(cgroup: &str, uid: u32, hub: &Hub) -> Result<bool, String> {
    let owner = Owner {
        at: at(),
        uid,
        cgroup: Some(CgroupPath::new(cgroup)),
    };
    run(here(&owner, hub, &Systemd)).map_err(|stranger| stranger.text)
}

#[test]
fn the_hub_is_its_unit_run_as_its_user() {
    let hub = hub("");
    for (cgroup, uid) in [
        ("system.slice/hub.service", 0),
        ("system.slice/hub.service", 998),
        ("system.slice/hub.service/below", 998),
        ("system.slice/hub.socket", 998),
        ("hub.slice/root.service", 0),
    ] {
        assert_eq!(judged(cgroup, uid, &hub), Ok(true), "{cgroup}");
    }
}

#[test]
fn nobody_else_is_the_hub_and_the_remedy_is_named() {
    let hub = hub("");
    let user = "user.slice/user-1001.slice/user@1001.service/app.slice/hub.service";
    for (cgroup, uid, remedy) in [
        // A user's process in the hub's unit, as SudoSpawner leaves them.
        ("system.slice/hub.service", 1001, "is not run as that uid"),
        // systemd does not know the unit, so that nothing proves the uid.
        ("system.slice/root.service", 998, "cannot be told"),
        (user, 1001, "That is no part of the hub"),
        (user, 0, "That is no part of the hub"),
        ("jupyter.slice/hub.service", 998, "That is no part"),
        (
            "system.slice/jupyter-alice.service",
            0,
            "no part of the hub",
        ),
        (
            "system.slice/traefik.service",
            997,
            r#"api_peers = ["traefik.service"]"#,
        ),
        (
            "system.slice/docker.service",
            0,
            r#"api_peers = ["container:NAME"]"#,
        ),
        ("init.scope", 0, "api_peers"),
        ("", 0, "run it as a system service"),
        ("hub.service.d", 0, "run it as a system service"),
    ] {
        let why = judged(cgroup, uid, &hub).unwrap_err();
        assert!(why.contains(remedy), "{cgroup}: {why}");
        assert!(why.contains("no token was sent"), "{why}");
    }
    let owner = Owner {
        at: at(),
        uid: 0,
        cgroup: None,
    };
    assert!(run(here(&owner, &hub, &Systemd)).is_err());
}

#[test]
fn a_unit_is_trusted_when_the_configuration_names_it() {
    let hub = hub("api_peers = [\"traefik.service\", \"x.socket\"]");
    for cgroup in ["system.slice/traefik.service", "system.slice/x.socket"] {
        assert_eq!(judged(cgroup, 0, &hub), Ok(true), "{cgroup}");
    }
    // A socket unit's name says nothing of the service.
    assert!(judged("system.slice/x.service", 0, &hub).is_err());
}

#[test]
fn a_transient_unit_of_the_hub_s_name_is_not_run_for_the_hub() {
    assert!(fits(&facts(Some(998)), 998));
    assert!(!fits(&facts(Some(998)), 1001));
    assert!(!fits(&facts(None), 1001));
    let transient = UnitFacts {
        transient: true,
        ..facts(Some(998))
    };
    assert!(!fits(&transient, 998));
    let dynamic = UnitFacts {
        dynamic_user: true,
        ..facts(None)
    };
    assert!(fits(&dynamic, 61_184) && !fits(&dynamic, 1001));
}

/// An engine with one container, `jupyterhub`, that publishes port 15001.
fn engine(environment: &'static str) -> (Service, String) {
    let service = Service::unix(move |asked| {
        if asked.target != "GET /containers/jupyterhub/json" {
            return (404, "{}".to_owned());
        }
        let ports = r#"{"8081/tcp":[{"HostIp":"127.0.0.1","HostPort":"15001"}]}"#;
        let body = format!(
            r#"{{"Id":"{ID}","Name":"/jupyterhub","Config":{{"Env":[{environment}]}},
            "NetworkSettings":{{"Networks":{{"x":{{"IPAddress":"172.18.0.2"}}}},"Ports":{ports}}}}}"#
        );
        (200, body)
    });
    let Endpoint::Unix(socket) = service.endpoint() else {
        unreachable!()
    };
    let line = format!("docker = \"{}\"\n", socket.display());
    (service, line)
}

#[test]
fn the_hub_s_container_is_known_by_its_name_at_the_engine() {
    let (_service, engine) = engine("");
    let named = hub(&format!("{engine}api_peers = [\"container:jupyterhub\"]"));
    let own = format!("system.slice/docker-{ID}.scope");
    assert_eq!(judged(&own, 1000, &named), Ok(true));
    assert_eq!(judged(&format!("docker/{ID}"), 0, &named), Ok(true));
    // Docker's proxy of the published port.
    assert_eq!(judged("system.slice/docker.service", 0, &named), Ok(false));
    for (cgroup, uid) in [
        (
            format!("system.slice/docker-{}.scope", ID.replace('0', "1")),
            0,
        ),
        (format!("machine.slice/libpod-{ID}.scope"), 0),
        ("system.slice/docker.service".to_owned(), 1001),
        ("system.slice/docker-x.scope".to_owned(), 0),
        (
            format!("system.slice/jupyter-a.service/docker-{ID}.scope"),
            0,
        ),
    ] {
        assert!(judged(&cgroup, uid, &named).is_err(), "{cgroup}");
    }
    let unnamed = hub(&engine);
    let why = judged(&own, 0, &unnamed).unwrap_err();
    assert!(why.contains("container 0123456789ab is the hub's"), "{why}");
    assert!(why.contains(r#"api_peers = ["container:NAME"]"#), "{why}");
    assert!(judged("system.slice/docker.service", 0, &unnamed).is_err());
}

#[test]
fn a_user_s_server_is_no_hub_whatever_its_container_is_called() {
    let (_service, engine) = engine("\"JUPYTERHUB_USER=mallory\"");
    let named = hub(&format!("{engine}api_peers = [\"container:jupyterhub\"]"));
    let own = format!("system.slice/docker-{ID}.scope");
    assert!(judged(&own, 1000, &named).is_err());
    assert!(judged("system.slice/docker.service", 0, &named).is_err());
}

#[test]
fn this_process_is_a_stranger_where_no_configuration_names_it() {
    let service = Service::jupyterhub(|_| (200, "[]".into()));
    let Endpoint::Tcp { port, .. } = service.endpoint() else {
        unreachable!()
    };
    let hub = hub("");
    let root = cgroup::find_root().unwrap();
    let admitted = run(async {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", *port)).await;
        let connection = Connection::Tcp(stream.unwrap());
        admit(&connection, &hub, &root, &Systemd).await
    });
    let text = admitted.unwrap_err().text;
    let who = format!("uid {} ", nix::unistd::getuid());
    assert!(
        text.contains(&who) && text.contains(&format!("127.0.0.1:{port}")),
        "{text}"
    );
    assert!(service.asked().is_empty());
}

proptest::proptest! {
    /// No path with a user's slice at its top, and no unit that is not configured, is the hub.
    #[test]
    fn only_configured_units_are_the_hub(
        top in "(user|jupyter|system|x)\\.slice",
        parts in proptest::collection::vec("hub\\.service|a\\.slice|jupyter-a\\.service|hub", 0..4),
        uid in 0..3u32,
    ) {
        let path = format!("{top}/{}", parts.join("/"));
        let first = parts.iter().find(|part| !part.ends_with(".slice"));
        let theirs = ["user.slice", "jupyter.slice"].contains(&top.as_str());
        let is_hub = !theirs && uid == 0 && first.is_some_and(|part| part == "hub.service");
        proptest::prop_assert_eq!(judged(&path, uid, &hub("")).is_ok(), is_hub);
    }
}
