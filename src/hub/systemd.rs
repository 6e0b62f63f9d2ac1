//! Asks systemd what it knows of a unit.

use super::{Account, UnitFacts, UnitName, name_of, peer};
use crate::config::Hub;
use crate::http::{Connection, Stranger};
use crate::sd_bus::{SERVICE, SdBus, SdBusError, UNIT};
use std::path::Path;

/// Whoever can tell what a unit is.
pub trait Units {
    /// The facts that tell whose a unit is.
    ///
    /// # Errors
    /// The unit is gone, or systemd does not answer.
    fn facts(&self, unit: &UnitName) -> impl Future<Output = Result<UnitFacts, SdBusError>>;

    /// What is known of a uid's account; nothing where it has none.
    fn account(&self, uid: u32) -> impl Future<Output = Account>;

    /// Admits a connection whose other end is the hub; `root` is where cgroup v2 is mounted.
    ///
    /// # Errors
    /// It is not the hub, or that cannot be told.
    fn admit(
        &self,
        connection: &Connection,
        hub: &Hub,
        root: &Path,
    ) -> impl Future<Output = Result<(), Stranger>>
    where
        Self: Sized,
    {
        peer::admit(connection, hub, root, self)
    }
}

impl Units for SdBus {
    async fn facts(&self, unit: &UnitName) -> Result<UnitFacts, SdBusError> {
        unit_facts(self, unit).await
    }

    async fn account(&self, uid: u32) -> Account {
        let looked_up = tokio::task::spawn_blocking(move || Account::look_up(uid)).await;
        looked_up.unwrap_or_default()
    }
}

async fn unit_facts(bus: &SdBus, unit: &UnitName) -> Result<UnitFacts, SdBusError> {
    let object = bus.unit(unit).await?;
    let transient = bus.property(unit, &object, UNIT, "Transient").await?;
    if !unit.as_str().ends_with(".service") {
        return Ok(UnitFacts {
            transient,
            user: None,
            uid: None,
            dynamic_user: false,
        });
    }
    let dynamic_user = bus.property(unit, &object, SERVICE, "DynamicUser").await?;
    let user: String = bus.property(unit, &object, SERVICE, "User").await?;
    // SystemdSpawner gives `--uid` as a number; without any a service runs as root.
    let uid = match user.as_str() {
        "" => Some(0),
        digits => digits.parse::<u32>().ok(),
    };
    let (name, uid) = tokio::task::spawn_blocking(move || match uid {
        Some(uid) => (name_of(uid), Some(uid)),
        None => {
            let uid = super::unix_user::uid_of(&user);
            (Some(user), uid)
        }
    })
    .await
    .unwrap_or((None, None));
    Ok(UnitFacts {
        transient,
        user: name,
        uid,
        dynamic_user,
    })
}
