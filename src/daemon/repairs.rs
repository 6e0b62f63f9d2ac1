//! Whether the packet rules still are what they should be, and what puts them back.

use super::resolvers::resolvers;
use super::{Daemon, Inner};
use crate::act::CpuControl;
use crate::hub::Units;
use crate::report::{Entry as Told, Kind, Level};
use egress::{Audited, Error, ForeignChange, Repair, Writer};
use std::collections::BTreeSet;
use std::rc::Rc;
use tokio::sync::mpsc;

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Somebody else wrote to our table, and what that broke is put back already: tells of it, and
    /// sees whether that was all.
    pub(super) fn intruded(self: &Rc<Self>, repair: Repair, more: &mut mpsc::Receiver<Repair>) {
        let mut inner = self.inner.borrow_mut();
        if inner.off {
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
            inner.load_egress();
        }
        if !change.is_empty() && (inner.loaded || !failed) {
            inner.tell_repaired(&by, &change.to_string());
        }
        drop(inner);
        // Whether that was all of it takes longer to see, and holds up nobody.
        self.audit_egress();
    }

    /// Has what the kernel holds compared with what was installed, beside the loop: to read
    /// thousands of servers' elements takes a while, in which the next repair must not wait.
    pub(super) fn audit_egress(self: &Rc<Self>) {
        let mut inner = self.inner.borrow_mut();
        if inner.off || !inner.loaded {
            return;
        }
        if inner.auditing {
            inner.audit_again = true;
            return;
        }
        let audit = match inner.firewall.audit() {
            Ok(audit) => audit,
            Err(error) => {
                inner.egress_trouble("Reading the packet rules back", &error);
                return;
            }
        };
        inner.auditing = true;
        let daemon = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let audited = tokio::task::spawn_blocking(audit).await;
            let mut inner = daemon.inner.borrow_mut();
            inner.auditing = false;
            match audited {
                Ok(Ok(audited)) => inner.audited(audited),
                // The next tick sees that the rules are others than were compared last.
                Ok(Err(Error::Kernel(nft::Error::Overtaken { .. }))) => {}
                Ok(Err(error)) => inner.egress_trouble("Reading the packet rules back", &error),
                // Only when the daemon ends.
                Err(_) => return,
            }
            if std::mem::take(&mut inner.audit_again) {
                drop(inner);
                daemon.audit_egress();
            }
        });
    }

    /// Once a tick: follows what the rules depend on, and mends them if somebody changed them.
    pub(super) fn check_egress(self: &Rc<Self>) {
        let mut inner = self.inner.borrow_mut();
        if inner.off {
            if inner.loaded {
                for left in inner.lift_rules() {
                    inner.tell_once(Told::new(Kind::Trouble, Level::Error, left));
                }
            }
            return;
        }
        let resolvers = resolvers(&inner.config.egress);
        if !inner.loaded || resolvers != inner.resolvers || inner.relays() != inner.relays {
            inner.load_egress();
            return;
        }
        let guarded = inner.guarded_slices();
        if guarded != inner.slices {
            match inner.firewall.set_guarded(&guarded) {
                Ok(()) => inner.slices = guarded,
                Err(error) => inner.egress_trouble("Guarding the slice", &error),
            }
            inner.note_generation();
        }
        match inner.firewall.generation() {
            // Nobody has changed anything since it was compared.
            Ok(generation) if Some(generation) == inner.generation => {}
            Ok(_) => {
                drop(inner);
                self.audit_egress();
            }
            Err(error) => inner.egress_trouble("Asking for the rules' generation", &error),
        }
    }
}

impl Inner {
    /// What comparing the rules with what was installed found. Of rules that were changed since
    /// it says nothing; the next tick sees that they were.
    fn audited(&mut self, audited: Audited) {
        let now = self.firewall.generation().ok();
        if self.off || !self.loaded || now != Some(audited.generation) {
            return;
        }
        if audited.differences.is_empty() {
            self.generation = now;
            return;
        }
        let shown: Vec<String> = audited
            .differences
            .iter()
            .take(5)
            .map(ToString::to_string)
            .collect();
        let more = match audited.differences.len().saturating_sub(5) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        self.load_egress();
        if self.loaded {
            let what = format!("{}{more}", shown.join(", "));
            self.tell_repaired(&BTreeSet::new(), &what);
        }
    }

    fn tell_repaired(&mut self, by: &BTreeSet<Writer>, what: &str) {
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
        let mut told = Told::new(Kind::EgressRepaired, Level::Warning, message);
        if let Some(writer) = by.first() {
            told = told
                .with("CHANGED_BY", &writer.name)
                .with("CHANGED_BY_PID", writer.pid);
        }
        self.tell(told);
    }

    /// Notes that a change of our own raised the generation. By more than that one, somebody else
    /// changed something at the same time: then it stays to be compared.
    pub(super) fn note_generation(&mut self) {
        let now = self.firewall.generation().ok();
        let next = |before: u32| before.checked_add(1);
        let ours = [self.generation, self.generation.and_then(next)];
        self.generation = now.filter(|_| ours.contains(&now));
    }

    /// Notes that the whole table was made anew just now.
    pub(super) fn note_anew(&mut self) {
        self.generation = self.firewall.generation().ok();
    }
}
