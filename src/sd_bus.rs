//! systemd's D-Bus interface, as much of it as we use (org.freedesktop.systemd1(5)).
//!
//! It is spoken to over its private socket, which is open to root alone and does not lead over the
//! system bus: any user can fill that one for a minute with twenty connections.
//!
//! Properties are asked for one by one and never cached: a proxy's cache would subscribe to every
//! unit of the node.

mod link;
mod proxies;

pub use link::Way;

use link::Link;
use proxies::{ManagerProxy, properties};
use quantities::UnitName;
use std::sync::Arc;
use std::time::Duration;
use zbus::names::InterfaceName;
use zbus::{Connection, OwnedObjectPath, OwnedVariant, Variant};

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

/// What went wrong between us and systemd.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SdBusError {
    /// The unit is not loaded: it stopped, which after an action means success.
    #[error("unit {0} is gone")]
    Gone(UnitName),
    /// Neither systemd's private socket nor the system bus is there.
    #[error("no connection to systemd: {0}")]
    NoBus(zbus::Error),
    /// The connection ended before the answer came, as at each `systemctl daemon-reexec`: what was
    /// asked may have been done or not, and what stands has to be read again.
    #[error(
        "the connection to systemd was lost when it was asked {asked} of {unit}; what stands has \
         to be read again: {source}"
    )]
    Lost {
        /// The method or property.
        asked: String,
        /// The unit.
        unit: UnitName,
        /// How it was lost.
        source: zbus::Error,
    },
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

/// The way to the system's service manager; it is found anew when a connection ends.
#[derive(Debug, Clone)]
pub struct SdBus {
    link: Arc<Link>,
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
    connect_bus().await.map_err(SdBusError::NoBus)
}

async fn connect_bus() -> zbus::Result<Connection> {
    zbus::connection::Builder::system()
        .method_timeout(TIMEOUT)
        .build()
        .await
}

/// Whether a call that may have been lost is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// It only reads.
    Once,
    /// It changes something.
    Never,
}

impl SdBus {
    /// Speaks to systemd itself, or over the system bus where there is no private socket.
    ///
    /// # Errors
    /// Neither is there.
    pub async fn open() -> Result<SdBus, SdBusError> {
        let bus = SdBus {
            link: Arc::new(Link::new(link::PRIVATE)),
        };
        bus.link.connection().await.map_err(SdBusError::NoBus)?;
        Ok(bus)
    }

    /// How systemd was reached last.
    pub fn way(&self) -> Way {
        self.link.way()
    }

    async fn ask<T>(
        &self,
        (asked, unit): (&str, &UnitName),
        repeat: Repeat,
        call: impl AsyncFn(&Connection) -> zbus::Result<T>,
    ) -> Result<T, SdBusError> {
        let mut again = repeat == Repeat::Once;
        loop {
            let standing = self.link.connection().await.map_err(SdBusError::NoBus)?;
            match call(&standing.connection).await {
                Ok(answer) => return Ok(answer),
                Err(source) if link::is_lost(&source) => {
                    self.link.lost(&standing).await;
                    if !std::mem::take(&mut again) {
                        return Err(SdBusError::Lost {
                            asked: asked.to_owned(),
                            unit: unit.clone(),
                            source,
                        });
                    }
                }
                Err(source) => return Err(refused(asked, unit, source)),
            }
        }
    }

    async fn change<T>(
        &self,
        asked: &str,
        unit: &UnitName,
        call: impl AsyncFn(ManagerProxy<'_>) -> zbus::Result<T>,
    ) -> Result<(), SdBusError> {
        self.ask((asked, unit), Repeat::Never, async |connection| {
            call(ManagerProxy::new(connection).await?).await
        })
        .await
        .map(drop)
    }

    /// Looks a loaded unit up.
    ///
    /// # Errors
    /// [`SdBusError::Gone`] when it is not loaded.
    pub async fn unit(&self, unit: &UnitName) -> Result<UnitObject, SdBusError> {
        let path = self
            .ask(("GetUnit", unit), Repeat::Once, async |connection| {
                let manager = ManagerProxy::new(connection).await?;
                manager.get_unit(unit.as_str()).await
            })
            .await?;
        Ok(UnitObject { path })
    }

    /// Begins to start a unit; one that is active stays so.
    ///
    /// # Errors
    /// systemd refused.
    pub async fn start(&self, unit: &UnitName) -> Result<(), SdBusError> {
        self.change("StartUnit", unit, async |manager| {
            manager.start_unit(unit.as_str(), "fail").await
        })
        .await
    }

    /// Ends a service's main process at once; systemd goes on as `Restart=` says.
    ///
    /// # Errors
    /// The unit is gone, or systemd refused.
    pub async fn kill_main(&self, unit: &UnitName) -> Result<(), SdBusError> {
        const SIGKILL: i32 = 9;
        self.change("KillUnit", unit, async |manager| {
            manager.kill_unit(unit.as_str(), "main", SIGKILL).await
        })
        .await
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
        let value: OwnedVariant = self
            .ask((name, unit), Repeat::Once, async |connection| {
                let properties = properties(connection, &object.path).await?;
                let interface = InterfaceName::try_from(interface)?;
                Ok(properties.get(interface, name).await?)
            })
            .await?;
        T::try_from(value).map_err(|error| refused(name, unit, error.into()))
    }

    /// Stands all processes of a unit still, and returns when they do.
    ///
    /// # Errors
    /// The unit is gone, or cannot be frozen.
    pub async fn freeze(&self, unit: &UnitName) -> Result<(), SdBusError> {
        self.change("FreezeUnit", unit, async |manager| {
            manager.freeze_unit(unit.as_str()).await
        })
        .await
    }

    /// Lets a frozen unit go on.
    ///
    /// # Errors
    /// The unit is gone, or does not thaw.
    pub async fn thaw(&self, unit: &UnitName) -> Result<(), SdBusError> {
        self.change("ThawUnit", unit, async |manager| {
            manager.thaw_unit(unit.as_str()).await
        })
        .await
    }

    /// Has a unit stopped, as `systemctl stop` does; returns when that is under way.
    ///
    /// # Errors
    /// The unit is gone, or systemd refuses.
    pub async fn stop(&self, unit: &UnitName) -> Result<(), SdBusError> {
        self.change("StopUnit", unit, async |manager| {
            manager.stop_unit(unit.as_str(), "replace").await
        })
        .await
    }

    /// Restarts a unit that is loaded.
    ///
    /// # Errors
    /// The unit is gone, or systemd refuses.
    pub async fn restart(&self, unit: &UnitName) -> Result<(), SdBusError> {
        self.unit(unit).await?;
        self.change("RestartUnit", unit, async |manager| {
            manager.restart_unit(unit.as_str(), "replace").await
        })
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
        self.change("StartTransientUnit", unit, async |manager| {
            manager
                .start_transient_unit(unit.as_str(), "replace", properties, auxiliary)
                .await
        })
        .await
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
        self.change("SetUnitProperties", unit, async |manager| {
            manager
                .set_unit_properties(unit.as_str(), true, properties)
                .await
        })
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
