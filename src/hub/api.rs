//! JupyterHub's REST API (versions 5.2 to 6.1): who has which servers, who is in which groups, and
//! stopping a server.
//!
//! The token needs the scopes `list:users`, `read:users:groups`, `read:users:activity`,
//! `read:servers` and `admin:server_state`, and `delete:servers` to stop one. What a scope does not
//! cover is left out of the answer, so its absence shows and is told.

use super::{HubDirectory, HubUser, Listed, Person};
use crate::config::ApiUrl;
use crate::http::{self, Answer, HttpError};
use hyper::Method;
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The hub gives at most so many users a page (`api_page_max_limit`).
const PAGE: u64 = 200;
/// A hub with more pages of people with running servers is not one node's.
const MOST_PAGES: usize = 500;
/// JupyterHub's own bound on a name.
const LONGEST_NAME: usize = 255;
const LONGEST_TOKEN: u64 = 4096;

/// Why the hub did not tell or do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The token cannot be used.
    #[error("{path}: {why}")]
    Token {
        /// hub.token_file.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// Nobody answers.
    #[error("the hub's API: {0}; is the hub running, and is hub.api_url its address?")]
    Http(#[from] HttpError),
    /// It refused.
    #[error("the hub's API, asked {asked}: status {status} ({said}){}", remedy(*.status))]
    Refused {
        /// Method and path.
        asked: String,
        /// HTTP status.
        status: u16,
        /// The beginning of what it said, escaped.
        said: String,
    },
    /// It answered something else than its documentation promises.
    #[error(
        "the hub's API, asked {asked}: {why}; is hub.api_url the API of JupyterHub 5.2 to 6.1?"
    )]
    Odd {
        /// Method and path.
        asked: String,
        /// What was wrong.
        why: String,
    },
}

fn remedy(status: u16) -> &'static str {
    match status {
        401 | 403 => {
            "; the token in hub.token_file must be one the hub knows, with the scopes that \
             hubwarden.toml(5) lists"
        }
        404 => "; hub.api_url must end as the hub's API does, mostly in /hub/api",
        _ => "",
    }
}

/// What the hub told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Everybody with a running server.
    pub directory: HubDirectory,
    /// Scopes whose part was missing in the answer.
    pub lacking: Vec<&'static str>,
}

/// What came of stopping a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopping {
    /// It has stopped, or was not running.
    Done,
    /// The hub is at it.
    Underway,
}

/// The API as configured.
#[derive(Debug, Clone, Copy)]
pub struct Api<'a> {
    /// Where it is.
    pub url: &'a ApiUrl,
    /// Where its token is; read at each use, so that it can be exchanged.
    pub token_file: &'a Path,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Page {
    Paged {
        items: Vec<User>,
        #[serde(rename = "_pagination")]
        pagination: Pagination,
    },
    Whole(Vec<User>),
}

#[derive(Deserialize)]
struct Pagination {
    next: Option<Next>,
}

#[derive(Deserialize)]
struct Next {
    offset: u64,
}

#[derive(Deserialize)]
struct User {
    name: String,
    groups: Option<Vec<String>>,
    /// Comes with the scope `list:users`.
    #[serde(default)]
    admin: bool,
    last_activity: Option<String>,
    servers: Option<BTreeMap<String, Server>>,
}

#[derive(Deserialize)]
struct Server {
    /// The spawner's own business: of any shape, and absent without the scope for it.
    state: Option<Value>,
}

impl Api<'_> {
    /// Asks for everybody who has a running server, page by page.
    ///
    /// # Errors
    /// The token cannot be used, the hub does not answer, or answers something unexpected.
    pub async fn directory(&self) -> Result<Told, ApiError> {
        let mut reading = Reading::default();
        let mut offset = 0;
        for _ in 0..MOST_PAGES {
            // The next page's address is worked out here: one that the answer names would have
            // the token sent wherever the answer says.
            let path = format!("/users?state=active&offset={offset}&limit={PAGE}");
            let answer = self.ask(Method::GET, &path).await?;
            let asked = || format!("GET {path}");
            if answer.status != 200 {
                return Err(refused(asked(), &answer));
            }
            let odd = |why: String| ApiError::Odd {
                asked: asked(),
                why,
            };
            let page: Page = serde_json::from_slice(&answer.body)
                .map_err(|error| odd(format!("an answer that cannot be read: {error}")))?;
            let next = match page {
                Page::Whole(users) => {
                    reading.take_in(users);
                    None
                }
                Page::Paged { items, pagination } => {
                    reading.take_in(items);
                    pagination.next
                }
            };
            match next {
                None => return Ok(reading.done()),
                Some(next) if next.offset > offset => offset = next.offset,
                Some(_) => return Err(odd("its next page is no later one".to_owned())),
            }
        }
        Err(ApiError::Odd {
            asked: "GET /users".to_owned(),
            why: format!("more than {MOST_PAGES} pages"),
        })
    }

    /// Asks the hub to stop a server, as its own page does.
    ///
    /// # Errors
    /// As for [`Api::directory`].
    pub async fn stop(&self, server: &Listed) -> Result<Stopping, ApiError> {
        let user = percent_encoded(server.user.as_str());
        let path = match server.server.as_str() {
            "" => format!("/users/{user}/server"),
            name => format!("/users/{user}/servers/{}", percent_encoded(name)),
        };
        let answer = self.ask(Method::DELETE, &path).await?;
        match answer.status {
            // Also where it was not running.
            204 => Ok(Stopping::Done),
            202 => Ok(Stopping::Underway),
            // Removed meanwhile. A 404 in other words may be a scope that does not reach so far.
            404 if String::from_utf8_lossy(&answer.body).contains("has no server named") => {
                Ok(Stopping::Done)
            }
            _ => Err(refused(format!("DELETE {path}"), &answer)),
        }
    }

    async fn ask(&self, method: Method, path: &str) -> Result<Answer, ApiError> {
        let accept = HeaderValue::from_static("application/jupyterhub-pagination+json");
        let headers = [(AUTHORIZATION, self.token()?), (ACCEPT, accept)];
        let path = format!("{}{path}", self.url.prefix);
        Ok(http::ask(&self.url.endpoint, method, &path, &headers).await?)
    }

    fn token(&self) -> Result<HeaderValue, ApiError> {
        let wrong = |why: String| ApiError::Token {
            path: self.token_file.to_owned(),
            why,
        };
        let cannot = |error: std::io::Error| {
            wrong(format!(
                "cannot be read: {error}; it must be a file that belongs to root, with the API \
                 token of a hub service"
            ))
        };
        let file = File::open(self.token_file).map_err(cannot)?;
        let mode = file.metadata().map_err(cannot)?.mode();
        if mode & 0o007 != 0 {
            return Err(wrong(format!(
                "everybody on this node can use it (mode {:04o}); make a new token, and chmod 0600",
                mode & 0o7777
            )));
        }
        let mut text = String::new();
        file.take(LONGEST_TOKEN)
            .read_to_string(&mut text)
            .map_err(cannot)?;
        let token = text.trim();
        // What it holds is never shown.
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong(
                "holds no token; it must hold one line with nothing else in it".to_owned(),
            ));
        }
        let mut value = HeaderValue::try_from(format!("token {token}"))
            .map_err(|_| wrong("holds no token".to_owned()))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// What was read so far.
#[derive(Default)]
struct Reading {
    directory: HubDirectory,
    no_groups: bool,
    no_servers: bool,
    no_state: bool,
}

impl Reading {
    fn take_in(&mut self, users: Vec<User>) {
        for user in users {
            if user.name.len() > LONGEST_NAME {
                continue;
            }
            self.no_groups |= user.groups.is_none();
            self.no_servers |= user.servers.is_none();
            let name = HubUser(user.name);
            for (server, model) in user.servers.unwrap_or_default() {
                self.no_state |= model.state.is_none();
                let listed = Listed {
                    user: name.clone(),
                    server,
                };
                self.place(&model.state.unwrap_or_default(), listed);
            }
            let mut groups = user.groups.unwrap_or_default();
            groups.sort();
            let person = Person {
                groups,
                admin: user.admin,
                last_activity: user.last_activity,
            };
            self.directory.add_person(name, person);
        }
    }

    /// Where a spawner says that its server runs: SystemdSpawner's `unit_name`, DockerSpawner's
    /// `object_id` (before 0.10 `container_id`).
    fn place(&mut self, state: &Value, listed: Listed) {
        let word = |key: &str| {
            let text = state.get(key).and_then(Value::as_str)?;
            (!text.is_empty() && text.len() <= 2 * LONGEST_NAME).then_some(text)
        };
        if let Some(unit) = word("unit_name") {
            self.directory.add_unit(unit, listed.clone());
        }
        if let Some(id) = word("object_id").or_else(|| word("container_id")) {
            self.directory.add_container(id, listed);
        }
    }

    fn done(self) -> Told {
        let lacking = [
            (self.no_groups, "read:users:groups"),
            (self.no_servers, "read:servers"),
            (self.no_state, "admin:server_state"),
        ];
        let lacking = lacking.into_iter().filter(|(lacks, _)| *lacks);
        Told {
            directory: self.directory,
            lacking: lacking.map(|(_, scope)| scope).collect(),
        }
    }
}

fn refused(asked: String, answer: &Answer) -> ApiError {
    ApiError::Refused {
        asked,
        status: answer.status,
        said: http::excerpt(&answer.body),
    }
}

/// A name as one part of a path: a slash or two dots in it lead nowhere else.
fn percent_encoded(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => encoded.push(byte.into()),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests;
