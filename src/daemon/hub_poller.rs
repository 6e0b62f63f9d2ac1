//! Polls the hub: a task beside the loop, which brings the hub's own word on its servers and people.
//!
//! A hub that is slow or down changes nothing: the last word stands, and the trouble is told once.

use super::cgroups::{Cgroup, unit_of};
use super::{Daemon, Shell, Tasks, now};
use crate::act::CpuControl;
use crate::config;
use crate::hub::api::{Api, ApiError, Polled};
use crate::hub::fronts;
use crate::hub::{ContainerCgroup, HubDirectory, Listed, Units};
use crate::report::{Kind, Level, LogEntry};
use quantities::{CgroupId, CgroupPath};
use std::collections::BTreeSet;
use std::path::PathBuf;

impl<C: CpuControl + 'static, U: Units + 'static> Tasks<C, U> {
    /// Asks the hub, and looks at what is there besides.
    pub(super) async fn hear_the_hub(self) {
        self.look_for_fronts().await;
        self.poll_hub().await;
        self.survey().await;
        self.post(|daemon| daemon.due.hub.asked(now()));
    }

    /// Looks where the hub is open to everybody.
    async fn look_for_fronts(&self) {
        let (hub, root) = self.hub_and_root().await;
        let look = move || fronts::find(&root, &hub);
        if let Ok(found) = tokio::task::spawn_blocking(look).await {
            self.post(|daemon| daemon.shell.found_fronts(found));
        }
    }

    /// Asks the hub for its servers and people.
    pub(super) async fn poll_hub(&self) {
        let (hub, root) = self.hub_and_root().await;
        let polled = match &hub.api_url {
            Some(url) => {
                let api = Api {
                    url,
                    hub: &hub,
                    root: &root,
                    units: &*self.units,
                };
                api.directory().await
            }
            None => Ok(Polled {
                directory: HubDirectory::default(),
                lacking: Vec::new(),
            }),
        };
        self.turn(move |daemon| daemon.heard_the_hub(&hub, polled))
            .await;
    }

    async fn hub_and_root(&self) -> (config::Hub, PathBuf) {
        let known = self.turn(|daemon| {
            let shell = &daemon.shell;
            (shell.config.hub.clone(), shell.root.clone())
        });
        known.await
    }
}

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Takes in what the hub says, or that it says nothing.
    fn heard_the_hub(&mut self, asked: &config::Hub, polled: Result<Polled, ApiError>) {
        let shell = &mut self.shell;
        // A reload may have named another hub meanwhile; that one is asked next.
        if shell.config.hub != *asked {
            return self.due.hub.news(now());
        }
        let heard = match polled {
            Ok(heard) => heard,
            Err(error) => return shell.hub_silent(&error),
        };
        shell.hub_lacks(&heard.lacking);
        let old = std::mem::replace(&mut shell.hub.directory, heard.directory);
        let same_groups = old.same_groups(&shell.hub.directory);
        let same_servers = old.same_servers(&shell.hub.directory);
        let doubtful = shell.doubtful();
        if !same_groups {
            self.policies_changed();
        }
        if same_servers {
            return;
        }
        // A unit that the hub names is looked at wherever it is.
        self.shell.look_for_servers();
        self.rescan();
        for (cgroup, id) in doubtful {
            self.ask(cgroup, id);
        }
    }
}

impl Shell {
    /// Opens the ports by which the hub is open to everybody.
    fn found_fronts(&mut self, fronts: Result<BTreeSet<u16>, nft::Error>) {
        match fronts {
            Ok(fronts) if fronts == self.hub.fronts => {}
            Ok(fronts) => {
                self.hub.fronts = fronts;
                self.storage.dirty = true;
                self.reconcile_network();
            }
            Err(error) => {
                let text = format!(
                    "Where the hub listens cannot be seen, and what was known stands: {error}."
                );
                self.log_once(LogEntry::new(Kind::Trouble, Level::Warning, text));
            }
        }
    }

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
            self.hub.trouble = None;
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
        if self.hub.trouble.as_ref() != Some(&kind) {
            self.log(LogEntry::new(Kind::Trouble, Level::Warning, text));
            self.hub.trouble = Some(kind);
        }
    }

    /// The hub's word on a cgroup.
    fn listed(&self, cgroup: &CgroupPath) -> &[Listed] {
        match ContainerCgroup::of(cgroup) {
            Some(container) => self.hub.directory.of_container(&container.id),
            None => self.hub.directory.of_unit(&unit_of(cgroup)),
        }
    }

    /// Those of whom the hub says something else than what they are taken for.
    fn doubtful(&self) -> Vec<(CgroupPath, CgroupId)> {
        let mut doubtful = Vec::new();
        for (id, entry) in &self.registry.entries {
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
