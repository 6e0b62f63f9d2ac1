//! Records of changes to units that are no known server (any more): what they tell of is put back.
//!
//! A unit may be stopped, may be watched no longer after a change of the configuration, or may have
//! been let go of while the daemon was down. One that comes back soon, as a service does that restarts,
//! takes its record over.

use super::ask_cpu::put_back;
use super::{Daemon, Limits, Shell, Tasks, now};
use crate::act::{CpuControl, Owner, Undo, UndoError};
use crate::hub::Units;
use crate::report::{Kind, Level, LogEntry};
use quantities::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// So long a unit may take to come back, or to be identified.
const PATIENCE: Duration = Duration::from_secs(10);

/// Since when a unit's record has been nobody's, by the unit's name.
#[derive(Default)]
pub(super) struct Orphans {
    since: BTreeMap<String, Time>,
    /// They are being put back.
    busy: bool,
}

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Once a tick: puts back what has been nobody's for a while.
    pub(super) fn put_back_orphans(&mut self) {
        let due = self.shell.orphans_due(now());
        if due.is_empty() {
            return;
        }
        self.shell.limits.orphans.busy = true;
        self.tasks.begin(async |tasks| {
            tasks.put_back_all(due).await;
            tasks.post(|daemon| daemon.shell.limits.orphans.busy = false);
        });
    }
}

impl<C: CpuControl + 'static, U: Units + 'static> Tasks<C, U> {
    /// Puts all of them back at once; what could not be, in words.
    pub(super) async fn put_back_every_orphan(&self) -> Vec<String> {
        let orphans = self.turn(|daemon| daemon.shell.limits.all_orphans());
        match orphans.await {
            Ok(orphans) => self.put_back_all(orphans).await,
            Err(error) => vec![format!(
                "a record of changed limits cannot be read: {error}"
            )],
        }
    }

    async fn put_back_all(&self, orphans: Vec<Undo>) -> Vec<String> {
        let mut complaints = Vec::new();
        for undo in orphans {
            let owner = undo.owner.clone();
            let result = put_back(&*self.cpu, undo, async || self.start_of(&owner).await).await;
            let noted = self.turn(move |daemon| daemon.shell.note_put_back(&owner, result));
            complaints.extend(noted.await);
        }
        complaints
    }
}

impl Limits {
    fn all_orphans(&mut self) -> Result<Vec<Undo>, UndoError> {
        self.undo.read_again()?;
        Ok(self.undo.unclaimed().cloned().collect())
    }
}

impl Shell {
    /// What became of a record that was nobody's; a complaint, if it is still there.
    fn note_put_back(&mut self, owner: &Owner, result: Result<(), String>) -> Option<String> {
        // A server that has appeared meanwhile took the record over.
        if self.limits.undo.is_claimed(owner) {
            return None;
        }
        let Err(why) = result else {
            self.limits.undo.forget(owner);
            return None;
        };
        let message = format!(
            "What hubwarden changed on {owner} could not be put back, and is tried again: {why}."
        );
        self.log_once(LogEntry::new(Kind::Trouble, Level::Error, message));
        Some(why)
    }

    fn orphans_due(&mut self, now: Time) -> Vec<Undo> {
        // A record from the state file may be older than one that cannot be read.
        if self.limits.orphans.busy || self.limits.undo.read_again().is_err() {
            return Vec::new();
        }
        let mut due = Vec::new();
        let mut since = BTreeMap::new();
        let unclaimed: Vec<Undo> = self.limits.undo.unclaimed().cloned().collect();
        for undo in unclaimed {
            if self.node.is_departing(&undo.owner) {
                continue;
            }
            if !self.limits.undo.may_stand(&undo) {
                self.limits.undo.forget(&undo.owner);
                continue;
            }
            let name = undo.owner.to_string();
            let at = self.limits.orphans.since.get(&name).copied().unwrap_or(now);
            since.insert(name, at);
            if now.since(at) >= PATIENCE {
                due.push(undo);
            }
        }
        self.limits.orphans.since = since;
        due
    }
}
