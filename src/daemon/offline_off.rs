//! `hubwarden off` without a daemon.
//!
//! An admin in trouble may have a daemon that crashes, hangs or is removed already. What it left is in
//! the kernel and in systemd, the records under `/run` tell of it, and this lifts it: packet rules
//! first, which are what locks people out. The disk is asked last.

use super::OffSwitch;
use super::ask_cpu::put_back;
use super::state::Store;
use crate::act::{CpuControl, Placement, UndoStore};
use egress::Firewall;

/// What became of it.
#[derive(Debug, Default)]
pub struct Lifted {
    /// Units whose limits were read back and are as their owners set them.
    pub units: usize,
    /// What of ours stands, or may stand, in words.
    pub complaints: Vec<String>,
}

/// Removes the packet rules, puts back every limit that is recorded, and notes that supervision is
/// off. Goes on after each failure.
pub async fn lift<C: CpuControl>(
    switch: &OffSwitch,
    undo: &mut UndoStore,
    store: Option<&Store>,
    cpu: &C,
    firewall: &mut dyn Firewall,
    placement: &Placement,
) -> Lifted {
    let mut lifted = Lifted::default();
    let complaints = &mut lifted.complaints;
    // Before anything is lifted: a daemon that systemd starts meanwhile finds it.
    let off_until_reboot = switch.off_until_reboot();
    if let Err(error) = firewall.remove() {
        complaints.push(format!("the packet rules could not be removed: {error}"));
    }
    match firewall.standing() {
        Ok(standing) if standing.is_empty() => {}
        Ok(standing) => complaints.push(format!("still there: {}", standing.join(", "))),
        Err(error) => complaints.push(format!("the packet rules could not be read: {error}")),
    }
    if let Err(error) = placement.bring_about(None) {
        complaints.push(format!(
            "new servers are still placed by hubwarden: {error}"
        ));
    }
    for error in undo.load() {
        complaints.push(format!(
            "a record of changed limits cannot be read: {error}"
        ));
    }
    let (changes, _) = store.map(Store::changes).unwrap_or_default();
    for change in changes {
        undo.add(change);
    }
    let records: Vec<_> = undo.records().cloned().collect();
    for record in records {
        if !undo.may_stand(&record) {
            undo.forget(&record.owner);
            continue;
        }
        let owner = record.owner.clone();
        match put_back(cpu, record, async || undo.start_of(&owner)).await {
            Ok(()) => {
                lifted.units += 1;
                undo.forget(&owner);
            }
            Err(why) => complaints.push(why),
        }
    }
    if let Err(error) = switch.off() {
        complaints.push(match off_until_reboot {
            Ok(()) => format!("after a reboot hubwarden will supervise again: {error}"),
            Err(_) => format!("a restart of hubwarden will not know that it is off: {error}"),
        });
    }
    lifted
}
