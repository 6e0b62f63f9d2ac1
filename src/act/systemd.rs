//! CPU properties of units that systemd owns, changed through systemd alone: it would overwrite
//! a direct write at its next reload.

use super::thaw::Thaw;
use super::{ActError, Owner};
use crate::hub::UnitName;
use crate::sd_bus::{SCOPE, SERVICE, SLICE, SdBus, UNIT};
use policy::Controls;
use quantities::{Bytes, Cores};
use std::path::Path;
use std::time::Duration;
use zbus::Variant;

/// systemd's "not set" for all of them: `USEC_INFINITY`, `CGROUP_WEIGHT_INVALID`,
/// `CGROUP_LIMIT_MAX`.
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
    pub async fn read(&self, unit: &UnitName) -> Result<Controls, ActError> {
        let object = self.bus.unit(unit).await?;
        let interface = interface(unit);
        let get = async |name| -> Result<Option<u64>, ActError> {
            let value: u64 = self.bus.property(unit, &object, interface, name).await?;
            Ok(Some(value).filter(|value| *value != UNSET))
        };
        let freezer = async {
            let state = self
                .bus
                .property::<String>(unit, &object, UNIT, "FreezerState");
            Ok(state.await?)
        };
        // All are asked for before the first answer comes. `GetAll` would have systemd read
        // counters of the cgroup and write out some 250 properties for these eight.
        let (quota, period, weight, memory_high, memory_max, tasks_max, io_weight, freezer) = tokio::try_join!(
            get("CPUQuotaPerSecUSec"),
            get("CPUQuotaPeriodUSec"),
            get("CPUWeight"),
            get("MemoryHigh"),
            get("MemoryMax"),
            get("TasksMax"),
            get("IOWeight"),
            freezer,
        )?;
        Ok(Controls {
            quota: quota.and_then(Cores::from_quota_per_sec_usec),
            period: period.map(Duration::from_micros),
            weight,
            memory_high: memory_high.map(Bytes),
            memory_max: memory_max.map(Bytes),
            tasks_max,
            io_weight,
            frozen: freezer.starts_with("fr"),
        })
    }

    /// Changes what stands from `from` to `to`; without `from`, sets everything.
    ///
    /// # Errors
    /// As for [`SystemdCpu::read`].
    pub async fn apply(
        &self,
        unit: &UnitName,
        from: Option<&Controls>,
        to: &Controls,
    ) -> Result<(), ActError> {
        // A frozen unit takes no properties in good time: it was thawed first, and is frozen last.
        let properties = difference(from, to);
        if !properties.is_empty() {
            self.bus.set_properties(unit, &properties).await?;
        }
        if to.frozen && !from.is_some_and(|from| from.frozen) {
            self.bus.freeze(unit).await?;
        }
        Ok(())
    }

    /// Lets the unit's processes go on.
    ///
    /// # Errors
    /// As for [`SystemdCpu::read`].
    pub async fn thaw(&self, unit: &UnitName) -> Result<(), ActError> {
        Ok(self.bus.thaw(unit).await?)
    }

    /// Sets a timer of systemd's that thaws an owner's processes, or sets it anew.
    ///
    /// # Errors
    /// systemd makes no such timer.
    pub async fn thaw_after(
        &self,
        owner: &Owner,
        root: &Path,
        delay: Duration,
    ) -> Result<(), ActError> {
        let timer = Thaw::of(owner, root);
        match self.bus.restart(&timer.unit()).await {
            Err(error) if error.is_gone() => {}
            done => return Ok(done?),
        }
        let (timed, service) = (timer.timed(delay), timer.service());
        let auxiliary = [(timer.service_unit(), service.as_slice())];
        Ok(self
            .bus
            .start_transient(&timer.unit(), &timed, &auxiliary)
            .await?)
    }

    /// Stops that timer.
    ///
    /// # Errors
    /// systemd refuses.
    pub async fn thaw_no_more(&self, owner: &Owner) -> Result<(), ActError> {
        match self.bus.stop(&Thaw::of(owner, Path::new("")).unit()).await {
            Err(error) if !error.is_gone() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Ends the unit.
    ///
    /// # Errors
    /// [`ActError::Gone`] when it ended by itself; otherwise what systemd said.
    pub async fn stop(&self, unit: &UnitName) -> Result<(), ActError> {
        Ok(self.bus.stop(unit).await?)
    }
}

/// Containers run in scopes, SystemdSpawner's servers in services; both have these properties.
fn interface(unit: &UnitName) -> &'static str {
    match unit.as_str().rsplit('.').next() {
        Some("scope") => SCOPE,
        Some("slice") => SLICE,
        _ => SERVICE,
    }
}

/// The properties to set, as `SetUnitProperties` takes them.
fn difference(from: Option<&Controls>, to: &Controls) -> Vec<(&'static str, Variant<'static>)> {
    type Value = fn(&Controls) -> Option<u64>;
    let values: [(&str, Value); 7] = [
        // The period first: at a low quota the kernel refuses one below 1 ms of run time.
        ("CPUQuotaPeriodUSec", |settings| {
            settings.period.map(|period| period.as_micros() as u64)
        }),
        ("CPUQuotaPerSecUSec", |settings| {
            settings.quota.map(Cores::quota_per_sec_usec)
        }),
        ("CPUWeight", |settings| settings.weight),
        ("MemoryHigh", |settings| {
            settings.memory_high.map(|Bytes(bytes)| bytes)
        }),
        ("MemoryMax", |settings| {
            settings.memory_max.map(|Bytes(bytes)| bytes)
        }),
        ("TasksMax", |settings| settings.tasks_max),
        ("IOWeight", |settings| settings.io_weight),
    ];
    values
        .into_iter()
        .filter(|(_, value)| from.map(value) != Some(value(to)))
        .map(|(name, value)| (name, Variant::U64(value(to).unwrap_or(UNSET))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_set() {
        let throttled = Controls {
            quota: Some(Cores(0.25)),
            period: Some(Duration::from_millis(20)),
            ..Controls::default()
        };
        assert!(difference(Some(&throttled), &throttled).is_empty());
        assert_eq!(
            difference(Some(&Controls::default()), &throttled),
            [
                ("CPUQuotaPeriodUSec", Variant::U64(20_000)),
                ("CPUQuotaPerSecUSec", Variant::U64(250_000)),
            ]
        );
    }

    #[test]
    fn everything_is_set_where_nothing_is_known() {
        assert_eq!(difference(None, &Controls::default()).len(), 7);
    }

    #[test]
    fn what_was_not_set_is_unset_again() {
        let weighted = Controls {
            weight: Some(20),
            ..Controls::default()
        };
        assert_eq!(
            difference(Some(&weighted), &Controls::default()),
            [("CPUWeight", Variant::U64(u64::MAX))]
        );
    }
}
