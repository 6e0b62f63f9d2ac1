//! Places on one node, by what goes into it and what comes out.

mod astray;
mod ending;
mod looking;
mod places;
mod sighting;
mod taking_turns;
mod verdicts;

use super::*;
use crate::accounts::{Newcomer, Reading};
use crate::actuator::{Change, Failure, Request, Standing as Stands, Ticket};
use crate::test_support::{life, unit};
use crate::undo::{Control, Start};
use policy::{Controls, FindingKind, Policy, Stage, finding::Strength};
use quantities::{CgroupPath, CoreSeconds, Cores, HubUser, UnitName};
use std::collections::VecDeque;
use std::time::Duration;

const NOW: Time = Time(Duration::from_secs(1000));

fn settings(mode: Mode) -> Settings {
    Settings {
        mode,
        off: false,
        by_hub: false,
        tick: Duration::from_secs(5),
        hot: Cores(0.5),
        hot_for: Duration::from_secs(60),
        stands: Duration::from_secs(600),
    }
}

fn policy() -> Policy {
    let mut policy = Policy {
        size: CoreSeconds(10.0),
        min_stay: Duration::ZERO,
        ..Policy::default()
    };
    policy.evidence.stop_after = Some(Duration::from_secs(10));
    policy
}

fn found(id: u64, unit: &str, user: &str, kind: PlaceKind) -> Input {
    let cgroup = CgroupPath::new(&format!("jupyter.slice/{unit}"));
    let owner = Owner::of(
        Control::Systemd,
        &UnitName(unit.to_owned()),
        &cgroup,
        CgroupId(id),
    );
    Input::Found(Box::new(Found {
        id: CgroupId(id),
        owner,
        record: None,
        start: life(id),
        newcomer: Newcomer {
            user: HubUser(user.to_owned()),
            kind,
            policy: policy(),
            standing: None,
            used_elsewhere: Duration::ZERO,
        },
        lead: None,
    }))
}

/// A node, with what it asked for and was not answered.
struct Tried {
    node: Node,
    now: Time,
    asked: VecDeque<(CgroupId, Ticket, Request)>,
    /// What was asked for and answered.
    answered: Vec<(CgroupId, Request)>,
    effects: Vec<Effect>,
    /// What was set on each unit.
    set: BTreeMap<CgroupId, Controls>,
}

impl Tried {
    fn new(mode: Mode) -> Tried {
        Tried {
            node: Node::new(settings(mode), 1..=1000),
            now: NOW,
            asked: VecDeque::new(),
            answered: Vec::new(),
            effects: Vec::new(),
            set: BTreeMap::new(),
        }
    }

    fn server(&mut self, id: u64, user: &str) {
        self.handle(found(
            id,
            &format!("jupyter-{user}.service"),
            user,
            PlaceKind::Server,
        ));
    }

    fn handle(&mut self, input: Input) {
        for effect in self.node.handle(input, self.now) {
            match effect {
                Effect::Unit(id, actuator::Effect::Ask(ticket, request)) => {
                    self.asked.push_back((id, ticket, request));
                }
                effect => self.effects.push(effect),
            }
        }
    }

    fn answer(&mut self, answer: Answer) -> Request {
        let (id, ticket, request) = self.asked.pop_front().expect("something is asked for");
        assert!(ticket < Ticket(1000), "no end of it: {request:?}");
        self.answered.push((id, request.clone()));
        self.handle(Input::Answer(id, ticket, answer));
        request
    }

    /// Of whom something is asked.
    fn asked(&self) -> Vec<u64> {
        self.asked.iter().map(|(id, ..)| id.0).collect()
    }

    /// Who ended, by which requests.
    fn ended(&self) -> Vec<(u64, Request)> {
        let ends = |request: &Request| {
            use Request::{AskHub, EndProcesses, Kill, Stop};
            matches!(request, AskHub | EndProcesses | Kill | Stop)
        };
        let answered = self.answered.iter();
        let ended = answered.filter(|(_, request)| ends(request));
        ended.map(|(id, request)| (id.0, request.clone())).collect()
    }

    fn reads(&mut self, controls: Controls, start: Start) {
        let asked = self.answer(Answer::Read(Ok(Box::new(Stands {
            controls,
            start,
            record: None,
            kernel_quota: None,
        }))));
        assert_eq!(asked, Request::Read);
    }

    /// Answers all that is asked for as it should be.
    fn goes_well(&mut self) {
        while !self.asked.is_empty() {
            self.goes_well_once();
        }
    }

    fn goes_well_once(&mut self) {
        if let Some((id, ticket, request)) = self.asked.front().cloned() {
            if request == Request::EndProcesses {
                self.asked.pop_front();
                self.answered.push((id, request));
                return self.handle(Input::ProcessesEnded(id, ticket, Ok(1)));
            }
            let answer = match request {
                Request::Read => Answer::Read(Ok(Box::new(Stands {
                    controls: self.set.get(&id).copied().unwrap_or_default(),
                    start: life(id.0),
                    record: None,
                    kernel_quota: None,
                }))),
                Request::Record(_) => Answer::Recorded(Ok(())),
                Request::Apply(change) => {
                    self.set.insert(id, change.to);
                    Answer::Applied(Ok(()), life(id.0))
                }
                Request::ReadKernel => Answer::Kernel(Ok(Default::default())),
                Request::ThawAfter(_) => Answer::TimerSet(Ok(())),
                _ => Answer::Done(Ok(())),
            };
            self.answer(answer);
        }
    }

    /// A tick after so many seconds, by when each of these has used so many of CPU time.
    fn tick(&mut self, seconds: u64, used: &[(u64, f64)]) {
        self.now.0 += Duration::from_secs(seconds);
        self.look(Looked::default(), used);
    }

    fn look(&mut self, mut looked: Looked, used: &[(u64, f64)]) {
        for (id, seconds) in used {
            let reading = Reading {
                usage: Duration::from_secs_f64(*seconds),
                throttled_periods: None,
            };
            looked.readings.insert(CgroupId(*id), reading);
        }
        self.handle(Input::Looked(Box::new(looked)));
    }

    fn stage(&self, id: u64) -> Stage {
        self.node
            .accounts()
            .place(CgroupId(id))
            .expect("it is there")
            .standing()
            .stage
    }

    fn logs(&self) -> usize {
        let logged = |effect: &&Effect| matches!(effect, Effect::Unit(_, actuator::Effect::Log(_)));
        self.effects.iter().filter(logged).count()
    }
}

/// Mining was found in a place, and the time passes that it is left.
fn accused(tried: &mut Tried, id: u64) {
    tried.handle(Input::Accused(
        CgroupId(id),
        Strength::Certain,
        FindingKind::Mining,
    ));
    for _ in 0..5 {
        tried.tick(11, &[(id, 0.0)]);
        if tried.stage(id) < Stage::Stopped {
            tried.goes_well();
        }
    }
}
