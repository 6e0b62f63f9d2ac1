//! Asks systemd what it knows of a unit.

use super::{Account, NotNow, UnitFacts, UnitName, name_of, peer};
use crate::config::Hub;
use crate::http::{Connection, Stranger};
use crate::sd_bus::{SERVICE, SdBus, SdBusError, UNIT, Way};
use std::path::Path;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Look-ups in the user database at one time. One that hangs keeps its place, so that those that
/// hang cannot take the threads that others need.
static LOOK_UPS: Semaphore = Semaphore::const_new(2);
/// A directory that takes longer is asked again later.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whoever can tell what a unit is.
pub trait Units {
    /// The facts that tell whose a unit is.
    ///
    /// # Errors
    /// The unit is gone, or systemd does not answer.
    fn facts(&self, unit: &UnitName) -> impl Future<Output = Result<UnitFacts, SdBusError>>;

    /// Starts a slice, so that it is there while nobody is in it.
    ///
    /// # Errors
    /// systemd refused, or does not answer.
    fn start_slice(&self, slice: &UnitName) -> impl Future<Output = Result<(), SdBusError>>;

    /// What is known of a uid's account; nothing where it has none.
    ///
    /// # Errors
    /// The user database does not answer now.
    fn account(&self, uid: u32) -> impl Future<Output = Result<Account, NotNow>>;

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

    /// What is amiss with the way to them, for `status`.
    fn lack(&self) -> Option<String> {
        None
    }
}

impl Units for SdBus {
    async fn facts(&self, unit: &UnitName) -> Result<UnitFacts, SdBusError> {
        unit_facts(self, unit).await
    }

    async fn start_slice(&self, slice: &UnitName) -> Result<(), SdBusError> {
        self.start(slice).await
    }

    async fn account(&self, uid: u32) -> Result<Account, NotNow> {
        let looked_up = async {
            let place = LOOK_UPS.acquire().await.map_err(|_| NotNow)?;
            let look = move || {
                let _kept_while_it_hangs = place;
                Account::look_up(uid)
            };
            tokio::task::spawn_blocking(look)
                .await
                .map_err(|_| NotNow)?
        };
        tokio::time::timeout(PATIENCE, looked_up)
            .await
            .map_err(|_| NotNow)?
    }

    fn lack(&self) -> Option<String> {
        (self.way() == Way::Bus).then(|| {
            "its private socket /run/systemd/private is missing, so that verdicts go over the \
             system bus, where any user can delay them"
                .to_owned()
        })
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
