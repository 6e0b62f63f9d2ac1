//! From a rung to what stands in the kernel, and back.
//!
//! Everything goes through [`Daemon::settle`]: read what stands, work out what should, write the
//! intent to disk, change it, read it back. It is the same for a verdict, its undo, a reload,
//! `off`, and somebody else's change.

use super::state::{Changed, StateError};
use super::sweep::overwritten;
use super::{Daemon, Inner};
use crate::act::{ActError, CpuControl, Owner};
use crate::cgroup::CgroupId;
use crate::hub::Units;
use crate::judge::{Controls, Reason, Rung, Verdict, wanted};
use crate::units::Mode;
use std::rc::Rc;
use tokio::sync::oneshot;

/// Why a server could not be brought to where it should be.
#[derive(Debug, thiserror::Error)]
enum SettleError {
    #[error(transparent)]
    Act(#[from] ActError),
    #[error("what stands there could not be noted first, so nothing was changed: {0}")]
    State(String),
    #[error("{owner} was to have {wanted:?} and has {found:?}")]
    NotTaken {
        owner: Owner,
        wanted: Controls,
        found: Controls,
    },
}

/// What settling came to.
struct Settled {
    before: Controls,
    now: Controls,
    did: bool,
    /// How many of the waiting verdicts it carried out; what was decided since is still to do.
    decided: usize,
}

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Brings a server to where it should be and tells its waiting verdicts.
    pub(super) fn enforce(self: &Rc<Self>, id: CgroupId) {
        let daemon = Rc::clone(self);
        tokio::task::spawn_local(async move { daemon.enforce_now(id).await });
    }

    /// As [`Daemon::enforce`], one after the other.
    pub(super) fn enforce_in_turn(self: &Rc<Self>, ids: Vec<CgroupId>) {
        if ids.is_empty() {
            return;
        }
        let daemon = Rc::clone(self);
        tokio::task::spawn_local(async move {
            for id in ids {
                daemon.enforce_now(id).await;
            }
        });
    }

    /// As [`Daemon::enforce`], to be waited for.
    pub(super) async fn enforce_now(self: &Rc<Self>, id: CgroupId) {
        match self.inner.borrow_mut().guarded(id) {
            Some(guarded) if guarded.acting => {
                guarded.unsettled = true;
                return;
            }
            Some(guarded) => guarded.acting = true,
            None => return,
        }
        loop {
            if let Some(guarded) = self.inner.borrow_mut().guarded(id) {
                guarded.unsettled = false;
            }
            let result = self.settle(id).await;
            let mut inner = self.inner.borrow_mut();
            let again = inner.settled(id, result);
            let Some(guarded) = inner.guarded(id) else {
                return;
            };
            if !again {
                guarded.acting = false;
                return;
            }
        }
    }

    async fn settle(&self, id: CgroupId) -> Result<Option<Settled>, SettleError> {
        let Some(owner) = self.inner.borrow_mut().guarded(id).map(|g| g.owner()) else {
            return Ok(None);
        };
        let found = self.cpu.read(&owner).await?;
        let Some((before, target, forced)) = self.inner.borrow_mut().intend(id, &found) else {
            return Ok(None);
        };
        let decided = self
            .inner
            .borrow_mut()
            .guarded(id)
            .map_or(0, |guarded| guarded.verdicts.len());
        let did = target != found || forced;
        if self.inner.borrow_mut().must_end(id) {
            self.note_intent().await?;
            self.end_server(id, &owner, &before, &target).await?;
            return Ok(Some(Settled {
                before,
                now: target,
                did: false,
                decided: 0,
            }));
        }
        if did {
            self.note_intent().await?;
            let from = (!forced).then_some(&found);
            self.change(&owner, from, &target).await?;
        }
        if self.inner.borrow_mut().must_stop(id) {
            self.stop(id, &owner).await?;
        }
        self.end_miners(id).await?;
        if let Some(guarded) = self.inner.borrow_mut().guarded(id)
            && guarded
                .changed
                .is_some_and(|changed| changed.ours == changed.before)
        {
            guarded.changed = None;
        }
        Ok(Some(Settled {
            before,
            now: target,
            did,
            decided,
        }))
    }

    async fn note_intent(&self) -> Result<(), SettleError> {
        let noted = self.persist().await;
        noted.map_err(|error| SettleError::State(error.to_string()))
    }

    async fn change(
        &self,
        owner: &Owner,
        from: Option<&Controls>,
        target: &Controls,
    ) -> Result<(), SettleError> {
        self.cpu.apply(owner, from, target).await?;
        let found = self.cpu.read(owner).await?;
        if found == *target {
            return Ok(());
        }
        Err(SettleError::NotTaken {
            owner: owner.clone(),
            wanted: *target,
            found,
        })
    }

    /// Returns when all that is known now is on disk.
    pub(super) async fn persist(&self) -> Result<(), Rc<StateError>> {
        let (sender, saved) = oneshot::channel();
        self.savers.borrow_mut().push(sender);
        self.save_wanted.notify_one();
        // The saver lives as long as the daemon; a hang-up means that both go down.
        saved.await.unwrap_or(Ok(()))
    }

    /// Writes the book whenever somebody waits for that, once for all who wait.
    pub(super) async fn save_forever(self: Rc<Self>) {
        loop {
            self.save_wanted.notified().await;
            // Whoever is about to ask may join.
            tokio::task::yield_now().await;
            self.save();
        }
    }

    /// Writes the book now and answers those who wait.
    pub(super) fn save(&self) {
        let waiting = std::mem::take(&mut *self.savers.borrow_mut());
        let mut inner = self.inner.borrow_mut();
        inner.dirty = false;
        let book = inner.book();
        drop(inner);
        let result = self.store.save(&book).map_err(Rc::new);
        if let Err(error) = &result {
            self.inner.borrow_mut().state_trouble(error);
        }
        for sender in waiting {
            // Whoever hung up is gone.
            let _ = sender.send(result.clone());
        }
    }
}

impl Inner {
    /// Whether a server's verdict is to end it.
    pub(super) fn must_stop(&mut self, id: CgroupId) -> bool {
        let acts = self.acts();
        self.guarded(id)
            .is_some_and(|guarded| acts && !guarded.released && guarded.case.rung == Rung::Stopped)
    }

    /// Whether verdicts are carried out.
    pub(super) fn acts(&self) -> bool {
        !self.off && self.config.mode == Mode::Enforce
    }

    /// Works out what should stand, notes it, and says whether it must be written even though
    /// systemd says that it stands.
    fn intend(&mut self, id: CgroupId, found: &Controls) -> Option<(Controls, Controls, bool)> {
        let acts = self.acts();
        let mode = self.config.mode;
        let journal = self.journal.clone();
        let guarded = self.guarded(id)?;
        let policy = guarded.policy_here();
        let acts = acts && !guarded.released;
        let mut before = guarded.changed.map_or(*found, |changed| changed.before);
        let mut forced = false;
        if let Some(changed) = guarded.changed {
            if *found == changed.before {
                // We noted an intent and were killed before carrying it out, or the unit was
                // reset: nothing of ours stands.
            } else if *found != changed.ours {
                before = before.with_changes(&changed.ours, found);
                let story = guarded.story(mode);
                journal.tell(story.limit_changed(found, &changed.ours));
            } else {
                // Written past systemd. What stands where we set no quota is not ours to undo.
                forced = changed.ours.quota.is_some() && overwritten(guarded);
            }
        }
        let rung = guarded.case.rung;
        let target = if acts {
            match wanted(rung, &policy, &before) {
                same if same == before => before,
                target => guarded.owner().as_held(&target),
            }
        } else {
            before
        };
        guarded.changed = (target != before || target != *found || guarded.changed.is_some())
            .then_some(Changed {
                before,
                ours: target,
            });
        if !acts {
            // What would stand, for the journal; what does stand is `before`.
            return Some((before, target, false));
        }
        Some((before, target, forced))
    }

    /// Tells what came of it; true if there is more to do.
    fn settled(&mut self, id: CgroupId, result: Result<Option<Settled>, SettleError>) -> bool {
        let acts = self.acts();
        let (mode, off) = (self.config.mode, self.off);
        let journal = self.journal.clone();
        let Some(guarded) = self.guarded(id) else {
            return false;
        };
        let policy = guarded.policy_here();
        match result {
            Ok(None) => return false,
            Ok(Some(settled)) => {
                guarded.trouble = None;
                let quietly = std::mem::take(&mut guarded.place.quietly);
                guarded.limit = settled.now.quota;
                let decided = settled.decided.min(guarded.verdicts.len());
                let verdicts: Vec<Verdict> = guarded.verdicts.drain(..decided).collect();
                let rung = guarded.case.rung;
                let story = guarded.story(mode);
                if verdicts.is_empty() && settled.did && !quietly {
                    journal.tell(match rung {
                        _ if off => story.restored("supervision is off", &settled.now),
                        _ if !acts => story.restored("hubwarden only observes", &settled.now),
                        Rung::Free => story.limited(&settled.now, &settled.before),
                        to => {
                            let reason = Reason::DecidedBefore;
                            let verdict = Verdict {
                                from: to,
                                to,
                                reason,
                            };
                            story.verdict(&verdict, &settled.now, &settled.before)
                        }
                    });
                }
                for verdict in &verdicts {
                    let shown = wanted(verdict.to, &policy, &settled.before);
                    journal.tell(story.verdict(verdict, &shown, &settled.before));
                }
                if let Some(last) = verdicts.last() {
                    guarded.reason = Some(last.reason.to_string());
                }
            }
            Err(SettleError::Act(error)) if error.is_gone() => return false,
            Err(error) => {
                let text = error.to_string();
                if guarded.trouble.as_ref() != Some(&text) {
                    let story = guarded.story(mode);
                    journal.tell(story.trouble("Setting the CPU limit", &error));
                    guarded.trouble = Some(text);
                }
                // Not at once: whatever it is needs time to pass.
                guarded.unsettled = true;
                return false;
            }
        }
        guarded.unsettled
    }
}
