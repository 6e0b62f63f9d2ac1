//! Whether the packet rules still are what they should be, and what puts them back.

use super::{Daemon, Shell};
use crate::act::CpuControl;
use crate::hub::Units;
use crate::report::{Kind, Level, LogEntry};
use egress::{Audited, Error, ForeignChange, Repair, Writer};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::mpsc;

/// New containers stay closed so much longer than the ticks say: a daemon that was killed is there again.
const WATCHED: Duration = Duration::from_secs(5);

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Somebody else wrote to our table, and what that broke is put back already: tells of it, and
    /// sees whether that was all.
    pub(super) fn on_foreign_write(&mut self, repair: Repair, more: &mut mpsc::Receiver<Repair>) {
        let shell = &mut self.shell;
        if shell.off {
            return;
        }
        let mut by = BTreeSet::new();
        let mut change = ForeignChange::default();
        let mut failed = false;
        let mut next = Some(repair);
        while let Some(repair) = next {
            match repair.outcome {
                // Nothing was to be put back; or the table was not ours yet, and is whole since it is.
                Ok(false) | Err(Error::NotLoaded { .. }) => {}
                outcome => {
                    failed |= outcome.is_err();
                    by.extend(repair.by);
                    change.merge(repair.change);
                }
            }
            // What came meanwhile is told in the same line.
            next = more.try_recv().ok();
        }
        if failed {
            // Whatever it is, the table whole and anew is the last resort.
            shell.load_egress();
        }
        if !change.is_empty() && (shell.network.rules.stand() || !failed) {
            shell.log_repaired(&by, &change.to_string());
        }
        // Whether that was all of it takes longer to see, and holds up nobody.
        self.audit_egress();
    }

    /// Has what the kernel holds compared with what was installed, beside the loop: to read
    /// thousands of servers' elements takes a while, in which the next repair must not wait.
    pub(super) fn audit_egress(&mut self) {
        let shell = &mut self.shell;
        if shell.off {
            return;
        }
        let audit = match shell.network.rules.begin_audit() {
            Ok(Some(audit)) => audit,
            Ok(None) => return,
            Err(trouble) => return shell.log_rules([trouble]),
        };
        self.tasks.begin(async move |tasks| {
            // It fails only when the daemon ends.
            let Ok(audited) = tokio::task::spawn_blocking(audit).await else {
                return;
            };
            tasks.post(|daemon| {
                if daemon.shell.audited(audited) {
                    daemon.audit_egress();
                }
            });
        });
    }

    /// Once a tick: follows what the rules depend on, and mends them if somebody changed them.
    pub(super) fn check_egress(&mut self) {
        let shell = &mut self.shell;
        if shell.off {
            if shell.network.rules.are_to_be_lifted() {
                for left in shell.lift_rules() {
                    shell.log_once(LogEntry::new(Kind::Trouble, Level::Error, left));
                }
            }
            return;
        }
        // First: what stands may be for the socket alone to change that this gets.
        shell.keep_rules_held();
        shell.look_at_tracking();
        shell.reconcile_network_if_changed();
        match shell.network.rules.were_changed() {
            Ok(false) => {}
            Ok(true) => {
                self.audit_egress();
            }
            Err(trouble) => shell.log_rules([trouble]),
        }
        // What a stalled tick takes longer than others is in it.
        self.shell.keep_watch(3 * self.tick() + WATCHED);
    }
}

impl Shell {
    /// Says for how long new containers are closed until somebody finds out who they are.
    pub(super) fn keep_watch(&mut self, time: Duration) {
        if !self.off {
            let kept = self.network.rules.keep_watch(time);
            self.log_rules(kept.err());
        }
    }

    /// Has other programs unable to take the rules away, where that needs a process beside.
    fn keep_rules_held(&mut self) {
        let before = self.network.rules.lack().map(str::to_owned);
        match self.network.rules.keep_held() {
            Ok(false) => {}
            Ok(true) => {
                if let Some(over) = before {
                    self.report.troubles.is_over(&over);
                }
                if let Some(lack) = self.network.rules.lack().map(str::to_owned) {
                    self.log_once(LogEntry::new(Kind::Trouble, Level::Warning, lack));
                }
            }
            Err(trouble) => self.log_rules([trouble]),
        }
    }

    /// A comparison of the rules ended; true if another is wanted.
    fn audited(&mut self, audited: Result<Audited, Error>) -> bool {
        let failed = match &audited {
            // The next tick sees that the rules are others than were compared last.
            Ok(_) | Err(Error::Kernel(nft::Error::Overtaken { .. })) => None,
            Err(error) => Some(format!("{error}")),
        };
        if let Some(error) = failed {
            let text = format!("Reading the packet rules back failed and is tried again: {error}.");
            self.log_once(LogEntry::new(Kind::Trouble, Level::Error, text));
        }
        let (differences, again) = self.network.rules.end_audit(audited);
        if self.off || differences.is_empty() {
            return again;
        }
        let shown: Vec<&str> = differences.iter().take(5).map(String::as_str).collect();
        let more = match differences.len().saturating_sub(5) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        self.load_egress();
        if self.network.rules.stand() {
            let what = format!("{}{more}", shown.join(", "));
            self.log_repaired(&BTreeSet::new(), &what);
        }
        again
    }

    fn log_repaired(&mut self, by: &BTreeSet<Writer>, what: &str) {
        let who = match by.len() {
            0 => "Somebody".to_owned(),
            _ => by
                .iter()
                .take(5)
                .map(Writer::to_string)
                .collect::<Vec<_>>()
                .join(" and "),
        };
        let message = format!(
            "{who} changed the packet rules of hubwarden, and they are put back: {what}. To lift \
             them on purpose: hubwarden off."
        );
        let mut told = LogEntry::new(Kind::EgressRepaired, Level::Warning, message);
        if let Some(writer) = by.first() {
            told = told
                .with("CHANGED_BY", &writer.name)
                .with("CHANGED_BY_PID", writer.pid);
        }
        self.log(told);
    }
}
