//! The brake of last resort: `hubwarden off` without a daemon.
//!
//! An admin in trouble may have a daemon that crashes, hangs or is removed already. What it left
//! is in the kernel and in the state file, and this lifts both.

use super::state::{Book, Changed, Store};
use crate::act::{CpuControl, Owner};
use crate::egress::Firewall;

/// What could not be lifted, in words.
pub type Complaints = Vec<String>;

/// Removes the packet rules, puts back every limit the state file tells of, and notes that
/// supervision is off. Goes on after each failure and returns all of them.
pub async fn lift<C: CpuControl>(
    store: &Store,
    cpu: Option<&C>,
    firewall: &mut dyn Firewall,
) -> Complaints {
    let mut complaints = Complaints::new();
    if let Err(error) = firewall.remove() {
        complaints.push(format!("the packet rules could not be removed: {error}"));
    }
    let mut book = match store.load_any_boot() {
        Ok(book) => book,
        Err(error) => {
            complaints.push(error.to_string());
            return complaints;
        }
    };
    put_back(&mut book, cpu, &mut complaints).await;
    book.off = true;
    if let Err(error) = store.save(&book) {
        complaints.push(format!("a restart will not know that it is off: {error}"));
    }
    complaints
}

async fn put_back<C: CpuControl>(book: &mut Book, cpu: Option<&C>, complaints: &mut Complaints) {
    let mut changes: Vec<(Owner, &mut Option<Changed>)> = Vec::new();
    for record in &mut book.cases {
        let owner = Owner::of(&record.server, &record.cgroup, record.id);
        changes.push((owner, &mut record.changed));
    }
    if let Some(cap) = &mut book.slice {
        changes.push((Owner::Systemd(cap.unit.clone()), &mut cap.changed));
    }
    for (owner, change) in changes {
        let Some(changed) = *change else {
            continue;
        };
        let Some(cpu) = cpu else {
            complaints.push(format!(
                "the limit of {owner} could not be put back: there is no system bus"
            ));
            continue;
        };
        let result = match cpu.read(&owner).await {
            // What somebody else changed since stays as they want it.
            Ok(found) => {
                let before = changed.before.with_changes(&changed.ours, &found);
                cpu.apply(&owner, Some(&found), &before).await
            }
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => *change = None,
            Err(error) if error.is_gone() => *change = None,
            Err(error) => complaints.push(format!("the limit of {owner} stays: {error}")),
        }
    }
}
