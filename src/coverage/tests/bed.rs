use crate::config::Config;
use crate::coverage::Surveyor;
use hubwarden_core::coverage::{Survey, Watch};
use sensors::workers::Holders;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

pub const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
pub const HOST: u64 = 4_026_531_840;

/// A `/proc` and a `/run/systemd/transient`.
pub struct Bed {
    directory: tempfile::TempDir,
    pub surveyor: Surveyor,
}

/// A process as the kernel would show it.
pub struct Shown<'a> {
    pub cgroup: &'a str,
    pub arguments: &'a [u8],
    pub environment: &'a [u8],
    pub parent: u32,
    pub network: u64,
    pub devices: &'a [&'a str],
    pub flags: u32,
}

impl Default for Shown<'_> {
    fn default() -> Self {
        Shown {
            cgroup: "0::/system.slice/x.service",
            arguments: b"sleep\x001\0",
            environment: b"A=1\0",
            parent: 1,
            network: HOST,
            devices: &["lo"],
            flags: 0x0040_0000,
        }
    }
}

impl Bed {
    pub fn new() -> Bed {
        let directory = tempfile::tempdir().unwrap();
        let mut surveyor = Surveyor::new(&Holders::default());
        surveyor.directories.proc = directory.path().join("proc");
        surveyor.directories.transient = directory.path().join("transient");
        surveyor.bridges.made_up = Some(Default::default());
        let bed = Bed {
            directory,
            surveyor,
        };
        std::fs::create_dir_all(bed.path("transient")).unwrap();
        std::fs::create_dir_all(bed.path("proc/self/ns")).unwrap();
        symlink(format!("net:[{HOST}]"), bed.path("proc/self/ns/net")).unwrap();
        std::fs::write(bed.path("proc/uptime"), "1 1\n").unwrap();
        bed
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn process(&self, pid: u32, shown: &Shown<'_>) {
        let at = self.path(&format!("proc/{pid}"));
        std::fs::create_dir_all(at.join("ns")).unwrap();
        std::fs::create_dir_all(at.join("net")).unwrap();
        std::fs::write(at.join("cgroup"), format!("{}\n", shown.cgroup)).unwrap();
        // As a spawner makes units.
        let unit = shown.cgroup.rsplit('/').next().unwrap_or_default();
        if unit.ends_with(".service") {
            std::fs::write(self.path("transient").join(unit), "").unwrap();
        }
        std::fs::write(at.join("cmdline"), shown.arguments).unwrap();
        std::fs::write(at.join("environ"), shown.environment).unwrap();
        let (parent, flags) = (shown.parent, shown.flags);
        let stat = format!("{pid} (a) b( c) S {parent} {pid} {pid} 0 -1 {flags} 1 2 3\n");
        std::fs::write(at.join("stat"), stat).unwrap();
        symlink(format!("net:[{}]", shown.network), at.join("ns/net")).unwrap();
        let mut text = "Inter-|   Receive\n face |bytes\n".to_owned();
        for device in shown.devices {
            text.push_str(&format!("{device:>6}: 0 0 0\n"));
        }
        std::fs::write(at.join("net/dev"), text).unwrap();
    }

    /// A process with arguments, by words.
    pub fn runs(&self, pid: u32, cgroup: &str, words: &[&str]) {
        let arguments: String = words.iter().map(|word| format!("{word}\0")).collect();
        self.process(
            pid,
            &Shown {
                cgroup: &format!("0::/{cgroup}"),
                arguments: arguments.as_bytes(),
                ..Shown::default()
            },
        );
    }

    /// An admin has a unit file of this name.
    pub fn unit_file(&self, unit: &str) {
        std::fs::remove_file(self.path("transient").join(unit)).unwrap();
    }

    pub fn bridge(&mut self, pid: u32, name: &str) {
        let bridges = self.surveyor.bridges.made_up.as_mut().unwrap();
        bridges.insert(pid, name.to_owned());
    }

    pub fn by(&mut self, config: &str) -> Survey {
        let config = Config::parse(config).unwrap();
        self.surveyor.survey_by(&config)
    }

    pub fn with(&mut self, watch: &Watch) -> Survey {
        self.surveyor.survey(watch)
    }
}

pub fn kinds(survey: &Survey) -> Vec<&'static str> {
    survey.rows.iter().map(|row| row.missing.kind()).collect()
}
