//! Ending a server: through the hub, where the configuration says so, else by whoever owns its cgroup.
//! One that mines is killed first, and its owner told afterwards.
//!
//! A server that systemd stops is found dead by the hub a little later, at its next look. One that
//! the hub stops is stopped in its own books too, and its page says so at once.

use super::turn::Turn;
use super::{Busy, Ends, Event, Request, Step};
use policy::Controls;
use quantities::Time;
use std::time::Duration;

/// The hub has so long to stop a server; then its owner is asked to.
const HUB_STOPS_WITHIN: Duration = Duration::from_secs(60);

/// How far the end of a server has come that the hub is to bring about.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) enum HubStop {
    /// It was not asked.
    #[default]
    NotBegun,
    /// It was asked then.
    Asked(Time),
    /// It was asked and did not do it in time.
    Overdue,
    /// It could not be used.
    Without,
}

impl HubStop {
    /// Looks after a hub that was asked; true when it has had its time.
    pub fn is_overdue(&mut self, now: Time) -> bool {
        match *self {
            HubStop::Asked(at) if now.since(at) >= HUB_STOPS_WITHIN => {
                *self = HubStop::Overdue;
                true
            }
            _ => false,
        }
    }
}

impl Turn<'_> {
    /// The limits are as they should be; what is to end comes last.
    pub(super) fn end_as_due(&mut self, busy: Busy) {
        match self.goal.ends {
            Ends::Stop => self.stop(busy),
            Ends::Processes => self.ask(busy, Step::EndingProcesses, Request::EndProcesses),
            // One that is to be killed by now is killed at the next turn.
            Ends::Nothing | Ends::Kill => self.done(busy),
        }
    }

    /// Ends a server. May be called again for as long as it is there.
    pub(super) fn stop(&mut self, busy: Busy) {
        match self.actuator.hub {
            HubStop::NotBegun if self.goal.by_hub => {
                self.actuator.hub = HubStop::Asked(self.now);
                return self.ask(busy, Step::AskingHub, Request::AskHub);
            }
            // It has time.
            HubStop::Asked(_) => return self.done(busy),
            HubStop::Overdue => {
                self.without_hub(format!("it was asked {} s ago", HUB_STOPS_WITHIN.as_secs()));
            }
            HubStop::NotBegun | HubStop::Without => {}
        }
        self.ask(busy, Step::Stopping, Request::Stop);
    }

    pub(super) fn without_hub(&mut self, why: String) {
        self.actuator.hub = HubStop::Without;
        self.log(Event::HubDidNotStop(why));
    }

    /// All of it is dead. That is logged now: the server is gone in a moment.
    pub(super) fn killed(&mut self, mut busy: Busy) {
        let (target, before) = (busy.plan.target, busy.plan.before);
        busy.plan.decided = 0;
        for verdict in std::mem::take(&mut self.actuator.verdicts) {
            self.actuator.reason = Some(verdict.reason.to_string());
            self.log(Event::Verdict {
                verdict,
                now: target,
                before,
            });
        }
        // What is empty holds no limit any more; a unit that is still there must not stand still.
        let still = Controls {
            frozen: true,
            ..target
        };
        let thawed = Controls {
            frozen: false,
            ..target
        };
        self.ask(busy, Step::LettingGo, Request::apply(Some(still), thawed));
    }
}
