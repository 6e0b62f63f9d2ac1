//! A process's files under `/proc`, which may be gone at any moment.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

/// A process by its number, in the pid namespace that `/proc` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Process {
    pid: u32,
}

/// Why a process could not be looked at.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct ProcessError {
    /// The file.
    pub path: PathBuf,
    /// What the kernel said.
    pub source: std::io::Error,
}

impl ProcessError {
    /// It ended: nothing is wrong.
    pub fn is_gone(&self) -> bool {
        self.source.kind() == std::io::ErrorKind::NotFound
            || self.source.raw_os_error() == Some(nix::libc::ESRCH)
    }
}

impl Process {
    /// Does not say whether there is one.
    pub fn new(pid: u32) -> Process {
        Process { pid }
    }

    /// Its number.
    pub fn pid(self) -> u32 {
        self.pid
    }

    /// `/proc/PID`.
    pub fn directory(self) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.pid))
    }

    /// Opens one of its files for reading.
    ///
    /// # Errors
    /// It is gone, or the file is closed to us.
    pub fn open(self, name: &str) -> Result<File, ProcessError> {
        let path = self.directory().join(name);
        File::open(&path).map_err(|source| ProcessError { path, source })
    }

    /// Reads one of its files, `most` bytes of it.
    ///
    /// # Errors
    /// As for [`Process::open`].
    pub fn read(self, name: &str, most: u64) -> Result<Vec<u8>, ProcessError> {
        let mut bytes = Vec::new();
        let read = self.open(name)?.take(most).read_to_end(&mut bytes);
        match read {
            Ok(_) => Ok(bytes),
            Err(source) => Err(ProcessError {
                path: self.directory().join(name),
                source,
            }),
        }
    }

    /// CPU time it has used since its start, in clock ticks; `None` when it is gone.
    pub fn ticks(self) -> Option<u64> {
        let stat = self.read("stat", 4096).ok()?;
        let fields = after_name(&stat)?;
        // utime and stime are fields 14 and 15, state (after the name) is field 3.
        Some(number(&fields, 11)? + number(&fields, 12)?)
    }

    /// CPU time it has used and when it was started, both in clock ticks; with the latter a number
    /// names one process only. `None` when it is gone.
    pub fn used_and_started(self) -> Option<(u64, u64)> {
        let stat = self.read("stat", 4096).ok()?;
        let fields = after_name(&stat)?;
        // utime, stime and starttime are fields 14, 15 and 22, state (after the name) is field 3.
        let used = number(&fields, 11)? + number(&fields, 12)?;
        Some((used, number(&fields, 19)?))
    }

    /// When it was started, in clock ticks since the boot; `None` when it is gone. With its number
    /// this names a process for good.
    pub fn started(self) -> Option<u64> {
        let stat = self.read("stat", 4096).ok()?;
        // starttime is field 22.
        number(&after_name(&stat)?, 19)
    }

    /// The CPUs that its running threads are on; at most `most` threads are asked.
    pub fn running_on(self, most: usize) -> Vec<usize> {
        let mut cpus = Vec::new();
        let Ok(threads) = std::fs::read_dir(self.directory().join("task")) else {
            return cpus;
        };
        for thread in threads.flatten().take(most) {
            let Ok(stat) = std::fs::read(thread.path().join("stat")) else {
                continue;
            };
            let Some(fields) = after_name(&stat) else {
                continue;
            };
            if fields.first().is_some_and(|state| state == "R")
                && let Some(cpu) = number(&fields, 36)
                && !cpus.contains(&(cpu as usize))
            {
                cpus.push(cpu as usize);
            }
        }
        cpus
    }
}

/// The fields of `stat` after the name, which a user chooses and may hold anything (proc_pid_stat(5)).
fn after_name(stat: &[u8]) -> Option<Vec<String>> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    Some(rest.split_ascii_whitespace().map(str::to_owned).collect())
}

fn number(fields: &[String], at: usize) -> Option<u64> {
    fields.get(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_brackets_shifts_no_field() {
        let fields = after_name(b"1 (a) R 9) S 7 8").unwrap();
        assert_eq!(fields, ["S", "7", "8"]);
    }

    #[test]
    fn a_process_tells_its_time_and_a_dead_one_does_not() {
        assert!(Process::new(std::process::id()).ticks().is_some());
        assert_eq!(Process::new(u32::MAX).ticks(), None);
        assert!(Process::new(u32::MAX).running_on(10).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn no_name_in_stat_makes_the_parser_panic_or_shifts_a_field(name: Vec<u8>) {
            let mut stat = b"7 (".to_vec();
            stat.extend(&name);
            stat.extend(b") R 1 2 3");
            let fields = after_name(&stat).unwrap();
            proptest::prop_assert_eq!(fields.first().map(String::as_str), Some("R"));
            proptest::prop_assert_eq!(number(&fields, 3), Some(3));
            let _ = after_name(&name);
        }
    }
}
