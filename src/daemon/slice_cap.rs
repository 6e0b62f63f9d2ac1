//! The cap on all servers together: the guarded slice's quota, so that the hub, ssh and the
//! system keep the cores that `slice.reserve` names.
//!
//! It goes the same way as a server's limit: what stood there is on disk first, is never made
//! looser, and comes back when supervision is off or only observes.

use super::state::{Changed, SliceCap};
use super::{Daemon, Inner};
use crate::act::{ActError, CpuControl, Owner};
use crate::hub::{UnitName, Units};
use crate::judge::Controls;
use crate::report::{Entry as Told, Kind, Level};
use crate::units::Cores;
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
            inner.tell_once(Told::new(Kind::Trouble, Level::Error, message));
        }
    }

    async fn try_to_cap(&self) -> Result<(), ActError> {
        // The slice we changed, which a reload may have made another than the guarded one.
        let (unit, reserve) = self.inner.borrow().slice_to_cap();
        let owner = Owner::Systemd(unit.clone());
        let found = match self.cpu.read(&owner).await {
            // A slice that is not there has no servers in it, and no limit of ours any more.
            Err(error) if error.is_gone() => {
                self.inner.borrow_mut().slice_cap = None;
                return Ok(());
            }
            found => found?,
        };
        let changed = self.inner.borrow_mut().intend_cap(&unit, reserve, &found);
        if changed.ours != found {
            // Noted nowhere means not done; the saver tells of the trouble.
            if self.persist().await.is_err() {
                return Ok(());
            }
            self.cpu.apply(&owner, Some(&found), &changed.ours).await?;
            self.inner.borrow().tell_cap(&unit, &changed, reserve);
        }
        if changed.ours == changed.before {
            let mut inner = self.inner.borrow_mut();
            inner.slice_cap = None;
            inner.dirty = true;
        }
        Ok(())
    }
}

impl Inner {
    /// The cores to keep free, while verdicts are carried out.
    fn reserve(&self) -> Option<Cores> {
        self.config.reserve.filter(|_| self.acts())
    }

    fn slice_to_cap(&self) -> (UnitName, Option<Cores>) {
        let guarded = UnitName(self.config.hub.slice.clone());
        match &self.slice_cap {
            Some(cap) if cap.unit != guarded => (cap.unit.clone(), None),
            _ => (guarded, self.reserve()),
        }
    }

    fn intend_cap(&mut self, unit: &UnitName, reserve: Option<Cores>, found: &Controls) -> Changed {
        let before = match self.slice_cap.as_ref().and_then(|cap| cap.changed) {
            Some(changed) if *found == changed.before => changed.before,
            Some(changed) => changed.before.with_changes(&changed.ours, found),
            None => *found,
        };
        let mut ours = before;
        if let Some(reserve) = reserve {
            let cap = cap(node_cores(), reserve);
            if before.quota.is_none_or(|standing| cap < standing) {
                ours.quota = Some(cap);
            }
        }
        let changed = Changed { before, ours };
        self.slice_cap = Some(SliceCap {
            unit: unit.clone(),
            changed: Some(changed),
        });
        changed
    }

    fn tell_cap(&self, unit: &UnitName, changed: &Changed, reserve: Option<Cores>) {
        let message = match (reserve, changed.ours.quota) {
            (Some(reserve), Some(cap)) => format!(
                "All servers together ({unit}) may use up to {cap}, so that {reserve} are left to \
                 the hub and the system."
            ),
            _ => format!("{unit} has the limit again that stood there before hubwarden."),
        };
        self.tell(
            Told::new(Kind::Limited, Level::Notice, message).with("UNIT_NAME", unit.as_str()),
        );
    }
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
