//! Records of changes to units that are no known server (any more): what they tell of is put back.
//!
//! A unit may be stopped, may be watched no longer after a change of the configuration, or may have
//! been let go of while the daemon was down. One that comes back soon, as a service does that restarts,
//! takes its record over.

use super::ask_cpu::put_back;
use super::{Daemon, Inner, now};
use crate::act::{CpuControl, Undo};
use crate::hub::Units;
use crate::report::{Kind, Level, LogEntry};
use quantities::Time;
use std::collections::BTreeMap;
use std::rc::Rc;
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
    pub(super) fn put_back_orphans(self: &Rc<Self>) {
        let due = self.inner.borrow_mut().orphans_due(now());
        if due.is_empty() {
            return;
        }
        self.inner.borrow_mut().orphans.busy = true;
        let daemon = Rc::clone(self);
        tokio::task::spawn_local(async move {
            daemon.put_back_all(due).await;
            daemon.inner.borrow_mut().orphans.busy = false;
        });
    }

    /// Puts all of them back at once; what could not be, in words.
    pub(super) async fn put_back_every_orphan(&self) -> Vec<String> {
        if let Err(error) = self.inner.borrow_mut().undo.read_again() {
            return vec![format!(
                "a record of changed limits cannot be read: {error}"
            )];
        }
        let orphans = self.inner.borrow().undo.unclaimed().cloned().collect();
        self.put_back_all(orphans).await
    }

    async fn put_back_all(&self, orphans: Vec<Undo>) -> Vec<String> {
        let mut complaints = Vec::new();
        for undo in orphans {
            let owner = undo.owner.clone();
            let start = || self.inner.borrow().undo.start_of(&owner);
            let result = put_back(&self.cpu, undo, start).await;
            let mut inner = self.inner.borrow_mut();
            // A server that has appeared meanwhile took the record over.
            if inner.undo.is_claimed(&owner) {
                continue;
            }
            match result {
                Ok(()) => inner.undo.forget(&owner),
                Err(why) => {
                    let message = format!(
                        "What hubwarden changed on {owner} could not be put back, and is tried again: \
                         {why}."
                    );
                    inner.log_once(LogEntry::new(Kind::Trouble, Level::Error, message));
                    complaints.push(why);
                }
            }
        }
        complaints
    }
}

impl Inner {
    fn orphans_due(&mut self, now: Time) -> Vec<Undo> {
        // A record from the state file may be older than one that cannot be read.
        if self.orphans.busy || self.undo.read_again().is_err() {
            return Vec::new();
        }
        let mut due = Vec::new();
        let mut since = BTreeMap::new();
        let unclaimed: Vec<Undo> = self.undo.unclaimed().cloned().collect();
        for undo in unclaimed {
            if self.node.is_departing(&undo.owner) {
                continue;
            }
            if !self.undo.may_stand(&undo) {
                self.undo.forget(&undo.owner);
                continue;
            }
            let name = undo.owner.to_string();
            let at = self.orphans.since.get(&name).copied().unwrap_or(now);
            since.insert(name, at);
            if now.since(at) >= PATIENCE {
                due.push(undo);
            }
        }
        self.orphans.since = since;
        due
    }
}
