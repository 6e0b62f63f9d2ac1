//! JupyterHub's REST API (versions 5.2 to 6.1): who has which servers, who is in which groups, and
//! stopping a server.
//!
//! The token needs the scopes `list:users`, `read:users:groups`, `read:users:activity`,
//! `read:servers` and `admin:server_state`, and `delete:servers` to stop one. What a scope does not
//! cover is left out of the answer, so its absence shows and is told.

mod page;

use super::{HubDirectory, Listed, Person, Units};
use crate::config::{ApiUrl, Hub};
use crate::http::{self, Answer, HttpError};
use hyper::Method;
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use page::{Page, User};
use quantities::HubUser;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The hub gives at most so many users a page (`api_page_max_limit`).
const PAGE: u64 = 200;
/// More users with running servers are not one node's.
const MOST_USERS: usize = 20_000;
/// Pages of few users each are as endless as many pages.
const MOST_PAGES: usize = 500;
/// Of all pages together. A user with a server takes about 1 KiB.
const MOST_BYTES: usize = 32 << 20;
/// For all pages together.
const WITHIN: Duration = Duration::from_secs(60);
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
    /// Nobody answers, or not the hub.
    #[error("the hub's API: {0}{hint}", hint = hint(.0))]
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

impl ApiError {
    /// The same for errors that differ only in what a user of the node can vary at will, so that a
    /// lasting trouble is logged once.
    pub fn kind(&self) -> String {
        match self {
            ApiError::Http(HttpError::Stranger(stranger)) => stranger.kind.clone(),
            other => other.to_string(),
        }
    }
}

fn hint(error: &HttpError) -> &'static str {
    match error {
        HttpError::Stranger(_) => "",
        _ => "; is the hub running, and is hub.api_url its address?",
    }
}

fn remedy(status: u16) -> &'static str {
    match status {
        401 | 403 => {
            "; the token in hub.token_file must be one the hub knows, with the scopes that \
             hubwarden.toml(5) lists"
        }
        300..=399 => {
            "; that is a redirect, which is not followed: hub.api_url must be the hub's own address"
        }
        404 => "; hub.api_url must end as the hub's API does, mostly in /hub/api",
        _ => "",
    }
}

/// What the hub said when it was polled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Polled {
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
pub struct Api<'a, U> {
    /// Where it is.
    pub url: &'a ApiUrl,
    /// Where its token is, read at each use, so that it can be exchanged; and who may answer.
    pub hub: &'a Hub,
    /// Where cgroup v2 is mounted.
    pub root: &'a Path,
    /// Who tells the hub from others that listen at its address.
    pub units: &'a U,
}

impl<U: Units> Api<'_, U> {
    /// Asks for everybody who has a running server, page by page.
    ///
    /// # Errors
    /// The token cannot be used, the hub does not answer, or answers something unexpected.
    pub async fn directory(&self) -> Result<Polled, ApiError> {
        match tokio::time::timeout(WITHIN, self.all_pages()).await {
            Ok(result) => result,
            Err(_) => Err(too_much(format!(
                "its pages took longer than {} s",
                WITHIN.as_secs()
            ))),
        }
    }

    async fn all_pages(&self) -> Result<Polled, ApiError> {
        let mut reading = Reading::default();
        let (mut offset, mut bytes) = (0, 0);
        for _ in 0..MOST_PAGES {
            // The next page's address is worked out here: one that the answer names would have
            // the token sent wherever the answer says.
            let path = format!("/users?state=active&offset={offset}&limit={PAGE}");
            let answer = self.ask(Method::GET, &path).await?;
            let asked = || format!("GET {path}");
            if answer.status != 200 {
                return Err(refused(asked(), &answer));
            }
            bytes += answer.body.len();
            if bytes > MOST_BYTES {
                let most = MOST_BYTES >> 20;
                return Err(too_much(format!("its pages hold more than {most} MiB")));
            }
            let odd = |why: String| ApiError::Odd {
                asked: asked(),
                why,
            };
            let Page { users, next } = Page::read(&answer.body)
                .map_err(|why| odd(format!("an answer that cannot be read: {why}")))?;
            reading.users += users.len();
            if reading.users > MOST_USERS {
                return Err(too_much(format!(
                    "its pages name more than {MOST_USERS} users"
                )));
            }
            reading.take_in(users);
            match next {
                None => return Ok(reading.done()),
                Some(next) if next > offset => offset = next,
                Some(_) => return Err(odd("its next page is no later one".to_owned())),
            }
        }
        Err(too_much(format!("more than {MOST_PAGES} pages")))
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
            404 if answer.from_jupyterhub
                && String::from_utf8_lossy(&answer.body).contains("has no server named") =>
            {
                Ok(Stopping::Done)
            }
            _ => Err(refused(format!("DELETE {path}"), &answer)),
        }
    }

    async fn ask(&self, method: Method, path: &str) -> Result<Answer, ApiError> {
        let accept = HeaderValue::from_static("application/jupyterhub-pagination+json");
        let headers = [(AUTHORIZATION, self.token()?), (ACCEPT, accept)];
        let asked = || format!("{method} {path}");
        let target = format!("{}{path}", self.url.prefix);
        let admit = async |connection: &http::Connection| {
            self.units.admit(connection, self.hub, self.root).await
        };
        let to = &self.url.endpoint;
        let answer = http::ask(to, method.clone(), &target, &headers, admit).await?;
        // A redirect would lead elsewhere, and is never followed.
        if (300..400).contains(&answer.status) {
            return Err(refused(asked(), &answer));
        }
        // An error page may be a proxy's; what is believed must be JupyterHub's.
        if answer.status < 300 && !answer.from_jupyterhub {
            return Err(ApiError::Odd {
                asked: asked(),
                why: format!(
                    "status {} without the header X-JupyterHub-Version, which JupyterHub sends",
                    answer.status
                ),
            });
        }
        Ok(answer)
    }

    fn token(&self) -> Result<HeaderValue, ApiError> {
        let wrong = |why: String| ApiError::Token {
            path: self.hub.token_file.clone(),
            why,
        };
        let cannot = |error: std::io::Error| {
            wrong(format!(
                "cannot be read: {error}; it must be a file that belongs to root, with the API \
                 token of a hub service"
            ))
        };
        let file = File::open(&self.hub.token_file).map_err(cannot)?;
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
    users: usize,
    no_groups: bool,
    no_servers: bool,
    no_state: bool,
}

impl Reading {
    fn take_in(&mut self, users: Vec<User>) {
        for user in users {
            self.no_groups |= user.groups.is_none();
            self.no_servers |= user.servers.is_none();
            let name = HubUser(user.name.0);
            for (server, model) in user.servers.map(|all| all.0).unwrap_or_default() {
                self.no_state |= model.state.is_none();
                let listed = Listed {
                    user: name.clone(),
                    server: server.0,
                };
                // Where a spawner says that its server runs.
                let state = model.state.unwrap_or_default();
                if let Some(unit) = &state.unit_name {
                    self.directory.add_unit(unit, listed.clone());
                }
                if let Some(id) = state.object_id.as_ref().or(state.container_id.as_ref()) {
                    self.directory.add_container(id, listed);
                }
            }
            let groups = user.groups.map(|groups| groups.0).unwrap_or_default();
            let mut groups: Vec<String> = groups.into_iter().map(|group| group.0).collect();
            groups.sort();
            let person = Person {
                groups,
                last_activity: user.last_activity.map(|time| time.0),
            };
            self.directory.add_person(name, person);
        }
    }

    fn done(self) -> Polled {
        let lacking = [
            (self.no_groups, "read:users:groups"),
            (self.no_servers, "read:servers"),
            (self.no_state, "admin:server_state"),
        ];
        let lacking = lacking.into_iter().filter(|(lacks, _)| *lacks);
        Polled {
            directory: self.directory,
            lacking: lacking.map(|(_, scope)| scope).collect(),
        }
    }
}

/// Answers that are out of all bounds: nothing of them is taken.
fn too_much(why: String) -> ApiError {
    ApiError::Odd {
        asked: "GET /users".to_owned(),
        why,
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
