//! The timer that thaws a server whatever becomes of the daemon: a transient unit of systemd's, and a
//! service beside it that needs neither the daemon nor its program.
//!
//! systemd keeps transient units as files and reads them again at each daemon-reload and daemon-reexec.
//! What it writes there for `ExecStartEx` it does not understand (seen on 252), and whether `$` is
//! doubled depends on its version: so the command is an `ExecStart` without any `$` or `%`.

use super::Owner;
use crate::hub::UnitName;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::time::Duration;
use zbus::Variant;

/// Properties of a unit, as `StartTransientUnit` takes them.
pub type Properties = Vec<(&'static str, Variant<'static>)>;

/// The timer of one owner.
pub(super) struct Thaw {
    name: String,
    shown: String,
    /// Programs with their arguments, one after the other, and whether the next is run after a failure.
    commands: Vec<(Vec<String>, bool)>,
}

impl Thaw {
    /// The same owner has the same timer; below `root` are the cgroups which are no unit's.
    pub fn of(owner: &Owner, root: &Path) -> Thaw {
        let write = |id: u64| {
            ["/bin/sh", "-c", &write_to(root, id)]
                .map(str::to_owned)
                .to_vec()
        };
        let (key, commands) = match owner {
            Owner::Systemd(unit, place) => {
                let systemctl = match Path::new("/usr/bin/systemctl").exists() {
                    true => "/usr/bin/systemctl",
                    false => "/bin/systemctl",
                };
                let words = [systemctl, "thaw", "--", unit.as_str()];
                // That goes over the system bus, which may not answer: so the kernel is told before.
                let mut commands: Vec<_> =
                    place.iter().map(|(_, id)| (write(id.0), true)).collect();
                commands.push((words.map(str::to_owned).to_vec(), false));
                (unit.as_str().to_owned(), commands)
            }
            Owner::Cgroup(cgroup, id) => (format!("{id} {cgroup}"), vec![(write(id.0), false)]),
        };
        let digest = Sha256::digest(key.as_bytes());
        let name = digest.iter().take(8).map(|byte| format!("{byte:02x}"));
        Thaw {
            name: name.collect(),
            shown: owner.to_string(),
            commands,
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
        let of = |(words, fails): &(Vec<String>, bool)| {
            (
                words.first().cloned().unwrap_or_default(),
                words.clone(),
                *fails,
            )
        };
        let commands: Vec<_> = self.commands.iter().map(of).collect();
        vec![
            ("Description", self.description()),
            ("Type", Variant::from("oneshot")),
            ("CollectMode", Variant::from("inactive-or-failed")),
            ("ExecStart", commands.into()),
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

/// Thaws the cgroup with this number alone, wherever it is: another may stand at its path by then.
fn write_to(root: &Path, id: u64) -> String {
    let root = root.display();
    format!(
        "cd / && cd \"`find {root} -xdev -type d -inum {id}`\" && [ -f cgroup.freeze ] && echo 0 >cgroup.freeze"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use quantities::{CgroupId, CgroupPath};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_cgroup_is_thawed_by_its_number_and_no_other_is() {
        let root = tempfile::tempdir().unwrap();
        let place = |name: &str| root.path().join(name);
        for name in ["docker", "docker/one $x", "docker/other"] {
            std::fs::create_dir(place(name)).unwrap();
            std::fs::write(place(name).join("cgroup.freeze"), "1\n").unwrap();
        }
        let id = std::fs::metadata(place("docker/one $x")).unwrap().ino();
        let run = |id| {
            let owner = Owner::Cgroup(CgroupPath::new("docker/one"), CgroupId(id));
            let thaw = Thaw::of(&owner, root.path());
            let (program, arguments) = thaw.commands[0].0.split_first().unwrap();
            let mut command = std::process::Command::new(program);
            command.args(arguments).current_dir(place("docker/other"));
            command.status().unwrap().success()
        };
        let frozen = |name| std::fs::read_to_string(place(name).join("cgroup.freeze")).unwrap();
        assert!(run(id));
        assert_eq!(frozen("docker/one $x"), "0\n");
        assert_eq!(
            (frozen("docker"), frozen("docker/other")),
            ("1\n".into(), "1\n".into())
        );
        assert!(!run(u64::MAX), "no such cgroup");
        assert_eq!(frozen("docker/other"), "1\n");
    }

    #[test]
    fn a_unit_is_thawed_in_the_kernel_before_systemd_is_told() {
        let place = Some((CgroupPath::new("a.service"), CgroupId(7)));
        for (place, programs) in [
            (
                place,
                vec![("/bin/sh", true), ("/usr/bin/systemctl", false)],
            ),
            (None, vec![("/usr/bin/systemctl", false)]),
        ] {
            let owner = Owner::Systemd(UnitName("a.service".into()), place);
            let thaw = Thaw::of(&owner, Path::new("/sys/fs/cgroup"));
            let commands = thaw.commands.iter();
            let found: Vec<_> = commands
                .map(|(words, fails)| (&*words[0], *fails))
                .collect();
            assert_eq!(found, programs);
        }
    }

    #[test]
    fn nothing_in_a_command_is_expanded_by_systemd() {
        let unit = UnitName("jupyter-a\\x2db.service".into());
        let cgroup = CgroupPath::new("docker/$x%n");
        for owner in [
            Owner::Systemd(unit, Some((cgroup.clone(), CgroupId(7)))),
            Owner::Cgroup(cgroup, CgroupId(7)),
        ] {
            let thaw = Thaw::of(&owner, Path::new("/sys/fs/cgroup"));
            let words: String = thaw
                .commands
                .iter()
                .map(|(words, _)| words.concat())
                .collect();
            assert!(!words.contains(['$', '%']), "{words}");
        }
    }
}
