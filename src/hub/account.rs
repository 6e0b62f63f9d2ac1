//! Unix accounts: which are one hub user's own, so that what their uid does is that user's.

use super::{NotNow, matches_unix_user};
use crate::config::Hub;
use nix::unistd::{Group, Uid, User, getgrouplist};
use quantities::HubUser;
use serde::{Deserialize, Serialize};
use std::ffi::CString;

/// Groups whose members may become root: Debian's, Red Hat's, Ubuntu's of old, and TLJH's.
const ADMINS: [&str; 4] = ["sudo", "wheel", "admin", "jupyterhub-admins"];
/// Where distributions say which uids are of the system's own accounts (`login.defs(5)`).
const LOGIN_DEFS: &str = "/etc/login.defs";
/// `SYS_UID_MAX` where that file does not say, as shadow's `useradd` has it.
const SYSTEM_MAX: u32 = 999;
/// Uids that systemd makes up for a unit and gives away again, and `nobody`'s
/// (systemd's `UIDS-GIDS.md`).
const MADE_UP: std::ops::RangeInclusive<u32> = 61_184..=65_535;

/// What is known of the account of a uid.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its name; none where the uid has no account.
    pub name: Option<String>,
    /// Its owner may become root by `sudo`.
    pub admin: bool,
    /// Its uid is one of the system's.
    pub system: bool,
    /// The hub or its proxy runs as it.
    pub service: bool,
}

impl Account {
    /// Looks it up. May ask LDAP and the like: not to be called on the loop's thread.
    ///
    /// # Errors
    /// The user database does not answer now, which says nothing of the account.
    pub fn look_up(uid: u32) -> Result<Account, NotNow> {
        let user = User::from_uid(Uid::from_raw(uid)).map_err(|_| NotNow)?;
        let Some(user) = user else {
            return Ok(Account::default());
        };
        let name = CString::new(user.name.as_str()).map_err(|_| NotNow)?;
        let groups = getgrouplist(&name, user.gid).map_err(|_| NotNow)?;
        let mut admin = false;
        for name in ADMINS {
            // By its name first, which also fails where a directory does not answer: the list of
            // groups then lacks the directory's without an error (getgrouplist(3)).
            let group = Group::from_name(name).map_err(|_| NotNow)?;
            admin |= group.is_some_and(|group| groups.contains(&group.gid));
        }
        let defs = std::fs::read_to_string(LOGIN_DEFS).unwrap_or_default();
        Ok(Account {
            admin,
            system: uid <= system_max(&defs),
            name: Some(user.name),
            service: false,
        })
    }

    /// Whether what this uid does is this user's doing, and may be judged as such. One of the
    /// system's accounts has to be named after the user: many a hub runs all its servers as one.
    pub fn is_own_of(&self, uid: u32, user: &HubUser, hub: &Hub) -> bool {
        let Some(name) = &self.name else { return false };
        let named_after = || {
            let mut templates = hub.unix_users.iter();
            templates.any(|template| matches_unix_user(template, user.as_str(), name))
        };
        uid != 0
            && uid != u32::MAX
            && !MADE_UP.contains(&uid)
            && !self.admin
            && !self.service
            && (!self.system || named_after())
    }
}

/// The largest uid of the system's accounts.
fn system_max(login_defs: &str) -> u32 {
    let value = |key: &str| {
        let mut values = login_defs.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some(key)).then(|| words.next()?.parse::<u32>().ok())?
        });
        values.next_back()
    };
    value("SYS_UID_MAX")
        .or_else(|| value("UID_MIN").map(|min| min.saturating_sub(1)))
        .unwrap_or(SYSTEM_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn account(name: &str) -> Account {
        Account {
            name: Some(name.to_owned()),
            ..Account::default()
        }
    }

    fn is_alice_s(uid: u32, account: &Account) -> bool {
        account.is_own_of(uid, &HubUser("alice".into()), &Config::default().hub)
    }

    #[test]
    fn only_an_account_that_is_one_user_s_own_is_judged() {
        let alice = account("jupyter-alice");
        assert!(is_alice_s(1000, &alice));
        assert!(is_alice_s(1000, &account("whatever-ldap-calls-her")));
        for uid in [0, 61_184, 65_534, u32::MAX] {
            assert!(!is_alice_s(uid, &alice), "{uid}");
        }
        assert!(!is_alice_s(1000, &Account::default()), "no account");
        let admin = Account {
            admin: true,
            ..alice.clone()
        };
        let hub = Account {
            service: true,
            ..alice.clone()
        };
        assert!(!is_alice_s(1000, &admin) && !is_alice_s(1000, &hub));
    }

    #[test]
    fn a_system_account_is_a_user_s_if_it_is_named_after_the_user() {
        let system = |name| Account {
            system: true,
            ..account(name)
        };
        assert!(is_alice_s(998, &system("jupyter-alice")));
        assert!(is_alice_s(998, &system("alice")));
        assert!(
            !is_alice_s(998, &system("jupyter")),
            "all servers run as it"
        );
    }

    #[test]
    fn the_system_s_uids_are_those_that_login_defs_says() {
        for (text, max) in [
            ("", 999),
            ("UID_MIN\t\t\t 500\n", 499),
            ("UID_MIN 1000\n#SYS_UID_MAX 999\nSYS_UID_MAX 201\n", 201),
            ("SYS_UID_MAX many\n", 999),
        ] {
            assert_eq!(system_max(text), max, "{text:?}");
        }
    }

    #[test]
    fn root_has_an_account_and_a_uid_without_one_has_no_name() {
        let root = Account::look_up(0).unwrap();
        assert_eq!(root.name.as_deref(), Some("root"));
        assert!(root.system);
        assert_eq!(Account::look_up(4_000_000_123), Ok(Account::default()));
    }
}
