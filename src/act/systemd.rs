//! CPU properties of units that systemd owns, changed through systemd alone: it would overwrite
//! a direct write at its next reload.

use super::ActError;
use crate::hub::UnitName;
use crate::judge::CpuSettings;
use crate::sd_bus::{SCOPE, SERVICE, SdBus};
use crate::units::Cores;
use std::time::Duration;
use zbus::Variant;

/// systemd's "not set" for all three properties: `USEC_INFINITY`, `CGROUP_WEIGHT_INVALID`.
const UNSET: u64 = u64::MAX;

/// Sets properties of services and scopes over D-Bus.
#[derive(Debug, Clone)]
pub struct SystemdCpu {
    bus: SdBus,
}

impl SystemdCpu {
    /// Uses a connection that stands.
    pub fn new(bus: SdBus) -> Self {
        SystemdCpu { bus }
    }

    /// What stands now.
    ///
    /// # Errors
    /// [`ActError::Gone`] when the unit is not loaded; otherwise what systemd said.
    pub async fn read(&self, unit: &UnitName) -> Result<CpuSettings, ActError> {
        let object = self.bus.unit(unit).await?;
        let interface = interface(unit);
        let get = async |name| -> Result<Option<u64>, ActError> {
            let value: u64 = self.bus.property(unit, &object, interface, name).await?;
            Ok(Some(value).filter(|value| *value != UNSET))
        };
        Ok(CpuSettings {
            quota: get("CPUQuotaPerSecUSec")
                .await?
                .and_then(Cores::from_quota_per_sec_usec),
            period: get("CPUQuotaPeriodUSec").await?.map(Duration::from_micros),
            weight: get("CPUWeight").await?,
        })
    }

    /// Changes what stands from `from` to `to`; without `from`, sets everything.
    ///
    /// # Errors
    /// As for [`SystemdCpu::read`].
    pub async fn apply(
        &self,
        unit: &UnitName,
        from: Option<&CpuSettings>,
        to: &CpuSettings,
    ) -> Result<(), ActError> {
        let properties = difference(from, to);
        if properties.is_empty() {
            return Ok(());
        }
        Ok(self.bus.set_properties(unit, &properties).await?)
    }
}

/// Containers run in scopes, SystemdSpawner's servers in services; both have these properties.
fn interface(unit: &UnitName) -> &'static str {
    if unit.as_str().ends_with(".scope") {
        SCOPE
    } else {
        SERVICE
    }
}

/// The properties to set, as `SetUnitProperties` takes them.
fn difference(
    from: Option<&CpuSettings>,
    to: &CpuSettings,
) -> Vec<(&'static str, Variant<'static>)> {
    let quota = |settings: &CpuSettings| settings.quota.map_or(UNSET, Cores::quota_per_sec_usec);
    let period = |settings: &CpuSettings| {
        settings
            .period
            .map_or(UNSET, |period| period.as_micros() as u64)
    };
    let weight = |settings: &CpuSettings| settings.weight.unwrap_or(UNSET);
    [
        // The period first: at a low quota the kernel refuses one below 1 ms of run time.
        ("CPUQuotaPeriodUSec", from.map(period), period(to)),
        ("CPUQuotaPerSecUSec", from.map(quota), quota(to)),
        ("CPUWeight", from.map(weight), weight(to)),
    ]
    .into_iter()
    .filter(|(_, from, to)| *from != Some(*to))
    .map(|(name, _, to)| (name, Variant::U64(to)))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: CpuSettings = CpuSettings {
        quota: None,
        period: None,
        weight: None,
    };

    #[test]
    fn only_what_differs_is_set() {
        let throttled = CpuSettings {
            quota: Some(Cores(0.25)),
            period: Some(Duration::from_millis(20)),
            weight: None,
        };
        assert!(difference(Some(&throttled), &throttled).is_empty());
        assert_eq!(
            difference(Some(&NOTHING), &throttled),
            [
                ("CPUQuotaPeriodUSec", Variant::U64(20_000)),
                ("CPUQuotaPerSecUSec", Variant::U64(250_000)),
            ]
        );
    }

    #[test]
    fn everything_is_set_where_nothing_is_known() {
        assert_eq!(difference(None, &NOTHING).len(), 3);
    }

    #[test]
    fn what_was_not_set_is_unset_again() {
        let weighted = CpuSettings {
            weight: Some(20),
            ..NOTHING
        };
        assert_eq!(
            difference(Some(&weighted), &NOTHING),
            [("CPUWeight", Variant::U64(u64::MAX))]
        );
    }
}
