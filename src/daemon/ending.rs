//! Ending what mines. A server whose time is up is asked to stop (`stopping`); this one is not.

use super::cgroups::Cgroup;
use super::{Daemon, Inner, now};
use crate::act::{ActError, CpuControl, Owner, Stopper};
use crate::hub::Units;
use crate::report::{Kind, Level, LogEntry, Story};
use policy::{Controls, Stop};
use quantities::{CgroupId, CgroupPath};

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Ends a server that mines, all of it; its owner is told to forget it afterwards. The verdict
    /// is told from here, since the server is gone by then.
    pub(super) async fn end_server(
        &self,
        id: CgroupId,
        owner: &Owner,
        before: &Controls,
        target: &Controls,
    ) -> Result<(), ActError> {
        let listed = self.inner.borrow_mut().hub_to_stop(id);
        let (server, cgroup, mut verdicts, journal, mode) = {
            let mut inner = self.inner.borrow_mut();
            let (journal, mode) = (inner.journal.clone(), inner.config.mode);
            let Some(guarded) = inner.guarded(id) else {
                return Ok(());
            };
            let verdicts = std::mem::take(&mut guarded.verdicts);
            let (server, cgroup) = (guarded.server.clone(), guarded.cgroup.clone());
            (server, cgroup, verdicts, journal, mode)
        };
        if let Err(error) = gone_is_fine(self.stopper.end_all(&cgroup, id).await) {
            if let Some(guarded) = self.inner.borrow_mut().guarded(id) {
                verdicts.append(&mut guarded.verdicts);
                guarded.verdicts = verdicts;
            }
            return Err(error);
        }
        let story = Story {
            server: &server,
            cgroup: &cgroup,
            id,
            mode,
            shares: None,
        };
        for verdict in &verdicts {
            journal.log(story.verdict(verdict, target, before));
        }
        // What is empty holds no limit any more; a unit that is still there is to be let go of.
        let _ = self.cpu.apply(owner, None, target).await;
        gone_is_fine(self.stop_listed(listed, id, owner).await)
    }

    /// Ends the processes of a frozen server that mine, where nothing else of it is to be ended.
    pub(super) async fn end_miners(&self, id: CgroupId) -> Result<(), ActError> {
        let now = now();
        let (places, processes) = {
            let inner = self.inner.borrow();
            let acts = inner.acts();
            let waits = inner
                .accounts
                .place(id)
                .is_some_and(|place| place.standing().waits_for_end_of_processes(place.policy()));
            if !(acts && waits) {
                return Ok(());
            }
            (inner.places_of(id), inner.mining_processes(id))
        };
        let mut count = 0;
        for (cgroup, place) in places {
            match self.stopper.end(&cgroup, place, &processes).await {
                Ok(ended) => count += ended,
                Err(error) => gone_is_fine(Err(error))?,
            }
        }
        let mut inner = self.inner.borrow_mut();
        inner.evidence.clear(id);
        let verdict = inner.accounts.processes_ended(id, count, now);
        if let Some(guarded) = inner.guarded(id) {
            guarded.verdicts.extend(verdict);
            guarded.unsettled = true;
        }
        Ok(())
    }
}

impl Inner {
    /// A server's cgroup, and those of what its user runs outside it.
    fn places_of(&self, id: CgroupId) -> Vec<(CgroupPath, CgroupId)> {
        let mut places = Vec::new();
        for (place, entry) in &self.entries {
            if let Cgroup::Server(guarded) = entry
                && self.accounts.account_of(*place) == id
            {
                places.push((guarded.cgroup.clone(), *place));
            }
        }
        places
    }

    /// Proves beforehand that what the configuration asks for could be done, and tells if not.
    pub(super) fn try_out(&mut self, stopper: &Stopper) {
        let tried = match self.config.evidence.consequences.stop {
            Stop::Server => stopper.try_out_all(),
            Stop::Processes => stopper.try_out_one(),
        };
        let before = self.cannot_stop.take();
        self.cannot_stop = tried.err();
        if let Some(why) = self
            .cannot_stop
            .clone()
            .filter(|_| self.cannot_stop != before)
        {
            let message = format!("What mines could not be ended here: {why}.");
            self.log(LogEntry::new(Kind::Trouble, Level::Warning, message));
        }
    }

    /// Whether a server is to be ended without being asked.
    pub(super) fn must_end(&mut self, id: CgroupId) -> bool {
        let ends = self
            .accounts
            .place(id)
            .is_some_and(|place| place.standing().ends_as_miner() && place.is_server());
        ends && self.must_stop(id)
    }
}

/// That a server ended by itself is what was wanted.
fn gone_is_fine(result: Result<(), ActError>) -> Result<(), ActError> {
    match result {
        Err(error) if error.is_gone() => Ok(()),
        result => result,
    }
}
