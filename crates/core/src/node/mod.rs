//! The users' places on one node, and what is done with them.
//!
//! [`Node::handle`] is the only way in and out: something happened, or was read, and what is to be done
//! follows. Nothing here reads a clock, a file or a socket. Which units are places, and whose, is found out
//! by the shell.

mod effect;
mod evidence;
mod input;
mod look;
mod turns;

pub use effect::Effect;
pub use evidence::Sighting;
pub use input::{Found, Input, Settings};
pub use look::Looked;

use crate::accounts::{Accounts, PlaceKind};
use crate::actuator::{self, Acts, Actuator, Answer, Event, Goal};
use crate::evidence::EvidenceStore;
use crate::faults::{Fault, has};
use crate::numbers::Numbers;
use crate::undo::{Owner, Start, Undo};
use quantities::{CgroupId, Mode, Time};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use turns::Turns;

/// A place under supervision.
#[derive(Debug)]
struct Governed {
    actuator: Actuator,
    /// What the packet rules name it by.
    number: u32,
    released: bool,
}

/// All that is known of a node's places.
#[derive(Debug)]
pub struct Node {
    settings: Settings,
    accounts: Accounts,
    /// What sensors found.
    evidence: EvidenceStore,
    numbers: Numbers<CgroupId>,
    /// In boxes: a map of ids that only rise is half empty.
    governed: BTreeMap<CgroupId, Box<Governed>>,
    /// Numbers of what is set aside.
    aside: BTreeMap<CgroupId, u32>,
    /// Those that are gone and whose end goes on, and whether they were servers.
    departed: BTreeMap<CgroupId, (Actuator, bool)>,
    /// Who is brought about after the other.
    turns: Turns,
    /// When all places were looked at last.
    ticked: Time,
}

impl Node {
    /// Nothing is known yet; places are named by numbers of this range.
    pub fn new(settings: Settings, numbers: RangeInclusive<u32>) -> Node {
        Node {
            settings,
            accounts: Accounts::default(),
            evidence: EvidenceStore::default(),
            numbers: Numbers::new(numbers),
            governed: BTreeMap::new(),
            aside: BTreeMap::new(),
            departed: BTreeMap::new(),
            turns: Turns::default(),
            ticked: Time::default(),
        }
    }

    /// The accounts, to be read.
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// What sensors found, to be read.
    pub fn evidence(&self) -> &EvidenceStore {
        &self.evidence
    }

    /// Who has which number.
    pub fn numbers(&self) -> &Numbers<CgroupId> {
        &self.numbers
    }

    /// The number of a place, or of what is set aside.
    pub fn number_of(&self, id: CgroupId) -> Option<u32> {
        let governed = self.governed.get(&id).map(|governed| governed.number);
        governed.or_else(|| self.aside.get(&id).copied())
    }

    /// What is done with a place's unit, also with one that is gone and whose end goes on.
    pub fn actuator(&self, id: CgroupId) -> Option<&Actuator> {
        let governed = self.governed.get(&id).map(|governed| &governed.actuator);
        governed.or_else(|| self.departed.get(&id).map(|(actuator, _)| actuator))
    }

    /// All places with what is done with their units.
    pub fn actuators(&self) -> impl Iterator<Item = (CgroupId, &Actuator)> {
        let governed = self.governed.iter();
        governed.map(|(id, governed)| (*id, &governed.actuator))
    }

    /// Whether a place turned out to be somebody else's or nobody's.
    pub fn is_released(&self, id: CgroupId) -> bool {
        self.governed
            .get(&id)
            .is_some_and(|governed| governed.released)
    }

    /// Whether something is under way with any of these.
    pub fn is_busy(&self, ids: &[CgroupId]) -> bool {
        let busy = |id: &CgroupId| self.actuator(*id).is_some_and(Actuator::is_busy);
        ids.iter().any(busy)
    }

    /// Whether something is still being set on a unit for a cgroup that is gone: its record is needed.
    pub fn is_departing(&self, owner: &Owner) -> bool {
        let mut departed = self.departed.values();
        departed.any(|(actuator, _)| actuator.owner().is_same_unit(owner))
    }

    /// Takes something in; what is to be done then, in this order.
    pub fn handle(&mut self, input: Input, now: Time) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Settings(settings) => self.adopt(settings, now),
            Input::Resume(rested) => self.accounts.resume_rested(rested),
            Input::Found(found) => self.found(*found, now),
            Input::Follows { slice, lead } => self.accounts.follow(slice, lead),
            Input::Divide if has(Fault::BaselineNotDivided) => {}
            Input::Divide => {
                let parts = self.accounts.divide_baselines(self.ticked);
                self.queue(parts);
            }
            Input::Gone(id) => self.gone(id, now, &mut effects),
            Input::Released(id) => {
                if let Some(governed) = self.governed.get_mut(&id) {
                    governed.released = true;
                }
                self.wake(id, now, &mut effects);
            }
            Input::SetAside(id) => {
                if let Some(number) = self.numbers.give(id) {
                    self.aside.insert(id, number);
                }
            }
            Input::Records(records) => {
                for (id, undo, start) in records {
                    if let Some(governed) = self.governed.get_mut(&id) {
                        governed.actuator.take_over(undo, start);
                    }
                }
            }
            Input::Policies(policies) => {
                for (id, policy) in policies {
                    self.accounts.set_policy(id, policy);
                }
            }
            Input::Rest(policies) => self.accounts.forget_rested(now, &policies),
            Input::Looked(looked) => self.look(&looked, now, &mut effects),
            Input::Attend(waited) => effects.push(self.attend(&waited, now)),
            Input::Sighted(sightings) => self.sighted(&sightings, now, &mut effects),
            Input::Weigh => self.weigh_all(now, &mut effects),
            Input::Accused(id, level, of) => self.accounts.accuse(id, level, of, now),
            Input::Wake(ids) => {
                for id in ids {
                    self.wake(id, now, &mut effects);
                }
            }
            Input::Answer(id, ticket, answer) => {
                let input = actuator::Input::Answer(ticket, answer);
                self.actuate(id, input, now, &mut effects);
            }
            Input::ProcessesEnded(id, ticket, result) => {
                if result.is_ok() {
                    self.evidence.clear(id);
                }
                let ended = result.map(|count| self.accounts.processes_ended(id, count, now));
                let input = actuator::Input::Answer(ticket, Answer::ProcessesEnded(ended));
                self.actuate(id, input, now, &mut effects);
            }
        }
        self.take_turns(now, &mut effects);
        effects
    }

    fn adopt(&mut self, settings: Settings, now: Time) {
        let before = std::mem::replace(&mut self.settings, settings);
        if before.mode == Mode::Observe && self.settings.mode == Mode::Enforce {
            // What was only logged so far is not carried out at once where it would end something.
            self.accounts.reopen(now);
            for governed in self.governed.values_mut() {
                governed.actuator.drop_verdicts();
            }
        }
    }

    fn found(&mut self, found: Found, now: Time) {
        let mut actuator = Actuator::new(found.owner);
        if let Some(record) = found.record {
            actuator.take_over(record, found.start);
        }
        let limit = actuator.ours().and_then(|ours| ours.quota);
        self.accounts.admit(found.id, found.newcomer, now);
        self.accounts.set_limit(found.id, limit);
        if let Some(lead) = found.lead {
            self.accounts.follow(found.id, lead);
            // The next tick brings it to where the server stands.
            actuator.put_off();
        }
        let governed = Governed {
            actuator,
            // There are 2²³ numbers, and cgroups are far fewer.
            number: self.numbers.give(found.id).unwrap_or(0),
            released: false,
        };
        self.governed.insert(found.id, Box::new(governed));
    }

    fn gone(&mut self, id: CgroupId, now: Time, effects: &mut Vec<Effect>) {
        if let Some(number) = self.aside.remove(&id) {
            self.numbers.take_back(number);
        }
        let Some(mut governed) = self.governed.remove(&id) else {
            return;
        };
        let is_server = self.is_server(id);
        self.accounts.forget(id, now);
        self.numbers.take_back(governed.number);
        if governed.actuator.is_killing() {
            self.departed.insert(id, (governed.actuator, is_server));
            return;
        }
        let changing = governed.actuator.is_changing();
        // It may be gone before whoever was asked to end it says so.
        if self.acts() == Acts::Yes
            && let Some(end) = governed.actuator.take_end()
        {
            effects.push(log(id, end));
        }
        if changing {
            // It ends by itself, and is told of where it went astray.
            governed.actuator.drop_verdicts();
            self.departed.insert(id, (governed.actuator, is_server));
        }
    }

    fn is_server(&self, id: CgroupId) -> bool {
        let place = self.accounts.place(id);
        place.is_some_and(|place| place.kind() == PlaceKind::Server)
    }

    fn acts(&self) -> Acts {
        Acts::of(self.settings.off, self.settings.mode)
    }

    /// What a place is to have; one that is gone, nothing.
    fn goal(&self, id: CgroupId) -> Goal {
        // What runs outside the server is nothing that the hub knows of.
        let was_server = self.departed.get(&id).is_some_and(|(_, server)| *server);
        let by_hub = self.settings.by_hub && (was_server || self.is_server(id));
        let acts = match self.is_released(id) {
            true => Acts::Released,
            false => self.acts(),
        };
        match self.accounts.place(id) {
            Some(place) => Goal::of(place, acts, by_hub),
            None => Goal {
                by_hub,
                ..Goal::nothing()
            },
        }
    }

    fn wake(&mut self, id: CgroupId, now: Time, effects: &mut Vec<Effect>) {
        // What is still being set on its unit, for a cgroup that is gone, has to be known first.
        let unit = self.governed.get(&id).map(|one| one.actuator.owner());
        let same = |other: &Actuator| unit.is_some_and(|unit| unit.is_same_unit(other.owner()));
        if self.departed.values().any(|(other, _)| same(other))
            && let Some(governed) = self.governed.get_mut(&id)
        {
            return governed.actuator.put_off();
        }
        self.actuate(id, actuator::Input::Wake, now, effects);
    }

    fn actuate(
        &mut self,
        id: CgroupId,
        input: actuator::Input,
        now: Time,
        effects: &mut Vec<Effect>,
    ) {
        let goal = self.goal(id);
        let governed = self.governed.get_mut(&id).map(|one| &mut one.actuator);
        let departed = self.departed.get_mut(&id).map(|(actuator, _)| actuator);
        let Some(actuator) = governed.or(departed) else {
            return;
        };
        let was_busy = actuator.is_busy();
        let follows = actuator.handle(input, &goal, now);
        let rests = was_busy && !actuator.is_busy();
        for effect in follows {
            match effect {
                actuator::Effect::InForce(controls) => self.accounts.set_limit(id, controls.quota),
                actuator::Effect::Strayed { start, set } => {
                    let note = self.stray(id, start, set);
                    effects.extend(note.map(Effect::Note));
                }
                effect => effects.push(Effect::Unit(id, effect)),
            }
        }
        if rests {
            self.departed.remove(&id);
            if self.is_released(id) {
                effects.push(Effect::LetGo(id));
            }
        }
    }

    /// A change went to another unit than it was meant for: one that was stopped and made again under the
    /// same name while its owner was being told.
    fn stray(&mut self, id: CgroupId, start: Start, set: policy::Controls) -> Option<Box<Undo>> {
        let earlier = self.actuator(id)?.undo()?.clone();
        let heir = self.governed.iter_mut().find_map(|(other, one)| {
            let same = *other != id && one.actuator.owner().is_same_unit(&earlier.owner);
            same.then_some(&mut one.actuator)
        });
        if let Some(heir) = heir {
            let undo = heir.receive_stray(&earlier, start, set).clone();
            self.departed.remove(&id);
            return Some(Box::new(undo));
        }
        if let Some((departed, _)) = self.departed.get_mut(&id) {
            return departed.follow_stray(start).cloned().map(Box::new);
        }
        let governed = self.governed.get_mut(&id)?;
        governed.actuator.follow_stray(start).cloned().map(Box::new)
    }
}

fn log(id: CgroupId, event: Event) -> Effect {
    Effect::Unit(id, actuator::Effect::Log(Box::new(event)))
}

#[cfg(test)]
mod tests;
