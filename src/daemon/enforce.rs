//! Carries out what actuators want done with a server's unit, and hands in what became of it.

use super::ask_cpu::{self, failure};
use super::cgroups::{Cgroup, Guarded};
use super::{Daemon, Inner, now};
use crate::act::{CpuControl, Owner, UndoError};
use crate::config::StopBy;
use crate::hub::Units;
use crate::report::{Kind, Level, LogEntry, Story};
use hubwarden_core::actuator::{Acts, Answer, Effect, Event, Goal, Input, Request, Trouble};
use hubwarden_core::undo::{Start, Undo};
use policy::{Controls, Stage};
use quantities::CgroupId;
use std::rc::Rc;

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Brings a server to where it should be and logs its waiting verdicts.
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
    pub(super) async fn enforce_now(&self, id: CgroupId) {
        let mut input = Input::Wake;
        loop {
            let effects = self.inner.borrow_mut().actuate(id, input);
            input = match self.carry_out(id, effects).await {
                Some(answer) => answer,
                None => return self.inner.borrow_mut().forget_departed(id),
            };
        }
    }

    /// Does all of these; the answer, where one is wanted.
    async fn carry_out(&self, id: CgroupId, effects: Vec<Effect>) -> Option<Input> {
        for effect in effects {
            match effect {
                Effect::Ask(ticket, request) => {
                    return Some(Input::Answer(ticket, self.ask_for(id, request).await));
                }
                Effect::Save => {
                    self.inner.borrow_mut().dirty = true;
                    self.save_wanted.notify_one();
                }
                Effect::ThawNoMore => {
                    let owner = self.inner.borrow_mut().owner_of(id)?;
                    let _ = self.cpu.thaw_no_more(&owner).await;
                }
                Effect::Log(event) => self.inner.borrow_mut().log_event(id, &event),
                Effect::InForce(controls) => {
                    let mut inner = self.inner.borrow_mut();
                    inner.accounts.set_limit(id, controls.quota);
                }
                Effect::Strayed { start, set } => self.inner.borrow_mut().stray(id, start, set),
            }
        }
        None
    }

    async fn ask_for(&self, id: CgroupId, request: Request) -> Answer {
        let Some(owner) = self.inner.borrow_mut().owner_of(id) else {
            return Answer::Done(Ok(()));
        };
        match request {
            Request::Read => {
                let known = self.inner.borrow_mut().know_records(&owner);
                if let Err(error) = known {
                    return Answer::Unread(error.to_string());
                }
                let read = self.cpu.read(&owner).await;
                self.inner.borrow_mut().standing(id, &owner, read)
            }
            Request::Record(undo) => {
                let recorded = self.inner.borrow_mut().undo.save(&undo);
                Answer::Recorded(recorded.map_err(|error| error.to_string()))
            }
            Request::AskHub => Answer::Done(self.ask_hub_to_stop(id).await),
            Request::Kill => Answer::Done(failure(self.kill(id).await)),
            Request::EndProcesses => Answer::ProcessesEnded(failure(self.end_miners(id).await)),
            request => {
                let done = ask_cpu::ask(&self.cpu, &owner, request).await;
                done.answer(|| self.inner.borrow().undo.start_of(&owner))
            }
        }
    }
}

impl Inner {
    /// Whether verdicts are carried out.
    pub(super) fn acts(&self) -> bool {
        Acts::of(self.off, self.config.mode) == Acts::Yes
    }

    /// The stage that a place stands on.
    pub(super) fn stands_on(&self, id: CgroupId) -> Option<Stage> {
        self.accounts.place(id).map(|place| place.standing().stage)
    }

    fn actuate(&mut self, id: CgroupId, input: Input) -> Vec<Effect> {
        let goal = self.goal(id);
        match self.acting(id) {
            Some(guarded) => guarded.actuator.handle(input, &goal, now()),
            None => Vec::new(),
        }
    }

    /// What a server is to have; one that is gone, nothing.
    fn goal(&self, id: CgroupId) -> Goal {
        let guarded = match self.entries.get(&id) {
            Some(Cgroup::Server(guarded)) => Some(guarded),
            _ => self.departed.get(&id),
        };
        let by_hub = self.config.hub.stop_by == StopBy::Hub && self.config.hub.api_url.is_some();
        // What runs outside the server is nothing that the hub knows of.
        let by_hub = by_hub && guarded.is_some_and(|guarded| !guarded.is_outside());
        let acts = match guarded.is_some_and(|guarded| guarded.released) {
            true => Acts::Released,
            false => Acts::of(self.off, self.config.mode),
        };
        match self.accounts.place(id) {
            Some(place) => Goal::of(place, acts, by_hub),
            None => Goal {
                by_hub,
                ..Goal::nothing()
            },
        }
    }

    /// A server, also one that is gone and whose end goes on.
    pub(super) fn acting(&mut self, id: CgroupId) -> Option<&mut Guarded> {
        match self.entries.get_mut(&id) {
            Some(Cgroup::Server(guarded)) => Some(guarded),
            _ => self.departed.get_mut(&id).map(AsMut::as_mut),
        }
    }

    fn owner_of(&mut self, id: CgroupId) -> Option<Owner> {
        self.acting(id)
            .map(|guarded| guarded.actuator.owner().clone())
    }

    fn forget_departed(&mut self, id: CgroupId) {
        self.departed
            .retain(|other, guarded| *other != id || guarded.actuator.is_busy());
    }

    fn standing(
        &mut self,
        id: CgroupId,
        owner: &Owner,
        read: Result<Controls, crate::act::ActError>,
    ) -> Answer {
        Answer::Read(failure(read).map(|controls| {
            Box::new(hubwarden_core::actuator::Standing {
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
            let Inner { entries, undo, .. } = self;
            for entry in entries.values_mut() {
                if let Cgroup::Server(guarded) = entry
                    && let Some(known) = undo.claim(guarded.actuator.owner())
                {
                    guarded.actuator.take_over(Some(known));
                }
            }
        }
        self.undo.read_missing(owner)
    }

    /// A change went to another unit than it was meant for: one that was stopped and made again under the
    /// same name while systemd was being told.
    fn stray(&mut self, id: CgroupId, start: Start, set: Controls) {
        let Some(owner) = self.owner_of(id) else {
            return;
        };
        let heir = self
            .entries
            .iter_mut()
            .find_map(|(other, entry)| match entry {
                Cgroup::Server(guarded)
                    if *other != id && guarded.actuator.owner().is_same_unit(&owner) =>
                {
                    Some(&mut guarded.actuator)
                }
                _ => None,
            });
        if heir.is_some_and(|heir| heir.receive_stray(set)) {
            return;
        }
        let followed = |guarded: &mut Guarded| guarded.actuator.follow_stray(start).cloned();
        let stray: Option<Undo> = self.acting(id).and_then(followed);
        if let Some(stray) = stray {
            let _ = self.undo.save(&stray);
        }
    }

    fn log_event(&mut self, id: CgroupId, event: &Event) {
        if let Event::Trouble(trouble @ Trouble::Unread(_)) = event {
            // It is the same for all servers, as a rule.
            let text = format!("Limits are left as they are, which is tried again: {trouble}.");
            return self.log_once(LogEntry::new(Kind::Trouble, Level::Error, text));
        }
        let mode = self.config.mode;
        let place = self.accounts.place(id);
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
