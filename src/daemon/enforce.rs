//! From a stage to what stands in the kernel, and back.
//!
//! Everything goes through [`Daemon::reconcile`]: read what stands, work out what should, put that on
//! record, change it, read it back. It is the same for a verdict, its undo, a reload,
//! `off`, and somebody else's change.

mod due;

use super::put_back::{PutBackError, reconcile_kernel};
use super::state::StateError;
use super::{Daemon, now};
use crate::act::{ActError, CpuControl, Owner, UndoError};
use crate::hub::Units;
use policy::Controls;
use quantities::CgroupId;
use quantities::Time;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;

/// A server is thawed by the daemon, where that lives; so much later by systemd alone.
const THAW_GRACE: Duration = Duration::from_secs(10);

/// Why a server could not be brought to where it should be.
#[derive(Debug, thiserror::Error)]
enum ReconcileError {
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

impl ReconcileError {
    fn is_gone(&self) -> bool {
        match self {
            ReconcileError::Act(error) => error.is_gone(),
            ReconcileError::PutBack(error) => error.is_gone(),
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
struct Reconciled {
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
            let result = self.reconcile(id).await;
            let mut inner = self.inner.borrow_mut();
            let again = inner.reconciled(id, result);
            let Some(guarded) = inner.guarded(id) else {
                return;
            };
            if !again {
                guarded.acting = false;
                return;
            }
        }
    }

    async fn reconcile(&self, id: CgroupId) -> Result<Option<Reconciled>, ReconcileError> {
        let Some(owner) = self.inner.borrow_mut().guarded(id).map(|g| g.owner()) else {
            return Ok(None);
        };
        let known = self.inner.borrow_mut().know_records(&owner);
        known.map_err(ReconcileError::Unread)?;
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
            return Ok(Some(Reconciled {
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
        Ok(Some(Reconciled {
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
    ) -> Result<(), ReconcileError> {
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
    ) -> Result<(), ReconcileError> {
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
            reconcile_kernel(&self.cpu, undo, target).await?;
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
    ) -> Result<(), ReconcileError> {
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
