//! The cap on all servers together: the guarded slice's quota, so that the hub, ssh and the
//! system keep the cores that `slice.reserve` names.
//!
//! It goes the same way as a server's limit: what stood there is on disk first, is never made
//! looser, and comes back when supervision is off or only observes.

use super::{Daemon, Shell, Tasks, now};
use crate::act::{CpuControl, Owner};
use crate::hub::{UnitName, Units};
use crate::report::{Kind, Level, LogEntry};
use hubwarden_core::actuator::{
    Acts, Actuator, Effect, Ends, Event, Goal, Input, Request, Ticket, Wants,
};
use quantities::Cores;
use quantities::{CgroupId, CgroupPath};
use std::os::unix::fs::MetadataExt;

/// However much is reserved, servers keep this share of the node.
const LEAST_SHARE: f64 = 0.1;

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Brings the slice's quota to where it should be, beside the loop.
    pub(super) fn cap_slice(&mut self) {
        self.tasks.begin(async |tasks| tasks.cap_slice().await);
    }
}

impl<C: CpuControl + 'static, U: Units + 'static> Tasks<C, U> {
    /// As [`Daemon::cap_slice`], to be waited for.
    pub(super) async fn cap_slice(&self) {
        let mut input = Input::Wake;
        while let Some((owner, ticket, request)) =
            self.turn(|daemon| daemon.shell.actuate_cap(input)).await
        {
            input = Input::Answer(ticket, self.ask_unit(None, &owner, request).await);
        }
    }
}

impl Shell {
    /// The cores to keep free, while verdicts are carried out.
    fn reserve(&self) -> Option<Cores> {
        self.config.reserve.filter(|_| self.acts())
    }

    /// Has the actuator of the slice's cap take something in; what is asked for then. The cap is forgotten
    /// where nothing is, and nothing of it stands.
    fn actuate_cap(&mut self, input: Input) -> Option<(Owner, Ticket, Request)> {
        let (owner, effects) = self.handle_cap(input)?;
        for effect in effects {
            match effect {
                Effect::Ask(ticket, request) => return Some((owner, ticket, request)),
                Effect::Log(event) => self.log_cap(&owner, *event),
                Effect::Save => self.storage.dirty = true,
                // A slice is neither frozen nor made anew under its name.
                Effect::InForce(_) | Effect::Strayed { .. } => {}
            }
        }
        self.forget_cap();
        None
    }

    /// Nothing where there is nothing to cap.
    fn handle_cap(&mut self, input: Input) -> Option<(Owner, Vec<Effect>)> {
        let unit = UnitName(self.config.hub.slice.clone());
        let mut reserve = self.reserve();
        let guarded = CgroupPath::new(&self.config.hub.slice);
        let found = std::fs::metadata(self.root.join(guarded.as_str())).ok();
        let place = found.map(|found| (guarded, CgroupId(found.ino())));
        let owner = Owner::Systemd(unit, place);
        let cap = match &mut self.limits.slice_cap {
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
        if let Some(cap) = self.limits.slice_cap.take_if(|cap| is_over(cap)) {
            self.limits.undo.disclaim(cap.owner());
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
