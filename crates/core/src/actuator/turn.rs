//! One answer being taken in.

use super::{Actuator, Answer, Busy, Effect, Event, Failure, Goal, Request, State, Step, Trouble};
use quantities::Time;

/// One answer being taken in.
pub(super) struct Turn<'a> {
    pub actuator: &'a mut Actuator,
    pub goal: &'a Goal,
    pub now: Time,
    pub effects: Vec<Effect>,
}

impl Turn<'_> {
    pub fn step(&mut self, mut busy: Busy, answer: Answer) {
        match (busy.step, answer) {
            (_, Answer::Unread(why)) => self.fail(&busy, Trouble::Unread(why)),
            (Step::Reading, Answer::Read(Ok(standing))) => self.intend(busy, *standing),
            (Step::Reading, Answer::Read(Err(Failure::Gone))) if self.can_forget() => {
                self.forget(busy);
            }
            (Step::Recording, Answer::Recorded(result)) => self.recorded(busy, result),
            (Step::SettingTimer, Answer::TimerSet(Ok(()))) => {
                self.timer_set();
                self.apply(busy);
            }
            (Step::Applying, Answer::Applied(result, start)) => self.applied(busy, result, start),
            (Step::Verifying, Answer::Read(Ok(standing))) => self.verify(busy, &standing.controls),
            (Step::CheckingKernel { rewritten }, Answer::Kernel(Ok(kernel))) => {
                self.check_kernel(busy, rewritten, &kernel);
            }
            (Step::Rewriting, Answer::Applied(Ok(()), start)) => {
                self.follow_stray(&busy, start);
                self.ask(
                    busy,
                    Step::CheckingKernel { rewritten: true },
                    Request::ReadKernel,
                );
            }
            (Step::RenewingTimer, Answer::TimerSet(Ok(()))) => {
                self.timer_set();
                self.settle(busy);
            }
            (Step::EndingTimer, Answer::Done(_)) => self.note(busy),
            (Step::Noting, Answer::Recorded(result)) => {
                if result.is_ok() {
                    self.actuator.recorded.clone_from(&self.actuator.undo);
                }
                self.end_as_due(busy);
            }
            (Step::Forgetting, Answer::Applied(Ok(()), _)) => {
                let before = busy.plan.before;
                busy.plan.target = before;
                if let Some(undo) = &mut self.actuator.undo {
                    undo.confirm(before);
                }
                self.done(busy);
            }
            (Step::Lifting, Answer::Done(Ok(()))) => {
                let why = busy.plan.failed.take().unwrap_or_default();
                let owner = self.actuator.owner.clone();
                self.fail(&busy, Trouble::KernelOnly { owner, why });
            }
            (Step::Lifting, Answer::Done(Err(Failure::Other(why)))) => {
                self.fail(&busy, Trouble::World(why));
            }
            (Step::AskingHub, Answer::Done(Ok(()))) => self.done(busy),
            (Step::AskingHub, Answer::Done(Err(failure))) => {
                self.without_hub(failure.to_string());
                self.ask(busy, Step::Stopping, Request::Stop);
            }
            (Step::Stopping, Answer::Done(Ok(()) | Err(Failure::Gone))) => self.done(busy),
            (Step::Killing, Answer::Done(Ok(()) | Err(Failure::Gone))) => self.killed(busy),
            (Step::LettingGo, Answer::Applied(..)) => self.stop(busy),
            (Step::EndingProcesses, Answer::ProcessesEnded(Ok(verdict))) => {
                self.actuator.verdicts.extend(verdict);
                busy.again = true;
                self.done(busy);
            }
            (
                _,
                Answer::Read(Err(failure))
                | Answer::TimerSet(Err(failure))
                | Answer::Applied(Err(failure), _)
                | Answer::Kernel(Err(failure))
                | Answer::Done(Err(failure))
                | Answer::ProcessesEnded(Err(failure)),
            ) => self.failed(busy, failure),
            // Nobody who keeps to the tickets answers so; it is asked for again once it counts as lost.
            (_, _) => self.actuator.state = State::Busy(Box::new(busy)),
        }
    }

    pub fn ask(&mut self, busy: Busy, step: Step, request: Request) {
        let effect = self.actuator.ask(busy, step, request, self.now);
        self.effects.push(effect);
    }

    pub fn log(&mut self, event: Event) {
        self.effects.push(Effect::Log(Box::new(event)));
    }
}
