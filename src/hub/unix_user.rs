//! The Unix user behind a hub user.

use crate::config::Template;
use nix::errno::Errno;
use nix::unistd::{Uid, User};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// Whether `unix_user` is what a template makes of a hub name, in full or as TLJH shortens it.
pub fn matches_unix_user(template: &Template, hub_name: &str, unix_user: &str) -> bool {
    unix_users(template, hub_name)
        .iter()
        .any(|name| name == unix_user)
}

/// What a template makes of a hub name, in full and as TLJH shortens it.
pub(super) fn unix_users(template: &Template, hub_name: &str) -> [String; 2] {
    let full = template.expand(hub_name);
    let short = shortened(&full);
    [full, short]
}

/// Those of these accounts that have this uid. May ask LDAP and the like: not to be called on the loop's
/// thread.
pub(super) fn with_uid(names: BTreeSet<String>, uid: u32) -> BTreeSet<String> {
    let has_it = |name: &String| matches!(uid_by(name), Ok(Some(found)) if found == uid);
    names.into_iter().filter(has_it).collect()
}

/// TLJH's `generate_system_username`: from 26 characters on, the first 26, a dash and the first
/// five hex digits of the whole name's SHA-256.
fn shortened(name: &str) -> String {
    if name.chars().count() < 26 {
        return name.to_owned();
    }
    let hash = Sha256::digest(name.as_bytes());
    let head: String = name.chars().take(26).collect();
    let [a, b, c, ..] = hash[..] else {
        return name.to_owned();
    };
    format!("{head}-{a:02x}{b:02x}{:x}", c >> 4)
}

/// The account of a uid, where it is known and the user database answers, to show it. May ask LDAP and the
/// like: not to be called on the loop's thread.
pub fn name_of(uid: u32) -> Option<String> {
    name_by(uid).ok().flatten()
}

/// The same, with the database's silence told from an absence.
///
/// # Errors
/// It does not answer.
pub(super) fn name_by(uid: u32) -> Result<Option<String>, Errno> {
    let user = User::from_uid(Uid::from_raw(uid))?;
    Ok(user.map(|user| user.name))
}

/// The uid of an account. The same caution holds.
///
/// # Errors
/// The user database does not answer.
pub(super) fn uid_by(name: &str) -> Result<Option<u32>, Errno> {
    let user = User::from_name(name)?;
    Ok(user.map(|user| user.uid.as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_shortened_as_tljh_does() {
        // python3 -c 'import hashlib; n="jupyter-"+"a"*40; print(n[:26]+"-"+hashlib.sha256(n.encode()).hexdigest()[:5])'
        let name = format!("jupyter-{}", "a".repeat(40));
        assert_eq!(shortened(&name), "jupyter-aaaaaaaaaaaaaaaaaa-60483");
        assert_eq!(shortened("jupyter-alice"), "jupyter-alice");
        assert_eq!(shortened(&"b".repeat(25)), "b".repeat(25));
        assert_ne!(shortened(&"b".repeat(26)), "b".repeat(26));
    }

    #[test]
    fn accounts_are_compared_by_their_uid() {
        let names = ["root", "nobody-at-all"].map(str::to_owned);
        assert_eq!(with_uid(names.into(), 0), ["root".to_owned()].into());
    }

    #[test]
    fn root_has_a_name() {
        assert_eq!(name_of(0).as_deref(), Some("root"));
    }
}
