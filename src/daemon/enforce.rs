//! Carries out what the core wants done with servers' units, and hands in what became of it.

use super::ask_cpu::{self, failure};
use super::cgroups::{Cgroup, Guarded};
use super::{Daemon, Shell, Tasks, now};
use crate::act::{ActError, CpuControl, Owner, UndoError};
use crate::config::{Config, StopBy};
use crate::hub::Units;
use crate::report::{Kind, Level, LogEntry, Story};
use hubwarden_core::actuator::{
    self, Acts, Answer, Event, LOST_AFTER, Request, Standing, Ticket, Trouble,
};
use hubwarden_core::node::{Effect, Input, Settings};
use hubwarden_core::undo::Start;
use policy::{Controls, Stage, Warning};
use quantities::CgroupId;
use tokio::sync::oneshot;

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Brings servers to where they should be and logs their waiting verdicts.
    pub(super) fn enforce(&mut self, ids: Vec<CgroupId>) {
        self.drive(Input::Wake(ids));
    }

    /// Hands something to the core, and has done what follows.
    pub(super) fn drive(&mut self, input: Input) {
        self.shell.feed(input);
        self.perform();
    }

    /// Has done what the core wants.
    pub(super) fn perform(&mut self) {
        let effects = std::mem::take(&mut self.shell.effects);
        for effect in effects {
            match effect {
                Effect::Unit(id, effect) => self.perform_on_unit(id, effect),
                Effect::Note(undo) => {
                    // Without room it is put on record with the next change.
                    let _ = self.shell.limits.undo.save(&undo);
                }
                Effect::Decided(id, verdict) => {
                    let shell = &mut self.shell;
                    shell.storage.dirty = true;
                    shell.report.meter.ledger.verdict(id, verdict.to);
                }
                Effect::Warned(id, warning) => self.shell.log_warning(id, &warning),
                Effect::LetGo(id) => self.let_go(id),
                Effect::LookAt(suspects) => self.shell.order_sensors(&suspects),
                Effect::Attend => self.attend(),
                Effect::Evidence(id, level, findings) => {
                    self.shell.log_evidence(id, level, &findings);
                }
                Effect::Accused(accused) => self.accused(&accused),
            }
        }
    }

    fn perform_on_unit(&mut self, id: CgroupId, effect: actuator::Effect) {
        match effect {
            actuator::Effect::Ask(ticket, request) => {
                let Some(actuator) = self.shell.node.actuator(id) else {
                    return;
                };
                let owner = actuator.owner().clone();
                self.tasks.begin(|tasks| async move {
                    let input = tasks.ask_for(id, &owner, ticket, request).await;
                    tasks.post(|daemon| daemon.answered(input));
                });
            }
            actuator::Effect::Save => {
                self.shell.storage.dirty = true;
                self.due.save = true;
            }
            actuator::Effect::Log(event) => self.shell.log_event(id, &event),
            // The core has taken these in itself.
            actuator::Effect::InForce(_) | actuator::Effect::Strayed { .. } => {}
        }
    }

    /// What became of a request is taken in.
    fn answered(&mut self, input: Input) {
        self.drive(input);
        self.shell.forget_departed();
        let node = &self.shell.node;
        let waiting = std::mem::take(&mut self.due.at_rest).into_iter();
        let (busy, at_rest): (Vec<_>, Vec<_>) = waiting.partition(|(ids, _)| node.is_busy(ids));
        self.due.at_rest = busy;
        for (_, waits) in at_rest {
            // Whoever hung up waits no more.
            let _ = waits.send(());
        }
    }

    /// Is heard of once nothing is under way with any of these.
    fn once_at_rest(&mut self, ids: Vec<CgroupId>) -> oneshot::Receiver<()> {
        let (waits, at_rest) = oneshot::channel();
        match self.shell.node.is_busy(&ids) {
            true => self.due.at_rest.push((ids, waits)),
            // Who asked is there.
            false => drop(waits.send(())),
        }
        at_rest
    }
}

impl<C: CpuControl + 'static, U: Units + 'static> Tasks<C, U> {
    /// Has done what the core wants of a place's unit.
    async fn ask_for(
        &self,
        id: CgroupId,
        owner: &Owner,
        ticket: Ticket,
        request: Request,
    ) -> Input {
        let answer = match request {
            Request::AskHub => Answer::Done(self.ask_hub_to_stop(id).await),
            Request::Kill => Answer::Done(failure(self.kill(id).await)),
            Request::EndProcesses => {
                let ended = failure(self.end_miners(id).await);
                return Input::ProcessesEnded(id, ticket, ended);
            }
            request => self.ask_unit(Some(id), owner, request).await,
        };
        Input::Answer(id, ticket, answer)
    }

    /// Has done what an actuator wants of its unit, which is that of a place or not.
    pub(super) async fn ask_unit(
        &self,
        id: Option<CgroupId>,
        owner: &Owner,
        request: Request,
    ) -> Answer {
        let unit = owner.clone();
        match request {
            Request::Read => {
                let known = self
                    .turn(move |daemon| daemon.shell.know_records(&unit))
                    .await;
                if let Err(error) = known {
                    return Answer::Unread(error.to_string());
                }
                let (read, unit) = (self.cpu.read(owner).await, owner.clone());
                self.turn(move |daemon| daemon.shell.standing(id, &unit, read))
                    .await
            }
            Request::Record(undo) => {
                let saved = self.turn(move |daemon| daemon.shell.limits.undo.save(&undo));
                Answer::Recorded(saved.await.map_err(|error| error.to_string()))
            }
            request => {
                let done = ask_cpu::ask(&*self.cpu, owner, request).await;
                done.answer(async || self.start_of(&unit).await).await
            }
        }
    }

    /// The present life of a unit.
    pub(super) async fn start_of(&self, owner: &Owner) -> Start {
        let owner = owner.clone();
        self.turn(move |daemon| daemon.shell.limits.undo.start_of(&owner))
            .await
    }

    /// Returns when nothing is under way with any of these, or an answer is lost.
    pub(super) async fn until_at_rest(&self, ids: Vec<CgroupId>) {
        let at_rest = self.turn(|daemon| daemon.once_at_rest(ids)).await;
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

impl Shell {
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
        match self.registry.entries.get(&id) {
            Some(Cgroup::Server(guarded)) => Some(guarded),
            _ => self.registry.departed.get(&id).map(AsRef::as_ref),
        }
    }

    fn forget_departed(&mut self) {
        let node = &self.node;
        self.registry
            .departed
            .retain(|id, _| node.actuator(*id).is_some());
    }

    fn standing(
        &mut self,
        id: Option<CgroupId>,
        owner: &Owner,
        read: Result<Controls, ActError>,
    ) -> Answer {
        Answer::Read(failure(read).map(|controls| {
            Box::new(Standing {
                controls,
                start: self.limits.undo.start_of(owner),
                record: self.limits.undo.claim(owner),
                kernel_quota: id.and_then(|id| self.registry.sampler.kernel_quota(id)),
            })
        }))
    }

    /// Makes sure that all is known that is on record of a unit.
    pub(super) fn know_records(&mut self, owner: &Owner) -> Result<(), UndoError> {
        if self.limits.undo.read_again()? {
            let mut found = Vec::new();
            for (id, actuator) in self.node.actuators() {
                let owner = actuator.owner();
                let start = self.limits.undo.start_of(owner);
                found.extend(self.limits.undo.claim(owner).map(|undo| (id, undo, start)));
            }
            self.feed(Input::Records(found));
        }
        self.limits.undo.read_missing(owner)
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
