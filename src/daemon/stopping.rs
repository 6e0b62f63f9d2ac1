//! Ending a server: through the hub, where the configuration says so, else by whoever owns its
//! cgroup.
//!
//! A server that systemd stops is found dead by the hub a little later, at its next look. One that
//! the hub stops is stopped in its own books too, and its page says so at once.

use super::cgroups::Guarded;
use super::{Daemon, Inner};
use crate::act::{ActError, CpuControl, Owner};
use crate::config::StopBy;
use crate::hub::api::Api;
use crate::hub::{Listed, Units};
use crate::report::LogEntry;
use policy::Stage;
use quantities::CgroupId;
use quantities::{Mode, Time};
use std::time::Duration;

/// The hub is given so long; then it is done without.
const HUB_STOPS_WITHIN: Duration = Duration::from_secs(60);

/// How far the end of a server has come.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) enum Stopping {
    /// Nobody was asked.
    #[default]
    NotBegun,
    /// The hub was asked; when that was first looked after.
    Asked(Option<Time>),
    /// The hub was asked and did not do it in time.
    Overdue,
    /// The hub could not be used.
    WithoutHub,
}

impl Stopping {
    /// Looks after a hub that was asked; true when it has had its time.
    pub fn is_overdue(&mut self, now: Time) -> bool {
        if let Stopping::Asked(at) = self {
            let at = *at.get_or_insert(now);
            if now.since(at) >= HUB_STOPS_WITHIN {
                *self = Stopping::Overdue;
                return true;
            }
        }
        false
    }
}

impl Guarded {
    /// What is still to be told of a verdict that ended it: it may be gone before whoever was
    /// asked to stop it says so.
    pub fn was_stopped(&self, mode: Mode) -> Option<LogEntry> {
        let verdict = self.verdicts.iter().find(|one| one.to == Stage::Stopped)?;
        let now = self.undo.as_ref().map(|undo| *undo.ours());
        let before = self.undo.as_ref().map(|undo| *undo.before());
        Some(self.story(mode).verdict(
            verdict,
            &now.unwrap_or_default(),
            &before.unwrap_or_default(),
        ))
    }
}

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Ends a server. May be called again for as long as it is there.
    pub(super) async fn stop(&self, id: CgroupId, owner: &Owner) -> Result<(), ActError> {
        let listed = self.inner.borrow_mut().hub_to_stop(id);
        self.stop_listed(listed, id, owner).await
    }

    /// The same, of a server that the hub is to be asked about under this name.
    pub(super) async fn stop_listed(
        &self,
        listed: Option<Listed>,
        id: CgroupId,
        owner: &Owner,
    ) -> Result<(), ActError> {
        if let Some(listed) = listed {
            let (hub, root) = {
                let inner = self.inner.borrow();
                (inner.config.hub.clone(), inner.root.clone())
            };
            let Some(url) = &hub.api_url else {
                return self.cpu.stop(owner).await;
            };
            let api = Api {
                url,
                hub: &hub,
                root: &root,
                units: &self.units,
            };
            let result = api.stop(&listed).await;
            match result {
                Ok(_) => return Ok(()),
                Err(error) => self.inner.borrow_mut().without_hub(id, &error.to_string()),
            }
        }
        if self.inner.borrow_mut().hub_is_at_it(id) {
            return Ok(());
        }
        self.cpu.stop(owner).await
    }
}

impl Inner {
    /// Whom to ask the hub to stop, if it is to be asked now.
    pub(super) fn hub_to_stop(&mut self, id: CgroupId) -> Option<Listed> {
        let by_hub = self.config.hub.stop_by == StopBy::Hub && self.config.hub.api_url.is_some();
        let guarded = self.guarded(id)?;
        // What runs outside the server is nothing that the hub knows of.
        if !by_hub || guarded.is_outside() || guarded.stopping != Stopping::NotBegun {
            return None;
        }
        guarded.stopping = Stopping::Asked(None);
        Some(Listed {
            user: guarded.server.user.clone(),
            server: guarded.server.name.clone(),
        })
    }

    /// Whether the hub was asked and still has time.
    fn hub_is_at_it(&mut self, id: CgroupId) -> bool {
        match self.guarded(id).map(|guarded| guarded.stopping) {
            Some(Stopping::Asked(_)) => true,
            Some(Stopping::Overdue) => {
                let why = format!("it was asked {} s ago", HUB_STOPS_WITHIN.as_secs());
                self.without_hub(id, &why);
                false
            }
            _ => false,
        }
    }

    fn without_hub(&mut self, id: CgroupId, why: &str) {
        let mode = self.config.mode;
        let journal = self.journal.clone();
        if let Some(guarded) = self.guarded(id) {
            guarded.stopping = Stopping::WithoutHub;
            let guarded: &Guarded = guarded;
            journal.log(guarded.story(mode).hub_did_not_stop(why));
        }
    }
}
