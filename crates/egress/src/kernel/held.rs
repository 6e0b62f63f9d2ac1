//! The table owned by a socket that a process beside the daemon holds, where the kernel cannot leave
//! an owned table standing by itself (5.12 to 6.8).

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use super::Kernel;
use crate::{
    Error, Netlink,
    holder::{Holder, HolderError, Step},
    uapi::NFT_TABLE_F_OWNER,
};

/// Asked, answered, given, confirmed.
const STEPS: usize = 4;

impl Kernel {
    /// Has the table owned all the same where it cannot be owned for good ([`Kernel::owning`]) and a
    /// holder listens at this path. Nothing changes where the kernel owns tables for good, or
    /// not at all. [`Kernel::follow_holder`] is to be called after, and from time to time.
    pub fn held(mut self, holder: &Path) -> Self {
        if !self.owns() && self.takes(NFT_TABLE_F_OWNER) {
            self.holder = Some(Holder::new(holder));
        }
        self
    }

    /// Brings about that the holder holds the socket that this writer writes with, and that the table
    /// is owned exactly while it does: what stands is made anew in one transaction where that
    /// changes. Waits for each of its answers no longer than this. True if the table is owned by
    /// then, or is no more, and was not before.
    ///
    /// # Errors
    /// The table could not be made anew; it stands as before.
    pub fn follow_holder(&mut self, wait: Duration) -> Result<bool, Error> {
        let Some(mut holder) = self.holder.take() else {
            return Ok(false);
        };
        let before = holder.trouble().map(ToString::to_string);
        let step = self.talk(&mut holder, wait);
        let other = holder.trouble().map(ToString::to_string) != before;
        self.holder = Some(holder);
        let flags = match step {
            Step::Holding => NFT_TABLE_F_OWNER,
            Step::Waiting | Step::Has(_) => self.flags,
            Step::Apart => 0,
        };
        if flags == self.flags {
            return Ok(other);
        }
        self.flags = flags;
        if let Some(installed) = self.installed.clone() {
            self.install("change who owns the egress table", installed)?;
        }
        Ok(true)
    }

    /// Whether a holder has a part in keeping other programs from the table on this kernel.
    pub fn needs_holder(&self) -> bool {
        self.holder.is_some()
    }

    /// Whether a holder has the socket of this writer's table, which then outlasts it.
    pub fn is_held(&self) -> bool {
        self.holder.as_ref().is_some_and(Holder::is_holding)
    }

    /// The socket that this writer writes with. Whoever else writes with it disturbs it.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.netlink.as_fd()
    }

    /// Why other programs can take the table away, where they need not.
    pub(super) fn holder_lack(&self) -> Option<String> {
        let holder = self.holder.as_ref().filter(|_| !self.owns())?;
        let why = match holder.trouble() {
            Some(why) => why.to_string(),
            None => "it has not answered yet".to_owned(),
        };
        Some(format!(
            "A program that flushes all packet rules (nft flush ruleset) opens everything for some \
             tens of milliseconds until they are put back, since hubwarden-table.service does not \
             hold them: {why}."
        ))
    }

    fn talk(&mut self, holder: &mut Holder, wait: Duration) -> Step {
        for _ in 0..STEPS {
            let step = match holder.step(wait) {
                Step::Has(Some(theirs)) => self.consider(holder, theirs),
                Step::Has(None) => holder.give(self.netlink.as_fd()),
                step => return step,
            };
            if !matches!(step, Step::Waiting) {
                return step;
            }
        }
        Step::Waiting
    }

    /// Goes on with what the holder holds, unless this writer's own socket owns the table already.
    fn consider(&mut self, holder: &mut Holder, theirs: OwnedFd) -> Step {
        match self.netlink.is(&theirs) {
            Ok(true) => return holder.agree(),
            Ok(false) => {}
            Err(error) => return holder.part(error.into()),
        }
        match Netlink::adopt(theirs, &self.netlink) {
            // It may hold another namespace's table, which must not go.
            Err(error) => holder.part(HolderError::from(error)),
            Ok(_) if self.owns() => holder.give(self.netlink.as_fd()),
            Ok(theirs) => {
                self.netlink = theirs;
                holder.agree()
            }
        }
    }
}
