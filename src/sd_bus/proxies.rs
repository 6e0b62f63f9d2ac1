//! What we call of systemd, with its types.

use zbus::fdo::PropertiesProxy;
use zbus::{Connection, OwnedObjectPath, Variant, proxy};

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub trait Manager {
    async fn get_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    async fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
    async fn freeze_unit(&self, name: &str) -> zbus::Result<()>;
    async fn thaw_unit(&self, name: &str) -> zbus::Result<()>;
    /// The path is that of the job.
    async fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    /// The path is that of the job.
    async fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    /// The path is that of the job.
    async fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    /// The path is that of the job.
    async fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'_>)],
        auxiliary: &[(String, &[(&str, Variant<'_>)])],
    ) -> zbus::Result<OwnedObjectPath>;
    async fn set_unit_properties(
        &self,
        name: &str,
        runtime: bool,
        properties: &[(&str, Variant<'_>)],
    ) -> zbus::Result<()>;
}

/// The properties of a unit.
pub async fn properties<'a>(
    connection: &Connection,
    unit: &'a OwnedObjectPath,
) -> zbus::Result<PropertiesProxy<'a>> {
    PropertiesProxy::builder(connection)
        .destination("org.freedesktop.systemd1")
        .path(unit)
        .build()
        .await
}
