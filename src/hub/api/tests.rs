use super::*;
use crate::http::fake::{Asked, Service, run};
use crate::http::{Connection, Stranger};
use crate::hub::{Account, UnitFacts, UnitName};
use crate::sd_bus::SdBusError;
use std::os::unix::fs::PermissionsExt;

/// Whom to admit is decided elsewhere.
struct Anyone;

impl Units for Anyone {
    async fn facts(&self, unit: &UnitName) -> Result<UnitFacts, SdBusError> {
        Err(SdBusError::Gone(unit.clone()))
    }

    async fn account(&self, _: u32) -> Result<Account, crate::hub::NotNow> {
        Ok(Account::default())
    }

    async fn admit(&self, _: &Connection, _: &Hub, _: &Path) -> Result<(), Stranger> {
        Ok(())
    }
}

/// A hub made up for a test, and the token for it.
struct FakeHub {
    service: Service,
    hub: Hub,
    token: tempfile::NamedTempFile,
}

impl FakeHub {
    fn new(answer: impl Fn(&Asked) -> (u16, String) + Send + 'static) -> FakeHub {
        FakeHub::at(Service::jupyterhub(answer))
    }

    fn at(service: Service) -> FakeHub {
        let token = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(token.path(), "s3cret\n").unwrap();
        let url = ApiUrl {
            endpoint: service.endpoint().clone(),
            prefix: "/hub/api".to_owned(),
        };
        let hub = Hub {
            api_url: Some(url),
            token_file: token.path().to_owned(),
            ..crate::config::Config::default().hub
        };
        FakeHub {
            service,
            hub,
            token,
        }
    }

    fn api(&self) -> Api<'_, Anyone> {
        Api {
            url: self.hub.api_url.as_ref().unwrap(),
            hub: &self.hub,
            root: Path::new("/nonexistent"),
            units: &Anyone,
        }
    }

    fn directory(&self) -> Result<Polled, ApiError> {
        run(self.api().directory())
    }

    fn stop(&self, user: &str, server: &str) -> Result<Stopping, ApiError> {
        let server = Listed {
            user: HubUser(user.to_owned()),
            server: server.to_owned(),
        };
        run(self.api().stop(&server))
    }

    fn targets(&self) -> Vec<String> {
        let asked = self.service.asked();
        asked.into_iter().map(|asked| asked.target).collect()
    }
}

/// A user as JupyterHub 5.2 and 6.1 have it.
fn user(name: &str, groups: &str, servers: &str) -> String {
    format!(
        r#"{{"admin":false,"kind":"user","name":"{name}","groups":{groups},"pending":null,
        "created":"2026-01-01T00:00:00.000000Z","last_activity":"2026-01-02T00:00:00.000000Z",
        "server":null,"roles":["user"],"servers":{servers}}}"#
    )
}

fn server(state: &str) -> String {
    format!(
        r#"{{"name":"","full_name":"x/","ready":true,"pending":null,"stopped":false,
        "url":"/user/x/","user_options":{{}},"state":{state}}}"#
    )
}

fn page(users: &[String], next: Option<u64>) -> String {
    let items = users.join(",");
    let next = match next {
        // Where no client of ours may be led.
        Some(offset) => format!(r#"{{"offset":{offset},"limit":200,"url":"http://192.0.2.1/"}}"#),
        None => "null".to_owned(),
    };
    format!(
        r#"{{"items":[{items}],"_pagination":{{"offset":0,"limit":200,"total":9,"next":{next}}}}}"#
    )
}

fn listed(user: &str, server: &str) -> Listed {
    Listed {
        user: HubUser(user.to_owned()),
        server: server.to_owned(),
    }
}

#[test]
fn units_containers_and_groups_are_read_page_by_page() {
    let id = "ab".repeat(32);
    let docker = format!(
        r#"{{"":{},"Lab":{}}}"#,
        server(&format!(
            r#"{{"object_id":"{id}","object_name":"jupyter-bob"}}"#
        )),
        server("{}")
    );
    let systemd = format!(r#"{{"":{}}}"#, server(r#"{"unit_name":"jupyter-a b"}"#));
    let hub = FakeHub::new(move |asked| {
        let answer = if asked.target.contains("offset=0&") {
            page(&[user("a b", r#"["staff","admins"]"#, &systemd)], Some(200))
        } else {
            page(&[user("bob", "[]", &docker)], None)
        };
        (200, answer)
    });
    let told = hub.directory().unwrap();
    assert_eq!(told.lacking, [""; 0]);
    let unit = UnitName("jupyter-a\\x20b.service".into());
    assert_eq!(told.directory.of_unit(&unit), [listed("a b", "")]);
    let id = "ab".repeat(32);
    assert_eq!(told.directory.of_container(&id), [listed("bob", "")]);
    let person = told.directory.person(&HubUser("a b".into())).unwrap();
    assert_eq!(person.groups, ["admins", "staff"]);
    assert!(person.last_activity.is_some());
    assert_eq!(
        hub.targets(),
        [
            "GET /hub/api/users?state=active&offset=0&limit=200",
            "GET /hub/api/users?state=active&offset=200&limit=200",
        ]
    );
    let headers = &hub.service.asked()[0].headers;
    assert_eq!(headers["authorization"], "token s3cret");
    assert_eq!(headers["accept"], "application/jupyterhub-pagination+json");
}

#[test]
fn an_answer_without_pages_is_taken_as_whole() {
    let users = format!("[{}]", user("alice", "[]", "{}"));
    let hub = FakeHub::new(move |_| (200, users.clone()));
    let told = hub.directory().unwrap();
    assert!(told.directory.person(&HubUser("alice".into())).is_some());
}

#[test]
fn what_a_scope_does_not_cover_is_named() {
    let hub = FakeHub::new(|_| (200, page(&[r#"{"name":"alice"}"#.to_owned()], None)));
    assert_eq!(
        hub.directory().unwrap().lacking,
        ["read:users:groups", "read:servers"]
    );
    let servers = r#"{"":{"name":""}}"#;
    let answer = page(&[user("alice", "[]", servers)], None);
    let hub = FakeHub::new(move |_| (200, answer.clone()));
    assert_eq!(hub.directory().unwrap().lacking, ["admin:server_state"]);
}

#[test]
fn state_of_any_shape_harms_nothing() {
    for state in [
        "null",
        "7",
        "[]",
        r#"{"unit_name":7,"object_id":""}"#,
        r#"{"pid":42}"#,
    ] {
        let servers = format!(r#"{{"":{}}}"#, server(state));
        let answer = page(&[user("alice", "[]", &servers)], None);
        let hub = FakeHub::new(move |_| (200, answer.clone()));
        assert!(hub.directory().is_ok(), "{state}");
    }
}

#[test]
fn pages_that_lead_back_are_not_followed_for_ever() {
    let hub = FakeHub::new(|_| (200, page(&[], Some(0))));
    let error = hub.directory().unwrap_err().to_string();
    assert!(error.contains("no later one"), "{error}");
}

#[test]
fn pages_that_never_end_are_refused_before_they_take_memory() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let endless = |users: usize, each: usize| {
        let offset = AtomicU64::new(0);
        let groups = vec![format!("{:?}", "g".repeat(250)); each].join(",");
        let groups = format!("[{groups}]");
        let all = vec![user("alice", &groups, "{}"); users];
        FakeHub::new(move |_| {
            (
                200,
                page(&all, Some(offset.fetch_add(1, Ordering::Relaxed) + 1)),
            )
        })
    };
    for (hub, why) in [
        (endless(0, 0), "more than 500 pages"),
        (endless(5_000, 0), "more than 20000 users"),
        (endless(900, 16), "more than 32 MiB"),
    ] {
        let error = hub.directory().unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn what_is_not_jupyterhub_s_is_not_believed() {
    for (status, body) in [(200, "[]"), (204, "")] {
        let hub = FakeHub::at(Service::tcp(move |_| (status, body.to_owned())));
        for error in [hub.directory().map(drop), hub.stop("alice", "").map(drop)] {
            let error = error.unwrap_err().to_string();
            assert!(
                error.contains("without the header X-JupyterHub-Version"),
                "{error}"
            );
        }
    }
    let gone = "alice has no server named 'lab'";
    let hub = FakeHub::at(Service::tcp(move |_| (404, gone.to_owned())));
    assert!(hub.stop("alice", "lab").is_err());
}

#[test]
fn a_redirect_is_no_hub_and_gets_no_token() {
    let elsewhere = Service::jupyterhub(|_| (200, "[]".into()));
    let to = format!("http://{}/", elsewhere.endpoint());
    for status in [301, 302, 303, 307, 308] {
        let headers = vec![
            format!("location: {to}"),
            "X-JupyterHub-Version: 5.2.1".to_owned(),
        ];
        let hub = FakeHub::at(Service::tcp_with(move |_| {
            (status, String::new(), headers.clone())
        }));
        for error in [hub.directory().map(drop), hub.stop("alice", "").map(drop)] {
            let error = error.unwrap_err().to_string();
            assert!(
                error.contains("a redirect, which is not followed"),
                "{error}"
            );
        }
    }
    assert!(elsewhere.asked().is_empty());
}

#[test]
fn a_refusal_names_what_the_token_needs() {
    let hub = FakeHub::new(|_| (403, r#"{"status":403,"message":"Forbidden"}"#.into()));
    let error = hub.directory().unwrap_err().to_string();
    assert!(
        error.contains("status 403") && error.contains("with the scopes that hubwarden.toml(5)"),
        "{error}"
    );
    let hub = FakeHub::new(|_| (200, "<html>".into()));
    let error = hub.directory().unwrap_err().to_string();
    assert!(
        error.contains("is hub.api_url the API of JupyterHub"),
        "{error}"
    );
}

#[test]
fn a_token_that_others_can_read_is_refused_and_never_shown() {
    let hub = FakeHub::new(|_| (200, "[]".into()));
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(hub.token.path(), mode).unwrap();
    let error = hub.directory().unwrap_err().to_string();
    assert!(
        error.contains("mode 0644") && error.contains("chmod 0600"),
        "{error}"
    );
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(hub.token.path(), mode).unwrap();
    std::fs::write(hub.token.path(), "s3cret\nand more").unwrap();
    let error = hub.directory().unwrap_err().to_string();
    assert!(
        error.contains("holds no token") && !error.contains("s3cret"),
        "{error}"
    );
    assert!(hub.targets().is_empty());
}

#[test]
fn stopping_is_done_or_under_way() {
    for (status, body, expected) in [
        (204, "", Stopping::Done),
        (202, "", Stopping::Underway),
        (404, "alice has no server named 'lab'", Stopping::Done),
    ] {
        let hub = FakeHub::new(move |_| (status, body.to_owned()));
        assert_eq!(hub.stop("alice", "").unwrap(), expected, "{status}");
    }
    let hub = FakeHub::new(|_| (404, "No access to resources or resources not found".into()));
    assert!(hub.stop("alice", "").is_err());
}

#[test]
fn odd_names_stay_one_part_of_the_path() {
    let hub = FakeHub::new(|_| (204, String::new()));
    hub.stop("../a b/ë", "").unwrap();
    hub.stop("alice", "my lab?").unwrap();
    assert_eq!(
        hub.targets(),
        [
            "DELETE /hub/api/users/%2E%2E%2Fa%20b%2F%C3%AB/server",
            "DELETE /hub/api/users/alice/servers/my%20lab%3F",
        ]
    );
}
