//! Brings one unit's limits to where they should be, and ends a server.
//!
//! Each time it goes the same way: read what stands, work out what should, put that on record, change it,
//! read it back. It is the same for a verdict, its undo, a reload, `off`, a server that is
//! not its user's, and another program's change. What it wants of the world comes out as [`Effect`]s; of
//! those at most one is a [`Request`], and its [`Answer`] leads on. An answer that is late or comes twice
//! is known by its [`Ticket`] and does nothing; one that never comes is waited for no longer than
//! [`LOST_AFTER`].

mod change;
mod effect;
mod ending;
mod goal;
mod input;
mod trouble;
mod turn;

pub use change::is_other_quota;
pub use effect::{Change, Effect, Event, Request};
pub use goal::{Acts, Ends, Goal, Wants};
pub use input::{Answer, Input, Standing, Ticket};
pub use trouble::{Failure, Trouble};

use crate::undo::{Owner, Start, Undo};
use ending::HubStop;
use policy::{Controls, Stage, Verdict};
use quantities::Time;
use std::collections::VecDeque;
use std::time::Duration;
use turn::Turn;

/// A server is thawed by the daemon, where that lives; so much later by systemd alone.
pub const THAW_GRACE: Duration = Duration::from_secs(10);
/// An answer is waited for so long. Whoever is asked gives up long before.
pub const LOST_AFTER: Duration = Duration::from_secs(300);

/// One unit and what is being done to it.
#[derive(Debug, Clone)]
pub struct Actuator {
    owner: Owner,
    /// What was changed on it, once that was read.
    undo: Option<Undo>,
    /// What of that is on record.
    recorded: Option<Undo>,
    /// When it is thawed whatever becomes of the daemon.
    thaws: Option<Time>,
    /// Verdicts to carry out and log, oldest first.
    verdicts: VecDeque<Verdict>,
    /// Why it stands where it stands, as logged last.
    reason: Option<String>,
    /// How far the hub's ending it has come.
    hub: HubStop,
    /// What did not come about last; a lasting trouble is logged once.
    trouble: Option<String>,
    state: State,
    ticket: Ticket,
}

#[derive(Debug, Clone)]
enum State {
    /// Nothing is to be done.
    Idle,
    /// Something is to be tried again at the next tick.
    Due,
    /// Something is under way: nothing else may overtake it.
    Busy(Box<Busy>),
}

#[derive(Debug, Clone)]
struct Busy {
    step: Step,
    plan: Plan,
    /// Woken meanwhile: what is wanted may be another by now.
    again: bool,
    /// When it was last asked for something.
    since: Time,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Reading,
    Recording,
    /// It is to stand still, and is thawed at the latest by a timer that is set before.
    SettingTimer,
    Applying,
    Verifying,
    /// Whether the kernel holds something of ours all the same; `rewritten` when all was set once more.
    CheckingKernel {
        rewritten: bool,
    },
    Rewriting,
    RenewingTimer,
    /// It would thaw what is not frozen: nothing depends on that.
    EndingTimer,
    /// What stands is noted; nothing depends on that.
    Noting,
    /// A slice that is gone has its properties taken back.
    Forgetting,
    /// The kernel's limits are lifted, since the owner does not answer.
    Lifting,
    AskingHub,
    Stopping,
    Killing,
    /// What is empty is let go of.
    LettingGo,
    EndingProcesses,
}

/// What is being brought about.
#[derive(Debug, Clone, Default)]
struct Plan {
    found: Controls,
    before: Controls,
    target: Controls,
    /// Its owner says that it stands, and the kernel does not.
    forced: bool,
    /// Something is changed.
    did: bool,
    /// How many of the waiting verdicts it carries out; what is decided later is still to do.
    decided: usize,
    /// It is killed.
    kills: bool,
    /// Why its owner could not be asked.
    failed: Option<String>,
}

impl Plan {
    /// Whether it is to stand still, and not by its owner's will.
    fn freezes(&self) -> bool {
        self.target.frozen && !self.before.frozen
    }
}

impl Actuator {
    /// Nothing is known of it yet.
    pub fn new(owner: Owner) -> Actuator {
        Actuator {
            owner,
            undo: None,
            recorded: None,
            thaws: None,
            verdicts: VecDeque::new(),
            reason: None,
            hub: HubStop::default(),
            trouble: None,
            state: State::Idle,
            ticket: Ticket::default(),
        }
    }

    /// Takes over what is on record: what an earlier daemon, or an earlier server in the same unit, left
    /// in this life of it, or may have left as that began.
    pub fn take_over(&mut self, record: Undo, start: Start) {
        if record.start.is_same(start) {
            self.recorded = Some(record.clone());
            self.undo = Some(record.of(self.owner.clone()));
        } else if record.is_under_way() && self.undo.is_none() {
            self.adopt(&record, start);
        }
    }

    /// What an earlier life had may stand in this one. Its spawner asks for what it asked for before; what
    /// else it asked for is known once this one is read.
    fn adopt(&mut self, earlier: &Undo, start: Start) -> &mut Undo {
        let mut undo = earlier.clone().of(self.owner.clone());
        undo.start = start;
        self.undo.insert(undo)
    }

    /// Through whom its limits are changed.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Its cgroup was made anew: the unit is the same.
    pub fn move_to(&mut self, owner: Owner) {
        if !self.is_busy() {
            self.undo = self.undo.take().map(|undo| undo.of(owner.clone()));
            self.owner = owner;
        }
    }

    /// What was changed, once that was read.
    pub fn undo(&self) -> Option<&Undo> {
        self.undo.as_ref()
    }

    /// What was set on it, where something of ours may stand.
    pub fn ours(&self) -> Option<&Controls> {
        let undo = self.undo.as_ref()?;
        undo.stands().then(|| undo.ours())
    }

    /// Why it stands where it stands, as logged last.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// What did not come about last.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Whether something is under way.
    pub fn is_busy(&self) -> bool {
        matches!(self.state, State::Busy(_))
    }

    /// Whether it is being killed: that goes on though the cgroup is gone.
    pub fn is_killing(&self) -> bool {
        matches!(&self.state, State::Busy(busy) if busy.plan.kills)
    }

    /// Whether something is being set, which may go to another unit that has its name by then.
    pub fn is_changing(&self) -> bool {
        matches!(&self.state, State::Busy(busy) if matches!(busy.step, Step::Applying | Step::Rewriting))
    }

    /// Adds a verdict to be carried out.
    pub fn decide(&mut self, verdict: Verdict) {
        self.verdicts.push_back(verdict);
    }

    /// Verdicts that wait are not carried out, nor logged.
    pub fn drop_verdicts(&mut self) {
        self.verdicts.clear();
        if let State::Busy(busy) = &mut self.state {
            busy.plan.decided = 0;
        }
    }

    /// A verdict that ended it and was not logged: it may be gone before whoever was asked to end it says
    /// so.
    pub fn take_end(&mut self) -> Option<Event> {
        let at = self
            .verdicts
            .iter()
            .position(|one| one.to == Stage::Stopped)?;
        let verdict = self.verdicts.remove(at)?;
        let undo = self.undo.as_ref();
        Some(Event::Verdict {
            verdict,
            now: undo.map(|undo| *undo.ours()).unwrap_or_default(),
            before: undo.map(|undo| *undo.before()).unwrap_or_default(),
        })
    }

    /// Something is to be done at the next tick.
    pub fn put_off(&mut self) {
        match &mut self.state {
            State::Busy(busy) => busy.again = true,
            state => *state = State::Due,
        }
    }

    /// Whether it is to be woken at this tick.
    pub fn is_due(&mut self, now: Time) -> bool {
        let again = matches!(self.state, State::Due) || self.is_lost(now);
        // The hub's time is looked after whatever else is due.
        self.hub.is_overdue(now) | again | self.must_renew(now)
    }

    /// Whether it is to stand still for longer than the timer would let it.
    fn must_renew(&self, now: Time) -> bool {
        let frozen = |undo: &Undo| undo.stands() && undo.ours().frozen && !undo.before().frozen;
        self.undo.as_ref().is_some_and(frozen)
            && self.thaws.is_none_or(|at| at.since(now) < THAW_GRACE / 2)
    }

    /// Something of an earlier server's in the unit of this name went here by mistake; what that one knew,
    /// see [`Effect::Strayed`]. What is to be on record then.
    pub fn receive_stray(&mut self, earlier: &Undo, start: Start, set: Controls) -> &Undo {
        if self.undo.is_none() {
            return self.adopt(earlier, start);
        }
        let undo = self.undo.get_or_insert_with(|| earlier.clone());
        undo.receive_stray(set, earlier.before());
        undo
    }

    /// What went astray is this one's own: its unit was made anew. What is to be on record.
    pub fn follow_stray(&mut self, start: Start) -> Option<&Undo> {
        let undo = self.undo.as_mut()?;
        undo.start = start;
        Some(undo)
    }

    /// Takes something in; what is to be done then.
    pub fn handle(&mut self, input: Input, goal: &Goal, now: Time) -> Vec<Effect> {
        match input {
            Input::Wake => self.wake(now),
            Input::Answer(ticket, answer) => self.answer(ticket, answer, goal, now),
        }
    }

    /// Whether an answer is waited for that will not come any more.
    pub fn is_lost(&self, now: Time) -> bool {
        matches!(&self.state, State::Busy(busy) if now.since(busy.since) >= LOST_AFTER)
    }

    fn wake(&mut self, now: Time) -> Vec<Effect> {
        let lost = self.is_lost(now);
        match &mut self.state {
            State::Busy(busy) if !lost => {
                busy.again = true;
                Vec::new()
            }
            _ => self.begin(now),
        }
    }

    fn begin(&mut self, now: Time) -> Vec<Effect> {
        let busy = Busy {
            step: Step::Reading,
            plan: Plan::default(),
            again: false,
            since: now,
        };
        vec![self.ask(busy, Step::Reading, Request::Read, now)]
    }

    fn ask(&mut self, busy: Busy, step: Step, request: Request, now: Time) -> Effect {
        self.ticket.0 += 1;
        self.state = State::Busy(Box::new(Busy {
            step,
            since: now,
            ..busy
        }));
        Effect::Ask(self.ticket, request)
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer, goal: &Goal, now: Time) -> Vec<Effect> {
        if ticket != self.ticket {
            return Vec::new();
        }
        let busy = match std::mem::replace(&mut self.state, State::Idle) {
            State::Busy(busy) => *busy,
            state => {
                self.state = state;
                return Vec::new();
            }
        };
        let mut turn = Turn {
            actuator: self,
            goal,
            now,
            effects: Vec::new(),
        };
        turn.step(busy, answer);
        turn.effects
    }
}

#[cfg(test)]
mod tests;
