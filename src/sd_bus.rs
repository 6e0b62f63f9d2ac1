//! systemd's D-Bus interface, as much of it as we use (org.freedesktop.systemd1(5)).
//!
//! Properties are asked for one by one and never cached: a proxy's cache would subscribe to every
//! unit of the node.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;
use zbus::{Connection, OwnedObjectPath, OwnedVariant, Variant};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
/// Interface of every unit.
pub const UNIT: &str = "org.freedesktop.systemd1.Unit";
/// Interface of services.
pub const SERVICE: &str = "org.freedesktop.systemd1.Service";
/// Interface of scopes: processes that somebody else started, such as a container's.
pub const SCOPE: &str = "org.freedesktop.systemd1.Scope";
/// Interface of slices.
pub const SLICE: &str = "org.freedesktop.systemd1.Slice";

/// PID 1 answers in well under a millisecond; half a minute of silence is a fault to report.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The name of a systemd unit with its suffix, as the cgroup directory has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnitName(pub String);

impl UnitName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.escape_debug().fmt(f)
    }
}

/// What went wrong between us and systemd.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SdBusError {
    /// The unit is not loaded: it stopped, which after an action means success.
    #[error("unit {0} is gone")]
    Gone(UnitName),
    /// The system bus is not there or has hung up.
    #[error("no connection to the system bus: {0}")]
    NoBus(zbus::Error),
    /// systemd refused, or answered nonsense.
    #[error("systemd, asked {asked} of {unit}: {source}")]
    Refused {
        /// The method or property.
        asked: String,
        /// The unit.
        unit: UnitName,
        /// What it said.
        source: zbus::Error,
    },
}

impl SdBusError {
    /// Whether the unit does not exist any more.
    pub fn is_gone(&self) -> bool {
        matches!(self, SdBusError::Gone(_))
    }
}

/// A connection to the system's service manager.
#[derive(Debug, Clone)]
pub struct SdBus {
    connection: Connection,
}

/// A loaded unit.
#[derive(Debug, Clone)]
pub struct UnitObject {
    path: OwnedObjectPath,
}

/// Connects to the system bus, with time limits on every call.
///
/// # Errors
/// There is no system bus.
pub async fn connect() -> Result<Connection, SdBusError> {
    zbus::connection::Builder::system()
        .method_timeout(TIMEOUT)
        .build()
        .await
        .map_err(SdBusError::NoBus)
}

impl SdBus {
    /// Uses a connection that stands.
    pub fn new(connection: Connection) -> SdBus {
        SdBus { connection }
    }

    /// Looks a loaded unit up.
    ///
    /// # Errors
    /// [`SdBusError::Gone`] when it is not loaded.
    pub async fn unit(&self, unit: &UnitName) -> Result<UnitObject, SdBusError> {
        let reply = self
            .connection
            .call_method(
                Some(SYSTEMD),
                "/org/freedesktop/systemd1",
                Some(MANAGER),
                "GetUnit",
                &(unit.as_str(),),
            )
            .await
            .map_err(|source| refused("GetUnit", unit, source))?;
        let path = reply
            .body()
            .deserialize()
            .map_err(|source| refused("GetUnit", unit, source))?;
        Ok(UnitObject { path })
    }

    /// Ends a service's main process at once; systemd goes on as `Restart=` says.
    ///
    /// # Errors
    /// The unit is gone, or systemd refused.
    pub async fn kill_main(&self, unit: &UnitName) -> Result<(), SdBusError> {
        const SIGKILL: i32 = 9;
        self.connection
            .call_method(
                Some(SYSTEMD),
                "/org/freedesktop/systemd1",
                Some(MANAGER),
                "KillUnit",
                &(unit.as_str(), "main", SIGKILL),
            )
            .await
            .map_err(|source| refused("KillUnit", unit, source))?;
        Ok(())
    }

    /// Reads one property.
    ///
    /// # Errors
    /// The unit is gone, or has no such property of this type.
    pub async fn property<T>(
        &self,
        unit: &UnitName,
        object: &UnitObject,
        interface: &str,
        name: &str,
    ) -> Result<T, SdBusError>
    where
        T: TryFrom<OwnedVariant>,
        T::Error: Into<zbus::Error>,
    {
        let fail = |source| refused(name, unit, source);
        let reply = self
            .connection
            .call_method(
                Some(SYSTEMD),
                &object.path,
                Some("org.freedesktop.DBus.Properties"),
                "Get",
                &(interface, name),
            )
            .await
            .map_err(fail)?;
        let value: OwnedVariant = reply.body().deserialize().map_err(fail)?;
        T::try_from(value).map_err(|error| fail(error.into()))
    }

    /// Stands all processes of a unit still, and returns when they do.
    ///
    /// # Errors
    /// The unit is gone, or cannot be frozen.
    pub async fn freeze(&self, unit: &UnitName) -> Result<(), SdBusError> {
        self.manager("FreezeUnit", unit, &(unit.as_str(),)).await
    }

    /// Lets a frozen unit go on.
    ///
    /// # Errors
    /// The unit is gone, or does not thaw.
    pub async fn thaw(&self, unit: &UnitName) -> Result<(), SdBusError> {
        self.manager("ThawUnit", unit, &(unit.as_str(),)).await
    }

    /// Has a unit stopped, as `systemctl stop` does; returns when that is under way.
    ///
    /// # Errors
    /// The unit is gone, or systemd refuses.
    pub async fn stop(&self, unit: &UnitName) -> Result<(), SdBusError> {
        self.manager("StopUnit", unit, &(unit.as_str(), "replace"))
            .await
    }

    /// Restarts a unit that is loaded.
    ///
    /// # Errors
    /// The unit is gone, or systemd refuses.
    pub async fn restart(&self, unit: &UnitName) -> Result<(), SdBusError> {
        self.unit(unit).await?;
        self.manager("RestartUnit", unit, &(unit.as_str(), "replace"))
            .await
    }

    /// Starts a unit that lives until it stops or the machine reboots, and knows of others that it
    /// starts.
    ///
    /// # Errors
    /// systemd refuses a property, or there is such a unit already.
    pub async fn start_transient(
        &self,
        unit: &UnitName,
        properties: &[(&str, Variant<'_>)],
        auxiliary: &[(String, &[(&str, Variant<'_>)])],
    ) -> Result<(), SdBusError> {
        let body = (unit.as_str(), "replace", properties, auxiliary);
        self.manager("StartTransientUnit", unit, &body).await
    }

    async fn manager<B>(&self, method: &str, unit: &UnitName, body: &B) -> Result<(), SdBusError>
    where
        B: serde::Serialize + zbus::DynamicType,
    {
        self.connection
            .call_method(
                Some(SYSTEMD),
                "/org/freedesktop/systemd1",
                Some(MANAGER),
                method,
                body,
            )
            .await
            .map(drop)
            .map_err(|source| refused(method, unit, source))
    }

    /// Sets properties until the unit stops or the machine reboots, as `systemctl set-property
    /// --runtime` does. Survives `daemon-reload`, which a direct write to the cgroup does not
    /// (seen on systemd 252).
    ///
    /// # Errors
    /// The unit is gone, or systemd refuses a value.
    pub async fn set_properties(
        &self,
        unit: &UnitName,
        properties: &[(&str, Variant<'_>)],
    ) -> Result<(), SdBusError> {
        self.manager(
            "SetUnitProperties",
            unit,
            &(unit.as_str(), true, properties),
        )
        .await
    }
}

fn refused(asked: &str, unit: &UnitName, source: zbus::Error) -> SdBusError {
    let gone = [
        "org.freedesktop.systemd1.NoSuchUnit",
        "org.freedesktop.DBus.Error.UnknownObject",
    ];
    match &source {
        zbus::Error::MethodError(name, ..) if gone.contains(&name.as_str()) => {
            SdBusError::Gone(unit.clone())
        }
        zbus::Error::FDO(error) if matches!(**error, zbus::fdo::Error::UnknownObject(_)) => {
            SdBusError::Gone(unit.clone())
        }
        zbus::Error::InputOutput(_) => SdBusError::NoBus(source),
        _ => SdBusError::Refused {
            asked: asked.to_owned(),
            unit: unit.clone(),
            source,
        },
    }
}
