//! The queues of servers whose classes are shaped, kept in step with the rules.

use std::collections::BTreeSet;

use super::{Kernel, changes::by_set};
use crate::{
    Error,
    encode::Change,
    installed::Installed,
    ruleset::Element,
    shape::{self, Shaping},
};

impl Kernel {
    /// Makes the detours and queues that the rules will name.
    pub(super) fn make_detours(&mut self, next: &mut Installed) {
        // A table that is made anew keeps the queues of the last: packets wait in them.
        let standing = self.installed.as_ref().map(|last| &last.shaping);
        let before = standing.unwrap_or(&next.shaping).clone();
        let wanted = shape::is_used(next.policy()).then(|| next.shaped());
        next.shaping = self
            .shaper
            .stand(&mut self.netlink, &before, wanted.as_ref());
    }

    /// Has the queues of servers follow their classes. Until one is there, what its server sends is
    /// policed.
    pub(super) fn follow_queues(&mut self) {
        let Some(installed) = &mut self.installed else {
            return;
        };
        let before = &installed.shaping;
        if before.detours.is_empty() {
            return;
        }
        let queues = shape::assign(&before.queues, &installed.shaped());
        if queues == before.queues {
            return;
        }
        let detours = before.detours.clone();
        let after = Shaping { detours, queues };
        let (netlink, writings) = (&mut self.netlink, &self.writings);
        let followed = self.shaper.follow(before, &after, || {
            let (old, new) = (shape::elements(before), shape::elements(&after));
            let mut messages = by_set(Change::Delete, without(&old, &new))?;
            messages.extend(by_set(Change::Add, without(&new, &old))?);
            // A new rate alone changes no element.
            if messages.is_empty() {
                return Ok(());
            }
            writings.change();
            netlink.transact("give servers their queues", &messages)?;
            writings.aside();
            Ok(())
        });
        // What failed is made anew when interfaces are looked at next, each tick.
        if followed.is_ok() {
            installed.shaping = after;
        }
    }

    /// What is to be made anew because packets leave by other interfaces than they did, or something
    /// of ours on the way is gone; `None` if all is well.
    pub(super) fn with_other_uplinks(&mut self) -> Result<Option<Installed>, Error> {
        let Some(installed) = &self.installed else {
            return Ok(None);
        };
        let other = shape::is_used(installed.policy())
            && self.shaper.is_out_of_date(&installed.shaping.detours)?;
        Ok(other.then(|| installed.clone()))
    }

    /// Whether this kernel delays what is sent too fast: rules and devices are made and taken back.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn shaping(&mut self) -> Result<(), Error> {
        self.shaper.probe(&mut self.netlink)
    }
}

fn without(all: &[(String, Element)], those: &[(String, Element)]) -> Vec<(String, Element)> {
    let those: BTreeSet<_> = those.iter().collect();
    let left = all.iter().filter(|element| !those.contains(element));
    left.cloned().collect()
}
