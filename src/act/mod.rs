//! What happens: quotas and weights, by one driver for each owner of a cgroup.

mod cgroup;
mod owner;
mod placement;
mod stopper;
mod systemd;
mod thaw;
mod undo_store;

pub use cgroup::CgroupCpu;
pub use hubwarden_core::undo::{KernelControls, Owner, Undo};
pub use owner::ByOwner;
pub use placement::{NewServers, Placement, PlacementError, is_fit};
pub use stopper::{Named, Stopper};
pub use systemd::SystemdCpu;
pub use undo_store::{UndoError, UndoStore};

use crate::sd_bus::SdBusError;
use policy::Controls;
use quantities::CgroupPath;
use std::future::Future;
use std::time::Duration;

/// The power to read and set a server's CPU properties.
pub trait CpuControl {
    /// What stands now.
    ///
    /// # Errors
    /// [`ActError::Gone`] when the server stopped, which is no failure.
    fn read(&self, owner: &Owner) -> impl Future<Output = Result<Controls, ActError>>;

    /// Changes what stands from `from` to `to`; what is equal in both is not touched. Without
    /// `from` everything is set, for when something else than the owner says stands in the kernel.
    ///
    /// # Errors
    /// [`ActError::Gone`] when the server stopped, which is no failure.
    fn apply(
        &self,
        owner: &Owner,
        from: Option<&Controls>,
        to: &Controls,
    ) -> impl Future<Output = Result<(), ActError>>;

    /// Ends the server, all of its processes.
    ///
    /// # Errors
    /// [`ActError::Gone`] when it ended by itself, which is no failure.
    fn stop(&self, owner: &Owner) -> impl Future<Output = Result<(), ActError>>;

    /// What the kernel holds, whatever the owner says; nothing where the cgroup is gone or not known.
    ///
    /// # Errors
    /// The kernel's files could not be read.
    fn kernel(&self, owner: &Owner) -> Result<KernelControls, ActError>;

    /// Lifts in the kernel what this record tells of, without the unit's owner: for when that does not
    /// answer.
    ///
    /// # Errors
    /// The kernel refuses.
    fn lift(&self, undo: &Undo) -> Result<(), ActError>;

    /// Has the server thawed after this time by someone who outlives the daemon. Once more, the time
    /// begins anew.
    ///
    /// # Errors
    /// No timer could be set: it must not be frozen.
    fn thaw_after(
        &self,
        owner: &Owner,
        delay: Duration,
    ) -> impl Future<Output = Result<(), ActError>>;

    /// Takes that back, if it was asked for.
    ///
    /// # Errors
    /// The timer could not be stopped; it thaws what is not frozen.
    fn thaw_no_more(&self, owner: &Owner) -> impl Future<Output = Result<(), ActError>>;
}

/// Why an action did not come about.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ActError {
    /// The server stopped meanwhile.
    #[error("{0} is gone")]
    Gone(Owner),
    /// systemd refused.
    #[error(transparent)]
    Bus(SdBusError),
    /// systemd does not answer at all.
    #[error("systemd cannot be reached: {0}")]
    NoSystemd(String),
    /// The kernel refused a cgroup file.
    #[error("{cgroup}: {file}: {why}")]
    File {
        /// The server's cgroup.
        cgroup: CgroupPath,
        /// The file in it.
        file: &'static str,
        /// What was seen and what to do about it.
        why: String,
    },
}

impl ActError {
    /// Whether the server does not exist any more.
    pub fn is_gone(&self) -> bool {
        matches!(self, ActError::Gone(_))
    }
}

impl From<SdBusError> for ActError {
    fn from(error: SdBusError) -> Self {
        match error {
            SdBusError::Gone(unit) => ActError::Gone(Owner::Systemd(unit, None)),
            error => ActError::Bus(error),
        }
    }
}
