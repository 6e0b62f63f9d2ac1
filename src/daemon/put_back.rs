//! Puts back what stood on one unit before anything was changed there, and says so only once it was
//! read: of systemd, and of the kernel.

use super::enforce::quota;
use crate::act::{ActError, CpuControl, Owner, Undo};
use policy::Controls;

/// Why something of ours may stand.
#[derive(Debug, thiserror::Error)]
pub enum PutBackError {
    /// It could not be read or changed.
    #[error(transparent)]
    Act(#[from] ActError),
    /// It was changed and did not stay so.
    #[error(
        "{0} was to have {1} and has {2}, or its other limits differ; something else changes them"
    )]
    NotTaken(Owner, String, String),
    /// systemd has it, and the kernel has not.
    #[error("the kernel still holds a limit of ours on {0}, though systemd was told otherwise")]
    InKernel(Owner),
    /// The kernel has it, and systemd would undo that.
    #[error(
        "{owner}: systemd could not be told ({why}); the kernel's limits were lifted without it, and \
         the next daemon-reload brings them back"
    )]
    KernelOnly {
        /// The unit.
        owner: Owner,
        /// Why systemd could not be told.
        why: ActError,
    },
}

impl PutBackError {
    /// Whether the unit does not exist any more, and nothing of ours with it.
    pub fn is_gone(&self) -> bool {
        matches!(self, PutBackError::Act(error) if error.is_gone())
    }
}

/// Puts everything back that a record tells of. What its owner changed since stays as it is.
///
/// # Errors
/// Something of ours may stand; [`ActError::Gone`] means that nothing can.
pub async fn put_back<C: CpuControl>(cpu: &C, undo: &mut Undo) -> Result<(), PutBackError> {
    let owner = undo.owner.clone();
    match try_to(cpu, undo).await {
        Err(PutBackError::Act(why)) if !why.is_gone() => {
            // A process that stands still, or has a hundredth of a core, cannot wait for systemd.
            cpu.lift(undo)?;
            Err(PutBackError::KernelOnly { owner, why })
        }
        result => result,
    }
}

async fn try_to<C: CpuControl>(cpu: &C, undo: &mut Undo) -> Result<(), PutBackError> {
    let owner = undo.owner.clone();
    let found = match cpu.read(&owner).await {
        Err(error) if error.is_gone() && outlives_itself(&owner) => {
            let (ours, before) = (*undo.ours(), *undo.before());
            let thawed = Controls {
                frozen: false,
                ..ours
            };
            cpu.apply(&owner, Some(&thawed), &before).await?;
            undo.confirm(before);
            return Ok(());
        }
        found => found?,
    };
    undo.observe(&found);
    let target = *undo.before();
    if found != target {
        undo.intend(target);
        cpu.apply(&owner, Some(&found), &target).await?;
        let standing = cpu.read(&owner).await?;
        if standing != target {
            return Err(PutBackError::NotTaken(
                owner,
                quota(&target),
                quota(&standing),
            ));
        }
    }
    reconcile_kernel(cpu, undo, &target).await?;
    if found.frozen && !target.frozen {
        // It would thaw what is not frozen.
        let _ = cpu.thaw_no_more(&owner).await;
    }
    undo.confirm(target);
    Ok(())
}

/// Has systemd write everything once more where the kernel holds something of ours all the same.
pub(super) async fn reconcile_kernel<C: CpuControl>(
    cpu: &C,
    undo: &Undo,
    target: &Controls,
) -> Result<(), PutBackError> {
    if !cpu.stands(undo)? {
        return Ok(());
    }
    cpu.apply(&undo.owner, None, target).await?;
    match cpu.stands(undo)? {
        true => Err(PutBackError::InKernel(undo.owner.clone())),
        false => Ok(()),
    }
}

/// A slice's runtime properties are drop-ins of its name: the next slice of that name has them too.
fn outlives_itself(owner: &Owner) -> bool {
    matches!(owner, Owner::Systemd(unit, _) if unit.as_str().ends_with(".slice"))
}
