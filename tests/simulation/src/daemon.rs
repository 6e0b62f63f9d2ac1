//! The daemon's part around the core: finds units, carries out effects in any order, loses answers.
//!
//! What it is asked to do is checked before it is done, and again afterwards.

use crate::world::{Fate, Unit, World, name_of};
use hubwarden_core::accounts::{Newcomer, PlaceKind, Reading};
use hubwarden_core::actuator::{self, Acts, Actuator, Answer, Goal, Request, Ticket};
use hubwarden_core::node::{Effect, Found, Input, Looked, Node, Settings};
use hubwarden_core::undo::{Owner, Start};
use policy::{FindingKind, Policy, Standing, Verdict, finding::Strength};
use quantities::{CgroupId, CoreSeconds, Cores, HubUser, Mode, Time};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// A record that is nobody's is put back after this long.
const PATIENCE: Duration = Duration::from_secs(10);

/// What an admin configures.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Observe or enforce.
    pub mode: Mode,
    /// What every place may use at most.
    pub limit: Option<Cores>,
    /// What every user may use for good.
    pub baseline: Cores,
    /// Processes that every server may have.
    pub tasks_max: Option<u64>,
    /// The hub stops servers.
    pub by_hub: bool,
    /// Those who stay throttled are frozen.
    pub freezes: bool,
}

impl Config {
    fn policy(&self) -> Policy {
        let mut policy = Policy {
            limit: self.limit,
            baseline: self.baseline,
            size: CoreSeconds(30.0),
            min_stay: Duration::from_secs(3),
            ..Policy::default()
        };
        policy.plain.tasks_max = self.tasks_max;
        policy.evidence.stop_after = Some(Duration::from_secs(20));
        if self.freezes {
            policy.sustained.freeze_after = Some(Duration::from_secs(30));
            policy.sustained.freeze_for = Duration::from_secs(30);
        }
        policy
    }

    fn settings(&self, off: bool) -> Settings {
        Settings {
            mode: self.mode,
            off,
            by_hub: self.by_hub,
            tick: Duration::from_secs(5),
            hot: Cores(0.5),
            hot_for: Duration::from_secs(60),
            stands: Duration::from_secs(600),
        }
    }
}

/// What is on disk of one place.
type Saved = (String, CgroupId, Standing, Duration);

/// What is on disk.
#[derive(Debug, Clone, Default)]
pub struct State {
    places: Vec<Saved>,
    rested: BTreeMap<HubUser, (Standing, Time)>,
}

/// Something that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub id: CgroupId,
    pub ticket: Ticket,
    pub owner: Owner,
    /// The life of the unit that it is meant for.
    pub start: Option<Start>,
    pub request: Request,
    pub answer: Option<Answer>,
}

/// What a killed daemon had sent, and systemd has not got to yet.
#[derive(Debug, Clone)]
pub struct Late {
    /// The unit.
    pub owner: Owner,
    /// The life of it that is meant.
    pub start: Start,
    /// What is wanted.
    pub request: Request,
}

/// An invariant that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub invariant: &'static str,
    /// How that shows.
    pub what: String,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// How an answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Once.
    Once,
    /// Twice.
    Twice,
    /// Never.
    Lost,
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    pub(crate) node: Node,
    pub(crate) config: Config,
    pub(crate) off: bool,
    pub(crate) known: BTreeMap<CgroupId, String>,
    pub(crate) claimed: BTreeSet<String>,
    pub(crate) nobodys_since: BTreeMap<String, Time>,
    pub(crate) calls: Vec<Call>,
    /// Verdicts that were decided and not logged yet.
    pub(crate) decided: BTreeMap<CgroupId, VecDeque<Verdict>>,
    /// Login slices that there ever were.
    pub(crate) slices: BTreeSet<CgroupId>,
    pub(crate) broken: Option<Broken>,
}

impl Daemon {
    /// Starts on what an earlier one left.
    pub fn start(world: &mut World, config: &Config, state: Option<State>) -> Daemon {
        let settings = config.settings(world.off);
        let mut daemon = Daemon {
            node: Node::new(settings, 1..=1 << 20),
            config: config.clone(),
            off: world.off,
            known: BTreeMap::new(),
            claimed: BTreeSet::new(),
            nobodys_since: BTreeMap::new(),
            calls: Vec::new(),
            decided: BTreeMap::new(),
            slices: BTreeSet::new(),
            broken: None,
        };
        let state = state.unwrap_or_default();
        daemon.drive(world, Input::Resume(state.rested));
        let known: BTreeMap<CgroupId, (Standing, Duration)> = state
            .places
            .into_iter()
            .map(|(_, id, standing, used)| (id, (standing, used)))
            .collect();
        daemon.scan_with(world, &known);
        let ids = daemon.known.keys().copied().collect();
        daemon.drive(world, Input::Wake(ids));
        daemon
    }

    /// What breaks an invariant, if anything did.
    pub fn broken(&mut self) -> Option<Broken> {
        self.broken.take()
    }

    pub(crate) fn breaks(&mut self, invariant: &'static str, what: String) {
        self.broken.get_or_insert(Broken { invariant, what });
    }

    /// What would be on disk now.
    pub fn state(&self) -> State {
        let accounts = self.node.accounts();
        let saved = |(id, name): (&CgroupId, &String)| {
            let place = accounts.place(*id)?;
            Some((name.clone(), *id, *place.standing(), place.used_elsewhere()))
        };
        State {
            places: self.known.iter().filter_map(saved).collect(),
            rested: accounts.rested().clone(),
        }
    }

    /// Calls that systemd may still have in its queue when the daemon is killed.
    pub fn kill(self) -> Vec<Late> {
        let sent = |call: &Call| call.answer.is_none() && matches!(call.request, Request::Apply(_));
        let late = |call: Call| Late {
            owner: call.owner,
            start: call.start.unwrap_or_default(),
            request: call.request,
        };
        self.calls.into_iter().filter(sent).map(late).collect()
    }

    /// How many things are under way.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Whether nothing is under way with a unit.
    pub fn leaves_alone(&self, name: &str) -> bool {
        let busy = |(id, known): (&CgroupId, &String)| known == name && self.node.is_busy(&[*id]);
        !self.known.iter().any(busy) && !self.calls.iter().any(|call| name_of(&call.owner) == name)
    }

    /// What is set on a unit, where something is.
    pub fn ours(&self, cgroup: CgroupId) -> Option<policy::Controls> {
        self.node.actuator(cgroup)?.ours().copied()
    }

    /// Something comes in; what is to be done then is begun.
    pub fn drive(&mut self, world: &mut World, input: Input) {
        if matches!(&input, Input::Settings(new) if new.mode == Mode::Enforce)
            && self.config.mode == Mode::Observe
        {
            self.decided.retain(|id, _| !self.known.contains_key(id));
        }
        let effects = self.node.handle(input, world.now);
        for effect in effects {
            match effect {
                Effect::Unit(id, actuator::Effect::Ask(ticket, request)) => {
                    self.begin(world, id, ticket, request);
                }
                Effect::Unit(id, actuator::Effect::Log(event)) => self.logged(id, *event),
                Effect::Unit(..)
                | Effect::Warned(..)
                | Effect::LookAt(_)
                | Effect::Attend
                | Effect::Evidence(..)
                | Effect::Accused(_) => {}
                Effect::Note(undo) => {
                    if !world.run_is_full {
                        world.records.insert(name_of(&undo.owner).to_owned(), *undo);
                    }
                }
                Effect::Decided(id, verdict) => {
                    self.decided.entry(id).or_default().push_back(verdict)
                }
                Effect::LetGo(id) => {
                    self.forget(world, id);
                    self.scan(world);
                }
            }
        }
    }

    fn begin(&mut self, world: &mut World, id: CgroupId, ticket: Ticket, request: Request) {
        // One that was let go of just now may have been woken before.
        let Some(actuator) = self.node.actuator(id) else {
            return;
        };
        let owner = actuator.owner().clone();
        let start = actuator.undo().map(|undo| undo.start);
        if let (Request::Apply(change), Some(undo)) = (&request, actuator.undo().cloned()) {
            let acts =
                Acts::of(self.off, self.config.mode) == Acts::Yes && !self.node.is_released(id);
            // What was killed must not stand still, whatever is wanted by then.
            let only_thaws = change.from.is_some_and(|from| {
                from.frozen
                    && policy::Controls {
                        frozen: false,
                        ..from
                    } == change.to
            });
            if !acts && !only_thaws && change.to != *undo.before() {
                self.breaks(
                    "nothing is changed unless verdicts are carried out",
                    format!("{owner} is changed though nothing is to be: {change:?}"),
                );
            }
        }
        // That does not leave the daemon, and nothing comes in between.
        let answer = matches!(request, Request::Record(_))
            .then(|| world.carry_out(&owner, &request, Fate::Well));
        self.calls.push(Call {
            id,
            ticket,
            start,
            owner,
            request,
            answer,
        });
    }

    /// Goes on with one of the things under way; what that was, in words.
    pub fn advance(
        &mut self,
        world: &mut World,
        which: usize,
        fate: Fate,
        delivery: Delivery,
    ) -> Option<String> {
        if self.calls.is_empty() {
            return None;
        }
        let which = which % self.calls.len();
        if self.calls[which].answer.is_none() {
            let call = self.calls[which].clone();
            let answer = world.carry_out(&call.owner, &call.request, fate);
            self.calls[which].answer = Some(answer);
            self.check_change(world, &call);
            let Call {
                owner, id, request, ..
            } = call;
            return Some(format!("{owner} ({id}), {fate:?}: {request:?}"));
        }
        let call = self.calls.remove(which);
        let answer = call.answer?;
        let times = match delivery {
            Delivery::Once => 1,
            Delivery::Twice => 2,
            Delivery::Lost => 0,
        };
        for _ in 0..times {
            let input = match &answer {
                Answer::ProcessesEnded(result) => {
                    let result = result.clone().map(|_| 1);
                    Input::ProcessesEnded(call.id, call.ticket, result)
                }
                answer => Input::Answer(call.id, call.ticket, answer.clone()),
            };
            self.drive(world, input);
        }
        let (owner, id) = (&call.owner, call.id);
        Some(format!("{owner} ({id}), answered {delivery:?}: {answer:?}"))
    }

    fn forget(&mut self, world: &mut World, id: CgroupId) {
        if let Some(name) = self.known.remove(&id) {
            self.claimed.remove(&name);
        }
        self.drive(world, Input::Gone(id));
        if self.node.actuator(id).is_none() {
            self.decided.remove(&id);
        }
    }

    /// Looks who came and who went.
    pub fn scan(&mut self, world: &mut World) {
        self.scan_with(world, &BTreeMap::new());
    }

    fn scan_with(&mut self, world: &mut World, known: &BTreeMap<CgroupId, (Standing, Duration)>) {
        let gone: Vec<CgroupId> = self
            .known
            .keys()
            .copied()
            .filter(|id| world.at(*id).is_none())
            .collect();
        for id in gone {
            self.forget(world, id);
        }
        // Servers first: slices follow them.
        let units: Vec<(String, Unit)> = world.units.clone().into_iter().collect();
        for slices in [false, true] {
            for (name, unit) in units.iter().filter(|(_, unit)| unit.slice == slices) {
                self.consider(world, name, unit, known);
            }
        }
        self.drive(world, Input::Divide);
    }

    fn consider(
        &mut self,
        world: &mut World,
        name: &str,
        unit: &Unit,
        known: &BTreeMap<CgroupId, (Standing, Duration)>,
    ) {
        let id = unit.cgroup;
        let server = |daemon: &Daemon| {
            let mut places = daemon.node.accounts().places();
            let found =
                places.find(|(_, place)| place.is_server() && place.user().as_str() == unit.user);
            found.map(|(id, _)| id)
        };
        let lead = unit.slice.then(|| server(self)).flatten();
        if self.known.contains_key(&id) {
            if let Some(lead) = lead
                && self.node.accounts().account_of(id) == id
            {
                self.drive(world, Input::Follows { slice: id, lead });
            }
            return;
        }
        if unit.slice && lead.is_none() {
            return;
        }
        let owner = unit.owner(name);
        let record = world.records.get(name).cloned();
        let known = known.get(&id);
        let found = Found {
            id,
            owner,
            record,
            start: unit.start(),
            newcomer: Newcomer {
                user: HubUser(unit.user.clone()),
                kind: match unit.slice {
                    true => PlaceKind::UserSlice,
                    false => PlaceKind::Server,
                },
                policy: self.config.policy(),
                standing: known.map(|(standing, _)| *standing),
                used_elsewhere: known.map_or(Duration::ZERO, |(_, used)| *used),
            },
            lead,
        };
        if unit.slice {
            self.slices.insert(id);
        }
        self.known.insert(id, name.to_owned());
        self.claimed.insert(name.to_owned());
        self.drive(world, Input::Found(Box::new(found)));
        self.drive(world, Input::Wake(vec![id]));
    }

    /// What comes at each tick.
    pub fn tick(&mut self, world: &mut World) {
        self.scan(world);
        let mut looked = Looked::default();
        for id in self.known.keys() {
            let Some((_, unit)) = world.at(*id) else {
                continue;
            };
            let reading = Reading {
                usage: unit.usage,
                throttled_periods: None,
            };
            looked.readings.insert(*id, reading);
            if !self.node.is_busy(&[*id]) {
                looked.quotas.insert(*id, unit.kernel.quota);
            }
        }
        self.drive(world, Input::Looked(Box::new(looked)));
        self.put_back_nobodys(world);
    }

    fn put_back_nobodys(&mut self, world: &mut World) {
        let mut since = BTreeMap::new();
        for (name, record) in world.records.clone() {
            if self.claimed.contains(&name) || self.node.is_departing(&record.owner) {
                continue;
            }
            let at = *self.nobodys_since.get(&name).unwrap_or(&world.now);
            since.insert(name.clone(), at);
            if !record.start.is_same(world.start_of(&name)) {
                world.records.remove(&name);
            } else if world.now.since(at) >= PATIENCE {
                put_back(world, &name);
            }
        }
        self.nobodys_since = since;
    }

    /// Evidence against a place.
    pub fn accuse(&mut self, world: &mut World, which: usize) {
        let ids: Vec<CgroupId> = self.known.keys().copied().collect();
        if let Some(id) = ids.get(which % ids.len().max(1)) {
            let id = self.node.accounts().account_of(*id);
            self.drive(
                world,
                Input::Accused(id, Strength::Certain, FindingKind::Mining),
            );
        }
    }

    /// A place turns out to be somebody else's for a moment.
    pub fn release(&mut self, world: &mut World, which: usize) {
        let ids: Vec<CgroupId> = self.known.keys().copied().collect();
        if let Some(id) = ids.get(which % ids.len().max(1)) {
            self.drive(world, Input::Released(*id));
        }
    }

    /// Another configuration.
    pub fn reload(&mut self, world: &mut World, config: &Config) {
        self.drive(world, Input::Settings(config.settings(self.off)));
        self.config = config.clone();
        let policies = self.known.keys().map(|id| (*id, config.policy())).collect();
        self.drive(world, Input::Policies(policies));
        self.wake_all(world);
    }

    /// Off or on.
    pub fn switch(&mut self, world: &mut World, off: bool) {
        (self.off, world.off) = (off, off);
        self.drive(world, Input::Settings(self.config.settings(off)));
        self.wake_all(world);
    }

    /// Has everything compared, also what no tick looks at: weights, and quotas that differ by little.
    pub fn wake_all(&mut self, world: &mut World) {
        let ids = self.known.keys().copied().collect();
        self.drive(world, Input::Wake(ids));
    }
}

/// Puts back what is on record of a unit, as `off` does without a daemon.
pub fn put_back(world: &mut World, name: &str) {
    let Some(record) = world.records.get(name).cloned() else {
        return;
    };
    if !record.start.is_same(world.start_of(name)) {
        world.records.remove(name);
        return;
    }
    let mut actuator = Actuator::new(record.owner.clone());
    let life = record.start;
    actuator.take_over(record, life);
    let mut input = actuator::Input::Wake;
    loop {
        let effects = actuator.handle(input, &Goal::nothing(), world.now);
        let asked = effects.into_iter().find_map(|effect| match effect {
            actuator::Effect::Ask(ticket, request) => Some((ticket, request)),
            _ => None,
        });
        let Some((ticket, request)) = asked else {
            break;
        };
        let owner = actuator.owner().clone();
        let answer = match request {
            Request::Record(_) => Answer::Recorded(Ok(())),
            request => world.carry_out(&owner, &request, Fate::Well),
        };
        input = actuator::Input::Answer(ticket, answer);
    }
    if actuator.trouble().is_none() {
        world.records.remove(name);
    }
}
