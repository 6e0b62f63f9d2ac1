//! The world around the [`Node`] that has one user's servers: it is made up, does at once what it is
//! asked for, and lets the servers work as far as the quotas allow that the node has set.
//!
//! Each user has a node: no account depends on another user, and where one user rests nothing has to be
//! looked at.

use super::Burst;
use super::server::{NEVER, Server};
use super::skip::undecided;
use hubwarden_core::accounts::{Contention, Newcomer, PlaceKind, Reading, Readings};
use hubwarden_core::actuator::{self, Answer, Failure, Request, Standing};
use hubwarden_core::node::{Effect, Found, Input, Looked, Node, Settings};
use hubwarden_core::undo::{KernelControls, Owner, Start};
use policy::{Controls, Policy, Stage, wanted};
use quantities::{CgroupId, Cores, HubUser, Mode, Time, UnitName};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A timer ends no sooner than asked for, and tokio's so much later: that credits are spent is seen at
/// the first look that was meant for it.
const LATE: Duration = Duration::from_millis(1);

/// One user's servers, and the node that supervises them.
#[derive(Debug)]
pub(super) struct Shell {
    node: Node,
    user: HubUser,
    policy: Policy,
    tick: Duration,
    /// What a free server may use.
    free: Cores,
    now: Time,
    /// When all were looked at last.
    looked: Time,
    /// Until when no look can decide anything.
    quiet: Time,
    others_wait: bool,
    units: BTreeMap<CgroupId, Unit>,
    /// Those that the node has stopped and does not know of yet.
    ended: Vec<CgroupId>,
}

#[derive(Debug)]
struct Unit {
    server: Server,
    controls: Controls,
}

impl Shell {
    /// A user without a server, with full credits. Others wait for the CPU until it is said that they
    /// do not, the stricter case.
    pub fn new(user: &str, policy: &Policy, tick: Duration) -> Shell {
        let settings = Settings {
            mode: Mode::Enforce,
            off: false,
            by_hub: false,
            tick,
            // There are no sensors to be sent anywhere.
            hot: Cores(0.0),
            hot_for: Duration::ZERO,
            stands: Duration::ZERO,
        };
        Shell {
            node: Node::new(settings, 1..=u32::MAX - 1),
            user: HubUser(user.to_owned()),
            free: allowed(&wanted(Stage::Free, policy, &Controls::default())),
            policy: policy.clone(),
            tick,
            now: Time::default(),
            looked: Time::default(),
            quiet: NEVER,
            others_wait: true,
            units: BTreeMap::new(),
            ended: Vec::new(),
        }
    }

    /// The user's name.
    pub fn user(&self) -> &str {
        self.user.as_str()
    }

    /// What the user may use.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The time.
    pub fn now(&self) -> Time {
        self.now
    }

    /// A server that runs, or that the node has stopped.
    pub fn server(&self, id: CgroupId) -> Option<&Server> {
        self.units.get(&id).map(|unit| &unit.server)
    }

    /// Until when no look can decide anything; [`NEVER`] where there is nothing to do.
    pub fn quiet_until(&self) -> Time {
        self.quiet
    }

    /// Says whether others wait for the CPU from now on.
    pub fn contended(&mut self, others_wait: bool) {
        self.others_wait = others_wait;
    }

    /// Starts a server, with the work that it will ask for.
    pub fn begin(&mut self, id: CgroupId, bursts: &[Burst]) {
        let mut server = Server::new(self.now);
        bursts.iter().for_each(|burst| server.ask(*burst));
        let controls = Controls::default();
        self.units.insert(id, Unit { server, controls });
        self.forget_rested();
        self.drive(Input::Found(Box::new(Found {
            id,
            owner: Owner::Systemd(UnitName(format!("{}.service", id.0)), None),
            record: None,
            start: Start(None),
            newcomer: Newcomer {
                user: self.user.clone(),
                kind: PlaceKind::Server,
                policy: self.policy.clone(),
                standing: None,
                used_elsewhere: Duration::ZERO,
            },
            lead: None,
        })));
        if let Some(place) = self.node.accounts().place(id) {
            // It begins where its user's other servers stand, or where the last one stood.
            let stage = place.standing().stage;
            self.stands_on(id, stage);
        }
        self.drive(Input::Divide);
        self.drive(Input::Wake(vec![id]));
        self.quiet = self.now;
    }

    /// Has the node forget a user who had rested enough at the last tick.
    fn forget_rested(&mut self) {
        if !self.node.accounts().rested().is_empty() {
            let before = Time(self.now.0.saturating_sub(Duration::from_nanos(1)));
            let last = self.tick_of(ticks(before, self.tick));
            let policies = BTreeMap::from([(self.user.clone(), self.policy.clone())]);
            self.node.handle(Input::Rest(policies), last);
        }
    }

    /// Asks for work. A server that had none is looked at first, so that rest is booked as rest.
    pub fn ask(&mut self, id: CgroupId, burst: Burst) {
        let rested = self.server(id).is_some_and(Server::is_done);
        if rested && self.looked < self.now {
            self.look();
        }
        if let Some(unit) = self.units.get_mut(&id) {
            unit.server.ask(burst);
        }
        if rested {
            self.quiet = self.now;
        }
    }

    /// Ends a server.
    pub fn end(&mut self, id: CgroupId) -> Option<Server> {
        let unit = self.units.remove(&id)?;
        self.gone(id);
        Some(unit.server)
    }

    /// Lets time pass until then, or until the last tick before which no look can decide anything.
    pub fn step(&mut self, until: Time) {
        let next = ticks(self.now, self.tick).saturating_add(1);
        let look = self.tick_of(next.max(ticks(self.quiet, self.tick)));
        self.run(look.min(until));
    }

    /// Looks at all servers if it is time for that.
    pub fn look_on_tick(&mut self) {
        if self.tick_of(ticks(self.now, self.tick)) == self.now {
            self.look();
        }
    }

    fn tick_of(&self, count: u128) -> Time {
        let nanoseconds = u64::try_from(count.saturating_mul(self.tick.as_nanos()));
        Time(Duration::from_nanos(nanoseconds.unwrap_or(u64::MAX)))
    }

    /// Lets the servers work until then, with the looks that are due before a tick.
    pub fn run(&mut self, to: Time) {
        while let Some(at) = self.node.accounts().next_look()
            && at.0 + LATE < to.0
        {
            self.work(Time(at.0 + LATE));
            let due = self.node.accounts().looks_due(self.now);
            self.look_at(Some(due));
        }
        self.work(to);
    }

    fn work(&mut self, to: Time) {
        self.now = self.now.max(to);
        for unit in self.units.values_mut() {
            let allowed = allowed(&unit.controls);
            unit.server.run(to, allowed, self.free);
        }
    }

    /// Looks at all servers, as the daemon's tick does.
    pub fn look(&mut self) {
        self.look_at(None);
        self.looked = self.now;
        self.quiet = self.goes_on_until();
    }

    fn look_at(&mut self, only: Option<BTreeSet<CgroupId>>) {
        let mut readings = Readings::new();
        for id in self.node.accounts().to_read(only.as_ref()) {
            if let Some(unit) = self.units.get(&id) {
                let reading = Reading {
                    usage: unit.server.usage(),
                    throttled_periods: None,
                };
                readings.insert(id, reading);
            }
        }
        let mut contention = Contention::default();
        if self.others_wait {
            contention.add(None, 1.0);
        }
        self.drive(Input::Looked(Box::new(Looked {
            only,
            readings,
            quotas: BTreeMap::new(),
            contention,
        })));
        for id in std::mem::take(&mut self.ended) {
            self.gone(id);
        }
    }

    fn gone(&mut self, id: CgroupId) {
        self.drive(Input::Gone(id));
        self.drive(Input::Divide);
        self.quiet = match self.node.accounts().places().next() {
            Some(_) => self.now,
            None => NEVER,
        };
    }

    /// Until when all goes on as it is and no look can decide anything.
    fn goes_on_until(&self) -> Time {
        let mut places = self.node.accounts().places();
        let (id, place) = match (places.next(), places.next()) {
            (None, _) => return NEVER,
            (Some(alone), None) => alone,
            // Their baseline is divided anew at each tick.
            _ => return self.now,
        };
        let Some(unit) = self.units.get(&id) else {
            return NEVER;
        };
        let (rate, steady) = unit.server.steady(allowed(&unit.controls));
        let undecided = undecided(place.standing(), rate, &self.policy);
        let undecided = self.now.0.saturating_add(undecided);
        let wall = self.policy.time.wall;
        let wall = wall.map_or(NEVER, |wall| Time(unit.server.started().0 + wall));
        steady.min(Time(undecided)).min(wall)
    }

    fn drive(&mut self, input: Input) {
        for effect in self.node.handle(input, self.now) {
            match effect {
                Effect::Decided(id, verdict) => self.stands_on(id, verdict.to),
                Effect::Unit(id, actuator::Effect::Ask(ticket, request)) => {
                    let answer = self.answer(id, request);
                    self.drive(Input::Answer(id, ticket, answer));
                }
                // What is logged is for the journal, and there are no sensors.
                _ => {}
            }
        }
    }

    fn stands_on(&mut self, id: CgroupId, stage: Stage) {
        if let Some(unit) = self.units.get_mut(&id) {
            unit.server.stands_on(stage, self.policy.baseline);
        }
    }

    fn answer(&mut self, id: CgroupId, request: Request) -> Answer {
        let Some(unit) = self.units.get_mut(&id) else {
            return Answer::Done(Err(Failure::Gone));
        };
        match request {
            Request::Read => Answer::Read(Ok(Box::new(Standing {
                controls: unit.controls,
                start: Start(None),
                record: None,
                kernel_quota: None,
            }))),
            Request::Record(_) => Answer::Recorded(Ok(())),
            Request::ThawAfter(_) => Answer::TimerSet(Ok(())),
            Request::Apply(change) => {
                unit.controls = change.to;
                Answer::Applied(Ok(()), Start(None))
            }
            Request::ReadKernel => Answer::Kernel(Ok(KernelControls::default())),
            Request::AskHub | Request::Stop | Request::Kill => {
                self.ended.push(id);
                Answer::Done(Ok(()))
            }
            Request::ThawNoMore | Request::Lift(_) => Answer::Done(Ok(())),
            Request::EndProcesses => Answer::ProcessesEnded(Ok(None)),
        }
    }
}

/// How many ticks there were by then; they count from zero, for all users at once.
fn ticks(time: Time, tick: Duration) -> u128 {
    time.0.as_nanos() / tick.as_nanos().max(1)
}

/// What these allow, in cores. A low weight holds no server back on a node with a core to spare, and
/// here there is one.
fn allowed(controls: &Controls) -> Cores {
    match controls.frozen {
        true => Cores(0.0),
        false => controls.quota.unwrap_or(Cores(f64::INFINITY)),
    }
}
