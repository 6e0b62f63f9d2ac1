//! The cap on all servers together: the guarded slice's quota, so that the hub, ssh and the
//! system keep the cores that `slice.reserve` names.
//!
//! It goes the same way as a server's limit: what stood there is on disk first, is never made
//! looser, and comes back when supervision is off or only observes.

use super::enforce::quota;
use super::put_back::{PutBackError, reconcile_kernel};
use super::{Daemon, Inner};
use crate::act::{ActError, CpuControl, Owner, Undo, UndoError};
use crate::hub::{UnitName, Units};
use crate::report::{Kind, Level, LogEntry};
use policy::Controls;
use quantities::Cores;
use quantities::{CgroupId, CgroupPath};
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;

/// However much is reserved, servers keep this share of the node.
const LEAST_SHARE: f64 = 0.1;

impl<C: CpuControl + 'static, U: Units + 'static> Daemon<C, U> {
    /// Brings the slice's quota to where it should be, beside the loop.
    pub(super) fn cap_slice(self: &Rc<Self>) {
        let daemon = Rc::clone(self);
        tokio::task::spawn_local(async move { daemon.cap_slice_now().await });
    }

    /// As [`Daemon::cap_slice`], to be waited for.
    pub(super) async fn cap_slice_now(self: &Rc<Self>) {
        {
            let mut inner = self.inner.borrow_mut();
            if inner.capping || (inner.reserve().is_none() && inner.slice_cap.is_none()) {
                return;
            }
            inner.capping = true;
        }
        let result = self.try_to_cap().await;
        let mut inner = self.inner.borrow_mut();
        inner.capping = false;
        if let Err(error) = result {
            let message = format!(
                "The limit of all servers together could not be set and is tried again: {error}."
            );
            inner.log_once(LogEntry::new(Kind::Trouble, Level::Error, message));
        }
    }

    async fn try_to_cap(&self) -> Result<(), CapError> {
        // The slice we changed, which a reload may have made another than the guarded one.
        let (owner, reserve) = self.inner.borrow().slice_to_cap();
        let found = match self.cpu.read(&owner).await {
            // A slice that is not there has no servers in it. What it had comes back with it.
            Err(error) if error.is_gone() => {
                let mut inner = self.inner.borrow_mut();
                inner.slice_cap = None;
                inner.undo.disclaim(&owner);
                return Ok(());
            }
            found => found?,
        };
        self.inner.borrow_mut().know_records(&owner)?;
        let mut undo = self.inner.borrow_mut().intend_cap(&owner, reserve, &found);
        let target = *undo.ours();
        if target != found {
            {
                let mut inner = self.inner.borrow_mut();
                match inner.undo.save(&undo) {
                    Err(error)
                        if !inner
                            .undo
                            .get(&owner)
                            .is_some_and(|noted| noted.covers(&undo)) =>
                    {
                        return Err(error.into());
                    }
                    _ => {}
                }
                inner.slice_cap = Some(undo.clone());
            }
            self.cpu.apply(&owner, Some(&found), &target).await?;
            let standing = self.cpu.read(&owner).await?;
            if standing != target {
                let (wanted, has) = (quota(&target), quota(&standing));
                return Err(PutBackError::NotTaken(owner, wanted, has).into());
            }
            self.inner.borrow().log_cap(&owner, &target, reserve);
        }
        let lifted = target == *undo.before();
        if lifted {
            reconcile_kernel(&self.cpu, &undo, &target).await?;
        }
        undo.confirm(target);
        let mut inner = self.inner.borrow_mut();
        if inner.undo.get(&owner).is_some() {
            let _ = inner.undo.save(&undo);
        }
        inner.slice_cap = (!lifted).then_some(undo);
        Ok(())
    }
}

impl Inner {
    /// The cores to keep free, while verdicts are carried out.
    fn reserve(&self) -> Option<Cores> {
        self.config.reserve.filter(|_| self.acts())
    }

    fn slice_to_cap(&self) -> (Owner, Option<Cores>) {
        let guarded = CgroupPath::new(&self.config.hub.slice);
        let unit = UnitName(self.config.hub.slice.clone());
        match &self.slice_cap {
            Some(cap) if !matches!(&cap.owner, Owner::Systemd(capped, _) if *capped == unit) => {
                (cap.owner.clone(), None)
            }
            _ => {
                let id = std::fs::metadata(self.root.join(guarded.as_str()));
                let place = id.ok().map(|found| (guarded, CgroupId(found.ino())));
                (Owner::Systemd(unit, place), self.reserve())
            }
        }
    }

    fn intend_cap(&mut self, owner: &Owner, reserve: Option<Cores>, found: &Controls) -> Undo {
        let known = self.slice_cap.take().or_else(|| self.undo.claim(owner));
        let mut undo = match known {
            Some(undo) => undo.of(owner.clone()),
            None => Undo::new(owner.clone(), self.undo.start_of(owner), *found),
        };
        undo.observe(found);
        let mut target = *undo.before();
        if let Some(reserve) = reserve {
            let cap = cap(node_cores(), reserve);
            if target.quota.is_none_or(|standing| cap < standing) {
                target.quota = Some(cap);
            }
        }
        undo.intend(target);
        undo
    }

    fn log_cap(&self, owner: &Owner, target: &Controls, reserve: Option<Cores>) {
        let message = match (reserve, target.quota) {
            (Some(reserve), Some(cap)) => format!(
                "All servers together ({owner}) may use up to {cap}, so that {reserve} are left to \
                 the hub and the system."
            ),
            _ => format!("{owner} has the limit again that stood there before hubwarden."),
        };
        self.log(LogEntry::new(Kind::Limited, Level::Notice, message).with("UNIT_NAME", owner));
    }
}

/// Why the slice's quota is not as it should be.
#[derive(Debug, thiserror::Error)]
enum CapError {
    #[error(transparent)]
    Act(#[from] ActError),
    #[error("what stands there could not be put on record first: {0}")]
    Record(#[from] UndoError),
    #[error(transparent)]
    PutBack(#[from] PutBackError),
}

/// The cores for servers; systemd's precision.
fn cap(cores: f64, reserve: Cores) -> Cores {
    let left = (cores - reserve.0).max(cores * LEAST_SHARE);
    Cores((left * 1e6).round() / 1e6)
}

/// The node's cores that are online; one where the kernel does not say.
fn node_cores() -> f64 {
    let online = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN);
    online.ok().flatten().map_or(1.0, |cores| cores as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_keep_a_share_however_much_is_reserved() {
        assert_eq!(cap(8.0, Cores(1.0)), Cores(7.0));
        assert_eq!(cap(2.0, Cores(2.0)), Cores(0.2));
        assert_eq!(cap(1.0, Cores(0.5)), Cores(0.5));
    }
}
