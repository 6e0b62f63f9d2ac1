//! What the power over limits is asked for by an actuator, whoever drives that; and how everything of ours
//! is put back on one unit by itself.

use crate::act::{ActError, CpuControl, Owner, Undo};
use hubwarden_core::actuator::{Actuator, Answer, Effect, Failure, Goal, Input, Request, Standing};
use hubwarden_core::undo::{KernelControls, Start};
use quantities::Time;
use std::time::Duration;

/// What became of a request.
pub(super) enum Done {
    Applied(Result<(), Failure>),
    Kernel(Result<KernelControls, Failure>),
    TimerSet(Result<(), Failure>),
    Other(Result<(), Failure>),
}

impl Done {
    /// The same as an answer, with the life of the unit now.
    pub async fn answer(self, start: impl AsyncFnOnce() -> Start) -> Answer {
        match self {
            Done::Applied(result) => Answer::Applied(result, start().await),
            Done::Kernel(result) => Answer::Kernel(result),
            Done::TimerSet(result) => Answer::TimerSet(result),
            Done::Other(result) => Answer::Done(result),
        }
    }
}

/// An error of the shell's, for the core.
pub(super) fn failure<T>(result: Result<T, ActError>) -> Result<T, Failure> {
    result.map_err(|error| match error.is_gone() {
        true => Failure::Gone,
        false => Failure::Other(error.to_string()),
    })
}

/// Does what an actuator wants of a unit's owner or of the kernel.
pub(super) async fn ask<C: CpuControl>(cpu: &C, owner: &Owner, request: Request) -> Done {
    match request {
        Request::Apply(change) => {
            let applied = cpu.apply(owner, change.from.as_ref(), &change.to).await;
            Done::Applied(failure(applied))
        }
        Request::ThawAfter(delay) => Done::TimerSet(failure(cpu.thaw_after(owner, delay).await)),
        Request::ReadKernel => Done::Kernel(failure(cpu.kernel(owner))),
        Request::Lift(undo) => Done::Other(failure(cpu.lift(&undo))),
        Request::ThawNoMore => Done::Other(failure(cpu.thaw_no_more(owner).await)),
        Request::Stop => Done::Other(failure(cpu.stop(owner).await)),
        Request::Read
        | Request::Record(_)
        | Request::AskHub
        | Request::Kill
        | Request::EndProcesses => Done::Other(Ok(())),
    }
}

/// Puts everything back that a record tells of. What its owner changed since stays as it is.
///
/// # Errors
/// Something of ours may stand, in words. That the unit is gone is none.
pub(super) async fn put_back<C: CpuControl>(
    cpu: &C,
    undo: Undo,
    start: impl AsyncFn() -> Start,
) -> Result<(), String> {
    let mut actuator = Actuator::new(undo.owner.clone());
    let life = undo.start;
    actuator.take_over(undo, life);
    let (goal, now) = (Goal::nothing(), Time(Duration::ZERO));
    let mut input = Input::Wake;
    loop {
        let mut answer = None;
        for effect in actuator.handle(input, &goal, now) {
            match effect {
                Effect::Ask(ticket, request) => answer = Some((ticket, request)),
                // It is told of by whoever wants it, as a whole.
                Effect::Log(_) | Effect::Save | Effect::InForce(_) | Effect::Strayed { .. } => {}
            }
        }
        let Some((ticket, request)) = answer else {
            return actuator.trouble().map_or(Ok(()), |why| Err(why.to_owned()));
        };
        let owner = actuator.owner();
        let answer = match request {
            Request::Read => {
                let read = failure(cpu.read(owner).await);
                let start = start().await;
                let standing = |controls| Standing {
                    controls,
                    start,
                    record: None,
                    kernel_quota: None,
                };
                Answer::Read(read.map(|controls| Box::new(standing(controls))))
            }
            // What its owner set needs no record to be told from ours.
            Request::Record(_) => Answer::Recorded(Ok(())),
            request => ask(cpu, owner, request).await.answer(&start).await,
        };
        input = Input::Answer(ticket, answer);
    }
}
