//! Whose is a cgroup? Whoever knows is asked: systemd for units, the engine for containers, and
//! before both the hub's own word, as it was last heard.

use super::cgroups::{Cgroup, unit_of};
use super::{Shell, Tasks};
use crate::act::CpuControl;
use crate::hub::{
    ContainerCgroup, EngineError, Finding, Identified, UnitFacts, UnitName, Units, container_facts,
    expected_accounts, identify, identify_container,
};
use crate::report::{Kind, Level, LogEntry};
use crate::sd_bus::SdBusError;
use quantities::{CgroupId, CgroupPath};
use std::collections::BTreeSet;

/// So many containers are remembered as told of; then the telling begins anew.
const MOST_TOLD: usize = 4096;

/// Why nobody can tell, for now.
#[derive(Debug, thiserror::Error)]
pub(super) enum FindOutError {
    #[error(transparent)]
    Unit(#[from] SdBusError),
    #[error(transparent)]
    Container(#[from] EngineError),
    #[error("{0}")]
    Account(String),
}

impl FindOutError {
    fn is_gone(&self) -> bool {
        match self {
            FindOutError::Unit(error) => error.is_gone(),
            FindOutError::Container(error) => error.is_gone(),
            FindOutError::Account(_) => false,
        }
    }
}

impl<C: CpuControl + 'static, U: Units + 'static> Tasks<C, U> {
    /// Asks whoever knows what runs in a cgroup.
    pub(super) async fn find_out(&self, cgroup: CgroupPath) -> Result<Finding, FindOutError> {
        let unit = unit_of(&cgroup);
        let Some(container) = ContainerCgroup::of(&cgroup) else {
            let mut facts = self.units.facts(&unit).await?;
            facts.other_names = self.other_names(&unit, &facts).await;
            let finding = self.turn(move |daemon| {
                let shell = &mut daemon.shell;
                let listed = shell.hub.directory.of_unit(&unit);
                let identified = identify(&unit, &facts, &shell.config.hub, listed);
                match (identified.finding, facts.not_yet) {
                    (Finding::Unknown(_), Some(why)) => Err(FindOutError::Account(why)),
                    (finding, _) => Ok(shell.weigh_the_hubs_word(
                        &cgroup,
                        Identified {
                            finding,
                            ..identified
                        },
                    )),
                }
            });
            return finding.await;
        };
        let hub = self.turn(|daemon| daemon.shell.config.hub.clone()).await;
        let facts = container_facts(&container, &hub).await;
        self.turn(move |daemon| {
            let shell = &mut daemon.shell;
            if let Ok(facts) = &facts {
                shell.note_container(&cgroup, facts);
            }
            let known = facts.as_ref().ok();
            let directory = &shell.hub.directory;
            let identified = identify_container(&container, &unit, known, &hub, directory);
            match (facts, shell.weigh_the_hubs_word(&cgroup, identified)) {
                // The hub's word is enough where the engine is silent.
                (Err(error), Finding::Server(server)) if !error.is_gone() => {
                    Ok(Finding::Server(server))
                }
                // Nobody will ever tell.
                (Err(error @ EngineError::Off(_)), _) => Ok(Finding::Unknown(error.to_string())),
                (Err(error), _) => Err(error.into()),
                (Ok(_), finding) => Ok(finding),
            }
        })
        .await
    }
}

impl<C: CpuControl + 'static, U: Units + 'static> Tasks<C, U> {
    /// The names under which a unit's account may be expected, where the user database writes it otherwise.
    async fn other_names(&self, unit: &UnitName, facts: &UnitFacts) -> BTreeSet<String> {
        let (Some(user), Some(uid), false) = (&facts.user, facts.uid, facts.dynamic_user) else {
            return BTreeSet::new();
        };
        let unit = unit.clone();
        let expected = self.turn(move |daemon| expected_accounts(&unit, &daemon.shell.config.hub));
        let expected = expected.await;
        if !facts.transient || expected.contains(user) {
            return BTreeSet::new();
        }
        self.units.with_uid(expected, uid).await
    }
}

impl Shell {
    /// Logs once where the hub says another than what is known, which then stands.
    fn weigh_the_hubs_word(&mut self, cgroup: &CgroupPath, identified: Identified) -> Finding {
        let Identified {
            mut finding,
            contradiction,
        } = identified;
        let (Some(why), Finding::Server(server)) = (contradiction, &mut finding) else {
            return finding;
        };
        // What the hub called this server before it contradicted.
        let known = self
            .registry
            .entries
            .values()
            .find_map(|entry| match entry {
                Cgroup::Server(known) if known.cgroup == *cgroup => Some(&known.server),
                _ => None,
            });
        if let Some(known) = known.filter(|known| known.user == server.user) {
            server.name.clone_from(&known.name);
        }
        let unit = unit_of(cgroup);
        let message = format!(
            "{unit} stays {}'s: {why}. If the hub is right, correct hub.unit_names and \
             hub.unix_users; else look into its database for the server that names this unit or \
             container.",
            server.user
        );
        if self.hub.logged_contradictions.len() >= MOST_TOLD {
            self.hub.logged_contradictions.clear();
        }
        if self.hub.logged_contradictions.insert((unit.clone(), why)) {
            self.log(
                LogEntry::new(Kind::Trouble, Level::Warning, message)
                    .with("UNIT_NAME", unit.as_str())
                    .with("CGROUP", cgroup),
            );
        }
        finding
    }

    /// Notes that nobody could tell what runs in a cgroup; the next tick asks again.
    pub(super) fn not_told(&mut self, cgroup: &CgroupPath, id: CgroupId, error: &FindOutError) {
        let text = error.to_string();
        // An engine that is down is told of once, not for each of its containers.
        let told = |entry: &Cgroup| matches!(entry, Cgroup::Pending { why: Some(why), .. } if *why == text);
        let news = !self.registry.entries.values().any(told);
        // Gone is no news: the tree will tell.
        let gone = error.is_gone();
        match self.registry.entries.get_mut(&id) {
            Some(Cgroup::Pending { asking, why, .. }) => {
                *asking = false;
                *why = (!gone).then_some(text);
                self.registry.changes += 1;
            }
            _ => return,
        }
        if news && !gone {
            let message = format!(
                "Cannot tell whose {} is, and try again: {error}. Until then it is not acted on, \
                 and reaches nothing if it is in the guarded slice.",
                unit_of(cgroup)
            );
            self.log(LogEntry::new(Kind::Trouble, Level::Error, message));
        }
    }

    /// Whether nobody was told of this container yet.
    pub(super) fn is_news(&mut self, unit: &UnitName) -> bool {
        if self.registry.logged_unknown.len() >= MOST_TOLD {
            self.registry.logged_unknown.clear();
        }
        self.registry.logged_unknown.insert(unit.clone())
    }
}
