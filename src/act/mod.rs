//! What happens: quotas and weights, by one driver for each owner of a cgroup.

mod systemd;

pub use systemd::SystemdCpu;

use crate::hub::UnitName;
use crate::judge::CpuSettings;
use crate::sd_bus::SdBusError;
use std::future::Future;

/// The power to read and set a unit's CPU properties.
pub trait CpuControl {
    /// What stands now.
    ///
    /// # Errors
    /// [`ActError::Gone`] when the unit stopped, which is no failure.
    fn read(&self, unit: &UnitName) -> impl Future<Output = Result<CpuSettings, ActError>>;

    /// Changes what stands from `from` to `to`; what is equal in both is not touched. Without
    /// `from` everything is set, for when something else than the owner says stands in the kernel.
    ///
    /// # Errors
    /// [`ActError::Gone`] when the unit stopped, which is no failure.
    fn apply(
        &self,
        unit: &UnitName,
        from: Option<&CpuSettings>,
        to: &CpuSettings,
    ) -> impl Future<Output = Result<(), ActError>>;

    /// Ends the server, all of its processes.
    ///
    /// # Errors
    /// [`ActError::Gone`] when it ended by itself, which is no failure.
    fn stop(&self, unit: &UnitName) -> impl Future<Output = Result<(), ActError>>;
}

/// Why an action did not come about.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ActError {
    /// The unit stopped meanwhile.
    #[error("{0} is gone")]
    Gone(UnitName),
    /// Its owner refused.
    #[error(transparent)]
    Bus(SdBusError),
}

impl ActError {
    /// Whether the unit does not exist any more.
    pub fn is_gone(&self) -> bool {
        matches!(self, ActError::Gone(_))
    }
}

impl From<SdBusError> for ActError {
    fn from(error: SdBusError) -> Self {
        match error {
            SdBusError::Gone(unit) => ActError::Gone(unit),
            error => ActError::Bus(error),
        }
    }
}
