//! Who is in group `hubwarden` now.
//!
//! The groups of a connection are those that its process had when it connected: a user who was
//! taken out of the group keeps them until logout. So both have to hold: the connection's groups
//! and what the user database says now.

use super::GROUP;
use crate::hub::{AccountFiles, NotNow};
use nix::unistd::{Group, Uid, User, getgrouplist};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// An answer is used again for so long, unless the files of accounts change.
const FRESH: Duration = Duration::from_secs(2);
/// While the user database does not answer, the last answer holds for so long.
const STALE: Duration = Duration::from_secs(60);
/// Members that are remembered.
const MOST: usize = 1024;

/// Remembers who is a member for a moment.
#[derive(Debug, Default)]
pub struct Members {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    files: AccountFiles,
    gid: Option<(Option<u32>, Instant)>,
    uids: BTreeMap<u32, (bool, Instant)>,
}

impl Members {
    /// The group's number, where there is the group.
    pub async fn gid(&self) -> Option<u32> {
        let mut known = self.known.lock().await;
        known.refresh().await;
        known.gid.and_then(|(gid, _)| gid)
    }

    /// Whether a uid is a member; with the groups of a connection, whether both agree. Users whose
    /// connection does not have the group cost no look-up.
    pub async fn has(&self, uid: u32, groups: Option<&[u32]>) -> bool {
        if uid == 0 {
            return true;
        }
        let mut known = self.known.lock().await;
        known.refresh().await;
        let Some((Some(gid), _)) = known.gid else {
            return false;
        };
        if groups.is_some_and(|groups| !groups.contains(&gid)) {
            return false;
        }
        let now = Instant::now();
        if let Some((member, at)) = known.uids.get(&uid)
            && now.saturating_duration_since(*at) < FRESH
        {
            return *member;
        }
        match off_the_loop(move || is_member(uid, gid)).await {
            Ok(member) => {
                if known.uids.len() >= MOST {
                    known.uids.clear();
                }
                known.uids.insert(uid, (member, now));
                member
            }
            Err(NotNow) => known
                .uids
                .get(&uid)
                .is_some_and(|(member, at)| *member && now.saturating_duration_since(*at) < STALE),
        }
    }
}

impl Known {
    /// Asks for the group's number where that is not known or old.
    async fn refresh(&mut self) {
        let changed = self.files.changed();
        if changed {
            for (_, at) in self.uids.values_mut() {
                // Old enough to be asked again, and no older.
                *at = at.checked_sub(FRESH).unwrap_or(*at);
            }
        }
        let now = Instant::now();
        let age = |at: Instant| now.saturating_duration_since(at);
        if !changed && self.gid.is_some_and(|(_, at)| age(at) < FRESH) {
            return;
        }
        let found = off_the_loop(|| Group::from_name(GROUP).map_err(|_| NotNow)).await;
        match found {
            Ok(group) => self.gid = Some((group.map(|group| group.gid.as_raw()), now)),
            Err(NotNow) if self.gid.is_some_and(|(_, at)| age(at) < STALE) => {}
            Err(NotNow) => self.gid = None,
        }
    }
}

/// The user database may ask LDAP and the like.
async fn off_the_loop<T: Send + 'static>(
    look: impl FnOnce() -> Result<T, NotNow> + Send + 'static,
) -> Result<T, NotNow> {
    let looked = tokio::task::spawn_blocking(look);
    match tokio::time::timeout(Duration::from_secs(5), looked).await {
        Ok(Ok(found)) => found,
        _ => Err(NotNow),
    }
}

fn is_member(uid: u32, gid: u32) -> Result<bool, NotNow> {
    let user = User::from_uid(Uid::from_raw(uid)).map_err(|_| NotNow)?;
    let Some(user) = user else { return Ok(false) };
    let Ok(name) = CString::new(user.name) else {
        return Ok(false);
    };
    let groups = getgrouplist(&name, user.gid).map_err(|_| NotNow)?;
    Ok(groups.iter().any(|group| group.as_raw() == gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_in_its_own_group_and_a_uid_without_an_account_in_none() {
        assert_eq!(is_member(0, 0), Ok(true));
        assert_eq!(is_member(4_000_000_123, 0), Ok(false));
    }

    #[tokio::test]
    async fn root_may_always_and_one_whose_connection_lacks_the_group_never() {
        let members = Members::default();
        assert!(members.has(0, Some(&[])).await);
        assert!(!members.has(1, Some(&[])).await);
        let known = members.known.lock().await;
        assert!(known.uids.is_empty(), "the user database was asked");
    }
}
