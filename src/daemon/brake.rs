//! The brake of last resort: `hubwarden off` without a daemon.
//!
//! An admin in trouble may have a daemon that crashes, hangs or is removed already. What it left
//! is in the kernel and in the state file, and this lifts both.

use super::state::{Book, Store};
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
    for record in &mut book.cases {
        let Some(changed) = record.changed else {
            continue;
        };
        let Some(cpu) = cpu else {
            complaints.push(format!(
                "the limit of {} could not be put back: there is no system bus",
                record.server.unit
            ));
            continue;
        };
        let unit = &record.server.unit;
        let owner = Owner::of(&record.server, &record.cgroup, record.id);
        let result = match cpu.read(&owner).await {
            // Somebody else's limit by now.
            Ok(found) if found != changed.ours => Ok(()),
            Ok(found) => cpu.apply(&owner, Some(&found), &changed.before).await,
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => record.changed = None,
            Err(error) if error.is_gone() => record.changed = None,
            Err(error) => complaints.push(format!("the limit of {unit} stays: {error}")),
        }
    }
}
