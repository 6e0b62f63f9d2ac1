//! Asks systemd what it knows of a unit.

use super::unix_user::{name_by, uid_by, with_uid};
use super::{Account, NotNow, UnitFacts, UnitName, peer};
use crate::config::Hub;
use crate::http::{Connection, Stranger};
use crate::sd_bus::{SERVICE, SdBus, SdBusError, UNIT, Way};
use nix::errno::Errno;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::future::ready;
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

    /// Starts a slice, so that it is there while nobody is in it; where there is no systemd, nothing.
    ///
    /// # Errors
    /// systemd refused, or does not answer.
    fn start_slice(&self, _slice: &UnitName) -> impl Future<Output = Result<(), SdBusError>> {
        ready(Ok(()))
    }

    /// Those of these accounts that have this uid; none while the user database does not answer.
    fn with_uid(
        &self,
        _names: BTreeSet<String>,
        _uid: u32,
    ) -> impl Future<Output = BTreeSet<String>> {
        ready(BTreeSet::new())
    }

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

    async fn with_uid(&self, names: BTreeSet<String>, uid: u32) -> BTreeSet<String> {
        let looked_up = tokio::task::spawn_blocking(move || with_uid(names, uid));
        looked_up.await.unwrap_or_default()
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
            ..UnitFacts::default()
        });
    }
    let dynamic_user: bool = bus.property(unit, &object, SERVICE, "DynamicUser").await?;
    let user: String = bus.property(unit, &object, SERVICE, "User").await?;
    // SystemdSpawner gives `--uid` as a number; without any a service runs as root.
    let uid = match user.as_str() {
        "" => Some(0),
        digits => digits.parse::<u32>().ok(),
    };
    let look = move || match uid {
        Some(uid) => (look_up(format_args!("uid {uid}"), name_by(uid)), Ok(uid)),
        None => {
            let uid = look_up(format_args!("user {user}"), uid_by(&user));
            (Ok(user), uid)
        }
    };
    let ends = |_| {
        (
            Err("hubwarden is about to stop".to_owned()),
            Err(String::new()),
        )
    };
    let looked_up = tokio::task::spawn_blocking(look).await;
    let (name, uid) = looked_up.unwrap_or_else(ends);
    let not_yet = name.as_ref().err().or(uid.as_ref().err()).cloned();
    Ok(UnitFacts {
        transient,
        user: name.ok(),
        uid: uid.ok(),
        // A user made up for the unit is in no database.
        not_yet: not_yet.filter(|_| !dynamic_user),
        dynamic_user,
        ..UnitFacts::default()
    })
}

/// An absence counts as no answer: systemd has started the unit as somebody that it found there.
fn look_up<T>(whom: impl Display, found: Result<Option<T>, Errno>) -> Result<T, String> {
    match found {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(format!("the user database (nsswitch.conf) knows no {whom}")),
        Err(error) => Err(format!(
            "the user database (nsswitch.conf) does not answer for {whom}: {error}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_answer_of_the_user_database_is_not_taken_for_an_absence() {
        let facts = |found| look_up("uid 7", found);
        assert_eq!(facts(Ok(Some("alice"))), Ok("alice"));
        let silent = facts(Err(Errno::EAGAIN)).unwrap_err();
        assert!(
            silent.contains("does not answer for uid 7: EAGAIN"),
            "{silent}"
        );
        assert!(facts(Ok(None)).unwrap_err().contains("knows no uid 7"));
    }
}
