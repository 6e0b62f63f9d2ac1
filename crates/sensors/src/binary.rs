//! What a process is in truth, whatever it calls itself. This corroborates and never convicts.

use super::process::{Process, ProcessError};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// A kind of program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Python, with Python in it.
    Python,
    /// Calls itself python, and has no Python in it.
    NotPython,
    /// Another interpreter or runtime.
    Interpreter,
    /// Belongs to root: the system's.
    System,
    /// Of a conda environment.
    Conda,
    /// Made or brought by a user.
    Own,
    /// Its file is gone.
    Deleted,
    /// It never was in a file system.
    Memory,
    /// A process of the user's holds whoever reads its programs.
    Unreadable,
}

impl Kind {
    /// One word, for tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Python => "python",
            Kind::NotPython => "no-python",
            Kind::Interpreter => "interpreter",
            Kind::System => "system",
            Kind::Conda => "conda",
            Kind::Own => "own",
            Kind::Deleted => "deleted",
            Kind::Memory => "memory",
            Kind::Unreadable => "unreadable",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Python => "python",
            Kind::NotPython => "a python without Python in it",
            Kind::Interpreter => "another interpreter",
            Kind::System => "a program of the system",
            Kind::Conda => "a program of conda",
            Kind::Own => "a program of a user's own",
            Kind::Deleted => "a deleted program",
            Kind::Memory => "a program in no file",
            Kind::Unreadable => "a program that cannot be read",
        })
    }
}

/// Bytes of an executable that are searched for Python.
const MOST_BYTES: u64 = 32 << 20;
/// A function that whatever runs Python must have or import.
const PYTHON: &[&[u8]] = &[b"Py_BytesMain", b"Py_Initialize", b"Py_RunMain"];
const INTERPRETERS: &[&str] = &[
    "R", "Rscript", "julia", "node", "java", "ruby", "perl", "lua", "php", "octave", "bash", "sh",
    "dash", "zsh", "fish",
];

/// Looks at what a process runs.
///
/// # Errors
/// It is gone, or closed to us.
pub fn look(process: &Process) -> Result<Kind, ProcessError> {
    let first = process.read("cmdline", 4096)?;
    let first = first.split(|byte| *byte == 0).next().unwrap_or_default();
    let called = first.rsplit(|byte| *byte == b'/').next().unwrap_or(first);
    Program::of(process)?.kind(called, has_python)
}

/// The file that a process runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    process: Process,
    /// As its own processes see it; a user chooses it.
    pub path: PathBuf,
    /// Which file, and which version of it: device, inode, size, and when it was changed.
    pub identity: (u64, u64, u64, i64),
    root: bool,
    deleted: bool,
}

impl Program {
    /// Finds it. The file may be on a file system that does not answer, so this is for a worker.
    ///
    /// # Errors
    /// The process is gone, or closed to us.
    pub fn of(process: &Process) -> Result<Program, ProcessError> {
        let link = process.directory().join("exe");
        let failed = |source| ProcessError {
            path: link.clone(),
            source,
        };
        let path = std::fs::read_link(&link).map_err(failed)?;
        let file = std::fs::metadata(&link).map_err(failed)?;
        Ok(Program {
            process: *process,
            path,
            identity: (file.dev(), file.ino(), file.size(), file.ctime()),
            root: file.uid() == 0,
            deleted: file.nlink() == 0,
        })
    }

    /// What it is, where it is `called` that; whether Python is in it costs a look into the file.
    ///
    /// # Errors
    /// As `has_python` has.
    pub fn kind(
        &self,
        called: &[u8],
        has_python: impl FnOnce(&Process) -> Result<bool, ProcessError>,
    ) -> Result<Kind, ProcessError> {
        let text = self.path.as_os_str().as_bytes();
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let python = name.starts_with("python");
        if (called.starts_with(b"python") || python) && !self.root {
            return Ok(match has_python(&self.process)? {
                true => Kind::Python,
                false => Kind::NotPython,
            });
        }
        Ok(if text.starts_with(b"/memfd:") {
            Kind::Memory
        } else if self.deleted {
            Kind::Deleted
        } else if python {
            Kind::Python
        } else if INTERPRETERS.contains(&without_version(&name)) {
            Kind::Interpreter
        } else if is_conda(text) {
            Kind::Conda
        } else if self.root {
            Kind::System
        } else {
            Kind::Own
        })
    }
}

/// `perl` of `perl5.36`, `julia` of `julia-1.9`.
fn without_version(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-')
}

fn is_conda(path: &[u8]) -> bool {
    path.windows(7)
        .any(|part| part == b"/conda/" || part == b"conda3/")
}

/// Whether Python is in what a process runs, or in a library it has loaded.
///
/// # Errors
/// It is gone, or closed to us.
pub fn has_python(process: &Process) -> Result<bool, ProcessError> {
    let maps = process.read("maps", 4 << 20)?;
    if contains(&maps, b"/libpython") {
        return Ok(true);
    }
    let mut bytes = Vec::new();
    let read = process
        .open("exe")?
        .take(MOST_BYTES)
        .read_to_end(&mut bytes);
    // In doubt it is what it says: this only corroborates.
    Ok(read.is_err() || PYTHON.iter().any(|word| contains(&bytes, word)))
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    aho_corasick::AhoCorasick::new([word]).is_ok_and(|search| search.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::path::Path;
    use std::process::Command;

    /// What a program is that sleeps, called that.
    fn kind_of(program: &Path, called: &str) -> Kind {
        let mut sleep = Command::new(program).arg0(called).arg("9").spawn().unwrap();
        let process = Process::new(sleep.id());
        // It has no arguments until the kernel has laid them out.
        while process.read("cmdline", 1).is_ok_and(|line| line.is_empty()) {
            std::thread::yield_now();
        }
        let kind = look(&process).unwrap();
        sleep.kill().unwrap();
        sleep.wait().unwrap();
        kind
    }

    #[test]
    fn a_program_of_the_systems_is_that_and_a_renamed_one_is_found_out() {
        let kind = kind_of(Path::new("/bin/sleep"), "sleep");
        assert_eq!(kind, Kind::System);

        let directory = tempfile::tempdir().unwrap();
        let copy = directory.path().join("sleep");
        std::fs::copy("/bin/sleep", &copy).unwrap();
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        nix::unistd::chown(&copy, Some(1000.into()), None).unwrap();
        assert_eq!(kind_of(&copy, "python"), Kind::NotPython);
    }
}
