//! Who on this node is covered by nothing: surveyed once a minute and after news, beside the loop.

use super::cgroups::{Cgroup, Guarded};
use super::{Daemon, Shell, Tasks, now};
use crate::act::CpuControl;
use crate::coverage::{entries, listed, naming};
use crate::hub::Units;
use hubwarden_core::coverage::{Changes, Known, Survey, Watch, Weight};
use quantities::CgroupPath;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

/// What the last survey found, and what the journal has of it.
#[derive(Default)]
pub(super) struct Coverage {
    pub survey: Survey,
    changes: Changes,
}

impl<C: CpuControl + 'static, U: Units + 'static> Tasks<C, U> {
    /// Surveys the node.
    pub(super) async fn survey(&self) {
        let Some(watch) = self.turn(|daemon| daemon.shell.watch()).await else {
            return;
        };
        // A /proc of thousands of processes takes its time, and names are asked of LDAP.
        let surveyor = Arc::clone(&self.surveyor);
        let look = move || {
            let mut surveyor = surveyor.lock().unwrap_or_else(PoisonError::into_inner);
            surveyor.survey(&watch)
        };
        if let Ok(survey) = tokio::task::spawn_blocking(look).await {
            self.post(|daemon| daemon.surveyed(survey));
        }
    }
}

impl<C, U> Daemon<C, U> {
    fn surveyed(&mut self, survey: Survey) {
        // Switched off meanwhile, nobody is covered, and that is known.
        if self.shell.off {
            return;
        }
        let uid_rules = survey.uid_rules;
        let coverage = &mut self.shell.hub.coverage;
        let difference = coverage.changes.update(&survey, now());
        coverage.survey = survey;
        for entry in entries(&difference, uid_rules) {
            self.shell.log(entry);
        }
    }
}

impl Shell {
    /// What the daemon does at this moment; nothing while it is switched off.
    fn watch(&self) -> Option<Watch> {
        if self.off {
            return None;
        }
        let mut known = BTreeMap::new();
        for entry in self.registry.entries.values() {
            let (cgroup, what) = match entry {
                Cgroup::Server(guarded) => (&guarded.cgroup, self.known_server(guarded)),
                Cgroup::Pending { cgroup, why, .. } => {
                    (cgroup, Known::Pending { why: why.clone() })
                }
                Cgroup::Ignored {
                    cgroup,
                    why,
                    is_admins,
                    ..
                } => {
                    let what = match is_admins {
                        true => Known::NotAServer,
                        false => Known::Unmapped { why: why.clone() },
                    };
                    (cgroup, what)
                }
                Cgroup::UserSlice { cgroup, .. } => (cgroup, Known::Login),
            };
            known.insert(cgroup.clone(), what);
        }
        Some(Watch {
            known,
            uids: self.network.uid_egress.users().collect(),
            listed: listed(&self.hub.directory),
            naming: naming(&self.config),
        })
    }

    fn known_server(&self, guarded: &Guarded) -> Known {
        let ports = &self.network.containers.known.servers;
        let trouble = self
            .node
            .actuator(guarded.id)
            .and_then(|actuator| actuator.trouble());
        let loaded = self.network.rules.stand();
        Known::Server {
            user: guarded.server.user.clone(),
            port: ports.values().any(|port| port.cgroup == guarded.id),
            cpu: trouble.map(str::to_owned),
            packets: (!loaded).then(|| "the packet rules are not loaded".to_owned()),
        }
    }

    /// Whether the last survey has this place, or one in it, as not covered.
    pub(super) fn is_not_covered(&self, cgroup: &CgroupPath) -> bool {
        let rows = &self.hub.coverage.survey.rows;
        let mut places = rows.iter().filter_map(|row| row.place.as_ref());
        places.any(|place| place.is_within(cgroup) || cgroup.is_within(place))
    }

    /// Places in the last survey that something does not hold, though it should.
    pub(super) fn uncovered(&self) -> u64 {
        if self.off {
            return 0;
        }
        let rows = self.hub.coverage.survey.rows.iter();
        rows.filter(|row| row.missing.weight() == Weight::Bad)
            .count() as u64
    }
}
