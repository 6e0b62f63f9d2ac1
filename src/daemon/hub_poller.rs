//! Hears the hub: a task beside the loop keeps the hub's own word on its servers and people.
//!
//! A hub that is slow or down changes nothing: the last word stands, and the trouble is told once.

use super::cgroups::{Cgroup, unit_of};
use super::{Daemon, Inner};
use crate::act::CpuControl;
use crate::hub::api::{Api, ApiError, Polled};
use crate::hub::shared::{self, Shared};
use crate::hub::{ContainerCgroup, HubDirectory, Listed, Units};
use crate::report::{Kind, Level, LogEntry};
use quantities::{CgroupId, CgroupPath};
use sensors::workers::Holders;
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// People move between groups seldom, and servers that come are news of their own.
const EVERY: Duration = Duration::from_secs(60);
/// A spawner tells the hub where its server runs only after it has started it; the hub is asked
/// after each of these, the first one long enough for a class of students to arrive together.
const AFTER_NEWS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(13)];

/// What says which processes are single-user servers: a worker for each Unix user, since a process can
/// hold up whoever reads what it calls itself.
pub(crate) struct Looker {
    #[cfg(not(test))]
    readers: super::readers::Readers<Vec<u32>>,
}

impl Looker {
    /// Beside others who read users' processes.
    pub fn new(holders: &Holders) -> Looker {
        #[cfg(test)]
        let _ = holders;
        Looker {
            #[cfg(not(test))]
            readers: super::readers::Readers::new(holders, shared::WORK),
        }
    }

    /// Which of these are; a user's are none while one of the user's processes holds whoever reads it.
    #[cfg(not(test))]
    pub fn which(&mut self, by_user: shared::ByUser) -> BTreeSet<u32> {
        let owner = |(uid, pids): (u32, Vec<u32>)| (format!("uid {uid}").into(), pids);
        let answers = self.readers.read(by_user.into_iter().map(owner).collect());
        answers.into_values().flatten().collect()
    }

    /// These tests are no hubwarden that could be started as a worker.
    #[cfg(test)]
    pub fn which(&mut self, by_user: shared::ByUser) -> BTreeSet<u32> {
        let pids: Vec<u32> = by_user.into_values().flatten().collect();
        shared::servers(Path::new("/proc"), &pids)
            .into_iter()
            .collect()
    }
}

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Asks the hub every minute, and when somebody new has appeared.
    pub(super) async fn hear_the_hub(self: Rc<Self>) {
        let mut soon = AFTER_NEWS.iter();
        loop {
            self.look_into_the_hub().await;
            self.poll_hub().await;
            let wait = match soon.next() {
                Some(wait) => {
                    tokio::time::sleep(*wait).await;
                    continue;
                }
                None => EVERY,
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.hub_news.notified() => {
                    soon = AFTER_NEWS.iter();
                    tokio::time::sleep(soon.next().copied().unwrap_or(EVERY)).await;
                }
            }
        }
    }

    /// Looks for servers in the hub's own cgroup, and tells of them when there are any at last.
    pub(super) async fn look_into_the_hub(&self) {
        let (root, units) = {
            let inner = self.inner.borrow();
            (inner.root.clone(), inner.config.hub.hub_units.clone())
        };
        // A /proc of thousands of processes takes its time, and names are asked of LDAP.
        let looker = Arc::clone(&self.hub_looker);
        let look = move || {
            let mut looker = looker.lock().unwrap_or_else(PoisonError::into_inner);
            let which = |by_user| looker.which(by_user);
            let found = shared::find(&root, Path::new("/proc"), &units, which);
            let words: Vec<String> = found.iter().map(Shared::in_words).collect();
            (found, words)
        };
        let Ok((found, words)) = tokio::task::spawn_blocking(look).await else {
            return;
        };
        let mut inner = self.inner.borrow_mut();
        for (shared, words) in found.iter().zip(words) {
            let known = |old: &&Shared| old.cgroup == shared.cgroup;
            if inner.shared.iter().find(known).is_none() {
                inner.log(
                    LogEntry::new(Kind::ServerNotMapped, Level::Warning, format!("{words}."))
                        .with("UNIT_NAME", shared.cgroup.name())
                        .with("CGROUP", &shared.cgroup),
                );
            }
        }
        inner.shared = found;
    }

    pub(super) async fn poll_hub(self: &Rc<Self>) {
        let (hub, root) = {
            let inner = self.inner.borrow();
            (inner.config.hub.clone(), inner.root.clone())
        };
        let result = match &hub.api_url {
            Some(url) => {
                let api = Api {
                    url,
                    hub: &hub,
                    root: &root,
                    units: &self.units,
                };
                api.directory().await
            }
            None => Ok(Polled {
                directory: HubDirectory::default(),
                lacking: Vec::new(),
            }),
        };
        let mut inner = self.inner.borrow_mut();
        // A reload may have named another hub meanwhile; that one is asked next.
        if inner.config.hub != hub {
            self.hub_news.notify_one();
            return;
        }
        let heard = match result {
            Ok(heard) => heard,
            Err(error) => return inner.hub_silent(&error),
        };
        inner.hub_lacks(&heard.lacking);
        let old = std::mem::replace(&mut inner.directory, Rc::new(heard.directory));
        let same_groups = old.same_groups(&inner.directory);
        let doubtful = inner.doubtful();
        drop(inner);
        if !same_groups {
            self.policies_changed();
        }
        if old.same_servers(&self.inner.borrow().directory) {
            return;
        }
        for (cgroup, id) in doubtful {
            self.ask(cgroup, id);
        }
    }
}

impl Inner {
    fn hub_silent(&mut self, error: &ApiError) {
        let mut text = error.to_string();
        if !text.ends_with('?') {
            text.push('.');
        }
        text.push_str(" What the hub said before stands, and it is asked again.");
        self.hub_trouble(error.kind(), text);
    }

    fn hub_lacks(&mut self, scopes: &[&str]) {
        if scopes.is_empty() {
            self.hub_trouble = None;
            return;
        }
        let text = format!(
            "The token in hub.token_file lacks scopes that tell whose a server is and who is in \
             which group: {}. Add them to the role of hubwarden's service in jupyterhub_config.py.",
            scopes.join(", ")
        );
        self.hub_trouble(text.clone(), text);
    }

    /// Logs a trouble once while it lasts, however its words change.
    fn hub_trouble(&mut self, kind: String, text: String) {
        if self.hub_trouble.as_ref() != Some(&kind) {
            self.log(LogEntry::new(Kind::Trouble, Level::Warning, text));
            self.hub_trouble = Some(kind);
        }
    }

    /// The hub's word on a cgroup.
    fn listed(&self, cgroup: &CgroupPath) -> &[Listed] {
        match ContainerCgroup::of(cgroup) {
            Some(container) => self.directory.of_container(&container.id),
            None => self.directory.of_unit(&unit_of(cgroup)),
        }
    }

    /// Those of whom the hub says something else than what they are taken for.
    fn doubtful(&self) -> Vec<(CgroupPath, CgroupId)> {
        let mut doubtful = Vec::new();
        for (id, entry) in &self.entries {
            let (cgroup, is) = match entry {
                // Being asked, or to be asked at the next tick.
                Cgroup::Pending { .. }
                | Cgroup::Ignored {
                    exempt: Some(_), ..
                } => continue,
                // A Unix user's slice says by its uid whose it is.
                Cgroup::UserSlice { .. } => continue,
                Cgroup::Server(guarded) if guarded.is_outside() => continue,
                Cgroup::Ignored { cgroup, .. } => (cgroup, None),
                Cgroup::Server(guarded) => (&guarded.cgroup, Some(&guarded.server)),
            };
            let doubt = match (self.listed(cgroup), is) {
                ([], _) => false,
                ([listed], Some(server)) => {
                    (&listed.user, &listed.server) != (&server.user, &server.name)
                }
                _ => true,
            };
            if doubt {
                doubtful.push((cgroup.clone(), *id));
            }
        }
        doubtful
    }
}
