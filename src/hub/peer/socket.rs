//! A hub that listens on a Unix socket: where the socket lies, and who listens on it.

use super::place::{Place, place_of};
use super::words::Words;
use super::{blocking, containers, runs_as, service_of};
use crate::config::Hub;
use crate::http::Stranger;
use crate::hub::Units;
use quantities::CgroupPath;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;

/// Any user may make names in such a directory, and remove their own only.
const STICKY: u32 = 0o1000;

/// Admits a connection to the hub's socket: only the hub can have made it, by the directories above
/// it, and whoever listens has the hub's uid and cgroup.
pub(super) async fn admit<U: Units>(
    stream: &UnixStream,
    path: &Path,
    hub: &Hub,
    units: &U,
) -> Result<(), Stranger> {
    let words = Words { hub };
    let peer = stream.peer_cred();
    let peer = peer.map_err(|error| words.unknown(&error.to_string()))?;
    let uid = peer.uid();
    if uid != 0 && !is_the_hub_s(uid, hub, units).await {
        return Err(words.socket(path, &format!("uid {uid} listens there"), uid));
    }
    let looked_at = path.to_owned();
    let flaw = blocking(move || flaw(&looked_at, uid)).await;
    if let Some(flaw) = flaw.map_err(|why| words.unknown(&why))? {
        return Err(words.socket(path, &flaw, uid));
    }
    // Whoever made the socket may have ended since; directories and uid have proven enough then.
    let Some(cgroup) = peer.pid().and_then(cgroup_of) else {
        return Ok(());
    };
    let is_hub = match place_of(&cgroup, hub) {
        // systemd itself listens for a unit that it has not started yet.
        Place::Unit(unit) => unit == "init.scope" || service_of(&unit, hub).is_some(),
        Place::Container(found) => {
            let mut containers = containers(hub).await.into_iter();
            containers.any(|one| one.engine == found.engine && one.id == found.id)
        }
        Place::Users | Place::Other => false,
    };
    match is_hub {
        true => Ok(()),
        false => {
            let who = format!("uid {uid} in cgroup {cgroup} listens there");
            Err(words.socket(path, &who, uid))
        }
    }
}

/// Whether a unit of the hub's runs as this uid.
async fn is_the_hub_s<U: Units>(uid: u32, hub: &Hub, units: &U) -> bool {
    for unit in &hub.hub_units {
        if let Some(service) = service_of(unit, hub)
            && runs_as(&service, uid, units).await == Ok(true)
        {
            return true;
        }
    }
    false
}

/// What lets another user than root and the hub's own put a socket there. Both the path as written
/// and the one it leads to are looked at: where no directory of either can be changed, nothing
/// between this look and the connection was.
fn flaw(path: &Path, hub_uid: u32) -> std::io::Result<Option<String>> {
    let real = std::fs::canonicalize(path)?;
    for path in [path, &real] {
        for (height, part) in path.ancestors().enumerate() {
            let found = std::fs::symlink_metadata(part)?;
            if ![0, hub_uid].contains(&found.uid()) {
                let owner = found.uid();
                return Ok(Some(format!("{} belongs to uid {owner}", part.display())));
            }
            // The socket itself may be open to others, and a link has no mode of its own.
            if height == 0 || found.is_symlink() {
                continue;
            }
            let group = found.mode() & 0o020 != 0 && found.gid() != 0;
            let open = group || found.mode() & 0o002 != 0;
            if open && (height == 1 || found.mode() & STICKY == 0) {
                let mode = found.mode() & 0o7777;
                let part = part.display();
                return Ok(Some(format!(
                    "others can write to {part} (mode {mode:04o})"
                )));
            }
        }
    }
    Ok(None)
}

fn cgroup_of(pid: i32) -> Option<CgroupPath> {
    let file = PathBuf::from(format!("/proc/{pid}/cgroup"));
    let text = std::fs::read_to_string(file).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(CgroupPath::new(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_socket_that_others_could_have_made_is_refused() {
        let uid = nix::unistd::getuid().as_raw();
        let bed = tempfile::tempdir().unwrap();
        let directory = bed.path().join("hub");
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("hub.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let flaw = || flaw(&path, uid).unwrap();
        set_mode(&directory, 0o755);
        assert_eq!(flaw(), None);
        // Not even sticky: the name can be taken while the hub is down.
        for mode in [0o777, 0o1777, 0o757] {
            set_mode(&directory, mode);
            let said = flaw().unwrap();
            assert!(said.contains(&format!("(mode {mode:04o})")), "{said}");
        }
        set_mode(&directory, 0o755);
        // Further up a directory that is sticky is as good as closed.
        set_mode(bed.path(), 0o1777);
        assert_eq!(flaw(), None);
        set_mode(bed.path(), 0o777);
        assert!(flaw().is_some());
    }

    #[test]
    fn a_link_that_another_user_could_change_is_refused() {
        let uid = nix::unistd::getuid().as_raw();
        let bed = tempfile::tempdir().unwrap();
        let (safe, open) = (bed.path().join("safe"), bed.path().join("open"));
        for directory in [&safe, &open] {
            std::fs::create_dir(directory).unwrap();
        }
        let path = safe.join("hub.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let link = open.join("hub.sock");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        set_mode(&safe, 0o755);
        set_mode(&open, 0o755);
        assert_eq!(flaw(&link, uid).unwrap(), None);
        set_mode(&open, 0o777);
        assert!(flaw(&link, uid).unwrap().is_some());
        assert_eq!(flaw(&path, uid).unwrap(), None);
    }
}
