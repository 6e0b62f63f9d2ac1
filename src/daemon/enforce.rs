//! Carries out what the core wants done with servers' units, and hands in what became of it.

use super::ask_cpu::{self, failure};
use super::cgroups::{Cgroup, Guarded};
use super::{Daemon, Inner, now};
use crate::act::{ActError, CpuControl, Owner, UndoError};
use crate::config::{Config, StopBy};
use crate::hub::Units;
use crate::report::{Kind, Level, LogEntry, Story};
use hubwarden_core::actuator::{
    self, Acts, Answer, Event, Failure, LOST_AFTER, Request, Standing, Ticket, Trouble,
};
use hubwarden_core::node::{Effect, Input, Settings};
use policy::{Controls, Stage, Warning};
use quantities::CgroupId;
use std::rc::Rc;

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Brings servers to where they should be and logs their waiting verdicts.
    pub(super) fn enforce(self: &Rc<Self>, ids: Vec<CgroupId>) {
        self.drive(Input::Wake(ids));
    }

    /// Hands something to the core, and has done what follows.
    pub(super) fn drive(self: &Rc<Self>, input: Input) {
        self.inner.borrow_mut().feed(input);
        self.perform();
    }

    /// Has done what the core wants.
    pub(super) fn perform(self: &Rc<Self>) {
        let effects = std::mem::take(&mut self.inner.borrow_mut().effects);
        for effect in effects {
            match effect {
                Effect::Unit(id, effect) => self.perform_on_unit(id, effect),
                Effect::Note(undo) => {
                    // Without room it is put on record with the next change.
                    let _ = self.inner.borrow_mut().undo.save(&undo);
                }
                Effect::Decided(id, verdict) => {
                    let mut inner = self.inner.borrow_mut();
                    inner.dirty = true;
                    inner.meter.ledger.verdict(id, verdict.to);
                }
                Effect::Warned(id, warning) => self.inner.borrow_mut().log_warning(id, &warning),
                Effect::LetGo(id) => self.let_go(id),
                Effect::LookAt(suspects) => self.inner.borrow_mut().order_sensors(&suspects),
                Effect::Attend => self.attend(),
                Effect::Evidence(id, level, findings) => {
                    self.inner.borrow().log_evidence(id, level, &findings);
                }
                Effect::Accused(accused) => self.accused(&accused),
            }
        }
    }

    fn perform_on_unit(self: &Rc<Self>, id: CgroupId, effect: actuator::Effect) {
        match effect {
            actuator::Effect::Ask(ticket, request) => {
                let daemon = Rc::clone(self);
                tokio::task::spawn_local(async move {
                    let input = daemon.ask_for(id, ticket, request).await;
                    daemon.drive(input);
                    daemon.inner.borrow_mut().forget_departed();
                    daemon.answered.notify_waiters();
                });
            }
            actuator::Effect::Save => {
                self.inner.borrow_mut().dirty = true;
                self.save_wanted.notify_one();
            }
            actuator::Effect::Log(event) => self.inner.borrow_mut().log_event(id, &event),
            // The core has taken these in itself.
            actuator::Effect::InForce(_) | actuator::Effect::Strayed { .. } => {}
        }
    }

    async fn ask_for(&self, id: CgroupId, ticket: Ticket, request: Request) -> Input {
        let owner = self
            .inner
            .borrow()
            .node
            .actuator(id)
            .map(|one| one.owner().clone());
        let Some(owner) = owner else {
            return Input::Answer(id, ticket, Answer::Done(Err(Failure::Gone)));
        };
        let answer = match request {
            Request::Read => {
                let known = self.inner.borrow_mut().know_records(&owner);
                match known {
                    Err(error) => Answer::Unread(error.to_string()),
                    Ok(()) => {
                        let read = self.cpu.read(&owner).await;
                        self.inner.borrow_mut().standing(id, &owner, read)
                    }
                }
            }
            Request::Record(undo) => {
                let recorded = self.inner.borrow_mut().undo.save(&undo);
                Answer::Recorded(recorded.map_err(|error| error.to_string()))
            }
            Request::AskHub => Answer::Done(self.ask_hub_to_stop(id).await),
            Request::Kill => Answer::Done(failure(self.kill(id).await)),
            Request::EndProcesses => {
                let ended = failure(self.end_miners(id).await);
                return Input::ProcessesEnded(id, ticket, ended);
            }
            request => {
                let done = ask_cpu::ask(&self.cpu, &owner, request).await;
                done.answer(|| self.inner.borrow().undo.start_of(&owner))
            }
        };
        Input::Answer(id, ticket, answer)
    }

    /// Returns when nothing is under way with any of these, or an answer is lost.
    pub(super) async fn until_at_rest(&self, ids: &[CgroupId]) {
        let at_rest = async {
            while self.inner.borrow().node.is_busy(ids) {
                self.answered.notified().await;
            }
        };
        let _ = tokio::time::timeout(LOST_AFTER, at_rest).await;
    }
}

/// What the core needs of the configuration.
pub(super) fn settings(config: &Config, off: bool) -> Settings {
    Settings {
        mode: config.mode,
        off,
        by_hub: config.hub.stop_by == StopBy::Hub && config.hub.api_url.is_some(),
        tick: config.tick,
        hot: config.evidence.hot,
        hot_for: config.evidence.hot_for,
        stands: config.evidence.consequences.stands,
    }
}

impl Inner {
    /// Hands something to the core; what follows is done by [`Daemon::perform`].
    pub(super) fn feed(&mut self, input: Input) {
        let effects = self.node.handle(input, now());
        self.effects.extend(effects);
    }

    /// The same of what is configured, and of whether supervision is off.
    pub(super) fn feed_settings(&mut self) {
        let settings = settings(&self.config, self.off);
        self.feed(Input::Settings(settings));
    }

    /// Whether verdicts are carried out.
    pub(super) fn acts(&self) -> bool {
        Acts::of(self.off, self.config.mode) == Acts::Yes
    }

    /// The stage that a place stands on.
    pub(super) fn stands_on(&self, id: CgroupId) -> Option<Stage> {
        let place = self.node.accounts().place(id);
        place.map(|place| place.standing().stage)
    }

    /// A server, also one that is gone and whose end goes on.
    pub(super) fn acting(&self, id: CgroupId) -> Option<&Guarded> {
        match self.entries.get(&id) {
            Some(Cgroup::Server(guarded)) => Some(guarded),
            _ => self.departed.get(&id).map(AsRef::as_ref),
        }
    }

    fn forget_departed(&mut self) {
        let node = &self.node;
        self.departed.retain(|id, _| node.actuator(*id).is_some());
    }

    fn standing(
        &mut self,
        id: CgroupId,
        owner: &Owner,
        read: Result<Controls, ActError>,
    ) -> Answer {
        Answer::Read(failure(read).map(|controls| {
            Box::new(Standing {
                controls,
                start: self.undo.start_of(owner),
                record: self.undo.claim(owner),
                kernel_quota: self.sampler.kernel_quota(id),
            })
        }))
    }

    /// Makes sure that all is known that is on record of a unit.
    pub(super) fn know_records(&mut self, owner: &Owner) -> Result<(), UndoError> {
        if self.undo.read_again()? {
            let mut found = Vec::new();
            for (id, actuator) in self.node.actuators() {
                let owner = actuator.owner();
                let start = self.undo.start_of(owner);
                found.extend(self.undo.claim(owner).map(|undo| (id, undo, start)));
            }
            self.feed(Input::Records(found));
        }
        self.undo.read_missing(owner)
    }

    fn log_warning(&mut self, id: CgroupId, warning: &Warning) {
        if let Some(guarded) = self.acting(id) {
            self.log(guarded.story(self.config.mode).warned(warning));
        }
    }

    fn log_event(&mut self, id: CgroupId, event: &Event) {
        if let Event::Trouble(trouble @ Trouble::Unread(_)) = event {
            // It is the same for all servers, as a rule.
            let text = format!("Limits are left as they are, which is tried again: {trouble}.");
            return self.log_once(LogEntry::new(Kind::Trouble, Level::Error, text));
        }
        let mode = self.config.mode;
        let place = self.node.accounts().place(id);
        let shares = place.and_then(|place| place.part().map(|_| place.policy().baseline));
        let Some(guarded) = self.acting(id) else {
            return;
        };
        let story = Story {
            shares,
            ..guarded.story(mode)
        };
        let entry = story.event(event);
        self.log(entry);
    }
}
