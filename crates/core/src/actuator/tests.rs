//! One unit, request by request.

mod changing;
mod ending;
mod freezing;
mod kernel;
mod lives;

use super::*;
use crate::test_support::{life, quota, unit};
use crate::undo::KernelControls;
use policy::{Policy, Reason};
use quantities::{CgroupId, CgroupPath, Cores, UnitName};

const NOW: Time = Time(Duration::from_secs(1000));

fn policy() -> Policy {
    let mut policy = Policy::default();
    policy.sustained.freeze_for = Duration::from_secs(30);
    policy
}

fn goal(stage: Stage) -> Goal {
    Goal {
        acts: Acts::Yes,
        wants: Wants::Stage(stage, Box::new(policy())),
        ends: Ends::Nothing,
        by_hub: false,
        quietly: false,
    }
}

fn verdict(to: Stage) -> Verdict {
    Verdict {
        from: Stage::Free,
        to,
        reason: Reason::DecidedBefore,
    }
}

/// What the ladder wants on a stage where nothing was set.
fn on(stage: Stage) -> Controls {
    policy::wanted(stage, &policy(), &Controls::default())
}

fn standing(controls: Controls) -> Answer {
    Answer::Read(Ok(Box::new(Standing {
        controls,
        start: Start::default(),
        record: None,
        kernel_quota: Some(controls.quota),
    })))
}

fn refused() -> Failure {
    Failure::Other("refused".to_owned())
}

/// An actuator under test, with what it asked for last and what it logged.
struct Tried {
    actuator: Actuator,
    goal: Goal,
    now: Time,
    asked: Option<(Ticket, Request)>,
    logged: Vec<Event>,
    in_force: Option<Controls>,
    /// What went to another unit of that name.
    strayed: Vec<(Start, Controls)>,
}

impl Tried {
    fn new(stage: Stage) -> Tried {
        Tried::of(unit("jupyter-alice.service"), goal(stage))
    }

    fn of(owner: Owner, goal: Goal) -> Tried {
        Tried {
            actuator: Actuator::new(owner),
            goal,
            now: NOW,
            asked: None,
            logged: Vec::new(),
            in_force: None,
            strayed: Vec::new(),
        }
    }

    fn handle(&mut self, input: Input) {
        for effect in self.actuator.handle(input, &self.goal, self.now) {
            match effect {
                Effect::Ask(ticket, request) => self.asked = Some((ticket, request)),
                Effect::Log(event) => self.logged.push(*event),
                Effect::InForce(controls) => self.in_force = Some(controls),
                Effect::Strayed { start, set } => self.strayed.push((start, set)),
                Effect::Save => {}
            }
        }
    }

    fn wake(&mut self) -> Request {
        self.asked = None;
        self.handle(Input::Wake);
        self.request()
    }

    fn request(&self) -> Request {
        self.asked.clone().expect("something is asked for").1
    }

    /// Answers what was asked for last.
    fn answer(&mut self, answer: Answer) {
        let (ticket, request) = self.asked.take().expect("something is asked for");
        assert!(ticket < Ticket(1000), "no end of it: {request:?}");
        self.handle(Input::Answer(ticket, answer));
    }

    /// The same; what is asked for then.
    fn then(&mut self, answer: Answer) -> Request {
        self.answer(answer);
        self.request()
    }

    fn recorded(&mut self) -> Request {
        self.then(Answer::Recorded(Ok(())))
    }

    fn applied(&mut self) -> Request {
        self.then(Answer::Applied(Ok(()), Start::default()))
    }

    /// Everything goes well from a reading of this on, until nothing is asked for.
    fn goes_well(&mut self, mut found: Controls) {
        if !self.actuator.is_busy() {
            self.wake();
        }
        while let Some((_, request)) = self.asked.clone() {
            let answer = match request {
                Request::Read => standing(found),
                Request::Record(_) => Answer::Recorded(Ok(())),
                Request::ThawAfter(_) => Answer::TimerSet(Ok(())),
                Request::Apply(change) => {
                    found = change.to;
                    Answer::Applied(Ok(()), Start::default())
                }
                Request::ReadKernel => Answer::Kernel(Ok(KernelControls::default())),
                Request::EndProcesses => Answer::ProcessesEnded(Ok(None)),
                _ => Answer::Done(Ok(())),
            };
            self.answer(answer);
        }
        assert!(!self.actuator.is_busy());
    }
}
