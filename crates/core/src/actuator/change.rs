//! From what stands to what should.

use super::trouble::quota_in_words;
use super::turn::Turn;
use super::{
    Acts, Busy, Effect, Ends, Event, Failure, Plan, Request, Standing, State, Step, THAW_GRACE,
    Trouble, Wants,
};
use crate::faults::{Fault, has};
use crate::undo::{KernelControls, Owner, Start, Undo};
use policy::{Controls, Reason, Stage, Verdict};
use quantities::{Cores, Time};

impl Turn<'_> {
    /// Works out what should stand, and begins to bring it about.
    pub(super) fn intend(&mut self, mut busy: Busy, standing: Standing) {
        let Standing {
            controls: found,
            start,
            record,
            kernel_quota,
        } = standing;
        let known = self.actuator.undo.as_ref().map(|undo| undo.start);
        if known.is_some_and(|known| !known.is_same(start)) {
            // Another unit has its name by now: this server is gone, and the tree will say so.
            return self.rest(&busy);
        }
        let owner = self.actuator.owner.clone();
        if self.actuator.undo.is_none()
            && let Some(record) = record
        {
            self.actuator.take_over(record, start);
        }
        let undo = self.actuator.undo.take();
        let mut undo = undo.unwrap_or_else(|| Undo::new(owner.clone(), start, found));
        let stood = undo.stands().then(|| *undo.ours());
        if has(Fault::OursTakenForTheirs) {
            undo = Undo::new(owner.clone(), start, found);
        }
        if undo.observe(&found)
            && let Some(ours) = stood
        {
            self.log(Event::LimitChanged { found, ours });
        }
        let before = *undo.before();
        let target = self.goal.target(&owner, &before);
        // Written past systemd, or not written by it. What stands where we set no quota is not ours to
        // undo, but for what we set before.
        let other = |ours: Controls| match (ours.quota, kernel_quota.flatten()) {
            (None, Some(held)) => undo.is_our_quota(held),
            _ => ours.quota.is_some() && is_other_quota(ours.quota, kernel_quota),
        };
        let forced = !has(Fault::QuotaPastOwnerStays)
            && self.goal.acts == Acts::Yes
            && stood.is_some_and(|ours| ours == found && other(ours));
        let kills = self.goal.ends == Ends::Kill;
        busy.plan = Plan {
            found,
            before,
            target,
            forced,
            did: !kills && (target != found || forced),
            decided: self.actuator.verdicts.len(),
            kills,
            failed: None,
        };
        let changes = kills || busy.plan.did;
        if changes {
            undo.intend(target);
        }
        let record = changes.then(|| Box::new(undo.clone()));
        self.actuator.undo = Some(undo);
        if has(Fault::RestoreSkipped) && target == before {
            return self.confirm(busy);
        }
        if has(Fault::ChangedBeforeRecorded) && !kills && record.is_some() {
            return self.recorded(busy, Ok(()));
        }
        match record {
            Some(record) => self.ask(busy, Step::Recording, Request::Record(record)),
            None => self.confirm(busy),
        }
    }

    /// The intent is on record, or it is not.
    pub(super) fn recorded(&mut self, busy: Busy, result: Result<(), String>) {
        let (undo, recorded) = (&self.actuator.undo, &self.actuator.recorded);
        match (result, undo, recorded) {
            (Ok(()), undo, _) => self.actuator.recorded.clone_from(undo),
            // What is put back, or was noted earlier, needs no room.
            (Err(_), Some(undo), Some(recorded)) if recorded.covers(undo) => {}
            (Err(why), ..) => return self.fail(&busy, Trouble::Record(why)),
        }
        if busy.plan.kills {
            return match self.goal.ends {
                Ends::Kill => self.ask(busy, Step::Killing, Request::Kill),
                _ => self.begin_anew(),
            };
        }
        // The verdict should outlive a crash too; nothing waits for a disk.
        self.effects.push(Effect::Save);
        match busy.plan.freezes() && !has(Fault::FrozenWithoutTimer) {
            true => self.ask(busy, Step::SettingTimer, self.timer()),
            false => self.apply(busy),
        }
    }

    fn timer(&self) -> Request {
        Request::ThawAfter(self.goal.freeze_for() + THAW_GRACE)
    }

    pub(super) fn timer_set(&mut self) {
        let lease = self.goal.freeze_for() + THAW_GRACE;
        self.actuator.thaws = Some(Time(self.now.0 + lease));
    }

    /// Another goal was set meanwhile: what was planned is not what is wanted.
    fn begin_anew(&mut self) {
        let again = self.actuator.begin(self.now);
        self.effects.extend(again);
    }

    pub(super) fn apply(&mut self, busy: Busy) {
        let wanted = self.goal.target(&self.actuator.owner, &busy.plan.before);
        if wanted != busy.plan.target {
            return self.begin_anew();
        }
        let Plan {
            found,
            target,
            forced,
            ..
        } = busy.plan;
        let request = Request::apply((!forced).then_some(found), target);
        self.ask(busy, Step::Applying, request);
    }

    pub(super) fn applied(&mut self, busy: Busy, result: Result<(), Failure>, start: Start) {
        self.follow_stray(&busy, start);
        match result {
            Ok(()) if has(Fault::NotReadBack) => self.confirm(busy),
            Ok(()) => self.ask(busy, Step::Verifying, Request::Read),
            Err(failure) => self.failed(busy, failure),
        }
    }

    /// Tells where a change went to another unit than it was meant for.
    pub(super) fn follow_stray(&mut self, busy: &Busy, start: Start) {
        let strayed = |undo: &Undo| !undo.start.is_same(start);
        if self.actuator.undo.as_ref().is_some_and(strayed) && !has(Fault::StrayForgotten) {
            let set = busy.plan.target;
            self.effects.push(Effect::Strayed { start, set });
        }
    }

    pub(super) fn verify(&mut self, busy: Busy, found: &Controls) {
        if *found == busy.plan.target {
            return self.confirm(busy);
        }
        let trouble = Trouble::NotTaken {
            owner: self.actuator.owner.clone(),
            wanted: quota_in_words(&busy.plan.target),
            found: quota_in_words(found),
        };
        self.fail(&busy, trouble);
    }

    /// What was wanted stands, by its owner; where nothing of ours is to stand, the kernel is asked too.
    fn confirm(&mut self, busy: Busy) {
        let lifted = |undo: &Undo| *undo.before() == busy.plan.target;
        match self.actuator.undo.as_ref().is_some_and(lifted) {
            true => self.ask(
                busy,
                Step::CheckingKernel { rewritten: false },
                Request::ReadKernel,
            ),
            false => self.renew(busy),
        }
    }

    pub(super) fn check_kernel(&mut self, busy: Busy, rewritten: bool, kernel: &KernelControls) {
        let undo = self.actuator.undo.as_ref();
        let holds = undo.is_some_and(|undo| undo.is_in(kernel)) && !has(Fault::KernelNotAsked);
        match (holds, rewritten) {
            (false, _) => self.renew(busy),
            (true, false) => {
                let to = busy.plan.target;
                self.ask(busy, Step::Rewriting, Request::apply(None, to));
            }
            (true, true) => {
                let owner = self.actuator.owner.clone();
                self.fail(&busy, Trouble::InKernel(owner));
            }
        }
    }

    fn renew(&mut self, busy: Busy) {
        match busy.plan.freezes() && self.actuator.must_renew(self.now) {
            true => self.ask(busy, Step::RenewingTimer, self.timer()),
            false => self.settle(busy),
        }
    }

    /// Takes in that what was wanted stands.
    pub(super) fn settle(&mut self, busy: Busy) {
        let Plan { found, target, .. } = busy.plan;
        if !target.frozen {
            self.actuator.thaws = None;
        }
        match found.frozen && !target.frozen {
            // It would thaw what is not frozen.
            true => self.ask(busy, Step::EndingTimer, Request::ThawNoMore),
            false => self.note(busy),
        }
    }

    pub(super) fn note(&mut self, busy: Busy) {
        let target = busy.plan.target;
        let Some(undo) = &mut self.actuator.undo else {
            return self.end_as_due(busy);
        };
        undo.confirm(target);
        // Where nothing was ever changed there is nothing to record. What is on record and cannot be
        // written anew tells of more than stands, which does no harm.
        if self.actuator.recorded.is_none() && !undo.stands() {
            return self.end_as_due(busy);
        }
        let record = Box::new(undo.clone());
        self.effects.push(Effect::Save);
        self.ask(busy, Step::Noting, Request::Record(record));
    }

    /// All was done: logs it, and goes on where something else is wanted by now.
    pub(super) fn done(&mut self, busy: Busy) {
        let Plan {
            before,
            target,
            did,
            decided,
            ..
        } = busy.plan;
        self.actuator.trouble = None;
        self.effects.push(Effect::InForce(target));
        let decided = decided.min(self.actuator.verdicts.len());
        let verdicts: Vec<Verdict> = self.actuator.verdicts.drain(..decided).collect();
        if verdicts.is_empty() && did && !self.goal.quietly {
            self.log_unasked(target, before);
        }
        for verdict in verdicts {
            self.actuator.reason = Some(verdict.reason.to_string());
            if has(Fault::VerdictNotLogged) {
                continue;
            }
            if has(Fault::VerdictLoggedTwice) {
                self.log(Event::Verdict {
                    verdict: verdict.clone(),
                    now: target,
                    before,
                });
            }
            self.log(Event::Verdict {
                now: self.goal.shown(verdict.to, &before),
                before,
                verdict,
            });
        }
        match busy.again {
            true => self.begin_anew(),
            false => self.actuator.state = State::Idle,
        }
    }

    /// Something was changed that no new verdict asked for.
    fn log_unasked(&mut self, now: Controls, before: Controls) {
        let event = match (self.goal.acts, &self.goal.wants) {
            (Acts::Yes, Wants::Stage(to, _)) if *to > Stage::Free => Event::Verdict {
                verdict: Verdict {
                    from: *to,
                    to: *to,
                    reason: Reason::DecidedBefore,
                },
                now,
                before,
            },
            (Acts::Yes, Wants::Cap(_)) if now == before => Event::Restored {
                now,
                why: Acts::Yes,
            },
            (Acts::Yes, _) => Event::Limited { now, before },
            (why, _) => Event::Restored { now, why },
        };
        self.log(event);
    }

    /// A slice's runtime properties are drop-ins of its name: the next slice of that name has them too.
    pub(super) fn can_forget(&self) -> bool {
        let outlives = matches!(&self.actuator.owner, Owner::Systemd(unit, _)
            if unit.as_str().ends_with(".slice"));
        let lifts = matches!(self.goal.acts, Acts::Off | Acts::Released);
        outlives && lifts && self.actuator.ours().is_some()
    }

    pub(super) fn forget(&mut self, mut busy: Busy) {
        let Some(undo) = &self.actuator.undo else {
            return self.rest(&busy);
        };
        let (ours, before) = (undo.may_stand(), *undo.before());
        busy.plan.before = before;
        let from = Controls {
            frozen: false,
            ..ours
        };
        let request = Request::apply(Some(from), before);
        self.ask(busy, Step::Forgetting, request);
    }

    pub(super) fn failed(&mut self, mut busy: Busy, failure: Failure) {
        let why = match failure {
            Failure::Gone => return self.rest(&busy),
            Failure::Other(why) => why,
        };
        let lifts = self.goal.acts == Acts::Off;
        match self
            .actuator
            .undo
            .clone()
            .filter(|undo| lifts && undo.stands())
        {
            // A process that stands still, or has a hundredth of a core, cannot wait for systemd.
            Some(undo) if busy.step != Step::Lifting => {
                busy.plan.failed = Some(why);
                self.ask(busy, Step::Lifting, Request::Lift(Box::new(undo)));
            }
            _ => self.fail(&busy, Trouble::World(why)),
        }
    }

    /// It is tried again at the next tick: whatever it is needs time to pass.
    pub(super) fn fail(&mut self, _: &Busy, trouble: Trouble) {
        let text = trouble.to_string();
        if self.actuator.trouble.as_ref() != Some(&text) {
            self.log(Event::Trouble(trouble));
            self.actuator.trouble = Some(text);
        }
        self.actuator.state = State::Due;
    }

    /// Nothing can be done any more, unless something else is wanted by now.
    pub(super) fn rest(&mut self, busy: &Busy) {
        self.actuator.state = match busy.again {
            true => State::Due,
            false => State::Idle,
        };
    }
}

/// Whether the kernel holds another quota than this. Without data the answer is no.
pub fn is_other_quota(known: Option<Cores>, kernel: Option<Option<Cores>>) -> bool {
    match (kernel, known) {
        (Some(held), Some(known)) => !held.is_some_and(|held| is_same_rate(known, held)),
        (Some(held), None) => held.is_some(),
        (None, _) => false,
    }
}

/// systemd rounds to whole microseconds a period and lengthens a period in which a low quota
/// would be under 1 ms; the rate stays.
fn is_same_rate(Cores(ours): Cores, Cores(held): Cores) -> bool {
    (held - ours).abs() <= 0.02 * ours + 0.001
}
