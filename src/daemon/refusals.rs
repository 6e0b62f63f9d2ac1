//! What the packet rules refused, as it is told.

use super::entries::Refusals;
use super::{Daemon, Inner};
use crate::act::CpuControl;
use crate::cgroup::CgroupId;
use crate::egress::{Refusal, RefusedBy};
use crate::evidence::Fact;
use crate::hub::Units;
use crate::report::{Entry as Told, Kind, Level};
use crate::units::{Mode, Time};
use std::rc::Rc;
use std::time::Duration;

/// The same refusal of the same server is told again after this long.
pub(super) const TELL_AGAIN: Duration = Duration::from_secs(3600);
/// Different refusals told per server within that time.
pub(super) const MOST_TOLD: usize = 64;

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Tells a refusal, once an hour for the same server and destination.
    pub(super) fn refused(self: &Rc<Self>, refusal: &Refusal, now: Time) {
        let mut inner = self.inner.borrow_mut();
        let mode = inner.config.mode;
        let id = refusal.number.and_then(|number| inner.sender(number));
        inner.meter.ledger.refused(id);
        let journal = inner.journal.clone();
        if inner.refused_outside(refusal, now) {
            drop(inner);
            return self.refused_of(id, refusal, now);
        }
        match id.and_then(|id| inner.guarded(id)) {
            Some(guarded) => {
                if worth_telling(&mut guarded.refusals, refusal, now) {
                    journal.tell(guarded.story(mode).refused(refusal));
                }
            }
            None => inner.refused_unknown(refusal, now),
        }
        drop(inner);
        self.refused_of(id, refusal, now);
    }

    /// What a refusal is evidence of.
    fn refused_of(self: &Rc<Self>, id: Option<CgroupId>, refusal: &Refusal, now: Time) {
        match (id, &refusal.by) {
            (Some(id), RefusedBy::List(_)) => self.asked_for_listed(id, now),
            (Some(id), RefusedBy::Spoofed) => self.abused(id, Fact::Spoofed, now),
            _ => {}
        }
    }
}

impl Inner {
    /// The cgroup whose account something goes to that a number of the packet rules' names.
    fn sender(&self, number: u32) -> Option<CgroupId> {
        let known = self.numbers.get(&number).copied();
        known.or_else(|| self.account_outside(number))
    }

    /// A refusal of a unit in the guarded slice that nobody knows; once an hour for all of them.
    fn refused_unknown(&mut self, refusal: &Refusal, now: Time) {
        if self
            .unknown_refused
            .is_some_and(|told| now.since(told) < TELL_AGAIN)
        {
            return;
        }
        self.unknown_refused = Some(now);
        let (was, mode) = match self.config.mode {
            Mode::Enforce => ("was refused", Mode::Enforce),
            Mode::Observe => ("would have been refused", Mode::Observe),
        };
        let uid = match refusal.uid {
            Some(uid) => format!("of uid {uid}"),
            None => "of an unknown uid".to_owned(),
        };
        let message = match refusal.by {
            RefusedBy::Container | RefusedBy::Spoofed => format!(
                "A container on a guarded network {was} its network: it is not known as a user's \
                 server."
            ),
            _ => format!(
                "A process {uid} in {} {was} its network: its unit is not known as a user's server.",
                self.config.hub.slice
            ),
        };
        self.tell(
            Told::new(Kind::EgressRefused, Level::Notice, message)
                .with("VERDICT_MODE", mode)
                .with("DESTINATION", refusal.destination.to_canonical()),
        );
    }
}

/// Whether this was not told lately, nor too much else; notes that it is told now.
pub(super) fn worth_telling(told: &mut Refusals, refusal: &Refusal, now: Time) -> bool {
    told.retain(|_, at| now.since(*at) < TELL_AGAIN);
    let target = (refusal.protocol, refusal.destination, refusal.port);
    if told.contains_key(&target) || told.len() >= MOST_TOLD {
        return false;
    }
    told.insert(target, now);
    true
}
