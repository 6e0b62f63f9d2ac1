//! One writer for two: the daemon's loop, and the reader of DNS answers beside it.
//!
//! On kernels where the table is owned (6.9 on) only the socket that made it may change it, so
//! both must use the same one, in turn.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    Admitted, Attempts, Audit, Bridges, CgroupId, ClassName, Difference, Error, Firewall,
    ForeignChange, Policy, Refused, Sender, Sent, Tracking, Traffic, UidRules,
};

/// The driver, whoever had it before: what a panic left of it is compared with the kernel at the
/// next check.
pub fn lock<F>(shared: &Mutex<F>) -> MutexGuard<'_, F> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<F: Firewall> Firewall for Arc<Mutex<F>> {
    fn probe(&mut self) -> Result<(), Error> {
        lock(self).probe()
    }

    fn load_with_uid_rules(
        &mut self,
        policy: &Policy,
        guarded: &[CgroupId],
        servers: &[Admitted],
        uid_rules: &UidRules,
    ) -> Result<(), Error> {
        lock(self).load_with_uid_rules(policy, guarded, servers, uid_rules)
    }

    fn standing(&mut self) -> Result<Vec<String>, Error> {
        lock(self).standing()
    }

    fn set_uid_rules(&mut self, uid_rules: &UidRules) -> Result<(), Error> {
        lock(self).set_uid_rules(uid_rules)
    }

    fn admit(&mut self, servers: &[Admitted]) -> Result<(), Error> {
        lock(self).admit(servers)
    }

    fn forget(&mut self, cgroups: &[CgroupId]) -> Result<(), Error> {
        lock(self).forget(cgroups)
    }

    fn reclass(&mut self, changes: &[(CgroupId, ClassName)]) -> Result<(), Error> {
        lock(self).reclass(changes)
    }

    fn set_guarded(&mut self, slices: &[CgroupId]) -> Result<(), Error> {
        lock(self).set_guarded(slices)
    }

    fn set_bridges(&mut self, bridges: &Bridges) -> Result<(), Error> {
        lock(self).set_bridges(bridges)
    }

    fn keep_watch(&mut self, time: Duration) -> Result<(), Error> {
        lock(self).keep_watch(time)
    }

    fn follow_uplinks(&mut self) -> Result<bool, Error> {
        lock(self).follow_uplinks()
    }

    fn keep_held(&mut self) -> Result<bool, Error> {
        lock(self).keep_held()
    }

    fn remove(&mut self) -> Result<(), Error> {
        lock(self).remove()
    }

    fn verify(&mut self) -> Result<Vec<Difference>, Error> {
        lock(self).verify()
    }

    fn repair(&mut self, change: &ForeignChange) -> Result<bool, Error> {
        lock(self).repair(change)
    }

    fn audit(&mut self) -> Result<Audit, Error> {
        lock(self).audit()
    }

    fn sent(&mut self) -> Result<Vec<Sent>, Error> {
        lock(self).sent()
    }

    fn traffic(&mut self) -> Result<Vec<Traffic>, Error> {
        lock(self).traffic()
    }

    fn left_traffic(&mut self, policy: &Policy) -> Result<Vec<(Sender, u64)>, Error> {
        lock(self).left_traffic(policy)
    }

    fn refused(&mut self) -> Result<Vec<Refused>, Error> {
        lock(self).refused()
    }

    fn attempts(&mut self, least: usize, since: Duration) -> Result<Vec<Attempts>, Error> {
        lock(self).attempts(least, since)
    }

    fn lacks(&mut self) -> Option<String> {
        lock(self).lacks()
    }

    fn tracking(&mut self) -> Tracking {
        lock(self).tracking()
    }

    fn generation(&mut self) -> Result<u32, Error> {
        lock(self).generation()
    }
}
