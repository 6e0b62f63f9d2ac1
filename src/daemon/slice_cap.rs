//! The cap on all servers together: the guarded slice's quota, so that the hub, ssh and the
//! system keep the cores that `slice.reserve` names.
//!
//! It goes the same way as a server's limit: what stood there is on disk first, is never made
//! looser, and comes back when supervision is off or only observes.

use super::ask_cpu::{self, failure};
use super::{Daemon, Inner, now};
use crate::act::{CpuControl, Owner};
use crate::hub::{UnitName, Units};
use crate::report::{Kind, Level, LogEntry};
use hubwarden_core::actuator::{
    Acts, Actuator, Answer, Effect, Ends, Event, Goal, Input, Request, Standing, Wants,
};
use quantities::Cores;
use quantities::{CgroupId, CgroupPath};
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;

/// However much is reserved, servers keep this share of the node.
const LEAST_SHARE: f64 = 0.1;

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Brings the slice's quota to where it should be, beside the loop.
    pub(super) fn cap_slice(self: &Rc<Self>) {
        let daemon = Rc::clone(self);
        tokio::task::spawn_local(async move { daemon.cap_slice_now().await });
    }

    /// As [`Daemon::cap_slice`], to be waited for.
    pub(super) async fn cap_slice_now(self: &Rc<Self>) {
        let mut input = Input::Wake;
        loop {
            let Some((owner, effects)) = self.inner.borrow_mut().actuate_cap(input) else {
                return;
            };
            input = match self.carry_out_cap(&owner, effects).await {
                Some(answer) => answer,
                None => return self.inner.borrow_mut().forget_cap(),
            };
        }
    }

    async fn carry_out_cap(&self, owner: &Owner, effects: Vec<Effect>) -> Option<Input> {
        for effect in effects {
            match effect {
                Effect::Ask(ticket, request) => {
                    return Some(Input::Answer(
                        ticket,
                        self.ask_for_cap(owner, request).await,
                    ));
                }
                Effect::Log(event) => self.inner.borrow_mut().log_cap(owner, *event),
                Effect::Save => self.inner.borrow_mut().dirty = true,
                // A slice is neither frozen nor made anew under its name.
                Effect::InForce(_) | Effect::Strayed { .. } => {}
            }
        }
        None
    }

    async fn ask_for_cap(&self, owner: &Owner, request: Request) -> Answer {
        match request {
            Request::Read => {
                let known = self.inner.borrow_mut().know_records(owner);
                if let Err(error) = known {
                    return Answer::Unread(error.to_string());
                }
                let read = failure(self.cpu.read(owner).await);
                let mut inner = self.inner.borrow_mut();
                Answer::Read(read.map(|controls| {
                    Box::new(Standing {
                        controls,
                        start: inner.undo.start_of(owner),
                        record: inner.undo.claim(owner),
                        kernel_quota: None,
                    })
                }))
            }
            Request::Record(undo) => {
                let recorded = self.inner.borrow_mut().undo.save(&undo);
                Answer::Recorded(recorded.map_err(|error| error.to_string()))
            }
            request => {
                let done = ask_cpu::ask(&self.cpu, owner, request).await;
                done.answer(|| self.inner.borrow().undo.start_of(owner))
            }
        }
    }
}

impl Inner {
    /// The cores to keep free, while verdicts are carried out.
    fn reserve(&self) -> Option<Cores> {
        self.config.reserve.filter(|_| self.acts())
    }

    /// Has the actuator of the slice's cap take something in; nothing where there is nothing to cap.
    fn actuate_cap(&mut self, input: Input) -> Option<(Owner, Vec<Effect>)> {
        let unit = UnitName(self.config.hub.slice.clone());
        let mut reserve = self.reserve();
        let guarded = CgroupPath::new(&self.config.hub.slice);
        let found = std::fs::metadata(self.root.join(guarded.as_str())).ok();
        let place = found.map(|found| (guarded, CgroupId(found.ino())));
        let owner = Owner::Systemd(unit, place);
        let cap = match &mut self.slice_cap {
            Some(cap) => cap,
            none => none.insert(Actuator::new(reserve.map(|_| owner.clone())?)),
        };
        match cap.owner().is_same_unit(&owner) {
            true => cap.move_to(owner),
            // A reload made another slice the guarded one.
            false => reserve = None,
        }
        let owner = cap.owner().clone();
        let goal = Goal {
            acts: Acts::of(self.off, self.config.mode),
            wants: Wants::Cap(reserve.map(|reserve| cap_of(node_cores(), reserve))),
            ends: Ends::Nothing,
            by_hub: false,
            quietly: false,
        };
        let effects = cap.handle(input, &goal, now());
        Some((owner, effects))
    }

    /// Forgets a slice on which nothing of ours stands and nothing is to be tried again.
    fn forget_cap(&mut self) {
        let is_over =
            |cap: &Actuator| !cap.is_busy() && cap.ours().is_none() && cap.trouble().is_none();
        if let Some(cap) = self.slice_cap.take_if(|cap| is_over(cap)) {
            self.undo.disclaim(cap.owner());
        }
    }

    fn log_cap(&mut self, owner: &Owner, event: Event) {
        let message = match event {
            Event::Limited { now, .. } => match (self.reserve(), now.quota) {
                (Some(reserve), Some(cap)) => format!(
                    "All servers together ({owner}) may use up to {cap}, so that {reserve} are left to \
                     the hub and the system."
                ),
                _ => return,
            },
            Event::Restored { .. } => {
                format!("{owner} has the limit again that stood there before hubwarden.")
            }
            Event::Trouble(trouble) => {
                let message = format!(
                    "The limit of all servers together could not be set and is tried again: {trouble}."
                );
                return self.log_once(LogEntry::new(Kind::Trouble, Level::Error, message));
            }
            Event::LimitChanged { .. } | Event::Verdict { .. } | Event::HubDidNotStop(_) => return,
        };
        self.log(LogEntry::new(Kind::Limited, Level::Notice, message).with("UNIT_NAME", owner));
    }
}

/// The cores for servers; systemd's precision.
fn cap_of(cores: f64, reserve: Cores) -> Cores {
    let left = (cores - reserve.0).max(cores * LEAST_SHARE);
    Cores((left * 1e6).round() / 1e6)
}

/// The node's cores that are online; one where the kernel does not say.
fn node_cores() -> f64 {
    let online = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN);
    online.ok().flatten().map_or(1.0, |cores| cores as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_keep_a_share_however_much_is_reserved() {
        assert_eq!(cap_of(8.0, Cores(1.0)), Cores(7.0));
        assert_eq!(cap_of(2.0, Cores(2.0)), Cores(0.2));
        assert_eq!(cap_of(1.0, Cores(0.5)), Cores(0.5));
    }
}
