//! CPU limits of cgroups that systemd does not own, written to the kernel's files: containers of
//! a Docker or Podman that uses the cgroupfs driver (Documentation/admin-guide/cgroup-v2.rst,
//! "CPU Interface Files").
//!
//! A path can be made again for another container between a look and a write. So the directory is
//! opened once, its id compared, and its files opened below that descriptor.

use super::{ActError, KernelControls, Owner, Undo};
use cgroup::stat::CpuMax;
use hubwarden_core::undo::{DEFAULT_WEIGHT, as_held, quota_and_period, rate};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use policy::Controls;
use quantities::{Bytes, CgroupId, CgroupPath};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const MAX: &str = "cpu.max";
const WEIGHT: &str = "cpu.weight";
const FREEZE: &str = "cgroup.freeze";

/// Reads and writes `cpu.max` and `cpu.weight`.
#[derive(Debug, Clone)]
pub struct CgroupCpu {
    root: PathBuf,
}

/// A cgroup's directory, opened and proven to be the one meant.
pub(super) struct Opened<'a> {
    cgroup: &'a CgroupPath,
    id: CgroupId,
    path: PathBuf,
    directory: File,
}

impl CgroupCpu {
    /// Works below this mount of cgroup v2.
    pub fn new(root: &Path) -> CgroupCpu {
        CgroupCpu {
            root: root.to_owned(),
        }
    }

    pub(super) fn open<'a>(
        &self,
        cgroup: &'a CgroupPath,
        id: CgroupId,
    ) -> Result<Opened<'a>, ActError> {
        let path = self.root.join(cgroup.as_str());
        let gone = || ActError::Gone(Owner::Cgroup(cgroup.clone(), id));
        let directory = match File::open(&path) {
            Ok(directory) => directory,
            Err(error) if is_gone(&error) => return Err(gone()),
            Err(error) => return Err(failed(cgroup, "its directory", error)),
        };
        let found = directory
            .metadata()
            .map_err(|error| failed(cgroup, "its directory", error))?;
        if CgroupId(found.ino()) != id {
            return Err(gone());
        }
        Ok(Opened {
            cgroup,
            id,
            path,
            directory,
        })
    }

    /// What stands now; never "not set", since the kernel always holds something.
    ///
    /// # Errors
    /// [`ActError::Gone`] when the cgroup was removed or is another by now; otherwise the file
    /// and what is wrong with it.
    pub fn read(&self, cgroup: &CgroupPath, id: CgroupId) -> Result<Controls, ActError> {
        let opened = self.open(cgroup, id)?;
        let text = opened.read(MAX)?;
        let max = CpuMax::parse(text.as_bytes())
            .ok_or_else(|| opened.odd(MAX, "\"max 100000\" or such as \"5000 20000\"", &text))?;
        let text = opened.read(WEIGHT)?;
        let weight = text
            .trim()
            .parse()
            .map_err(|_| opened.odd(WEIGHT, "a number", &text))?;
        Ok(Controls {
            quota: max
                .quota_usec
                .and_then(|quota| rate(quota, max.period_usec)),
            period: Some(Duration::from_micros(max.period_usec)),
            weight: Some(weight),
            memory_high: opened.limit("memory.high")?.map(Bytes),
            memory_max: opened.limit("memory.max")?.map(Bytes),
            tasks_max: opened.limit("pids.max")?,
            io_weight: opened.limit("io.weight")?,
            frozen: opened.limit(FREEZE)? == Some(1),
        })
    }

    /// What the files there are hold, of a cgroup that systemd may own.
    ///
    /// # Errors
    /// As for [`CgroupCpu::read`].
    pub fn kernel(&self, cgroup: &CgroupPath, id: CgroupId) -> Result<KernelControls, ActError> {
        let opened = self.open(cgroup, id)?;
        let max = opened.read_if_there(MAX)?;
        let max = max.and_then(|text| CpuMax::parse(text.as_bytes()));
        let number = |file| -> Result<Option<Option<u64>>, ActError> {
            let text = opened.read_if_there(file)?;
            Ok(text.map(|text| text.trim().parse().ok()))
        };
        Ok(KernelControls {
            cpu: max.map(|max| {
                let quota = max.quota_usec;
                let period = Duration::from_micros(max.period_usec);
                (quota.and_then(|quota| rate(quota, max.period_usec)), period)
            }),
            memory_high: number("memory.high")?,
            memory_max: number("memory.max")?,
            tasks_max: number("pids.max")?,
            frozen: number(FREEZE)? == Some(Some(1)),
        })
    }

    /// Writes what a record says that stood before over what stands of ours.
    ///
    /// # Errors
    /// As for [`CgroupCpu::read`].
    pub fn lift(&self, cgroup: &CgroupPath, id: CgroupId, undo: &Undo) -> Result<(), ActError> {
        let kernel = self.kernel(cgroup, id)?;
        if !undo.is_in(&kernel) {
            return Ok(());
        }
        let opened = self.open(cgroup, id)?;
        let before = as_held(undo.before());
        if kernel.frozen && !before.frozen {
            opened.write(FREEZE, "0")?;
        }
        if kernel.cpu.is_some() {
            opened.write(MAX, &max_text(&before))?;
        }
        let bytes = |limit: Option<Bytes>| limit.map(|Bytes(bytes)| bytes);
        for (file, held, value) in [
            ("memory.high", kernel.memory_high, bytes(before.memory_high)),
            ("memory.max", kernel.memory_max, bytes(before.memory_max)),
            ("pids.max", kernel.tasks_max, before.tasks_max),
        ] {
            if held.is_some_and(|held| held != value) {
                opened.write(file, &limit_text(file, value))?;
            }
        }
        Ok(())
    }

    /// Lets the cgroup's processes go on.
    ///
    /// # Errors
    /// As for [`CgroupCpu::read`].
    pub fn thaw(&self, cgroup: &CgroupPath, id: CgroupId) -> Result<(), ActError> {
        self.open(cgroup, id)?.write(FREEZE, "0")
    }

    /// Below which all cgroups are.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Kills every process in the cgroup (`cgroup.kill`, Linux 5.14).
    ///
    /// # Errors
    /// As for [`CgroupCpu::read`].
    pub fn stop(&self, cgroup: &CgroupPath, id: CgroupId) -> Result<(), ActError> {
        self.open(cgroup, id)?.write("cgroup.kill", "1")
    }

    /// Changes what stands from `from` to `to`; without `from`, writes everything.
    ///
    /// # Errors
    /// As for [`CgroupCpu::read`].
    pub fn apply(
        &self,
        cgroup: &CgroupPath,
        id: CgroupId,
        from: Option<&Controls>,
        to: &Controls,
    ) -> Result<(), ActError> {
        let opened = self.open(cgroup, id)?;
        let from = from.map(as_held);
        let to = as_held(to);
        if from.is_none_or(|from| (from.quota, from.period) != (to.quota, to.period)) {
            opened.write(MAX, &max_text(&to))?;
        }
        if let Some(weight) = to.weight
            && from.is_none_or(|from| from.weight != to.weight)
        {
            opened.write(WEIGHT, &weight.to_string())?;
        }
        let plain = |settings: &Controls| {
            [
                (
                    "memory.high",
                    settings.memory_high.map(|Bytes(bytes)| bytes),
                ),
                ("memory.max", settings.memory_max.map(|Bytes(bytes)| bytes)),
                ("pids.max", settings.tasks_max),
                ("io.weight", settings.io_weight),
                (FREEZE, Some(u64::from(settings.frozen))),
            ]
        };
        // Without knowing what stands, only what is limited is written: the other files may not
        // be there.
        let standing = from.as_ref().map(plain);
        for (number, (file, value)) in plain(&to).into_iter().enumerate() {
            let differs = match &standing {
                Some(standing) => standing[number].1 != value,
                None => value.is_some(),
            };
            if differs {
                opened.write(file, &limit_text(file, value))?;
            }
        }
        Ok(())
    }
}

/// What `cpu.max` takes.
fn max_text(settings: &Controls) -> String {
    match quota_and_period(settings) {
        (Some(quota), period) => format!("{quota} {period}"),
        (None, period) => format!("max {period}"),
    }
}

/// What the kernel takes for a limit, or for none.
fn limit_text(file: &str, value: Option<u64>) -> String {
    match (file, value) {
        (_, Some(number)) => number.to_string(),
        ("io.weight", None) => format!("default {DEFAULT_WEIGHT}"),
        (_, None) => "max".to_owned(),
    }
}

impl Opened<'_> {
    pub(super) fn read(&self, file: &'static str) -> Result<String, ActError> {
        let mut text = String::new();
        self.file(file, OFlag::O_RDONLY)?
            // Longest: two numbers of 20 digits.
            .take(64)
            .read_to_string(&mut text)
            .map_err(|error| self.trouble(file, error))?;
        Ok(text)
    }

    /// A file's text; `None` where its controller is not enabled.
    fn read_if_there(&self, file: &'static str) -> Result<Option<String>, ActError> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let mut text = String::new();
        let read = openat(&self.directory, file, flags, Mode::empty())
            .map_err(std::io::Error::from)
            .and_then(|fd| File::from(fd).take(64).read_to_string(&mut text));
        match read {
            Ok(_) => Ok(Some(text)),
            Err(error) if is_gone(&error) && self.still_there() => Ok(None),
            Err(error) => Err(self.trouble(file, error)),
        }
    }

    /// The number in a file, or in `io.weight`'s first line; `None` for `max`, and where the
    /// file's controller is not enabled.
    fn limit(&self, file: &'static str) -> Result<Option<u64>, ActError> {
        let Some(text) = self.read_if_there(file)? else {
            return Ok(None);
        };
        let word = text
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("default ");
        match word.trim() {
            "max" => Ok(None),
            number => match number.parse() {
                Ok(DEFAULT_WEIGHT) if file == "io.weight" => Ok(None),
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(self.odd(file, "a number or \"max\"", &text)),
            },
        }
    }

    pub(super) fn write(&self, file: &'static str, text: &str) -> Result<(), ActError> {
        // One write: the kernel takes each as a whole value.
        self.file(file, OFlag::O_WRONLY)?
            .write_all(format!("{text}\n").as_bytes())
            .map_err(|error| match error.raw_os_error() {
                Some(nix::libc::EROFS) => self.failed(
                    file,
                    "the cgroup tree is read-only for hubwarden (ProtectControlGroups= in a \
                     drop-in of hubwarden.service?)"
                        .to_owned(),
                ),
                _ => match self.trouble(file, error) {
                    ActError::File { cgroup, file, why } => ActError::File {
                        cgroup,
                        file,
                        why: format!("`{text}` was not taken: {why}"),
                    },
                    gone => gone,
                },
            })
    }

    fn file(&self, file: &'static str, access: OFlag) -> Result<File, ActError> {
        openat(
            &self.directory,
            file,
            access | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map(File::from)
        .map_err(|errno| match errno {
            Errno::ENOENT if self.still_there() => {
                let controller = file.split('.').next().unwrap_or(file);
                self.failed(
                    file,
                    format!(
                        "not there: the {controller} controller is not enabled for this cgroup, so \
                         no such limit can be set; whoever made its parent must write \
                         +{controller} to cgroup.subtree_control"
                    ),
                )
            }
            errno => self.trouble(file, errno.into()),
        })
    }

    fn still_there(&self) -> bool {
        std::fs::metadata(&self.path).is_ok_and(|found| CgroupId(found.ino()) == self.id)
    }

    fn trouble(&self, file: &'static str, error: std::io::Error) -> ActError {
        if is_gone(&error) {
            return ActError::Gone(Owner::Cgroup(self.cgroup.clone(), self.id));
        }
        failed(self.cgroup, file, error)
    }

    pub(super) fn failed(&self, file: &'static str, why: String) -> ActError {
        let cgroup = self.cgroup.clone();
        ActError::File { cgroup, file, why }
    }

    fn odd(&self, file: &'static str, expected: &str, found: &str) -> ActError {
        let found = found.escape_debug();
        self.failed(file, format!("expected {expected}, found `{found}`"))
    }
}

fn failed(cgroup: &CgroupPath, file: &'static str, error: std::io::Error) -> ActError {
    ActError::File {
        cgroup: cgroup.clone(),
        file,
        why: error.to_string(),
    }
}

/// ENOENT before, ENODEV after a file of it was opened: the cgroup was removed.
fn is_gone(error: &std::io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(nix::libc::ENOENT | nix::libc::ENODEV)
    )
}

#[cfg(test)]
mod tests;
