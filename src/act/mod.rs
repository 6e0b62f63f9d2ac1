//! What happens: quotas and weights, by one driver for each owner of a cgroup.

mod cgroup;
mod owner;
mod stopper;
mod systemd;

pub use cgroup::CgroupCpu;
pub use owner::{ByOwner, Owner};
pub use stopper::{Named, Stopper};
pub use systemd::SystemdCpu;

use crate::cgroup::CgroupPath;
use crate::judge::Controls;
use crate::sd_bus::SdBusError;
use std::future::Future;

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
            SdBusError::Gone(unit) => ActError::Gone(Owner::Systemd(unit)),
            error => ActError::Bus(error),
        }
    }
}
