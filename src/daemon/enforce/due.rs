//! What is due on a server's unit, and what becomes known of it once it was tried.

use super::{Intent, ReconcileError, Reconciled, THAW_GRACE};
use crate::act::{Owner, Undo, UndoError};
use crate::daemon::Inner;
use crate::daemon::cgroups::{Cgroup, Guarded};
use crate::report::{Kind, Level, LogEntry, Story};
use policy::{Controls, Reason, Stage, Verdict, wanted};
use quantities::{CgroupId, Mode, Time};

impl Guarded {
    /// Whether the daemon wants it to stand still for longer than systemd would let it.
    pub fn must_renew(&self, now: Time) -> bool {
        let frozen = self.ours().is_some_and(|ours| ours.frozen);
        frozen && self.thaws.is_none_or(|at| at.since(now) < THAW_GRACE / 2)
    }
}

impl Inner {
    /// Whether a server's verdict is to end it.
    pub(in crate::daemon) fn must_stop(&mut self, id: CgroupId) -> bool {
        let acts = self.acts();
        self.guarded(id)
            .is_some_and(|guarded| acts && !guarded.released)
            && self.stands_on(id) == Some(Stage::Stopped)
    }

    /// The stage that a place stands on.
    pub(in crate::daemon) fn stands_on(&self, id: CgroupId) -> Option<Stage> {
        self.accounts.place(id).map(|place| place.standing().stage)
    }

    /// Whether verdicts are carried out.
    pub(in crate::daemon) fn acts(&self) -> bool {
        !self.off && self.config.mode == Mode::Enforce
    }

    /// Works out what should stand, and whether it must be written even though systemd says that it
    /// stands.
    pub(super) fn intend(&mut self, id: CgroupId, found: &Controls) -> Option<Intent> {
        let acts = self.acts();
        let mode = self.config.mode;
        let journal = self.journal.clone();
        let owner = self.guarded(id)?.owner();
        let start = self.undo.start_of(&owner);
        let known = self.guarded(id)?.undo.as_ref().map(|undo| undo.start);
        if known.is_some_and(|known| !known.is_same(start)) {
            // Another unit has its name by now: this server is gone, and the tree will say so.
            return None;
        }
        let place = self.accounts.place(id)?;
        let (policy, stage) = (place.policy_here(), place.standing().stage);
        let on_record = match self.guarded(id)?.undo.take() {
            None => self.undo.claim(&owner).map(|undo| undo.of(owner.clone())),
            known => known,
        };
        let guarded = self.guarded(id)?;
        let acts = acts && !guarded.released;
        let mut undo = on_record.unwrap_or_else(|| Undo::new(owner.clone(), start, *found));
        let stood = undo.stands().then(|| *undo.ours());
        if undo.observe(found)
            && let Some(ours) = &stood
        {
            journal.log(guarded.story(mode).limit_changed(found, ours));
        }
        let before = *undo.before();
        let target = match acts {
            false => before,
            true => match wanted(stage, &policy, &before) {
                same if same == before => before,
                target => owner.as_held(&target),
            },
        };
        // Written past systemd. What stands where we set no quota is not ours to undo.
        let ours_stands = stood.is_some_and(|ours| ours == *found && ours.quota.is_some());
        guarded.undo = Some(undo);
        let forced = acts && ours_stands && self.is_overwritten(id);
        Some(Intent {
            before,
            target,
            forced,
        })
    }

    /// Makes sure that all is known that is on record of a unit.
    pub(in crate::daemon) fn know_records(&mut self, owner: &Owner) -> Result<(), UndoError> {
        if self.undo.read_again()? {
            let Inner { entries, undo, .. } = self;
            for entry in entries.values_mut() {
                if let Cgroup::Server(guarded) = entry
                    && let Some(known) = undo.claim(&guarded.owner())
                {
                    guarded.take_over(Some(known));
                }
            }
        }
        self.undo.read_missing(owner)
    }

    /// Puts on record that this is about to be set.
    pub(super) fn note(&mut self, id: CgroupId, target: &Controls) -> Result<(), UndoError> {
        let Inner { entries, undo, .. } = self;
        let Some(Cgroup::Server(guarded)) = entries.get_mut(&id) else {
            return Ok(());
        };
        let Some(ours) = &mut guarded.undo else {
            return Ok(());
        };
        ours.intend(*target);
        match undo.save(ours) {
            // What is put back, or was noted earlier, needs no room.
            Err(error)
                if !undo
                    .get(&ours.owner)
                    .is_some_and(|noted| noted.covers(ours)) =>
            {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Notes where a change went to another unit than it was meant for: one that was stopped and made
    /// again under the same name while systemd was being told.
    pub(super) fn follow_stray(&mut self, id: CgroupId, owner: &Owner, target: &Controls) {
        let start = self.undo.start_of(owner);
        let Some(mut stray) = self.guarded(id).and_then(|guarded| guarded.undo.clone()) else {
            return;
        };
        if stray.start.is_same(start) {
            return;
        }
        let same = |other: &Guarded| other.id != id && other.owner().is_same_unit(owner);
        let heir = self.entries.values_mut().find_map(|entry| match entry {
            Cgroup::Server(guarded) if same(guarded) => guarded.undo.as_mut(),
            _ => None,
        });
        if let Some(heir) = heir {
            heir.intend(*target);
        } else {
            // The spawner that made it again asks for what it asked for before.
            stray.start = start;
            let _ = self.undo.save(&stray);
            if let Some(guarded) = self.guarded(id) {
                guarded.undo = Some(stray);
            }
        }
    }

    /// Takes in that this stands.
    pub(super) fn confirmed(&mut self, id: CgroupId, standing: &Controls) {
        let Inner {
            entries,
            undo,
            dirty,
            ..
        } = self;
        if let Some(Cgroup::Server(guarded)) = entries.get_mut(&id)
            && let Some(ours) = &mut guarded.undo
        {
            ours.confirm(*standing);
            if !standing.frozen {
                guarded.thaws = None;
            }
            // Where nothing was ever changed there is nothing to record. What is on record and cannot
            // be written anew tells of more than stands, which does no harm.
            if undo.get(&ours.owner).is_some() {
                let _ = undo.save(ours);
                *dirty = true;
            }
        }
    }

    /// Tells what came of it; true if there is more to do.
    pub(super) fn reconciled(
        &mut self,
        id: CgroupId,
        result: Result<Option<Reconciled>, ReconcileError>,
    ) -> bool {
        let acts = self.acts();
        let (mode, off) = (self.config.mode, self.off);
        let journal = self.journal.clone();
        let Some(place) = self.accounts.place(id) else {
            return false;
        };
        let (policy, stage) = (place.policy_here(), place.standing().stage);
        let shares = place.part().map(|_| place.policy().baseline);
        let Inner {
            entries, accounts, ..
        } = self;
        let Some(Cgroup::Server(guarded)) = entries.get_mut(&id) else {
            return false;
        };
        match result {
            Ok(None) => return false,
            Ok(Some(done)) => {
                guarded.trouble = None;
                let quietly = accounts.take_reshared(id);
                accounts.set_limit(id, done.now.quota);
                let decided = done.decided.min(guarded.verdicts.len());
                let verdicts: Vec<Verdict> = guarded.verdicts.drain(..decided).collect();
                let story = Story {
                    shares,
                    ..guarded.story(mode)
                };
                if verdicts.is_empty() && done.did && !quietly {
                    journal.log(match stage {
                        _ if off => story.restored("supervision is off", &done.now),
                        _ if !acts => story.restored("hubwarden only observes", &done.now),
                        Stage::Free => story.limited(&done.now, &done.before),
                        to => {
                            let reason = Reason::DecidedBefore;
                            let verdict = Verdict {
                                from: to,
                                to,
                                reason,
                            };
                            story.verdict(&verdict, &done.now, &done.before)
                        }
                    });
                }
                for verdict in &verdicts {
                    let shown = wanted(verdict.to, &policy, &done.before);
                    journal.log(story.verdict(verdict, &shown, &done.before));
                }
                if let Some(last) = verdicts.last() {
                    guarded.reason = Some(last.reason.to_string());
                }
            }
            Err(error) if error.is_gone() => return false,
            Err(error @ ReconcileError::Unread(_)) => {
                // It is the same for all servers, as a rule.
                guarded.unsettled = true;
                guarded.trouble = Some(error.to_string());
                let text = format!("Limits are left as they are, which is tried again: {error}.");
                self.log_once(LogEntry::new(Kind::Trouble, Level::Error, text));
                return false;
            }
            Err(error) => {
                let text = error.to_string();
                if guarded.trouble.as_ref() != Some(&text) {
                    let story = guarded.story(mode);
                    journal.log(story.trouble("Setting the CPU limit", &error));
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
