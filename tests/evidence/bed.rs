//! A cgroup of our own with processes in it that do not want to be looked at (`hostile.c`), or that
//! start programs without end (`storm.c`).

use sensors::program::TYPES;
use sensors::set::Sensors;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

pub const NOBODY: u32 = 65534;

/// A cgroup, and a directory for programs; both go with it.
pub struct Bed {
    pub id: u64,
    pub directory: PathBuf,
    pub files: tempfile::TempDir,
}

/// A process of the bed's.
pub struct Hostile(Child);

impl Bed {
    pub fn new() -> Bed {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests make cgroups and read other users' processes: run as root"
        );
        let root = cgroup::find_root().unwrap();
        let directory = test_support::make_cgroup(&root).unwrap();
        let files = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(files.path(), Some(NOBODY), None).unwrap();
        Bed {
            id: fs::metadata(&directory).unwrap().ino(),
            directory,
            files,
        }
    }

    /// The sensors, looking at this cgroup in a process of their own; what they say, once they look.
    pub fn sensor(&self) -> (Hostile, impl Iterator<Item = Value> + use<>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hubwarden"));
        command.arg("sensor").arg(&self.directory);
        let sensors = command.args(["--seconds", "300"]).stdout(Stdio::piped());
        let mut sensors = sensors.spawn().unwrap();
        let lines = BufReader::new(sensors.stdout.take().unwrap()).lines();
        let mut said = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        assert!(said.any(|line| line["ready"] == true));
        (Hostile(sensors), said)
    }

    /// Starts the program as a user of no rights.
    pub fn start(&self, arguments: &[&OsStr]) -> Hostile {
        self.start_as(OsStr::new("hostile"), arguments)
    }

    /// The same, from a file with this name.
    pub fn start_as(&self, name: &OsStr, arguments: &[&OsStr]) -> Hostile {
        self.run(self.command(name, arguments))
    }

    /// A process that starts programs one after the other, and ends after so many: two more than
    /// `again`, since it is started by way of `setpriv`.
    pub fn storm(&self, name: &OsStr, again: u32, arguments: &[&OsStr]) -> Hostile {
        let again = format!("{again:08}");
        let mut all = vec![OsStr::new(&again)];
        all.extend(arguments);
        self.lay(name, storm());
        self.run(self.command(name, &all))
    }

    /// CPU time that its processes have used.
    pub fn used(&self) -> Duration {
        let text = fs::read(self.directory.join("cpu.stat")).unwrap();
        cgroup::stat::CpuStat::parse(&text).unwrap().usage
    }

    fn run(&self, mut command: Command) -> Hostile {
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        // Until it is what it will be: what is seen before is a copy of this test.
        let exe = format!("/proc/{}/exe", child.id());
        let is_started = || {
            let link = fs::read_link(&exe);
            link.map_or(true, |link| link.starts_with(self.files.path()))
        };
        assert!(comes(is_started), "it is not started");
        Hostile(child)
    }

    /// The same, and the first line that it says.
    pub fn start_and_hear(&self, arguments: &[&OsStr]) -> (Hostile, String) {
        Hostile::start_and_hear(self.command(OsStr::new("hostile"), arguments))
    }

    /// The same, of one with all rights.
    pub fn start_as_root_and_hear(&self, arguments: &[&OsStr]) -> (Hostile, String) {
        Hostile::start_and_hear(self.command_of("exec \"$@\"", OsStr::new("hostile"), arguments))
    }

    /// A file of nobody's.
    pub fn file(&self, name: &str) -> PathBuf {
        let path = self.files.path().join(name);
        fs::write(&path, "").unwrap();
        std::os::unix::fs::chown(&path, Some(NOBODY), None).unwrap();
        path
    }

    /// The program that others are copies of, as the process's user's.
    pub fn program(&self) -> PathBuf {
        self.lay(OsStr::new("hostile"), hostile())
    }

    /// A file of RandomX's constants, of this user's, with this mode.
    pub fn planted(&self, name: &str, owner: u32, mode: u32) -> PathBuf {
        let path = self.files.path().join(name);
        let lays = [OsStr::new("lay"), path.as_os_str()];
        assert!(
            Command::new(hostile())
                .args(lays)
                .status()
                .unwrap()
                .success()
        );
        std::os::unix::fs::chown(&path, Some(owner), Some(owner)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn command(&self, name: &OsStr, arguments: &[&OsStr]) -> Command {
        let start = "exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"";
        self.command_of(start, name, arguments)
    }

    fn command_of(&self, start: &str, name: &OsStr, arguments: &[&OsStr]) -> Command {
        let file = self.lay(name, hostile());
        let mut command = self.shell(start);
        command.arg(&file).args(arguments);
        command
    }

    /// A shell that enters first, so that nothing of it is ever outside; its arguments are to come.
    pub fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command
            .arg0("sh")
            .args(["-c", &format!("echo $$ > \"$0\" && {script}")])
            .arg(self.directory.join("cgroup.procs"));
        command
    }

    /// A program with this name; one that is there already stays.
    fn lay(&self, name: &OsStr, program: &Path) -> PathBuf {
        let file = self.files.path().join(name);
        if !file.exists() {
            fs::copy(program, &file).unwrap();
            std::os::unix::fs::chown(&file, Some(NOBODY), None).unwrap();
        }
        file
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        test_support::remove_cgroup(&self.directory);
    }
}

impl Hostile {
    /// Starts one that says a line, and its first.
    pub fn start_and_hear(mut command: Command) -> (Hostile, String) {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let out = child.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut said).unwrap();
        (Hostile(child), said)
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// What the kernel says of it, for a message.
    pub fn state(&self) -> String {
        fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default()
    }

    /// Sends SIGKILL; whether it has ended some time later.
    pub fn can_be_killed(&mut self) -> bool {
        self.0.kill().unwrap();
        comes(|| self.0.try_wait().unwrap().is_some())
    }

    /// Waits for its end, which is to be a good one.
    pub fn ends_well(mut self) {
        let status = self.0.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program, built by the C compiler that Rust links with.
struct Built {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Built {
    fn new(source: &str, flags: &[&str]) -> Built {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("program");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
        let built = Command::new("cc")
            .args(["-O1", "-static"])
            .args(flags)
            .arg("-o")
            .args([&path, &source])
            .status()
            .expect("cc, which Rust links with");
        assert!(built.success());
        Built {
            _directory: directory,
            path,
        }
    }
}

fn hostile() -> &'static Path {
    static BUILT: OnceLock<Built> = OnceLock::new();
    let new = || Built::new("tests/evidence/hostile.c", &[]);
    &BUILT.get_or_init(new).path
}

fn storm() -> &'static Path {
    static BUILT: OnceLock<Built> = OnceLock::new();
    let flags = ["-nostdlib", "-fno-stack-protector"];
    let new = || Built::new("tests/evidence/storm.c", &flags);
    &BUILT.get_or_init(new).path
}

/// Whether that comes at all: within two minutes, which is forever.
pub fn comes(mut what: impl FnMut() -> bool) -> bool {
    (0..6000).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        what()
    })
}

/// The sensors as this kernel has them.
pub fn sensors() -> Sensors {
    sensors_on(Path::new(TYPES))
}

/// The sensors as a kernel has them that is described so.
pub fn sensors_on(types: &Path) -> Sensors {
    Sensors::start_on(types, Path::new(env!("CARGO_BIN_EXE_hubwarden")))
}

/// What a process has in memory: now (`VmRSS`) or at most (`VmHWM`).
pub fn memory_kb(pid: u32, which: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(which)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
