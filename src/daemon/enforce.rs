//! From a stage to what stands in the kernel, and back.
//!
//! Everything goes through [`Daemon::settle`]: read what stands, work out what should, put that on
//! record, change it, read it back. It is the same for a verdict, its undo, a reload,
//! `off`, and somebody else's change.

use super::cgroups::{Cgroup, Guarded};
use super::put_back::{PutBackError, settle_kernel};
use super::state::StateError;
use super::{Daemon, Inner, now};
use crate::act::{ActError, CpuControl, Owner, Undo, UndoError};
use crate::hub::Units;
use crate::report::{Kind, Level, LogEntry, Story};
use policy::{Controls, Reason, Stage, Verdict, wanted};
use quantities::CgroupId;
use quantities::{Mode, Time};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;

/// A server is thawed by the daemon, where that lives; so much later by systemd alone.
const THAW_GRACE: Duration = Duration::from_secs(10);

/// Why a server could not be brought to where it should be.
#[derive(Debug, thiserror::Error)]
enum SettleError {
    #[error(transparent)]
    Act(#[from] ActError),
    #[error("what stands there could not be put on record first, so nothing was changed: {0}")]
    Record(#[from] UndoError),
    #[error(transparent)]
    PutBack(#[from] PutBackError),
    #[error(
        "what was changed there earlier cannot be read, so nothing is changed until it can: {0}. Restart the \
         server, or make the file readable"
    )]
    Unread(UndoError),
}

impl SettleError {
    fn is_gone(&self) -> bool {
        match self {
            SettleError::Act(error) => error.is_gone(),
            SettleError::PutBack(error) => error.is_gone(),
            _ => false,
        }
    }
}

/// A quota for people, who need no more to find out who sets it.
pub(super) fn quota(settings: &Controls) -> String {
    match settings.quota {
        Some(quota) => quota.to_string(),
        None => "no CPU quota".to_owned(),
    }
}

/// What is to be done.
struct Intent {
    before: Controls,
    target: Controls,
    /// systemd says that it stands, and the kernel does not.
    forced: bool,
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
        let known = self.inner.borrow_mut().know_records(&owner);
        known.map_err(SettleError::Unread)?;
        let found = self.cpu.read(&owner).await?;
        let Some(intent) = self.inner.borrow_mut().intend(id, &found) else {
            return Ok(None);
        };
        let Intent {
            before,
            target,
            forced,
        } = intent;
        let decided = self
            .inner
            .borrow_mut()
            .guarded(id)
            .map_or(0, |guarded| guarded.verdicts.len());
        if self.inner.borrow_mut().must_end(id) {
            self.inner.borrow_mut().note(id, &target)?;
            self.end_server(id, &owner, &before, &target).await?;
            return Ok(Some(Settled {
                before,
                now: target,
                did: false,
                decided: 0,
            }));
        }
        let did = target != found || forced;
        if did {
            self.inner.borrow_mut().note(id, &target)?;
            // The verdict should outlive a crash too; nothing waits for a disk.
            self.save_wanted.notify_one();
            self.plan_thaw(id, &owner, &target).await?;
            let from = (!forced).then_some(&found);
            let changed = self.change(&owner, from, &target).await;
            self.inner.borrow_mut().follow_stray(id, &owner, &target);
            changed?;
        }
        self.confirm(id, &found, &target).await?;
        if self.inner.borrow_mut().must_stop(id) {
            self.stop(id, &owner).await?;
        }
        self.end_miners(id).await?;
        Ok(Some(Settled {
            before,
            now: target,
            did,
            decided,
        }))
    }

    /// Has a server that is to stand still thawed by systemd at the latest, before it stands still.
    async fn plan_thaw(
        &self,
        id: CgroupId,
        owner: &Owner,
        target: &Controls,
    ) -> Result<(), SettleError> {
        let now = now();
        let lease = match self.inner.borrow().accounts.place(id) {
            Some(place) if target.frozen => place.policy().sustained.freeze_for + THAW_GRACE,
            _ => return Ok(()),
        };
        self.cpu.thaw_after(owner, lease).await?;
        if let Some(guarded) = self.inner.borrow_mut().guarded(id) {
            guarded.thaws = Some(Time(now.0 + lease));
        }
        Ok(())
    }

    /// What was wanted stands, by systemd: takes that in once the kernel has nothing else.
    async fn confirm(
        &self,
        id: CgroupId,
        found: &Controls,
        target: &Controls,
    ) -> Result<(), SettleError> {
        let (owner, lifted, renew) = {
            let mut inner = self.inner.borrow_mut();
            let Some(guarded) = inner.guarded(id) else {
                return Ok(());
            };
            let renew = guarded.must_renew(now());
            // Nothing of ours is to stand.
            let undo = guarded.undo.clone();
            let lifted = undo.filter(|undo| undo.before() == target);
            (guarded.owner(), lifted, renew)
        };
        if let Some(undo) = &lifted {
            settle_kernel(&self.cpu, undo, target).await?;
        }
        if target.frozen && renew {
            self.plan_thaw(id, &owner, target).await?;
        }
        if found.frozen && !target.frozen {
            // It would thaw what is not frozen.
            let _ = self.cpu.thaw_no_more(&owner).await;
        }
        self.inner.borrow_mut().confirmed(id, target);
        Ok(())
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
        Err(PutBackError::NotTaken(owner.clone(), quota(target), quota(&found)).into())
    }

    /// Returns when all that is known now is on disk.
    pub(super) async fn persist(&self) -> Result<(), Rc<StateError>> {
        let (sender, saved) = oneshot::channel();
        self.savers.borrow_mut().push(sender);
        self.save_wanted.notify_one();
        // The saver lives as long as the daemon; a hang-up means that both go down.
        saved.await.unwrap_or(Ok(()))
    }

    /// Writes the state whenever somebody waits for that, once for all who wait.
    pub(super) async fn save_forever(self: Rc<Self>) {
        loop {
            self.save_wanted.notified().await;
            // Whoever is about to ask may join.
            tokio::task::yield_now().await;
            self.save();
        }
    }

    /// Writes the state now and answers those who wait.
    pub(super) fn save(&self) {
        let waiting = std::mem::take(&mut *self.savers.borrow_mut());
        let mut inner = self.inner.borrow_mut();
        inner.dirty = false;
        let state = inner.state();
        drop(inner);
        let result = self.store.save(&state).map_err(Rc::new);
        if let Err(error) = &result {
            self.inner.borrow_mut().state_trouble(error);
        }
        for sender in waiting {
            // Whoever hung up is gone.
            let _ = sender.send(result.clone());
        }
    }
}

impl Guarded {
    /// Whether the daemon wants it to stand still for longer than systemd would let it.
    pub fn must_renew(&self, now: Time) -> bool {
        let frozen = self.ours().is_some_and(|ours| ours.frozen);
        frozen && self.thaws.is_none_or(|at| at.since(now) < THAW_GRACE / 2)
    }
}

impl Inner {
    /// Whether a server's verdict is to end it.
    pub(super) fn must_stop(&mut self, id: CgroupId) -> bool {
        let acts = self.acts();
        self.guarded(id)
            .is_some_and(|guarded| acts && !guarded.released)
            && self.stands_on(id) == Some(Stage::Stopped)
    }

    /// The stage that a place stands on.
    pub(super) fn stands_on(&self, id: CgroupId) -> Option<Stage> {
        self.accounts.place(id).map(|place| place.standing().stage)
    }

    /// Whether verdicts are carried out.
    pub(super) fn acts(&self) -> bool {
        !self.off && self.config.mode == Mode::Enforce
    }

    /// Works out what should stand, and whether it must be written even though systemd says that it
    /// stands.
    fn intend(&mut self, id: CgroupId, found: &Controls) -> Option<Intent> {
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
    pub(super) fn know_records(&mut self, owner: &Owner) -> Result<(), UndoError> {
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
    fn note(&mut self, id: CgroupId, target: &Controls) -> Result<(), UndoError> {
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
    fn follow_stray(&mut self, id: CgroupId, owner: &Owner, target: &Controls) {
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
    fn confirmed(&mut self, id: CgroupId, standing: &Controls) {
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
    fn settled(&mut self, id: CgroupId, result: Result<Option<Settled>, SettleError>) -> bool {
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
            Ok(Some(settled)) => {
                guarded.trouble = None;
                let quietly = accounts.take_reshared(id);
                accounts.set_limit(id, settled.now.quota);
                let decided = settled.decided.min(guarded.verdicts.len());
                let verdicts: Vec<Verdict> = guarded.verdicts.drain(..decided).collect();
                let story = Story {
                    shares,
                    ..guarded.story(mode)
                };
                if verdicts.is_empty() && settled.did && !quietly {
                    journal.log(match stage {
                        _ if off => story.restored("supervision is off", &settled.now),
                        _ if !acts => story.restored("hubwarden only observes", &settled.now),
                        Stage::Free => story.limited(&settled.now, &settled.before),
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
                    journal.log(story.verdict(verdict, &shown, &settled.before));
                }
                if let Some(last) = verdicts.last() {
                    guarded.reason = Some(last.reason.to_string());
                }
            }
            Err(error) if error.is_gone() => return false,
            Err(error @ SettleError::Unread(_)) => {
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
