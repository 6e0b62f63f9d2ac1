//! The dispatch to the driver that goes through the owner of a server's cgroup.

use super::{ActError, CgroupCpu, CpuControl, KernelControls, Owner, SystemdCpu, Undo};
use policy::Controls;
use std::time::Duration;

/// Both drivers; each server's owner chooses.
#[derive(Debug, Clone)]
pub struct ByOwner {
    systemd: Result<SystemdCpu, String>,
    cgroup: CgroupCpu,
}

impl ByOwner {
    /// Joins the drivers.
    pub fn new(systemd: SystemdCpu, cgroup: CgroupCpu) -> ByOwner {
        let systemd = Ok(systemd);
        ByOwner { systemd, cgroup }
    }

    /// The kernel's alone, where systemd does not answer for this reason.
    pub fn without_systemd(why: String, cgroup: CgroupCpu) -> ByOwner {
        let systemd = Err(why);
        ByOwner { systemd, cgroup }
    }

    fn systemd(&self) -> Result<&SystemdCpu, ActError> {
        let systemd = self.systemd.as_ref();
        systemd.map_err(|why| ActError::NoSystemd(why.clone()))
    }
}

impl CpuControl for ByOwner {
    async fn read(&self, owner: &Owner) -> Result<Controls, ActError> {
        match owner {
            Owner::Systemd(unit, _) => {
                let mut found = self.systemd()?.read(unit).await?;
                // systemd believes what it was told last; whether processes stand still the kernel
                // knows.
                found.frozen |= self.kernel(owner)?.frozen;
                Ok(found)
            }
            Owner::Cgroup(cgroup, id) => self.cgroup.read(cgroup, *id),
        }
    }

    async fn apply(
        &self,
        owner: &Owner,
        from: Option<&Controls>,
        to: &Controls,
    ) -> Result<(), ActError> {
        match owner {
            Owner::Systemd(unit, place) => {
                let thawed = match (to.frozen, from.is_none_or(|from| from.frozen)) {
                    (false, true) => match self.systemd() {
                        Ok(systemd) => systemd.thaw(unit).await,
                        Err(error) => Err(error),
                    },
                    _ => Ok(()),
                };
                // Also where systemd does not answer, or holds the unit for one that runs.
                if let Some((cgroup, id)) = place
                    && !to.frozen
                    && self.kernel(owner)?.frozen
                {
                    self.cgroup.thaw(cgroup, *id)?;
                }
                thawed?;
                self.systemd()?.apply(unit, from, to).await
            }
            Owner::Cgroup(cgroup, id) => self.cgroup.apply(cgroup, *id, from, to),
        }
    }

    async fn stop(&self, owner: &Owner) -> Result<(), ActError> {
        match owner {
            Owner::Systemd(unit, _) => self.systemd()?.stop(unit).await,
            Owner::Cgroup(cgroup, id) => self.cgroup.stop(cgroup, *id),
        }
    }

    fn kernel(&self, owner: &Owner) -> Result<KernelControls, ActError> {
        let (cgroup, id) = match owner {
            Owner::Systemd(_, Some((cgroup, id))) | Owner::Cgroup(cgroup, id) => (cgroup, *id),
            Owner::Systemd(_, None) => return Ok(KernelControls::default()),
        };
        match self.cgroup.kernel(cgroup, id) {
            Err(error) if error.is_gone() => Ok(KernelControls::default()),
            held => held,
        }
    }

    fn lift(&self, undo: &Undo) -> Result<(), ActError> {
        match &undo.owner {
            Owner::Systemd(_, Some((cgroup, id))) | Owner::Cgroup(cgroup, id) => {
                self.cgroup.lift(cgroup, *id, undo)
            }
            Owner::Systemd(_, None) => Ok(()),
        }
    }

    async fn thaw_after(&self, owner: &Owner, delay: Duration) -> Result<(), ActError> {
        let root = self.cgroup.root();
        self.systemd()?.thaw_after(owner, root, delay).await
    }

    async fn thaw_no_more(&self, owner: &Owner) -> Result<(), ActError> {
        self.systemd()?.thaw_no_more(owner).await
    }
}
