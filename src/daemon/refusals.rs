//! What the packet rules refused: told one by one as far as that is worth it, counted whole.

use super::cgroups::{Cgroup, Guarded};
use super::refusal_log::{Refusals, TELL_AGAIN};
use super::{Daemon, Shell};
use crate::act::CpuControl;
use crate::hub::Units;
use crate::report::{Journal, Kind, Level, LogEntry};
use egress::{Refusal, RefusedBy};
use quantities::CgroupId;
use quantities::{Mode, Time};

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Tells a refusal, once an hour for the same server and destination.
    pub(super) fn refused(&mut self, refusal: &Refusal, now: Time) {
        let shell = &mut self.shell;
        let mode = shell.config.mode;
        let id = refusal.number.and_then(|number| shell.sender(number));
        shell.report.meter.ledger.told();
        let journal = shell.report.journal.clone();
        if shell.refused_outside(refusal, now) {
            return self.refused_of(id, refusal, now);
        }
        match id.and_then(|id| shell.guarded(id)) {
            Some(guarded) => {
                if let Some(more) = guarded.refusals.line(refusal, mode, now) {
                    let told = guarded.story(mode).refused(refusal);
                    journal.log(told.and_not_logged(more));
                }
            }
            None => shell.refused_unknown(refusal, now),
        }
        self.refused_of(id, refusal, now);
    }

    /// What a refusal is evidence of.
    fn refused_of(&mut self, id: Option<CgroupId>, refusal: &Refusal, now: Time) {
        if let (Some(id), RefusedBy::List(_)) = (id, &refusal.by) {
            self.asked_for_listed(id, now);
        }
    }
}

impl Shell {
    /// The cgroup whose account something goes to that a number of the packet rules' names.
    pub(super) fn sender(&self, number: u32) -> Option<CgroupId> {
        let known = self.node.numbers().holder(number);
        known.or_else(|| self.account_outside(number))
    }

    /// Once a tick: takes in how much was refused to whom, for metrics and for the journal.
    pub(super) fn count_refused(&mut self, now: Time) {
        self.book_refused(now);
        self.log_unlogged(&|refusals| refusals.overdue(now));
    }

    /// Takes in what was refused since the last time. What is wrong with the table is the next
    /// check's to tell, and nothing is lost by it.
    pub(super) fn book_refused(&mut self, now: Time) {
        let refused = self.network.rules.refused();
        for one in &refused {
            let id = one.number.and_then(|number| self.sender(number));
            self.report.meter.ledger.refused(id, one.packets);
            match one.number.and_then(|number| self.refusals_of(number)) {
                Some(refusals) => refusals.counted(one.packets, now),
                None => self.network.unknown.unlogged.counted(one.packets, now),
            }
        }
        self.network.counters.refused.extend(refused);
    }

    /// A server ends: what no line stands for is told before that.
    pub(super) fn log_last_refused(&mut self, id: CgroupId, now: Time) {
        self.book_refused(now);
        let (mode, journal) = (self.config.mode, self.report.journal.clone());
        if let Some(guarded) = self.guarded(id) {
            let left = guarded.refusals.rest();
            log_left(&journal, guarded, left, mode);
        }
    }

    /// The daemon ends: what no line stands for is told now.
    pub(super) fn log_all_unlogged(&mut self, now: Time) {
        self.book_refused(now);
        self.log_unlogged(&Refusals::rest);
    }

    /// Tells of everybody how many packets have no line, as far as they are to have one now.
    fn log_unlogged(&mut self, left: &dyn Fn(&mut Refusals) -> u64) {
        let (mode, journal) = (self.config.mode, self.report.journal.clone());
        for entry in self.registry.entries.values_mut() {
            if let Cgroup::Server(guarded) = entry {
                let left = left(&mut guarded.refusals);
                log_left(&journal, guarded, left, mode);
            }
        }
        for outside_user in self.network.uid_egress.all() {
            let left = left(&mut outside_user.refusals);
            outside_user.log_left(&journal, left, mode);
        }
    }

    /// What was refused to whom a number names.
    fn refusals_of(&mut self, number: u32) -> Option<&mut Refusals> {
        match self.node.numbers().holder(number) {
            Some(id) => Some(&mut self.guarded(id)?.refusals),
            None => Some(&mut self.network.uid_egress.by_number(number)?.refusals),
        }
    }

    /// A refusal of a unit in the guarded slice that nobody knows; once an hour for all of them.
    fn refused_unknown(&mut self, refusal: &Refusal, now: Time) {
        if self
            .network
            .unknown
            .logged
            .is_some_and(|(mode, told)| mode == self.config.mode && now.since(told) < TELL_AGAIN)
        {
            return;
        }
        self.network.unknown.logged = Some((self.config.mode, now));
        let more = self.network.unknown.unlogged.logged();
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
                "A process {uid} in a guarded slice {was} its network: its unit is not known as a \
                 user's server."
            ),
        };
        let told = LogEntry::new(Kind::EgressRefused, Level::Notice, message)
            .with("VERDICT_MODE", mode)
            .with("DESTINATION", refusal.destination.to_canonical());
        self.log(told.and_not_logged(more));
    }
}

/// A line for packets that have none.
fn log_left(journal: &Journal, guarded: &Guarded, left: u64, mode: Mode) {
    if left > 0 {
        journal.log(guarded.story(mode).not_logged(left));
    }
}
