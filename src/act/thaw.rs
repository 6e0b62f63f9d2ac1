//! The timer that thaws a server whatever becomes of the daemon: a transient unit of systemd's, and a
//! service beside it that needs neither the daemon nor its program.

use super::Owner;
use crate::hub::UnitName;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::time::Duration;
use zbus::Variant;

/// Properties of a unit, as `StartTransientUnit` takes them.
pub type Properties = Vec<(&'static str, Variant<'static>)>;

/// Writes to the cgroup with this number alone: another may stand at its path by then.
const WRITE: &str = "[ \"$(stat -c %i -- \"$1\")\" = \"$2\" ] && echo 0 >\"$1/cgroup.freeze\"";

/// The timer of one owner.
pub(super) struct Thaw {
    name: String,
    shown: String,
    command: Vec<String>,
}

impl Thaw {
    /// The same owner has the same timer; `directory` is that of a cgroup which is no unit's.
    pub fn of(owner: &Owner, directory: Option<PathBuf>) -> Thaw {
        let (key, command) = match owner {
            Owner::Systemd(unit, _) => {
                let systemctl = match Path::new("/usr/bin/systemctl").exists() {
                    true => "/usr/bin/systemctl",
                    false => "/bin/systemctl",
                };
                let words = [systemctl, "thaw", "--", unit.as_str()];
                (unit.as_str().to_owned(), words.map(str::to_owned).to_vec())
            }
            Owner::Cgroup(cgroup, id) => {
                let directory = directory.unwrap_or_default().display().to_string();
                let words = ["/bin/sh", "-c", WRITE, "sh", &directory, &id.to_string()];
                (format!("{id} {cgroup}"), words.map(str::to_owned).to_vec())
            }
        };
        let digest = Sha256::digest(key.as_bytes());
        let name = digest.iter().take(8).map(|byte| format!("{byte:02x}"));
        Thaw {
            name: name.collect(),
            shown: owner.to_string(),
            command,
        }
    }

    /// The timer's name.
    pub fn unit(&self) -> UnitName {
        UnitName(format!("hubwarden-thaw-{}.timer", self.name))
    }

    /// The name of the service that it starts.
    pub fn service_unit(&self) -> String {
        format!("hubwarden-thaw-{}.service", self.name)
    }

    /// The timer's properties.
    pub fn timed(&self, delay: Duration) -> Properties {
        let usec = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        vec![
            ("Description", self.description()),
            ("TimersMonotonic", vec![("OnActiveSec", usec)].into()),
            ("AccuracyUSec", Variant::U64(100_000)),
            ("RemainAfterElapse", Variant::Bool(false)),
        ]
    }

    /// The service's properties.
    pub fn service(&self) -> Properties {
        let program = self.command.first().cloned().unwrap_or_default();
        let command = vec![(program, self.command.clone(), vec!["no-env-expand"])];
        vec![
            ("Description", self.description()),
            ("Type", Variant::from("oneshot")),
            ("CollectMode", Variant::from("inactive-or-failed")),
            ("ExecStartEx", command.into()),
        ]
    }

    fn description(&self) -> Variant<'static> {
        let text = format!(
            "Thaw {}, which hubwarden froze and has not thawed in time",
            self.shown
        );
        Variant::from(text)
    }
}
